//! The database systems: how each is copied, looked at and put back. Their SQL is below here; masking and refreshes have their own.

mod error;
mod postgres;
mod sqlite;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use omnitool_environment::{DatabaseKind, DatabaseUrl, EnvironmentName};

pub use self::error::{
    Cause, CopyError, DropCopyError, DropOldError, FindEnvironmentError, InspectError,
    ReadDatabaseError, RestoreError, UnsupportedDatabaseError,
};
pub(crate) use self::postgres::{PostgresCopy, STAMP_TABLE, end_sessions};
use crate::{BackupId, CaptureError, manifest::System};

/// Who is logged in. A restore leaves it empty: logging out must not be undone.
pub(crate) const SESSION_TABLE: &str = "user_session";

/// What the names of databases begin with that rehearsals are made on. Nothing else may be dropped as one.
const COPY: &str = "omnitool_rehearsal";

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
    /// Returns the rows of each table at that moment, where the system can count them besides the copy.
    ///
    /// # Errors
    ///
    /// Fails where the database cannot be read or the file cannot be written.
    fn copy_to(
        &self,
        file: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<BTreeMap<String, u64>>, CopyError>;

    /// Reads all of the backup `file` and checks it, without changing anything.
    ///
    /// # Errors
    ///
    /// Fails where it is no backup of this system, or a damaged one.
    fn inspect(&self, file: &Path) -> Result<Contents, InspectError> {
        self.system().inspect(file)
    }

    /// Restores a backup where nobody else looks, checks it there, lets `check` look at it, and removes it again. Systems
    /// whose backups are databases have nothing to restore.
    ///
    /// # Errors
    ///
    /// Fails where the backup cannot be restored, is not what the request says, or `check` finds something.
    fn rehearse(
        &self,
        _request: &RestoreRequest<'_>,
        _hooks: &mut RehearsalHooks<'_>,
    ) -> Result<(), RestoreError> {
        Ok(())
    }

    /// What an earlier restore left behind because it was killed.
    ///
    /// # Errors
    ///
    /// Fails where the database or what lies beside it cannot be read.
    fn interrupted(&self) -> Result<Option<Interrupted>, ReadDatabaseError>;

    /// Replaces the whole database by a backup, or leaves it as it was. It first removes what a killed restore left.
    ///
    /// # Errors
    ///
    /// Fails where the backup is not what the request says, another restore runs, a hook fails, or the result is not what
    /// it should be; the database is then unchanged.
    fn restore(
        &self,
        request: &RestoreRequest<'_>,
        hooks: &mut RestoreHooks<'_>,
    ) -> Result<(), RestoreError>;

    /// The databases that restores replaced and kept under other names, oldest first. Systems that replace the content in
    /// place keep none.
    ///
    /// # Errors
    ///
    /// Fails where the server cannot be asked.
    fn old_databases(&self) -> Result<Vec<OldDatabase>, ReadDatabaseError> {
        Ok(Vec::new())
    }

    /// Drops one of [`Self::old_databases`]; one that is gone already is as good.
    ///
    /// # Errors
    ///
    /// Fails where the server cannot be reached or refuses.
    fn drop_old(&self, _old: &OldDatabase) -> Result<(), DropOldError> {
        Ok(())
    }

    /// Drops the whole database, whose name has to say that it is the one of a rehearsal; one that is not there is as good.
    ///
    /// # Errors
    ///
    /// Fails where it is none, and where the server cannot be reached or refuses.
    fn drop_copy(&self) -> Result<(), DropCopyError> {
        Err(DropCopyError::NotOne { database: self.name(), begins: COPY })
    }
}

/// What a restore asks of its caller on the way: first `check`, then `safety`.
pub struct RestoreHooks<'a> {
    /// Is told how far it has come.
    pub progress: &'a mut dyn FnMut(Progress),
    /// Looks at the staged copy, stamped and without sessions as it will be in place; nothing was replaced yet, and what it
    /// answers stops the restore.
    pub check: &'a mut dyn FnMut(&DatabaseUrl) -> Result<(), String>,
    /// Takes the safety backup, where there is something to save. It is called when nobody else can write any more and
    /// nothing has changed yet, with what to tell its progress.
    pub safety: &'a mut Safety<'a>,
}

/// What a rehearsal asks of its caller.
pub struct RehearsalHooks<'a> {
    /// Is told how far it has come.
    pub progress: &'a mut dyn FnMut(Progress),
    /// Looks at the restored backup.
    pub check: &'a mut dyn FnMut(&DatabaseUrl) -> Result<(), String>,
}

/// Takes a safety backup and names it.
pub type Safety<'a> =
    dyn FnMut(&mut dyn FnMut(Progress)) -> Result<Option<BackupId>, CaptureError> + 'a;

/// How far something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

/// What takes its time in a capture or a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The database is copied into a file.
    Copy,
    /// The backup is copied to where the live database is.
    Stage,
    /// A copy is checked.
    Check,
    /// The content of the live database is replaced.
    Replace,
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
    /// A database with the same content that is still there, so that putting it back is a change of names.
    pub old: Option<&'a OldDatabase>,
}

/// A database that a restore replaced and kept under another name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OldDatabase {
    /// Its name.
    pub name: String,
    /// When it was replaced, where that is known (UTC).
    pub replaced_at: Option<DateTime<Utc>>,
    /// The safety backup that was taken of it, when nobody could write to it any more.
    pub safety_backup: Option<BackupId>,
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
    /// What it left besides, by name: files, or databases. The next restore removes them.
    pub leftovers: Vec<String>,
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

/// How to work with a database, beyond its URL. SQLite needs none of it.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// The folder with `pg_dump` and `pg_restore`; none where they are looked for on the PATH and in the usual places.
    pub programs: Option<PathBuf>,
    /// How many connections a restore into PostgreSQL uses at once; none for as many as there are processors, up to four.
    pub jobs: Option<NonZeroUsize>,
}

/// The database at `url` as something that backups can be taken of.
///
/// # Errors
///
/// Fails where the URL does not name the database.
pub fn for_url(url: &DatabaseUrl) -> Result<Box<dyn Store>, UnsupportedDatabaseError> {
    for_url_with(url, &StoreOptions::default())
}

/// The same, with options.
///
/// # Errors
///
/// Fails where the URL does not name the database.
pub fn for_url_with(
    url: &DatabaseUrl,
    options: &StoreOptions,
) -> Result<Box<dyn Store>, UnsupportedDatabaseError> {
    match url.kind() {
        DatabaseKind::Sqlite { path } => Ok(Box::new(sqlite::SqliteStore::new(path))),
        _ => Ok(Box::new(postgres::PostgresStore::new(url, options)?)),
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
            Self::Postgres => postgres::inspect(file),
        }
    }
}

impl Step {
    /// The text for a person.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "Copying the database",
            Self::Stage => "Fetching the backup",
            Self::Check => "Checking",
            Self::Replace => "Restoring",
        }
    }
}
