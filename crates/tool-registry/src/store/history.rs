//! What a synchronization does to facts, for the history.

use diesel::{
    dsl::min,
    prelude::*,
    sql_query,
    sql_types::{BigInt, Text},
};
use omnitool_database::{
    AnyConnection,
    schema::{deleted_tool, tool_access_event, tool_access_run},
};

/// Begins a run, whose events say what was changed.
pub(crate) fn insert_run(conn: &mut AnyConnection, run_id: Option<&str>) -> QueryResult<i64> {
    diesel::insert_into(tool_access_run::table)
        .values((tool_access_run::program.eq("sync-tools"), tool_access_run::run_id.eq(run_id)))
        .returning(tool_access_run::id)
        .get_result(conn)
}

/// Notes what the tool `to` gains when it takes over what is known about `from`.
pub(crate) fn insert_moves(
    conn: &mut AnyConnection,
    run: i64,
    from: i64,
    to: i64,
) -> QueryResult<()> {
    // Two tools may bring the same exclusion in one run, with and without its reason.
    let gains = [
        (
            "grant",
            "user_id",
            "tool_access AS fact",
            "NOT EXISTS (SELECT 1 FROM tool_access AS other \
             WHERE other.user_id = fact.user_id AND other.tool_id = $2)",
        ),
        (
            "exclude",
            "user_id",
            "tool_access_exclusion AS fact",
            "NOT EXISTS (SELECT 1 FROM tool_access_exclusion AS other \
             WHERE other.user_id = fact.user_id AND other.tool_id = $2 \
             AND (other.reason IS NOT NULL OR fact.reason IS NULL)) \
             AND NOT EXISTS (SELECT 1 FROM tool_access_event AS told \
             WHERE told.user_id = fact.user_id AND told.tool_id = $2 AND told.run = $1 AND told.change = $3)",
        ),
        (
            "grant-everyone",
            "0",
            "tool_access_everyone AS fact",
            "NOT EXISTS (SELECT 1 FROM tool_access_everyone AS other WHERE other.tool_id = $2)",
        ),
    ];
    for (change, user, facts, is_new) in gains {
        sql_query(format!(
            "INSERT INTO tool_access_event (run, user_id, tool_id, change) \
             SELECT $1, {user}, $2, $3 FROM {facts} WHERE fact.tool_id = $4 AND {is_new}"
        ))
        .bind::<BigInt, _>(run)
        .bind::<BigInt, _>(to)
        .bind::<Text, _>(change)
        .bind::<BigInt, _>(from)
        .execute(conn)?;
    }
    Ok(())
}

/// Notes that everything goes that is known about `tool`.
pub(crate) fn insert_removals(conn: &mut AnyConnection, run: i64, tool: i64) -> QueryResult<()> {
    let facts = [
        ("revoke", "user_id", "tool_access"),
        ("include", "user_id", "tool_access_exclusion"),
        ("revoke-everyone", "0", "tool_access_everyone"),
    ];
    for (change, user, table) in facts {
        sql_query(format!(
            "INSERT INTO tool_access_event (run, user_id, tool_id, change) \
             SELECT $1, {user}, $2, $3 FROM {table} WHERE tool_id = $2"
        ))
        .bind::<BigInt, _>(run)
        .bind::<BigInt, _>(tool)
        .bind::<Text, _>(change)
        .execute(conn)?;
    }
    Ok(())
}

/// Keeps the history of a tool that is about to be deleted, under a key that no tool ever gets.
pub(crate) fn keep(
    conn: &mut AnyConnection,
    tool: i64,
    name: &str,
    merged_into: Option<i64>,
) -> QueryResult<()> {
    let last: Option<i64> = deleted_tool::table.select(min(deleted_tool::id)).first(conn)?;
    let key = last.unwrap_or(0) - 1;
    diesel::insert_into(deleted_tool::table)
        .values((
            deleted_tool::id.eq(key),
            deleted_tool::name.eq(name),
            deleted_tool::merged_into.eq(merged_into),
        ))
        .execute(conn)?;
    // What was merged into it is merged into the same one now, or gone with it.
    diesel::update(deleted_tool::table.filter(deleted_tool::merged_into.eq(tool)))
        .set(deleted_tool::merged_into.eq(merged_into.unwrap_or(key)))
        .execute(conn)?;
    diesel::update(tool_access_event::table.filter(tool_access_event::tool_id.eq(tool)))
        .set(tool_access_event::tool_id.eq(key))
        .execute(conn)?;
    Ok(())
}
