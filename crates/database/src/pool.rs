//! A pool of connections for long-running services.

use std::{
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

use diesel::connection::SimpleConnection as _;
use omnitool_environment::DatabaseUrl;

use crate::{AnyConnection, Mode, OpenError, open};

/// Connections kept open for a service.
pub type Pool = r2d2::Pool<Manager>;

/// Opens and tests the pool's connections.
#[derive(Debug)]
pub struct Manager {
    url: DatabaseUrl,
    /// How long a query waits for a lock.
    wait: Duration,
}

/// A connection of the pool.
pub struct Pooled {
    conn: AnyConnection,
    /// Which file it has open, where that is one.
    file: Option<FileId>,
}

impl Pooled {
    /// Asks a server whether the connection is there still, which whoever saw a query fail should do: where a connection is
    /// lost before a query could be prepared, diesel does not notice, and the pool would hand it out again.
    pub fn look_after_failure(&mut self) {
        if let AnyConnection::Postgres(conn) = &mut self.conn {
            // What is wrong is noticed by the connection itself, which says so to `has_broken`.
            let _ = conn.batch_execute("");
        }
    }
}

impl Deref for Pooled {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.conn
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.conn
    }
}

/// A pooled connection does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not take a setting.
    #[error("cannot set how long a query waits for a lock")]
    Configure(#[source] diesel::result::Error),
    /// Its file cannot be looked at.
    #[error("cannot look at the database file")]
    File(#[source] io::Error),
    /// Its file was replaced, as a restore does; what is written to the old one is lost.
    #[error("the database file was replaced since the connection was opened")]
    Replaced,
}

/// What stays the same as long as a path leads to the same file: its device and number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn read(url: &DatabaseUrl) -> io::Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt as _;
        let id = |path| std::fs::metadata(path).map(|file| Self(file.dev(), file.ino()));
        url.sqlite_path().map(id).transpose()
    }

    /// Elsewhere an open file cannot be replaced.
    #[cfg(not(unix))]
    fn read(_: &DatabaseUrl) -> io::Result<Option<Self>> {
        Ok(None)
    }
}

impl r2d2::ManageConnection for Manager {
    type Connection = Pooled;
    type Error = PoolError;

    fn connect(&self) -> Result<Pooled, PoolError> {
        let mut conn = open(&self.url, Mode::Write)?;
        if let AnyConnection::Postgres(conn) = &mut conn {
            conn.batch_execute(&format!("SET lock_timeout = {}", self.wait.as_millis()))
                .map_err(PoolError::Configure)?;
        }
        Ok(Pooled { conn, file: FileId::read(&self.url).map_err(PoolError::File)? })
    }

    /// Asks the file system and not the database: a query each time would double the queries, and broken connections
    /// are noticed by `has_broken`.
    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), PoolError> {
        let file = FileId::read(&self.url).map_err(PoolError::File)?;
        if file == pooled.file { Ok(()) } else { Err(PoolError::Replaced) }
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        use diesel::connection::TransactionManager as _;
        <AnyConnection as diesel::Connection>::TransactionManager::is_broken_transaction_manager(
            pooled,
        )
    }
}

/// A pool of at most `size` connections to an existing database; a caller waits at most `wait` for one, and a query as long
/// for a lock: what somebody has asked for and got no answer must not happen an hour later. (SQLite's own limit is 5 s.)
///
/// Connections are opened when they are first needed, so this returns at once, also where the database is down.
#[must_use]
pub fn new(url: &DatabaseUrl, size: u32, wait: Duration) -> Pool {
    r2d2::Pool::builder()
        .max_size(size)
        .min_idle(Some(0))
        .connection_timeout(wait)
        .test_on_check_out(true)
        .build_unchecked(Manager { url: url.clone(), wait })
}
