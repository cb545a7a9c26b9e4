//! Sessions: who is logged in.

use chrono::{NaiveDateTime, TimeDelta, Utc};
use omnitool_database::{AnyConnection, write_transaction};

use crate::{
    store::{self, NewSessionRow, ViewerRow},
    token::Token,
};

/// How long a session lasts, used or not: a working day and a bit.
pub(crate) const LIFETIME: TimeDelta = TimeDelta::hours(12);

/// Whoever is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Viewer {
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) is_admin: bool,
}

/// The active user who has the session with this token, unless it is over.
pub(crate) fn find(conn: &mut AnyConnection, token: &Token) -> diesel::QueryResult<Option<Viewer>> {
    let row = store::find_viewer(conn, &token.sha256(), Utc::now().naive_utc())?;
    Ok(row.map(|ViewerRow { id, username, is_admin }| Viewer { id, username, is_admin }))
}

/// Opens a session under `token`, closes the one that the browser had before, and forgets those that are over.
pub(crate) fn open(
    conn: &mut AnyConnection,
    user_id: i64,
    token: &Token,
    before: Option<&Token>,
) -> diesel::QueryResult<()> {
    let now = Utc::now().naive_utc();
    write_transaction(conn, |conn| {
        if let Some(before) = before {
            store::delete_session(conn, &before.sha256())?;
        }
        store::delete_expired_sessions(conn, now)?;
        insert(conn, user_id, token, now)
    })
}

/// Ends all of the user's sessions and opens a new one under `token`, in the caller's transaction.
pub(crate) fn replace_all(
    conn: &mut AnyConnection,
    user_id: i64,
    token: &Token,
) -> diesel::QueryResult<()> {
    store::user::delete_sessions_of(conn, user_id)?;
    insert(conn, user_id, token, Utc::now().naive_utc())
}

/// Closes the session with this token, if there is one.
pub(crate) fn close(conn: &mut AnyConnection, token: &Token) -> diesel::QueryResult<()> {
    store::delete_session(conn, &token.sha256())?;
    Ok(())
}

fn insert(
    conn: &mut AnyConnection,
    user_id: i64,
    token: &Token,
    now: NaiveDateTime,
) -> diesel::QueryResult<()> {
    let token_sha256 = token.sha256();
    let row = NewSessionRow {
        token_sha256: &token_sha256,
        user_id,
        created_at: now,
        expires_at: now + LIFETIME,
    };
    store::insert_session(conn, &row)?;
    Ok(())
}
