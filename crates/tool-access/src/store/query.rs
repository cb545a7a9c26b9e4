//! Reading facts and effective access.

use std::collections::HashMap;

use diesel::{dsl::exists, prelude::*, select};
use omnitool_database::{
    AnyConnection, on,
    schema::{
        effective_tool_access, tool_access, tool_access_everyone, tool_access_exclusion, tools,
        users,
    },
};

use crate::{
    explain::FactSource,
    query::{Counts, Tool, User},
};

pub(crate) fn list_tools_of(conn: &mut AnyConnection, user_id: i64) -> QueryResult<Vec<Tool>> {
    let query =
        effective_tool_access::table.filter(effective_tool_access::user_id.eq(user_id)).select((
            effective_tool_access::tool_id,
            effective_tool_access::tool_name,
            effective_tool_access::tool_description,
            effective_tool_access::tool_route,
        ));
    // On the connection itself: asking each value of each row for its system costs more than reading it.
    let rows: Vec<(i64, String, String, String)> = on!(conn, c => query.load(c))?;
    let tool = |(id, name, description, route)| Tool { id, name, description, route };
    let mut tools: Vec<Tool> = rows.into_iter().map(tool).collect();
    // A few names are sorted sooner here than by a database.
    tools.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(tools)
}

pub(crate) fn list_users_of(conn: &mut AnyConnection, tool_id: i64) -> QueryResult<Vec<User>> {
    let rows: Vec<(i64, String)> = effective_tool_access::table
        .inner_join(users::table)
        .filter(effective_tool_access::tool_id.eq(tool_id))
        .order(users::username)
        .select((users::id, users::username))
        .load(conn)?;
    Ok(rows.into_iter().map(|(id, username)| User { id, username }).collect())
}

pub(crate) fn is_effective(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
) -> QueryResult<bool> {
    select(exists(
        effective_tool_access::table
            .filter(effective_tool_access::user_id.eq(user_id))
            .filter(effective_tool_access::tool_id.eq(tool_id)),
    ))
    .get_result(conn)
}

/// A user with what matters for access.
pub(crate) struct UserRow {
    pub(crate) id: i64,
    pub(crate) is_active: bool,
}

/// A tool with what matters for access.
pub(crate) struct ToolRow {
    pub(crate) id: i64,
    pub(crate) is_active: bool,
}

pub(crate) fn find_user(conn: &mut AnyConnection, username: &str) -> QueryResult<Option<UserRow>> {
    let row: Option<(i64, bool)> = users::table
        .filter(users::username.eq(username))
        .select((users::id, users::is_active))
        .first(conn)
        .optional()?;
    Ok(row.map(|(id, is_active)| UserRow { id, is_active }))
}

pub(crate) fn find_tool(conn: &mut AnyConnection, name: &str) -> QueryResult<Option<ToolRow>> {
    let row: Option<(i64, bool)> = tools::table
        .filter(tools::name.eq(name))
        .select((tools::id, tools::is_active))
        .first(conn)
        .optional()?;
    Ok(row.map(|(id, is_active)| ToolRow { id, is_active }))
}

pub(crate) fn user_exists(conn: &mut AnyConnection, user_id: i64) -> QueryResult<bool> {
    select(exists(users::table.find(user_id))).get_result(conn)
}

pub(crate) fn tool_exists(conn: &mut AnyConnection, tool_id: i64) -> QueryResult<bool> {
    select(exists(tools::table.find(tool_id))).get_result(conn)
}

pub(crate) fn count_facts(conn: &mut AnyConnection) -> QueryResult<Counts> {
    let grants: i64 = tool_access::table.count().get_result(conn)?;
    let wildcards: i64 = tool_access_everyone::table.count().get_result(conn)?;
    let exclusions: i64 = tool_access_exclusion::table.count().get_result(conn)?;
    Ok(Counts {
        grants: grants.unsigned_abs(),
        wildcards: wildcards.unsigned_abs(),
        exclusions: exclusions.unsigned_abs(),
    })
}

/// All tools' keys by name.
pub(crate) fn list_tool_ids(conn: &mut AnyConnection) -> QueryResult<HashMap<String, i64>> {
    let rows: Vec<(String, i64)> = tools::table.select((tools::name, tools::id)).load(conn)?;
    Ok(rows.into_iter().collect())
}

/// The names of the users who have these contact addresses, by address.
pub(crate) fn find_users_by_email(
    conn: &mut AnyConnection,
    emails: &[&str],
) -> QueryResult<HashMap<String, String>> {
    let mut found = HashMap::new();
    for emails in emails.chunks(1000) {
        let rows: Vec<(Option<String>, String)> = users::table
            .filter(users::email.eq_any(emails))
            .select((users::email, users::username))
            .load(conn)?;
        found.extend(rows.into_iter().filter_map(|(email, user)| Some((email?, user))));
    }
    Ok(found)
}

pub(crate) fn find_grant(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
) -> QueryResult<Option<FactSource>> {
    let row = tool_access::table
        .find((user_id, tool_id))
        .select((tool_access::origin, tool_access::granted_at))
        .first(conn)
        .optional()?;
    Ok(row.map(|(origin, since)| FactSource { origin, since, reason: None }))
}

pub(crate) fn find_wildcard(
    conn: &mut AnyConnection,
    tool_id: i64,
) -> QueryResult<Option<FactSource>> {
    let row = tool_access_everyone::table
        .find(tool_id)
        .select((tool_access_everyone::origin, tool_access_everyone::granted_at))
        .first(conn)
        .optional()?;
    Ok(row.map(|(origin, since)| FactSource { origin, since, reason: None }))
}

pub(crate) fn find_exclusion(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
) -> QueryResult<Option<FactSource>> {
    let row = tool_access_exclusion::table
        .find((user_id, tool_id))
        .select((
            tool_access_exclusion::origin,
            tool_access_exclusion::excluded_at,
            tool_access_exclusion::reason,
        ))
        .first(conn)
        .optional()?;
    Ok(row.map(|(origin, since, reason)| FactSource { origin, since, reason }))
}

/// The active tools that every new user gets, by name.
pub(crate) fn list_default_tools(conn: &mut AnyConnection) -> QueryResult<Vec<(i64, String)>> {
    tools::table
        .filter(tools::is_default.and(tools::is_active))
        .order(tools::name)
        .select((tools::id, tools::name))
        .load(conn)
}
