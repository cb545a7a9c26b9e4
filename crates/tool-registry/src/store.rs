//! The SQL of this crate. Queries about users and a tool are set-based: nothing here grows with the number of users.

use diesel::{
    connection::SimpleConnection as _,
    dsl::{exists, not},
    prelude::*,
    select,
    sql_types::{BigInt, Text},
};
use omnitool_database::{
    AnyConnection, Dialect,
    schema::{
        tool_access, tool_access_event, tool_access_everyone, tool_access_exclusion, tools, users,
    },
};

use crate::{
    definition::ToolDefinition,
    plan::{FactCounts, OrphanCounts},
};

diesel::alias! {
    const HELD: Alias<Held> = tool_access as held;
    const OPENED: Alias<Opened> = tool_access_everyone as opened;
    const BARRED: Alias<Barred> = tool_access_exclusion as barred;
}

pub(crate) mod history;

/// A tool as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = tools)]
pub(crate) struct ToolRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) route: String,
    pub(crate) is_default: bool,
    pub(crate) is_active: bool,
}

/// Makes the rest of the transaction see one state of the database, which nobody changes under it.
pub(crate) fn lock(conn: &mut AnyConnection) -> QueryResult<()> {
    match conn {
        // The write lock is held already.
        AnyConnection::Sqlite(_) => Ok(()),
        // A second synchronization waits, and so does whoever grants a tool: its foreign key reads `tools`.
        AnyConnection::Postgres(conn) => conn.batch_execute(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; LOCK TABLE tools IN EXCLUSIVE MODE",
        ),
    }
}

pub(crate) fn list_tools(conn: &mut AnyConnection) -> QueryResult<Vec<ToolRow>> {
    tools::table.order(tools::name).select(ToolRow::as_select()).load(conn)
}

/// How much is known about `tool` and existing users that is not known about any of `others`.
pub(crate) fn count_facts(
    conn: &mut AnyConnection,
    tool: i64,
    others: &[i64],
) -> QueryResult<FactCounts> {
    let shared = HELD
        .filter(HELD.field(tool_access::user_id).eq(tool_access::user_id))
        .filter(HELD.field(tool_access::tool_id).eq_any(others));
    let grants = tool_access::table
        .inner_join(users::table)
        .filter(tool_access::tool_id.eq(tool))
        .filter(not(exists(shared)))
        .count()
        .get_result(conn)?;

    let shared = OPENED.filter(OPENED.field(tool_access_everyone::tool_id).eq_any(others));
    let wildcards = tool_access_everyone::table
        .filter(tool_access_everyone::tool_id.eq(tool))
        .filter(not(exists(shared)))
        .count()
        .get_result(conn)?;

    let shared = BARRED
        .filter(BARRED.field(tool_access_exclusion::user_id).eq(tool_access_exclusion::user_id))
        .filter(BARRED.field(tool_access_exclusion::tool_id).eq_any(others));
    let exclusions = tool_access_exclusion::table
        .inner_join(users::table)
        .filter(tool_access_exclusion::tool_id.eq(tool))
        .filter(not(exists(shared)))
        .count()
        .get_result(conn)?;
    Ok(FactCounts { grants, wildcards, exclusions })
}

/// The keys of active users who may not use any of `tools` and are excluded from none of them.
macro_rules! users_lacking {
    ($tools:expr) => {{
        let granted = tool_access::table
            .filter(tool_access::user_id.eq(users::id))
            .filter(tool_access::tool_id.eq_any($tools));
        let everyone =
            tool_access_everyone::table.filter(tool_access_everyone::tool_id.eq_any($tools));
        let excluded = tool_access_exclusion::table
            .filter(tool_access_exclusion::user_id.eq(users::id))
            .filter(tool_access_exclusion::tool_id.eq_any($tools));
        users::table
            .filter(users::is_active)
            .filter(not(exists(granted)))
            .filter(not(exists(everyone)))
            .filter(not(exists(excluded)))
    }};
}

/// How many active users may not use any of `tools` and are excluded from none of them.
pub(crate) fn count_users_lacking(conn: &mut AnyConnection, tools: &[i64]) -> QueryResult<i64> {
    users_lacking!(tools).count().get_result(conn)
}

/// Grants `tool` to the users that [`count_users_lacking`] counts, and notes it in the history's `run`.
pub(crate) fn insert_default_grants(
    conn: &mut AnyConnection,
    tool: &str,
    run: i64,
) -> QueryResult<()> {
    let id: i64 = tools::table.filter(tools::name.eq(tool)).select(tools::id).first(conn)?;
    let key = id.into_sql::<BigInt>();
    // Before the grants, after which nobody lacks the tool any more.
    diesel::insert_into(tool_access_event::table)
        .values(users_lacking!([id]).select((
            run.into_sql::<BigInt>(),
            users::id,
            key,
            "grant".into_sql::<Text>(),
        )))
        .into_columns((
            tool_access_event::run,
            tool_access_event::user_id,
            tool_access_event::tool_id,
            tool_access_event::change,
        ))
        .execute(conn)?;
    diesel::insert_into(tool_access::table)
        .values(users_lacking!([id]).select((users::id, key, "default".into_sql::<Text>())))
        .into_columns((tool_access::user_id, tool_access::tool_id, tool_access::origin))
        .execute(conn)?;
    Ok(())
}

/// Gives a tool another name.
pub(crate) fn rename_tool(conn: &mut AnyConnection, id: i64, name: &str) -> QueryResult<()> {
    diesel::update(tools::table.find(id)).set(tools::name.eq(name)).execute(conn)?;
    Ok(())
}

/// Moves what is known about `from` to `to`, as far as it is not known there.
pub(crate) fn move_facts(conn: &mut AnyConnection, from: i64, to: i64) -> QueryResult<()> {
    let there = BARRED
        .filter(BARRED.field(tool_access_exclusion::user_id).eq(tool_access_exclusion::user_id))
        .filter(BARRED.field(tool_access_exclusion::tool_id).eq(to));
    diesel::update(tool_access_exclusion::table)
        .filter(tool_access_exclusion::tool_id.eq(from))
        .filter(not(exists(there)))
        .set(tool_access_exclusion::tool_id.eq(to))
        .execute(conn)?;
    keep_reasons(conn, from, to)?;

    let there = HELD
        .filter(HELD.field(tool_access::user_id).eq(tool_access::user_id))
        .filter(HELD.field(tool_access::tool_id).eq(to));
    diesel::update(tool_access::table)
        .filter(tool_access::tool_id.eq(from))
        .filter(not(exists(there)))
        .set(tool_access::tool_id.eq(to))
        .execute(conn)?;

    let there = OPENED.filter(OPENED.field(tool_access_everyone::tool_id).eq(to));
    diesel::update(tool_access_everyone::table)
        .filter(tool_access_everyone::tool_id.eq(from))
        .filter(not(exists(there)))
        .set(tool_access_everyone::tool_id.eq(to))
        .execute(conn)?;
    Ok(())
}

/// Where a user is excluded from both tools and only one row says why, that reason stays.
fn keep_reasons(conn: &mut AnyConnection, from: i64, to: i64) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE tool_access_exclusion SET reason = (
             SELECT other.reason FROM tool_access_exclusion AS other
             WHERE other.tool_id = $1 AND other.user_id = tool_access_exclusion.user_id
         )
         WHERE tool_id = $2 AND reason IS NULL AND EXISTS (
             SELECT 1 FROM tool_access_exclusion AS other
             WHERE other.tool_id = $1 AND other.user_id = tool_access_exclusion.user_id
         )",
    )
    .bind::<BigInt, _>(from)
    .bind::<BigInt, _>(to)
    .execute(conn)?;
    Ok(())
}

/// Deletes a tool with everything that is known about it, also where an adopted database has no foreign keys.
pub(crate) fn delete_tool(conn: &mut AnyConnection, id: i64) -> QueryResult<()> {
    diesel::delete(tool_access::table.filter(tool_access::tool_id.eq(id))).execute(conn)?;
    diesel::delete(tool_access_everyone::table.find(id)).execute(conn)?;
    diesel::delete(tool_access_exclusion::table.filter(tool_access_exclusion::tool_id.eq(id)))
        .execute(conn)?;
    diesel::delete(tools::table.find(id)).execute(conn)?;
    Ok(())
}

/// Makes a tool and returns its key.
pub(crate) fn insert_tool(conn: &mut AnyConnection, tool: &ToolDefinition) -> QueryResult<i64> {
    let ToolDefinition { name, description, route, is_default, is_active } = tool;
    diesel::insert_into(tools::table)
        .values((
            tools::name.eq(name),
            tools::description.eq(description),
            tools::route.eq(route),
            tools::is_default.eq(is_default),
            tools::is_active.eq(is_active),
        ))
        .returning(tools::id)
        .get_result(conn)
}

/// Whether anything is known about the tool with key `id`, also about users that do not exist.
pub(crate) fn has_facts(conn: &mut AnyConnection, id: i64) -> QueryResult<bool> {
    let granted = exists(tool_access::table.filter(tool_access::tool_id.eq(id)));
    let everyone = exists(tool_access_everyone::table.find(id));
    let excluded =
        exists(tool_access_exclusion::table.filter(tool_access_exclusion::tool_id.eq(id)));
    Ok(select(granted).get_result(conn)?
        || select(everyone).get_result(conn)?
        || select(excluded).get_result(conn)?)
}

/// Makes a tool's fields as defined.
pub(crate) fn update_tool(
    conn: &mut AnyConnection,
    id: i64,
    tool: &ToolDefinition,
) -> QueryResult<()> {
    let ToolDefinition { name: _, description, route, is_default, is_active } = tool;
    diesel::update(tools::table.find(id))
        .set((
            tools::description.eq(description),
            tools::route.eq(route),
            tools::is_default.eq(is_default),
            tools::is_active.eq(is_active),
        ))
        .execute(conn)?;
    Ok(())
}

/// How many rows refer to no tool or no user.
pub(crate) fn count_orphans(conn: &mut AnyConnection) -> QueryResult<OrphanCounts> {
    macro_rules! without_tool {
        ($table:ident) => {
            $table::table
                .filter($table::tool_id.ne_all(tools::table.select(tools::id)))
                .count()
                .get_result(conn)?
        };
    }
    macro_rules! without_user {
        ($table:ident) => {{
            let rows = $table::table.filter($table::tool_id.eq_any(tools::table.select(tools::id)));
            // SQLite answers the first several times as fast; PostgreSQL would scan the users once per row where they
            // are many.
            match conn.dialect() {
                Dialect::Sqlite => rows
                    .filter($table::user_id.ne_all(users::table.select(users::id)))
                    .count()
                    .get_result(conn)?,
                Dialect::Postgres => rows
                    .filter(not(exists(users::table.filter(users::id.eq($table::user_id)))))
                    .count()
                    .get_result(conn)?,
            }
        }};
    }
    Ok(OrphanCounts {
        grants_without_tool: without_tool!(tool_access),
        grants_without_user: without_user!(tool_access),
        wildcards_without_tool: without_tool!(tool_access_everyone),
        exclusions_without_tool: without_tool!(tool_access_exclusion),
        exclusions_without_user: without_user!(tool_access_exclusion),
    })
}

/// Deletes the rows that [`count_orphans`] counts.
pub(crate) fn delete_orphans(conn: &mut AnyConnection) -> QueryResult<()> {
    macro_rules! delete_without {
        ($table:ident, $key:ident, $parent:ident) => {
            diesel::delete($table::table)
                .filter(not(exists($parent::table.filter($parent::id.eq($table::$key)))))
                .execute(conn)?
        };
    }
    delete_without!(tool_access, tool_id, tools);
    delete_without!(tool_access, user_id, users);
    delete_without!(tool_access_everyone, tool_id, tools);
    delete_without!(tool_access_exclusion, tool_id, tools);
    delete_without!(tool_access_exclusion, user_id, users);
    Ok(())
}
