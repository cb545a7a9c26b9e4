//! What a dashboard asks.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use omnitool_database::{
    AnyConnection, on,
    schema::{effective_tool_access, user_session, users},
};

use crate::session::Viewer;

/// What a dashboard shows of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub(crate) struct EntryRow {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) route: String,
}

/// The tools that this viewer may use, by name, if the viewer is the active user whose session has this hash and is not
/// over: nothing where that is another, or nobody, or where the viewer has got another name or role since.
pub(crate) fn list_entries(
    conn: &mut AnyConnection,
    token_sha256: &str,
    now: NaiveDateTime,
    viewer: &Viewer,
) -> QueryResult<Vec<EntryRow>> {
    let user_id = user_session::table
        .inner_join(users::table)
        .filter(user_session::token_sha256.eq(token_sha256))
        .filter(user_session::expires_at.gt(now))
        .filter(users::id.eq(viewer.id))
        .filter(users::username.eq(&viewer.username))
        .filter(users::is_admin.eq(viewer.is_admin))
        .select(users::id);
    // The view has nobody who is not active.
    let query = effective_tool_access::table
        .filter(effective_tool_access::user_id.nullable().eq(user_id.single_value()))
        .select((
            effective_tool_access::tool_name,
            effective_tool_access::tool_description,
            effective_tool_access::tool_route,
        ));
    // On the connection itself: asking each value of each row for its system costs more than reading it.
    let mut entries: Vec<EntryRow> = on!(conn, c => query.load(c))?;
    // A few names are sorted sooner here than by a database.
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
