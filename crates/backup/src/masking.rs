//! Making a copy of production free of personal data.
//!
//! Rules and schema make a [`MaskingPlan`]; [`mask`] runs it on an [`UnattachedCopy`] and on nothing else, then looks for
//! real values that are still there.

mod key;
mod leak;
mod plan;
mod rules;
mod schema;
mod store;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use diesel::{Connection as _, SqliteConnection};
use omnitool_database::{
    AnyConnection,
    migration::{self, MigrateError},
    write_transaction,
};
use serde::Serialize;

use self::leak::{Samples, SearchError};
pub use self::{
    key::{MaskingKey, MaskingKeyError},
    leak::Leak,
    plan::{Masking, MaskingPlan, MaskingProblem, PlanMaskingError, TableUpdate},
    rules::{LoadMaskingError, MaskingRules, Rule, RuleProblems},
    schema::Schema,
};
use crate::refresh::{MARK, OpenCopyError, UnattachedCopy};

/// What masking did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Masked {
    /// What became of which column.
    pub plan: MaskingPlan,
    /// How many rows were changed, by table.
    pub changed: BTreeMap<String, usize>,
    /// How many rows were deleted, by table.
    pub deleted: BTreeMap<String, usize>,
    /// How many real values were searched for and not found.
    pub searched: usize,
    /// How long the statements took.
    #[serde(skip)]
    pub elapsed: Duration,
}

/// Why a copy was not masked. It must not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaskError {
    /// It is no unattached copy, or cannot be opened.
    #[error(transparent)]
    Copy(#[from] OpenCopyError),
    /// This build's schema cannot be made.
    #[error(transparent)]
    Schema(#[from] ReadSchemaError),
    /// The rules do not fit the schema.
    #[error(transparent)]
    Plan(#[from] PlanMaskingError),
    /// The database refused something.
    #[error("cannot mask the copy")]
    Query(#[from] diesel::result::Error),
    /// The copy cannot be searched.
    #[error("cannot search the copy for real values")]
    Search(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Real values are still there.
    #[error("values of masked columns are still in {}", .leaks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Leak {
        /// The columns with such values.
        leaks: Vec<Leak>,
    },
}

/// Why a schema could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadSchemaError {
    /// A query failed.
    #[error("cannot read the schema")]
    Query(#[from] diesel::result::Error),
    /// SQLite gives no scratch database.
    #[error("cannot open a scratch database in memory")]
    Scratch(#[from] diesel::ConnectionError),
    /// This build's migrations fail on it.
    #[error("cannot make the schema of this build")]
    Migrate(#[from] MigrateError),
}

impl Schema {
    /// The tables of a database.
    ///
    /// # Errors
    ///
    /// Fails where the database cannot be read.
    pub fn read(conn: &mut AnyConnection) -> Result<Self, ReadSchemaError> {
        Ok(store::read_schema(conn, MARK)?)
    }

    /// The tables that this build's migrations make; they are the same on both database systems.
    ///
    /// # Errors
    ///
    /// Fails only where the build itself is broken.
    pub fn of_this_build() -> Result<Self, ReadSchemaError> {
        let mut scratch = AnyConnection::Sqlite(SqliteConnection::establish(":memory:")?);
        migration::migrate(&mut scratch)?;
        Self::read(&mut scratch)
    }
}

/// Masks the copy, removes what was replaced from its files, and looks for real values that are still there.
///
/// # Errors
///
/// Fails where the rules do not fit the copy's schema, the database refuses, or a real value is found.
pub fn mask(
    copy: &UnattachedCopy,
    masking: &Masking,
    key: &MaskingKey,
) -> Result<Masked, MaskError> {
    let mut conn = copy.open()?;
    store::forgo_rollback(&mut conn)?;
    let schema = Schema::read(&mut conn)?;
    let plan = MaskingPlan::new(masking, &schema, &Schema::of_this_build()?, conn.dialect())?;
    let samples = Samples::take(&mut conn, &plan, &schema)?;
    let started = Instant::now();
    let Written { changed, deleted } = write(&mut conn, &plan, key)?;
    let elapsed = started.elapsed();
    store::remove_traces(&mut conn)?;
    let leaks = samples.find(&mut conn, &schema).map_err(|error| match error {
        SearchError::Query(error) => MaskError::Query(error),
        SearchError::Build(error) => MaskError::Search(error.into()),
    })?;
    if !leaks.is_empty() {
        return Err(MaskError::Leak { leaks });
    }
    Ok(Masked { plan, changed, deleted, searched: samples.count(), elapsed })
}

/// Rows by table.
#[derive(Default)]
struct Written {
    changed: BTreeMap<String, usize>,
    deleted: BTreeMap<String, usize>,
}

/// All statements, in one transaction.
fn write(
    conn: &mut AnyConnection,
    plan: &MaskingPlan,
    key: &MaskingKey,
) -> diesel::QueryResult<Written> {
    store::prepare(conn, &plan.updates, key)?;
    write_transaction(conn, |conn| {
        let mut written = Written::default();
        for table in &plan.drops {
            written.deleted.insert(table.clone(), store::drop_rows(conn, table)?);
        }
        for update in &plan.updates {
            written.changed.insert(update.table.clone(), store::update(conn, update, key)?);
        }
        Ok(written)
    })
}
