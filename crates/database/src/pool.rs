//! A pool of connections for long-running services.

use std::{
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

use omnitool_environment::DatabaseUrl;

use crate::{AnyConnection, Mode, OpenError, open};

/// Connections kept open for a service.
pub type Pool = r2d2::Pool<Manager>;

/// Opens and tests the pool's connections.
#[derive(Debug)]
pub struct Manager {
    url: DatabaseUrl,
}

/// A connection of the pool.
pub struct Pooled {
    conn: AnyConnection,
    /// Which file it has open, where that is one.
    file: Option<FileId>,
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
        let conn = open(&self.url, Mode::Write)?;
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

/// A pool of at most `size` connections to an existing database; a caller waits at most `wait` for one.
///
/// Connections are opened when they are first needed, so this returns at once, also where the database is down.
#[must_use]
pub fn new(url: &DatabaseUrl, size: u32, wait: Duration) -> Pool {
    r2d2::Pool::builder()
        .max_size(size)
        .min_idle(Some(0))
        .connection_timeout(wait)
        .test_on_check_out(true)
        .build_unchecked(Manager { url: url.clone() })
}
