//! The environment stamp: each database knows which environment it is.

use diesel::{dsl::now, prelude::*};
use omnitool_environment::{EnvironmentName, ParseEnvironmentNameError};

use crate::{AnyConnection, connection::table_exists, schema::environment_stamp};

/// Why a database may not be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckStampError {
    /// The stamp cannot be read.
    #[error("cannot read the database's environment stamp")]
    Read(#[from] ReadStampError),
    /// The database belongs to another environment than the caller named.
    #[error("this database is stamped `{stamped}`, but `{wanted}` was asked for")]
    Differs {
        /// What the database is.
        stamped: EnvironmentName,
        /// What the caller named.
        wanted: EnvironmentName,
    },
    /// Nobody has said which environment this database is.
    #[error("this database has no environment stamp")]
    Missing,
}

/// Why the stamp could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadStampError {
    /// The query failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// The stamp is no environment that this build knows.
    #[error(transparent)]
    Unknown(#[from] ParseEnvironmentNameError),
}

/// Which environment the database is stamped as, or `None` where it has no stamp yet, also for want of the table.
///
/// # Errors
///
/// Fails where the table cannot be read or holds an unknown name.
pub fn read(conn: &mut AnyConnection) -> Result<Option<EnvironmentName>, ReadStampError> {
    if !table_exists(conn, "environment_stamp")? {
        return Ok(None);
    }
    let name: Option<String> =
        environment_stamp::table.select(environment_stamp::environment).first(conn).optional()?;
    Ok(name.map(|name| name.parse()).transpose()?)
}

/// The environment that the database is, which must be `wanted` if the caller named one.
///
/// # Errors
///
/// Fails where the stamp is missing or another one.
pub fn check(
    conn: &mut AnyConnection,
    wanted: Option<EnvironmentName>,
) -> Result<EnvironmentName, CheckStampError> {
    match (read(conn)?, wanted) {
        (None, _) => Err(CheckStampError::Missing),
        (Some(stamped), Some(wanted)) if stamped != wanted => {
            Err(CheckStampError::Differs { stamped, wanted })
        }
        (Some(stamped), _) => Ok(stamped),
    }
}

/// Stamps the database as `environment`, replacing an older stamp. For fresh databases, restores and refreshes.
///
/// # Errors
///
/// Fails where the table cannot be written.
pub fn write(conn: &mut AnyConnection, environment: EnvironmentName) -> QueryResult<()> {
    let values = (
        environment_stamp::id.eq(1),
        environment_stamp::environment.eq(environment.as_str()),
        environment_stamp::stamped_at.eq(now),
    );
    crate::on!(conn, c => diesel::insert_into(environment_stamp::table)
        .values(values)
        .on_conflict(environment_stamp::id)
        .do_update()
        .set((
            environment_stamp::environment.eq(environment.as_str()),
            environment_stamp::stamped_at.eq(now),
        ))
        .execute(c))?;
    Ok(())
}
