//! Sessions: who is logged in.

use chrono::{NaiveDateTime, TimeDelta, Utc};
use omnitool_database::{AnyConnection, write_transaction};

use crate::{
    store::{self, NewSessionRow, ViewerRow, dashboard::EntryRow},
    token::Token,
    viewers::Viewers,
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

impl From<ViewerRow> for Viewer {
    fn from(ViewerRow { id, username, is_admin }: ViewerRow) -> Self {
        Self { id, username, is_admin }
    }
}

/// The active user who has the session with this token, unless it is over.
pub(crate) fn find(conn: &mut AnyConnection, token: &Token) -> diesel::QueryResult<Option<Viewer>> {
    Ok(store::find_viewer(conn, &token.sha256(), Utc::now().naive_utc())?.map(Viewer::from))
}

/// [`find`], with the tools that the user may use, by name. One question where `viewers` has guessed right.
pub(crate) fn find_dashboard(
    conn: &mut AnyConnection,
    token: &Token,
    viewers: &Viewers,
) -> diesel::QueryResult<Option<(Viewer, Vec<EntryRow>)>> {
    let (token_sha256, now) = (token.sha256(), Utc::now().naive_utc());
    if let Some(viewer) = viewers.guess(&token_sha256) {
        let entries = store::dashboard::list_entries(conn, &token_sha256, now, &viewer)?;
        // Where there is nothing, the user may have no tools, or no longer be who it was.
        if !entries.is_empty() {
            return Ok(Some((viewer, entries)));
        }
    }
    let Some(viewer) = store::find_viewer(conn, &token_sha256, now)?.map(Viewer::from) else {
        return Ok(None);
    };
    let entries = store::dashboard::list_entries(conn, &token_sha256, now, &viewer)?;
    viewers.remember(token_sha256, viewer.clone());
    Ok(Some((viewer, entries)))
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
