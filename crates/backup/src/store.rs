//! The database systems: how each is copied, looked at and put back. All of this crate's SQL is below here.

pub(crate) mod sqlite;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use omnitool_database::{OpenError, migration::MigrateError, stamp::ReadStampError};
use omnitool_environment::{DatabaseKind, DatabaseUrl, EnvironmentName};

use crate::{BackupId, CaptureError, manifest::System};

/// An environment's database: what backups are taken of and restored into.
///
/// A database system is added by implementing this, and by giving [`System`] a variant whose files it can read.
pub trait Store: Send + Sync {
    /// Whose files the copies are.
    fn system(&self) -> System;

    /// The database's name, for the names of files.
    fn name(&self) -> String;

    /// Which environment the database says it is, where it says so.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be read.
    fn stamp(&self) -> Result<Option<EnvironmentName>, ReadDatabaseError>;

    /// What is in the database now; nothing where it does not exist or has no tables.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be read.
    fn live(&self) -> Result<Option<Contents>, ReadDatabaseError>;

    /// Copies the database as it is at one moment into `file`, which is there and empty, while others go on writing.
    ///
    /// # Errors
    ///
    /// Fails where the database cannot be read or the file cannot be written.
    fn copy_to(&self, file: &Path) -> Result<(), CopyError>;

    /// What an earlier restore left behind because it was killed.
    ///
    /// # Errors
    ///
    /// Fails where the database or what lies beside it cannot be read.
    fn interrupted(&self) -> Result<Option<Interrupted>, ReadDatabaseError>;

    /// Replaces the whole database by a backup, or leaves it as it was.
    ///
    /// `safety` is called when nobody else can write any more and nothing has changed yet; where there is something to
    /// save, it takes the safety backup.
    ///
    /// # Errors
    ///
    /// Fails where the backup is not what the request says, another restore runs, the safety backup fails, or the result
    /// is not what it should be; the database is then unchanged.
    fn restore(
        &self,
        request: &RestoreRequest<'_>,
        safety: &mut dyn FnMut() -> Result<Option<BackupId>, CaptureError>,
    ) -> Result<(), RestoreError>;
}

/// What is in a database or a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// How many rows each table has; the ledger of migrations is left out.
    pub rows: BTreeMap<String, u64>,
    /// The newest applied migration; none where this is no database of ours.
    pub schema_version: Option<String>,
    /// This build's migrations that are not applied.
    pub pending: Vec<String>,
    /// Applied migrations that this build does not know.
    pub unknown: Vec<String>,
    /// Which environment it says it is.
    pub stamp: Option<EnvironmentName>,
}

/// What is to be restored.
#[derive(Clone, Copy, Debug)]
pub struct RestoreRequest<'a> {
    /// What people call it: an id or a path.
    pub label: &'a str,
    /// The backup.
    pub file: &'a Path,
    /// The SHA-256 that it had when it was checked.
    pub sha256: &'a str,
    /// What is in it.
    pub contents: &'a Contents,
    /// What to stamp the result as.
    pub environment: EnvironmentName,
}

/// A restore that was killed. Whatever the moment, the database is whole.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Interrupted {
    /// What it was restoring, where it came so far as to say so.
    pub restoring: Option<String>,
    /// The safety backup that it had taken.
    pub safety_backup: Option<BackupId>,
    /// What the database is now.
    pub left: Left,
}

/// What a killed restore left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// The database from before it.
    Old,
    /// The restored database.
    New,
}

/// There is no way yet to back up this kind of database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot back up or restore the PostgreSQL database {url}: only SQLite is supported so far")]
pub struct UnsupportedDatabaseError {
    /// The database, without its password.
    pub url: String,
}

/// Why it is unclear which environment's backups are meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindEnvironmentError {
    /// There are no backups of such a database.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedDatabaseError),
    /// The database cannot be asked.
    #[error(transparent)]
    Read(#[from] ReadDatabaseError),
    /// The database does not say.
    #[error("this database has no environment stamp, and no environment was named")]
    Unstamped,
}

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadDatabaseError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A query failed.
    #[error("cannot read the database")]
    Query(#[from] diesel::result::Error),
    /// Its migrations cannot be read.
    #[error(transparent)]
    Schema(#[from] MigrateError),
    /// Its stamp cannot be read.
    #[error("cannot read the database's environment stamp")]
    Stamp(#[from] ReadStampError),
    /// What lies beside it cannot be read.
    #[error("cannot look for an interrupted restore")]
    Beside(#[source] io::Error),
}

/// Why a database could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database system could not write the copy.
    #[error("cannot copy the database to {file}")]
    Copy {
        /// Where to.
        file: PathBuf,
        /// What the database says.
        #[source]
        source: diesel::result::Error,
    },
}

/// Why a file is no good backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It cannot be reached.
    #[error("cannot reach the backup {file}")]
    Reach {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a link, or something else.
    #[error("the backup {file} is {found}, not a file")]
    NotAFile {
        /// The path.
        file: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// It begins like no database.
    #[error("the backup {file} is {found}")]
    NotADatabase {
        /// The file.
        file: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// It was copied from under a running database and lacks what is in the log.
    #[error("the backup {file} is not whole: the newest changes are still in {log}")]
    HasLog {
        /// The file.
        file: PathBuf,
        /// The write-ahead log beside it.
        log: PathBuf,
    },
    /// It is a database and broken.
    #[error("the backup {file} is damaged: {problem}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What its checks found.
        problem: String,
    },
    /// It cannot be read as a database.
    #[error("cannot read the backup {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the database says.
        #[source]
        source: ReadDatabaseError,
    },
}

/// Why a backup was not restored. The database is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Somebody else is at it.
    #[error("another rollback of {database} is running")]
    Running {
        /// The live database.
        database: PathBuf,
    },
    /// The backup could not be copied beside the live database.
    #[error("cannot copy the backup beside the live database {database}")]
    Stage {
        /// The live database.
        database: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The backup is not the one that was checked.
    #[error("the backup {label} was changed while it was being restored")]
    Changed {
        /// The backup.
        label: String,
    },
    /// The live database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The live database stayed busy.
    #[error("the live database was locked by another writer for {waited_seconds} s")]
    Locked {
        /// How long this one waited.
        waited_seconds: u32,
    },
    /// There is no way back without it.
    #[error("cannot take the safety backup")]
    Safety(#[from] CaptureError),
    /// The database refused something.
    #[error("cannot replace the content of the live database")]
    Replace(#[from] diesel::result::Error),
    /// The result was not what it should be, and was rolled back.
    #[error("the restored content is not what the backup holds: {problem}")]
    Check {
        /// What differs.
        problem: String,
    },
    /// The result cannot be looked at.
    #[error("cannot check the restored content")]
    Read(#[from] ReadDatabaseError),
}

/// The database at `url` as something that backups can be taken of.
///
/// # Errors
///
/// Fails for systems without backups.
pub fn for_url(url: &DatabaseUrl) -> Result<Box<dyn Store>, UnsupportedDatabaseError> {
    match url.kind() {
        DatabaseKind::Sqlite { path } => Ok(Box::new(sqlite::SqliteStore::new(path))),
        _ => Err(UnsupportedDatabaseError { url: url.to_string() }),
    }
}

/// The environment that the caller named, else the one that the database at `url` says it is.
///
/// # Errors
///
/// Fails where nothing was named and the database cannot be read or has no stamp.
pub fn find_environment(
    url: &DatabaseUrl,
    named: Option<EnvironmentName>,
) -> Result<EnvironmentName, FindEnvironmentError> {
    match named {
        Some(environment) => Ok(environment),
        None => for_url(url)?.stamp()?.ok_or(FindEnvironmentError::Unstamped),
    }
}

impl Contents {
    /// The first table with another number of rows than in `expected`.
    pub(crate) fn difference(&self, expected: &BTreeMap<String, u64>) -> Option<String> {
        let tables: BTreeSet<&String> = self.rows.keys().chain(expected.keys()).collect();
        tables.into_iter().find_map(|table| match (self.rows.get(table), expected.get(table)) {
            (found, wanted) if found == wanted => None,
            (Some(found), Some(wanted)) => {
                Some(format!("table `{table}` has {found} rows instead of {wanted}"))
            }
            (None, _) => Some(format!("table `{table}` is missing")),
            (_, None) => Some(format!("there is a table `{table}`")),
        })
    }
}

impl System {
    /// Opens the backup `file` and checks all of it, without changing anything beside it.
    ///
    /// # Errors
    ///
    /// Fails where it is no database of this system, or a damaged one.
    pub(crate) fn inspect(self, file: &Path) -> Result<Contents, InspectError> {
        match self {
            Self::Sqlite => sqlite::inspect(file),
        }
    }
}
