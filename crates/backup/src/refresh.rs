//! Refreshing staging with production's data.
//!
//! [`RefreshPlan::new`] compares both databases and changes nothing. [`RefreshPlan::apply`] copies production beside
//! staging, makes the copy staging's own (masked, stamped, migrated, with its tools and access), has it checked, and puts it
//! in staging's place by the same restore as a rollback. Until then, staging is untouched.

mod apply;
mod copy;
mod record;
mod store;

use std::{collections::BTreeMap, fmt, path::Path};

use omnitool_database::{Mode, OpenError, open};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    apply::{KEY, fit},
    record::{Journal, write_private},
    store::MARK,
};
pub use self::{
    apply::{RefreshError, RefreshHooks, Refreshed},
    copy::{MakeCopyError, OpenCopyError, UnattachedCopy},
    record::{RefreshOutcome, RefreshRecord, RefreshRecordError, RefreshState},
};
use crate::{
    Catalog, Contents, ReadDatabaseError, Store, UnsupportedDatabaseError, for_url,
    masking::{Masking, MaskingPlan, PlanMaskingError, ReadSchemaError, Schema},
};

/// What is copied where, and how.
#[derive(Clone, Copy, Debug)]
pub struct RefreshRequest<'a> {
    /// The database that is copied; it is only read.
    pub source: &'a DatabaseUrl,
    /// What its stamp must say.
    pub source_environment: EnvironmentName,
    /// The database that is replaced.
    pub target: &'a DatabaseUrl,
    /// The backups of its environment.
    pub catalog: &'a Catalog,
    /// Where the copy, the record of the run and the masking key are.
    pub folder: &'a Path,
    /// What becomes of personal data.
    pub masking: &'a Masking,
    /// The deployment's run, where it is part of one.
    pub run_id: Option<&'a str>,
}

/// A step of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefreshStep {
    /// What would be lost is saved.
    Backup,
    /// The source is copied beside the target.
    Copy,
    /// The copy loses personal data.
    Mask,
    /// It is stamped as the target's environment.
    Stamp,
    /// It gets this build's migrations.
    Migrate,
    /// It gets this build's tools.
    SyncTools,
    /// It gets the committed facts about who may use what.
    ImportAccess,
    /// It is checked and takes the target's place.
    Switch,
    /// The target is checked.
    Verify,
}

/// What a refresh would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefreshPlan {
    /// The environment that is refreshed.
    pub environment: EnvironmentName,
    /// The database that is copied.
    pub source: Side,
    /// The database that is replaced; none where it does not exist yet.
    pub target: Option<Side>,
    /// Where it is, without its password.
    pub target_database: String,
    /// Whether contact data stays as it is.
    pub unmasked: bool,
    /// What becomes of personal data.
    pub masking: MaskingPlan,
    /// This build's migrations that the copy still needs.
    pub migrations: Vec<String>,
    /// What killed refreshes left; this one removes it.
    pub leftovers: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<RefreshStep>,
}

/// One of the two databases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Where it is, without its password.
    pub database: String,
    /// What it is stamped as.
    pub stamp: Option<EnvironmentName>,
    /// Its newest migration.
    pub schema_version: Option<String>,
    /// Its size on disk.
    pub bytes: u64,
    /// How many rows each table has.
    pub rows: BTreeMap<String, u64>,
}

/// Why a refresh was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanRefreshError {
    /// There are no copies of such a database.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedDatabaseError),
    /// Production is never refreshed.
    #[error("{database} is stamped `production` and is never replaced by a copy")]
    TargetIsProduction {
        /// The target, without its password.
        database: String,
    },
    /// One would be copied into itself.
    #[error("source and target are the same database: {database}")]
    SameDatabase {
        /// The database, without its password.
        database: String,
    },
    /// One is a SQLite file and the other is not.
    #[error("{source_database} and {target_database} belong to different database systems")]
    DifferentSystems {
        /// The source, without its password.
        source_database: String,
        /// The target, without its password.
        target_database: String,
    },
    /// The source is not what it should be.
    #[error("the source {database} is {found}, not stamped `{wanted}`")]
    SourceStamp {
        /// The source, without its password.
        database: String,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: EnvironmentName,
    },
    /// The target belongs to another environment, or to nobody that we know.
    #[error("the target {database} is {found}, not stamped `{wanted}`")]
    TargetStamp {
        /// The target, without its password.
        database: String,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: EnvironmentName,
    },
    /// The source belongs to a newer build.
    #[error("the source belongs to a newer build: this one does not know its migrations {}", .versions.join(", "))]
    NewerSource {
        /// The versions that this build does not know.
        versions: Vec<String>,
    },
    /// The target belongs to a newer build: an app of that build may be using it.
    #[error("the target belongs to a newer build: this one does not know its migrations {}", .versions.join(", "))]
    NewerTarget {
        /// The versions that this build does not know.
        versions: Vec<String>,
    },
    /// One of the databases cannot be read.
    #[error("cannot read the {side} database")]
    Read {
        /// Which of them.
        side: &'static str,
        /// Why.
        #[source]
        source: ReadDatabaseError,
    },
    /// The source's schema cannot be read.
    #[error(transparent)]
    Schema(#[from] ReadSchemaError),
    /// The rules do not fit the source.
    #[error(transparent)]
    Masking(#[from] PlanMaskingError),
    /// What killed refreshes left cannot be listed.
    #[error(transparent)]
    Leftovers(#[from] MakeCopyError),
}

impl RefreshStep {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Backup,
        Self::Copy,
        Self::Mask,
        Self::Stamp,
        Self::Migrate,
        Self::SyncTools,
        Self::ImportAccess,
        Self::Switch,
        Self::Verify,
    ];

    /// The name as it stands in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Copy => "copy",
            Self::Mask => "mask",
            Self::Stamp => "stamp",
            Self::Migrate => "migrate",
            Self::SyncTools => "sync-tools",
            Self::ImportAccess => "import-access",
            Self::Switch => "switch",
            Self::Verify => "verify",
        }
    }

    /// What it does, for people.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Self::Backup => "back up the database that is replaced",
            Self::Copy => "copy the source as it is at one moment; nobody waits for it",
            Self::Mask => "mask personal data in the copy, and search it for real values",
            Self::Stamp => "stamp the copy",
            Self::Migrate => "apply this build's migrations to the copy",
            Self::SyncTools => "make the copy's tools as defined",
            Self::ImportAccess => "merge the committed tool access into the copy",
            Self::Switch => "check the copy, back up once more, and put the copy in place",
            Self::Verify => "check what is in place",
        }
    }
}

impl RefreshPlan {
    /// Compares both databases and the rules. Writes nothing.
    ///
    /// # Errors
    ///
    /// Fails where the refresh must not be: wrong or equal databases, a target stamped production, columns that nobody has
    /// classified.
    pub fn new(request: &RefreshRequest<'_>) -> Result<Self, PlanRefreshError> {
        let RefreshRequest { source, source_environment, target, catalog, folder, masking, .. } =
            *request;
        let environment = catalog.environment();
        let (source_store, target_store) = (for_url(source)?, for_url(target)?);
        check_target(request, &*target_store)?;
        if source_store.system() != target_store.system() {
            return Err(PlanRefreshError::DifferentSystems {
                source_database: source.to_string(),
                target_database: target.to_string(),
            });
        }
        let (source_side, contents, source_identity) = side(source, &*source_store, "source")?
            .ok_or_else(|| source_stamp(source, None, source_environment))?;
        let target_side = side(target, &*target_store, "target")?;
        if target_side.as_ref().is_some_and(|(_, _, identity)| *identity == source_identity) {
            return Err(PlanRefreshError::SameDatabase { database: source.to_string() });
        }
        if contents.stamp != Some(source_environment) {
            return Err(source_stamp(source, contents.stamp, source_environment));
        }
        if !contents.unknown.is_empty() {
            return Err(PlanRefreshError::NewerSource { versions: contents.unknown });
        }
        let mut conn = open(source, Mode::Read).map_err(|error| read("source")(error.into()))?;
        let schema = Schema::read(&mut conn)?;
        let masking_plan =
            MaskingPlan::new(masking, &schema, &Schema::of_this_build()?, conn.dialect())?;
        Ok(Self {
            environment,
            source: source_side,
            target: target_side.map(|(side, _, _)| side),
            target_database: target.to_string(),
            unmasked: matches!(masking, Masking::CredentialsOnly),
            masking: masking_plan,
            migrations: contents.pending,
            leftovers: UnattachedCopy::leftovers(target, folder)?,
            steps: RefreshStep::ALL.to_vec(),
        })
    }

    /// How many rows are copied and stay.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let stays = |table: &String| !self.masking.drops.contains(table);
        self.source.rows.iter().filter(|(table, _)| stays(table)).map(|(_, rows)| rows).sum()
    }
}

/// Whatever else is asked for, production is never replaced, and nothing that is not the environment's own.
pub(super) fn check_target(
    request: &RefreshRequest<'_>,
    target: &dyn Store,
) -> Result<(), PlanRefreshError> {
    let database = request.target.to_string();
    let wanted = request.catalog.environment();
    let live = target.live().map_err(read("target"))?;
    let stamp = live.as_ref().and_then(|live| live.stamp);
    if stamp == Some(EnvironmentName::Production) || wanted == EnvironmentName::Production {
        return Err(PlanRefreshError::TargetIsProduction { database });
    }
    match (live, stamp) {
        (Some(_), stamp) if stamp != Some(wanted) => {
            Err(PlanRefreshError::TargetStamp { database, found: found(stamp), wanted })
        }
        (Some(live), _) if !live.unknown.is_empty() => {
            Err(PlanRefreshError::NewerTarget { versions: live.unknown })
        }
        _ => Ok(()),
    }
}

fn source_stamp(
    source: &DatabaseUrl,
    stamp: Option<EnvironmentName>,
    wanted: EnvironmentName,
) -> PlanRefreshError {
    PlanRefreshError::SourceStamp { database: source.to_string(), found: found(stamp), wanted }
}

fn found(stamp: Option<EnvironmentName>) -> String {
    stamp.map_or_else(|| "unstamped".to_owned(), |stamp| format!("stamped `{stamp}`"))
}

fn read(side: &'static str) -> impl FnOnce(ReadDatabaseError) -> PlanRefreshError {
    move |source| PlanRefreshError::Read { side, source }
}

/// A database, what is in it and what tells it from others; none where it does not exist or is empty.
fn side(
    url: &DatabaseUrl,
    store: &dyn Store,
    name: &'static str,
) -> Result<Option<(Side, Contents, String)>, PlanRefreshError> {
    let Some(contents) = store.live().map_err(read(name))? else { return Ok(None) };
    let opened = open(url, Mode::Read).map_err(|error: OpenError| read(name)(error.into()))?;
    let mut conn = opened;
    let (identity, bytes) = store::identify(&mut conn).map_err(|error| read(name)(error.into()))?;
    let side = Side {
        database: url.to_string(),
        stamp: contents.stamp,
        schema_version: contents.schema_version.clone(),
        bytes,
        rows: contents.rows.clone(),
    };
    Ok(Some((side, contents, identity)))
}

impl fmt::Display for RefreshPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            environment,
            source,
            target,
            target_database,
            unmasked,
            masking,
            migrations,
            leftovers,
            steps,
        } = self;
        if !leftovers.is_empty() {
            writeln!(
                f,
                "An earlier refresh was killed. This one removes what it left: {}.",
                leftovers.join(", ")
            )?;
        }
        writeln!(f, "Refresh of {environment}")?;
        writeln!(f, "  from: {}", source.database)?;
        writeln!(f, "        {}", source.describe())?;
        writeln!(f, "  to:   {target_database}")?;
        match target {
            Some(target) => writeln!(f, "        {}, which will be replaced", target.describe())?,
            None => writeln!(f, "        there is nothing there yet")?,
        }
        writeln!(f, "Rows:")?;
        let tables: std::collections::BTreeSet<&String> =
            source.rows.keys().chain(target.iter().flat_map(|side| side.rows.keys())).collect();
        for table in tables {
            let count = |side: Option<&Side>| {
                side.and_then(|side| side.rows.get(table))
                    .map_or_else(|| "absent".to_owned(), ToString::to_string)
            };
            writeln!(
                f,
                "  {table}: {} there, {} here now",
                count(Some(source)),
                count(target.as_ref())
            )?;
        }
        if *unmasked {
            writeln!(f, "PERSONAL DATA IS NOT MASKED. Only credentials and sessions go:")?;
        } else {
            writeln!(f, "Masked:")?;
        }
        write!(f, "{masking}")?;
        writeln!(f, "Steps:")?;
        for (number, step) in steps.iter().enumerate() {
            write!(f, "  {} {:<13} {}", number + 1, step.as_str(), step.summary())?;
            match (step, migrations.as_slice()) {
                (RefreshStep::Migrate, []) => writeln!(f, ": none is pending")?,
                (RefreshStep::Migrate, pending) => writeln!(f, ": {}", pending.join(", "))?,
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl Side {
    fn describe(&self) -> String {
        let Self { stamp, schema_version, bytes, rows, database: _ } = self;
        let stamp = stamp.map_or("unstamped", EnvironmentName::as_str);
        let schema = schema_version.as_deref().unwrap_or("none");
        let rows: u64 = rows.values().sum();
        format!("{stamp}, schema {schema}, {rows} rows, {bytes} bytes")
    }
}
