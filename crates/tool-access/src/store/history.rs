//! The history of facts.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use omnitool_database::{
    AnyConnection,
    schema::{deleted_tool, tool_access_event, tool_access_run, tools},
};

use crate::{
    Author,
    change::Change,
    explain::{DeletedTool, HistoryEntry},
};

/// The user key that stands for everyone.
pub(crate) const EVERYONE: i64 = 0;

/// Notes who is about to change facts; returns the run's key.
pub(crate) fn insert_run(conn: &mut AnyConnection, author: &Author) -> QueryResult<i64> {
    diesel::insert_into(tool_access_run::table)
        .values((
            tool_access_run::program.eq(&author.program),
            tool_access_run::admin.eq(author.admin.as_deref()),
            tool_access_run::run_id.eq(author.run_id.as_deref()),
            tool_access_run::file_sha256.eq(author.file_sha256.as_deref()),
        ))
        .returning(tool_access_run::id)
        .get_result(conn)
}

pub(crate) fn insert_event(
    conn: &mut AnyConnection,
    run: i64,
    user_id: Option<i64>,
    tool_id: i64,
    change: Change,
) -> QueryResult<()> {
    diesel::insert_into(tool_access_event::table)
        .values((
            tool_access_event::run.eq(run),
            tool_access_event::user_id.eq(user_id.unwrap_or(EVERYONE)),
            tool_access_event::tool_id.eq(tool_id),
            tool_access_event::change.eq(change.as_str()),
        ))
        .execute(conn)
        .map(drop)
}

/// The last tool of this name that was deleted, and the key of its history.
pub(crate) fn find_deleted_tool(
    conn: &mut AnyConnection,
    name: &str,
) -> QueryResult<Option<(i64, DeletedTool)>> {
    let row: Option<(i64, NaiveDateTime, Option<String>)> = deleted_tool::table
        .left_join(tools::table.on(deleted_tool::merged_into.eq(tools::id.nullable())))
        .filter(deleted_tool::name.eq(name))
        .order(deleted_tool::id)
        .select((deleted_tool::id, deleted_tool::deleted_at, tools::name.nullable()))
        .first(conn)
        .optional()?;
    Ok(row.map(|(id, at, merged_into)| (id, DeletedTool { at, merged_into })))
}

type EventRow =
    (NaiveDateTime, String, String, Option<String>, Option<String>, Option<String>, Option<String>);

/// What changed for this user or for everyone, newest first: for the tool, and for those that were merged into it.
pub(crate) fn list_events(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
) -> QueryResult<Vec<HistoryEntry>> {
    let mut tools: Vec<i64> = deleted_tool::table
        .filter(deleted_tool::merged_into.eq(tool_id))
        .select(deleted_tool::id)
        .load(conn)?;
    tools.push(tool_id);
    let rows: Vec<EventRow> = tool_access_event::table
        .inner_join(tool_access_run::table)
        .left_join(
            // The name of the tool that was asked for is known.
            deleted_tool::table.on(deleted_tool::id
                .eq(tool_access_event::tool_id)
                .and(deleted_tool::id.ne(tool_id))),
        )
        .filter(tool_access_event::user_id.eq_any([user_id, EVERYONE]))
        .filter(tool_access_event::tool_id.eq_any(tools))
        .order((
            tool_access_event::run.desc(),
            tool_access_event::tool_id.desc(),
            tool_access_event::change,
        ))
        .select((
            tool_access_run::happened_at,
            tool_access_event::change,
            tool_access_run::program,
            tool_access_run::admin,
            tool_access_run::run_id,
            tool_access_run::file_sha256,
            deleted_tool::name.nullable(),
        ))
        .load(conn)?;
    let entry = |(at, change, program, admin, run_id, file_sha256, deleted_tool): EventRow| {
        // A name that a newer build wrote is not this build's to explain.
        let change = Change::parse(&change)?;
        Some(HistoryEntry { at, change, program, admin, run_id, file_sha256, deleted_tool })
    };
    Ok(rows.into_iter().filter_map(entry).collect())
}
