//! What a restore keeps beside the live database while it runs.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use diesel::{prelude::*, sql_types::BigInt};
use omnitool_database::{AnyConnection, Mode, open};
use omnitool_environment::DatabaseUrl;
use serde::{Deserialize, Serialize};

use super::{remove_if_there, side_file};
use crate::{
    BackupId,
    store::{Interrupted, Left, ReadDatabaseError, RestoreError},
};

/// The record of a running restore, locked as long as it runs.
const RECORD: &str = ".rollback";
/// The backup, copied to where the live database is.
const STAGED: &str = ".restoring";

/// How much is copied between two looks at the progress.
const PIECE: u64 = 16 << 20;

/// Our files beside the live database; they go away with this value.
#[derive(Debug)]
pub(super) struct Beside {
    database: PathBuf,
    record_file: PathBuf,
    record: File,
    staged: PathBuf,
    restoring: String,
}

#[derive(Deserialize, Serialize)]
struct Record {
    restoring: String,
    safety_backup: Option<BackupId>,
    /// SQLite's number of schema changes from before ours; none until we are about to begin.
    schema_cookie: Option<i64>,
}

#[derive(QueryableByName)]
struct Cookie {
    #[diesel(sql_type = BigInt)]
    schema_version: i64,
}

impl Beside {
    /// Makes sure that this is the only restore of `database`, and removes what a killed one left.
    pub(super) fn begin(database: &Path, restoring: &str) -> Result<Self, RestoreError> {
        let stage = |source| RestoreError::Stage { database: name(database), source };
        if let Some(folder) = database.parent() {
            fs_err::create_dir_all(folder).map_err(stage)?;
        }
        let record_file = side_file(database, RECORD);
        let record = loop {
            let record = open_private(&record_file).map_err(stage)?;
            match record.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(RestoreError::Running { database: name(database) });
                }
                Err(TryLockError::Error(error)) => return Err(stage(error)),
            }
            // Another restore may have ended, and removed the file, between our opening and locking it.
            if is_same_file(&record, &record_file) {
                break record;
            }
        };
        let staged = side_file(database, STAGED);
        let restoring = restoring.to_owned();
        let mut beside =
            Self { database: database.to_owned(), record_file, record, staged, restoring };
        beside.remove_staged().map_err(stage)?;
        beside.write_record(None, None).map_err(stage)?;
        Ok(beside)
    }

    /// Copies `file` beside the live database, where it is safe from whoever may change the original.
    pub(super) fn stage(&self, file: &Path, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let from = fs_err::File::open(file)?.into_file();
        let mut to = open_private(&self.staged)?;
        let mut done = 0;
        loop {
            // Between two files the kernel does it, by sharing their blocks where the file system can.
            let copied = io::copy(&mut (&from).take(PIECE), &mut to)?;
            if copied == 0 {
                return Ok(());
            }
            done += copied;
            progress(done);
        }
    }

    /// The copy.
    pub(super) fn staged(&self) -> &Path {
        &self.staged
    }

    /// Notes, before anything changes, what tells afterwards whether it did.
    pub(super) fn note(
        &mut self,
        conn: &mut AnyConnection,
        safety_backup: Option<BackupId>,
    ) -> Result<(), RestoreError> {
        let cookie = read_cookie(conn)?;
        self.write_record(safety_backup, Some(cookie))
            .map_err(|source| RestoreError::Stage { database: name(&self.database), source })
    }

    fn write_record(
        &mut self,
        safety_backup: Option<BackupId>,
        schema_cookie: Option<i64>,
    ) -> io::Result<()> {
        let restoring = self.restoring.clone();
        let text = serde_json::to_vec(&Record { restoring, safety_backup, schema_cookie })?;
        self.record.set_len(0)?;
        self.record.rewind()?;
        self.record.write_all(&text)?;
        self.record.sync_all()
    }

    fn remove_staged(&self) -> io::Result<()> {
        // Side files first: SQLite must never take those of an older copy for those of a newer one.
        for suffix in ["-wal", "-shm", "-journal", ""] {
            remove_if_there(&side_file(&self.staged, suffix))?;
        }
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // The record goes last: as long as there is anything to clean up, it says so.
        if let Err(error) = self.remove_staged().and_then(|()| remove_if_there(&self.record_file)) {
            tracing::warn!("cannot clean up beside {}: {error}", self.database.display());
        }
    }
}

/// What a killed restore left beside `database`.
pub(super) fn interrupted(database: &Path) -> Result<Option<Interrupted>, ReadDatabaseError> {
    let mut record = match File::open(side_file(database, RECORD)) {
        Ok(record) => record,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ReadDatabaseError::Beside(error)),
    };
    match record.try_lock_shared() {
        Ok(()) => {}
        // It runs.
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(ReadDatabaseError::Beside(error)),
    }
    let mut text = String::new();
    record.read_to_string(&mut text).map_err(ReadDatabaseError::Beside)?;
    let leftovers: Vec<String> = [side_file(database, STAGED), side_file(database, RECORD)]
        .into_iter()
        .filter(|file| file.exists())
        .map(|file| name(&file))
        .collect();
    // Half a record is from before anything changed: it is on disk when the change begins.
    let Ok(Record { restoring, safety_backup, schema_cookie }) = serde_json::from_str(&text) else {
        let (restoring, safety_backup, left) = (None, None, Left::Old);
        return Ok(Some(Interrupted { restoring, safety_backup, left, leftovers }));
    };
    let left = match schema_cookie {
        Some(before) if database.exists() => {
            let mut conn = open(&DatabaseUrl::sqlite(database), Mode::Read)?;
            if read_cookie(&mut conn)? == before { Left::Old } else { Left::New }
        }
        _ => Left::Old,
    };
    Ok(Some(Interrupted { restoring: Some(restoring), safety_backup, left, leftovers }))
}

/// The database for people.
pub(super) fn name(database: &Path) -> String {
    database.display().to_string()
}

fn read_cookie(conn: &mut AnyConnection) -> QueryResult<i64> {
    let Cookie { schema_version } =
        diesel::sql_query("PRAGMA main.schema_version").get_result(conn)?;
    Ok(schema_version)
}

/// Opens or makes a file with mode 0600.
fn open_private(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn is_same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (open.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => id(open) == id(there),
        _ => false,
    }
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_same_file(_: &File, _: &Path) -> bool {
    true
}
