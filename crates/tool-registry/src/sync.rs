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
/// Fails where the database cannot be read or written, where rows without a tool would become grants of a new one, and where
/// a tool would have the route of one that is not defined.
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
        shared_routes: _,
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
    let mut run = Run { id: run_id, key: None };
    for retirement in retirements {
        retire(conn, retirement, &mut run).map_err(refused(retirement))?;
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
    for grant in default_grants {
        let run = run.key(conn)?;
        store::insert_default_grants(conn, &grant.tool, run).map_err(refused(grant))?;
    }
    Ok(())
}

/// The history's run, which begins with the first fact that changes.
struct Run<'a> {
    /// The deployment's.
    id: Option<&'a str>,
    key: Option<i64>,
}

impl Run<'_> {
    fn key(&mut self, conn: &mut AnyConnection) -> Result<i64, Error> {
        match self.key {
            Some(key) => Ok(key),
            None => Ok(*self.key.insert(store::history::insert_run(conn, self.id)?)),
        }
    }
}

fn retire(
    conn: &mut AnyConnection,
    retirement: &Retirement,
    run: &mut Run<'_>,
) -> Result<(), Error> {
    let (id, name, into) = match retirement {
        Retirement::Rename { id, from: _, to } => return store::rename_tool(conn, *id, to),
        Retirement::Merge { id, into, from, .. } => (*id, from, Some(*into)),
        Retirement::Delete { id, name, .. } => (*id, name, None),
    };
    if store::has_facts(conn, id)? {
        // Before they go, since the facts are what is noted.
        let run = run.key(conn)?;
        if let Some(into) = into {
            store::history::insert_moves(conn, run, id, into)?;
        }
        store::history::insert_removals(conn, run, id)?;
    }
    if let Some(into) = into {
        store::move_facts(conn, id, into)?;
    }
    store::history::keep(conn, id, name, into)?;
    store::delete_tool(conn, id)
}
