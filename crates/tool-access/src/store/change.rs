//! Writing one fact. Each function returns how many rows it changed, which is 0 or 1.

use diesel::prelude::*;
use omnitool_database::{
    AnyConnection, on,
    schema::{tool_access, tool_access_everyone, tool_access_exclusion},
};

use crate::Origin;

pub(crate) fn insert_grant(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
    origin: Origin,
) -> QueryResult<usize> {
    on!(conn, c => diesel::insert_into(tool_access::table)
        .values((
            tool_access::user_id.eq(user_id),
            tool_access::tool_id.eq(tool_id),
            tool_access::origin.eq(origin.as_str()),
        ))
        .on_conflict_do_nothing()
        .execute(c))
}

pub(crate) fn delete_grant(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
) -> QueryResult<usize> {
    diesel::delete(tool_access::table.find((user_id, tool_id))).execute(conn)
}

pub(crate) fn insert_exclusion(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
    reason: Option<&str>,
    origin: Origin,
) -> QueryResult<usize> {
    on!(conn, c => diesel::insert_into(tool_access_exclusion::table)
        .values((
            tool_access_exclusion::user_id.eq(user_id),
            tool_access_exclusion::tool_id.eq(tool_id),
            tool_access_exclusion::reason.eq(reason),
            tool_access_exclusion::origin.eq(origin.as_str()),
        ))
        .on_conflict_do_nothing()
        .execute(c))
}

pub(crate) fn delete_exclusion(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
) -> QueryResult<usize> {
    diesel::delete(tool_access_exclusion::table.find((user_id, tool_id))).execute(conn)
}

pub(crate) fn insert_wildcard(
    conn: &mut AnyConnection,
    tool_id: i64,
    origin: Origin,
) -> QueryResult<usize> {
    on!(conn, c => diesel::insert_into(tool_access_everyone::table)
        .values((
            tool_access_everyone::tool_id.eq(tool_id),
            tool_access_everyone::origin.eq(origin.as_str()),
        ))
        .on_conflict_do_nothing()
        .execute(c))
}

pub(crate) fn delete_wildcard(conn: &mut AnyConnection, tool_id: i64) -> QueryResult<usize> {
    diesel::delete(tool_access_everyone::table.find(tool_id)).execute(conn)
}
