//! Tools, and windows of the access matrix.

use diesel::{dsl::count_star, prelude::*};
use omnitool_database::{
    AnyConnection,
    schema::{
        effective_tool_access, tool_access, tool_access_everyone, tool_access_exclusion, tools,
        users,
    },
};

/// A tool, whether or not anybody may use it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub(crate) struct ToolRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) route: String,
    pub(crate) is_default: bool,
    pub(crate) is_active: bool,
}

/// Somebody who is excluded from a tool.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub(crate) struct ExclusionRow {
    pub(crate) username: String,
    pub(crate) reason: Option<String>,
}

type Columns =
    (tools::id, tools::name, tools::description, tools::route, tools::is_default, tools::is_active);

const COLUMNS: Columns =
    (tools::id, tools::name, tools::description, tools::route, tools::is_default, tools::is_active);

pub(crate) fn list_tools(conn: &mut AnyConnection) -> QueryResult<Vec<ToolRow>> {
    tools::table.order(tools::name).select(COLUMNS).load(conn)
}

pub(crate) fn find_tool(conn: &mut AnyConnection, id: i64) -> QueryResult<Option<ToolRow>> {
    tools::table.find(id).select(COLUMNS).first(conn).optional()
}

/// The tools at this route: one, unless a retired tool's route was given to another.
pub(crate) fn list_tools_at(conn: &mut AnyConnection, route: &str) -> QueryResult<Vec<ToolRow>> {
    tools::table.filter(tools::route.eq(route)).order(tools::id).select(COLUMNS).load(conn)
}

/// Whether the user is excluded from any of these tools that is active.
pub(crate) fn is_excluded_from_any(
    conn: &mut AnyConnection,
    user_id: i64,
    candidates: &[ToolRow],
) -> QueryResult<bool> {
    let ids: Vec<i64> =
        candidates.iter().filter(|tool| tool.is_active).map(|tool| tool.id).collect();
    let exclusions = tool_access_exclusion::table
        .filter(tool_access_exclusion::user_id.eq(user_id))
        .filter(tool_access_exclusion::tool_id.eq_any(ids))
        .count();
    Ok(exclusions.get_result::<i64>(conn)? > 0)
}

/// The tools with a wildcard.
pub(crate) fn list_wildcards(conn: &mut AnyConnection) -> QueryResult<Vec<i64>> {
    tool_access_everyone::table.select(tool_access_everyone::tool_id).load(conn)
}

/// How many users have a grant, by tool.
pub(crate) fn count_grants(conn: &mut AnyConnection) -> QueryResult<Vec<(i64, i64)>> {
    tool_access::table
        .group_by(tool_access::tool_id)
        .select((tool_access::tool_id, count_star()))
        .load(conn)
}

/// How many users are excluded, by tool.
pub(crate) fn count_exclusions(conn: &mut AnyConnection) -> QueryResult<Vec<(i64, i64)>> {
    tool_access_exclusion::table
        .group_by(tool_access_exclusion::tool_id)
        .select((tool_access_exclusion::tool_id, count_star()))
        .load(conn)
}

/// How many users may effectively use the tool.
pub(crate) fn count_users_of(conn: &mut AnyConnection, tool_id: i64) -> QueryResult<i64> {
    effective_tool_access::table
        .filter(effective_tool_access::tool_id.eq(tool_id))
        .count()
        .get_result(conn)
}

/// The first users who are excluded from the tool, by name.
pub(crate) fn list_exclusions_of(
    conn: &mut AnyConnection,
    tool_id: i64,
    limit: i64,
) -> QueryResult<Vec<ExclusionRow>> {
    tool_access_exclusion::table
        .inner_join(users::table)
        .filter(tool_access_exclusion::tool_id.eq(tool_id))
        .order(users::username)
        .limit(limit)
        .select((users::username, tool_access_exclusion::reason))
        .load(conn)
}

/// The first users who have a grant of the tool, by name.
pub(crate) fn list_grants_of(
    conn: &mut AnyConnection,
    tool_id: i64,
    limit: i64,
) -> QueryResult<Vec<String>> {
    tool_access::table
        .inner_join(users::table)
        .filter(tool_access::tool_id.eq(tool_id))
        .order(users::username)
        .limit(limit)
        .select(users::username)
        .load(conn)
}

/// The grants of these users: user, tool, origin.
pub(crate) fn list_grants(
    conn: &mut AnyConnection,
    user_ids: &[i64],
) -> QueryResult<Vec<(i64, i64, String)>> {
    tool_access::table
        .filter(tool_access::user_id.eq_any(user_ids))
        .select((tool_access::user_id, tool_access::tool_id, tool_access::origin))
        .load(conn)
}

/// The exclusions of these users: user, tool, reason.
pub(crate) fn list_exclusions(
    conn: &mut AnyConnection,
    user_ids: &[i64],
) -> QueryResult<Vec<(i64, i64, Option<String>)>> {
    tool_access_exclusion::table
        .filter(tool_access_exclusion::user_id.eq_any(user_ids))
        .select((
            tool_access_exclusion::user_id,
            tool_access_exclusion::tool_id,
            tool_access_exclusion::reason,
        ))
        .load(conn)
}
