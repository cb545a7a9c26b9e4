//! The history of who may use what, as admins see it.

use chrono::NaiveDateTime;
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use omnitool_database::{
    AnyConnection,
    schema::{deleted_tool, tool_access_event, tool_access_run, tools, users},
};
use omnitool_tool_access::Change;

/// Who changed access: one run of a program, or one action of an admin.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub(crate) struct RunRow {
    pub(crate) id: i64,
    pub(crate) program: String,
    pub(crate) admin: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) happened_at: NaiveDateTime,
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventRow {
    /// 0 is everyone.
    pub(crate) user_id: i64,
    pub(crate) tool_id: i64,
    /// None where a newer build wrote a name that this one does not know.
    pub(crate) change: Option<Change>,
}

/// What was changed, with the names of the user and the tool where they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedEventRow {
    pub(crate) change: String,
    pub(crate) user_id: i64,
    pub(crate) username: Option<String>,
    pub(crate) tool: Option<String>,
}

const RUN: (
    tool_access_run::id,
    tool_access_run::program,
    tool_access_run::admin,
    tool_access_run::run_id,
    tool_access_run::happened_at,
) = (
    tool_access_run::id,
    tool_access_run::program,
    tool_access_run::admin,
    tool_access_run::run_id,
    tool_access_run::happened_at,
);

pub(crate) fn find_run(conn: &mut AnyConnection, id: i64) -> QueryResult<Option<RunRow>> {
    tool_access_run::table.find(id).select(RUN).first(conn).optional()
}

/// The newest runs before the run `before`.
pub(crate) fn list_runs(
    conn: &mut AnyConnection,
    before: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<RunRow>> {
    let query = tool_access_run::table.order(tool_access_run::id.desc()).select(RUN).limit(limit);
    match before {
        Some(before) => query.filter(tool_access_run::id.lt(before)).load(conn),
        None => query.load(conn),
    }
}

/// Everything that was changed in an admin's run. An import's may be millions; it is not asked for.
pub(crate) fn list_run_events(conn: &mut AnyConnection, run: i64) -> QueryResult<Vec<EventRow>> {
    let rows: Vec<(i64, i64, String)> = tool_access_event::table
        .filter(tool_access_event::run.eq(run))
        .select((tool_access_event::user_id, tool_access_event::tool_id, tool_access_event::change))
        .load(conn)?;
    let event = |(user_id, tool_id, change): (i64, i64, String)| EventRow {
        user_id,
        tool_id,
        change: parse(&change),
    };
    Ok(rows.into_iter().map(event).collect())
}

#[derive(QueryableByName)]
struct LaterRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    change: String,
}

/// What later runs changed about this tool for users whom the run changed something for, everyone among them.
pub(crate) fn list_later_changes(
    conn: &mut AnyConnection,
    run: i64,
    tool_id: i64,
) -> QueryResult<Vec<(i64, Change)>> {
    // Of two changes of one fact the later has the greater key: whoever takes one has the fact, or all of them, locked.
    let rows: Vec<LaterRow> = diesel::sql_query(
        "SELECT DISTINCT user_id, change FROM tool_access_event \
         WHERE tool_id = $1 AND run > $2 \
         AND user_id IN (SELECT user_id FROM tool_access_event WHERE run = $2)",
    )
    .bind::<BigInt, _>(tool_id)
    .bind::<BigInt, _>(run)
    .load(conn)?;
    Ok(rows.into_iter().filter_map(|row| Some((row.user_id, parse(&row.change)?))).collect())
}

/// The first of what was changed in a run.
pub(crate) fn list_named_events(
    conn: &mut AnyConnection,
    run: i64,
    limit: i64,
) -> QueryResult<Vec<NamedEventRow>> {
    type Row = (String, i64, Option<String>, Option<String>, Option<String>);
    let rows: Vec<Row> = tool_access_event::table
        .left_join(users::table.on(users::id.eq(tool_access_event::user_id)))
        .left_join(tools::table.on(tools::id.eq(tool_access_event::tool_id)))
        .left_join(deleted_tool::table.on(deleted_tool::id.eq(tool_access_event::tool_id)))
        .filter(tool_access_event::run.eq(run))
        .order((tool_access_event::change.desc(), tool_access_event::user_id))
        .limit(limit)
        .select((
            tool_access_event::change,
            tool_access_event::user_id,
            users::username.nullable(),
            tools::name.nullable(),
            deleted_tool::name.nullable(),
        ))
        .load(conn)?;
    let event = |(change, user_id, username, tool, deleted_tool): Row| NamedEventRow {
        change,
        user_id,
        username,
        tool: tool.or(deleted_tool),
    };
    Ok(rows.into_iter().map(event).collect())
}

pub(crate) fn count_events(conn: &mut AnyConnection, run: i64) -> QueryResult<i64> {
    tool_access_event::table.filter(tool_access_event::run.eq(run)).count().get_result(conn)
}

fn parse(name: &str) -> Option<Change> {
    [
        Change::Grant,
        Change::Revoke,
        Change::Exclude,
        Change::Include,
        Change::GrantEveryone,
        Change::RevokeEveryone,
    ]
    .into_iter()
    .find(|change| change.as_str() == name)
}
