//! The locks of whoever changes many facts, in the one order that all keep to.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use omnitool_database::{AnyConnection, try_lock};

/// How long a table is waited for while others are locked: shorter than PostgreSQL's `deadlock_timeout` of 1 s.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Keeps others from changing facts until the caller's transaction ends; waits for them for `longest` at most. On SQLite a
/// transaction that writes does so already.
///
/// # Errors
///
/// Fails where others change facts for longer, and where the database refuses.
pub fn lock_facts(conn: &mut AnyConnection, longest: Duration) -> QueryResult<()> {
    if matches!(conn, AnyConnection::Sqlite(_)) {
        return Ok(());
    }
    // Somebody who has changed exclusions may want to change grants next: whoever of two waits for all tables gives way.
    // A synchronization of the tools locks them before it moves grants, and each new grant looks at its tool.
    let tables = "LOCK TABLE tools IN ROW SHARE MODE; \
                  LOCK TABLE tool_access, tool_access_everyone, tool_access_exclusion \
                  IN SHARE ROW EXCLUSIVE MODE";
    let until = Instant::now() + longest;
    while !try_lock(conn, tables, PATIENCE)? {
        if Instant::now() >= until {
            let seconds = longest.as_secs();
            let what = format!("others are changing who may use what, for more than {seconds} s");
            return Err(diesel::result::Error::QueryBuilderError(what.into()));
        }
    }
    Ok(())
}
