//! Copying a database page by page, with SQLite's own backup interface.
//!
//! Diesel has no handle for it, so rusqlite does this. Both use the one SQLite library of this process: with a second one,
//! closing a file in the one would give up the locks that the other holds on it.

use std::{ffi::c_int, path::Path, time::Duration};

use omnitool_database::{Mode, sqlite_uri};
use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
    ffi,
};

use crate::store::{Progress, Step};

/// How many pages are copied between two looks at the progress: 4 MiB of the usual size.
const AT_ONCE: c_int = 1024;

/// Opens a database that exists.
pub(super) fn connect(file: &Path, wait: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(sqlite_uri(file, Mode::Write), flags)?;
    conn.busy_timeout(wait)?;
    Ok(conn)
}

/// Copies the database that `source` is connected to, as it is at one moment, into the empty file `file`.
///
/// Nobody who writes waits for it: the source uses the write-ahead log, and the copy reads one state of it.
pub(super) fn save(
    source: &Connection,
    file: &Path,
    progress: &mut dyn FnMut(Progress),
) -> rusqlite::Result<()> {
    let mut target = connect(file, Duration::ZERO)?;
    // A half copy is thrown away, so that it needs no journal; the caller flushes the file.
    target.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF",
    )?;
    // Without this, each step would read another state, and each change in between begin the copy anew.
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
    let page_size = page_size(source)?;
    let backup = Backup::new(source, &mut target)?;
    copy(&backup, page_size, Step::Copy, progress)?;
    drop(backup);
    source.execute_batch("COMMIT")?;
    // The copy says that it has a write-ahead log, like its source. As one file without, it can be opened where it lies.
    target.execute_batch("PRAGMA journal_mode = DELETE")
}

/// Copies all pages that are still to be copied; the last step commits.
pub(super) fn copy(
    backup: &Backup<'_, '_>,
    page_size: u64,
    step: Step,
    progress: &mut dyn FnMut(Progress),
) -> rusqlite::Result<()> {
    loop {
        let result = backup.step(AT_ONCE)?;
        let pages = backup.progress();
        let bytes = |pages: c_int| u64::try_from(pages).unwrap_or_default() * page_size;
        let (total, remaining) = (bytes(pages.pagecount), bytes(pages.remaining));
        progress(Progress { step, done: total.saturating_sub(remaining), total: Some(total) });
        match result {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => return Err(busy()),
        }
    }
}

/// Takes the write lock of a copy's target and changes nothing yet.
pub(super) fn lock(backup: &Backup<'_, '_>) -> rusqlite::Result<()> {
    match backup.step(0)? {
        StepResult::Done | StepResult::More => Ok(()),
        _ => Err(busy()),
    }
}

/// The size of a database's pages in bytes.
pub(super) fn page_size(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))
        .map(|size| u64::try_from(size).unwrap_or_default())
}

/// How the database keeps a change until it is whole, such as `wal`.
pub(super) fn journal_mode(conn: &Connection) -> rusqlite::Result<String> {
    conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))
}

/// Whether somebody else held a lock for too long.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}

fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)
}
