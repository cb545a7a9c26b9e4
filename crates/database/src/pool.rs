//! A pool of connections for long-running services.

use std::time::Duration;

use diesel::RunQueryDsl as _;
use omnitool_environment::DatabaseUrl;

use crate::{AnyConnection, Mode, OpenError, open};

/// Connections kept open for a service.
pub type Pool = r2d2::Pool<Manager>;

/// Opens and tests the pool's connections.
#[derive(Debug)]
pub struct Manager {
    url: DatabaseUrl,
}

/// A pooled connection does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not answer.
    #[error("the connection does not answer")]
    Ping(#[from] diesel::result::Error),
}

impl r2d2::ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = PoolError;

    fn connect(&self) -> Result<AnyConnection, PoolError> {
        Ok(open(&self.url, Mode::Write)?)
    }

    fn is_valid(&self, conn: &mut AnyConnection) -> Result<(), PoolError> {
        diesel::sql_query("SELECT 1").execute(conn)?;
        Ok(())
    }

    fn has_broken(&self, conn: &mut AnyConnection) -> bool {
        use diesel::connection::TransactionManager as _;
        <AnyConnection as diesel::Connection>::TransactionManager::is_broken_transaction_manager(
            conn,
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
        // A ping per request would double the queries; broken connections are noticed by `has_broken`.
        .test_on_check_out(false)
        .build_unchecked(Manager { url: url.clone() })
}
