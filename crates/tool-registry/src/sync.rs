//! Making the database's tools as defined.

use diesel::result::Error;
use omnitool_database::{AnyConnection, write_transaction};

use crate::{
    definition::Definitions,
    plan::{self, Options, Orphans, PlanSyncError, Retirement, SyncPlan},
    store,
};

/// Why the database's tools could not be made as defined. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncToolsError {
    /// It cannot be said what to change.
    #[error(transparent)]
    Plan(#[from] PlanSyncError),
    /// The database refused one of the changes.
    #[error("the database refused `{step}`")]
    Apply {
        /// The change, as the plan shows it.
        step: String,
        /// What the database says.
        #[source]
        source: Error,
    },
    /// Rows without a tool have the key that a new tool got: they would grant it to users whom nobody granted it.
    #[error("orphaned rows would become grants of the new tool `{tool}`")]
    InheritedFacts {
        /// The new tool.
        tool: String,
    },
    /// The transaction around the changes failed.
    #[error("cannot begin or end the synchronization's transaction")]
    Transaction(#[from] Error),
}

/// Makes the database's tools as defined, and returns what it changed: the plan that [`plan`](crate::plan()) shows,
/// since it is made and applied in one transaction that keeps everybody else from granting tools.
///
/// # Errors
///
/// Fails where the database cannot be read or written, and where rows without a tool would become grants of a new one.
/// Nothing is changed then.
pub fn sync(
    conn: &mut AnyConnection,
    definitions: &Definitions,
    options: Options<'_>,
) -> Result<SyncPlan, SyncToolsError> {
    write_transaction(conn, |conn| {
        store::lock(conn)?;
        let plan = plan::plan_in_transaction(conn, definitions, options)?;
        apply(conn, &plan, options.run_id)?;
        Ok(plan)
    })
}

fn apply(
    conn: &mut AnyConnection,
    plan: &SyncPlan,
    run_id: Option<&str>,
) -> Result<(), SyncToolsError> {
    let SyncPlan {
        orphans,
        orphan_handling,
        retirements,
        creates,
        updates,
        default_grants,
        unmanaged: _,
    } = plan;
    let refused = |step: &dyn std::fmt::Display| {
        let step = step.to_string();
        |source| SyncToolsError::Apply { step, source }
    };

    // First, so that none of them is moved, deleted or inherited and the numbers in the plan stay true.
    if *orphan_handling == Orphans::Prune && orphans.total() > 0 {
        store::delete_orphans(conn)
            .map_err(refused(&format_args!("Removing orphaned rows: {orphans}")))?;
    }
    for retirement in retirements {
        retire(conn, retirement).map_err(refused(retirement))?;
    }
    for tool in creates {
        let step = refused(&format_args!("Creating new tool: {}", tool.name));
        let key = store::insert_tool(conn, tool).map_err(step)?;
        if store::has_facts(conn, key)? {
            return Err(SyncToolsError::InheritedFacts { tool: tool.name.clone() });
        }
    }
    for update in updates {
        store::update_tool(conn, update.id, &update.definition).map_err(refused(update))?;
    }
    if !default_grants.is_empty() {
        let run = store::insert_run(conn, run_id)?;
        for grant in default_grants {
            store::insert_default_grants(conn, &grant.tool, run).map_err(refused(grant))?;
        }
    }
    Ok(())
}

fn retire(conn: &mut AnyConnection, retirement: &Retirement) -> Result<(), Error> {
    match retirement {
        Retirement::Rename { id, from: _, to } => store::rename_tool(conn, *id, to),
        Retirement::Merge { id, into, .. } => {
            store::move_facts(conn, *id, *into)?;
            store::delete_tool(conn, *id)
        }
        Retirement::Delete { id, .. } => store::delete_tool(conn, *id),
    }
}
