//! The checks' SQL. It only reads.

mod access;
mod counts;
mod snapshot;

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Nullable, Text},
};
use omnitool_database::{
    AnyConnection, Dialect,
    schema::{tool_access_everyone, tools},
};
use omnitool_tool_registry::ToolDefinition;

pub(crate) use self::{
    access::{
        NamedTool, Person, Whom, count_effective_exclusions, find_effective, find_exceptions,
        find_unknown_users, list_named_tools,
    },
    counts::{Counts, list_tables},
    snapshot::{export_snapshot, follow_snapshot},
};
use crate::report::{SHOWN_ROWS, one_line};

/// A table that says who may use what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessTable {
    Grants,
    Wildcards,
    Exclusions,
}

/// What a row of an access table refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    Tool,
    User,
}

/// How many rows were found, and the first of them.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) count: u64,
    pub(crate) first: Vec<String>,
}

impl AccessTable {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Grants => "tool_access",
            Self::Wildcards => "tool_access_everyone",
            Self::Exclusions => "tool_access_exclusion",
        }
    }

    const fn has_users(self) -> bool {
        match self {
            Self::Grants | Self::Exclusions => true,
            Self::Wildcards => false,
        }
    }
}

impl Parent {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::User => "user",
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::User => "users",
        }
    }

    const fn column(self) -> &'static str {
        match self {
            Self::Tool => "tool_id",
            Self::User => "user_id",
        }
    }

    /// The tables whose rows refer to it.
    pub(crate) const fn referring_tables(self) -> &'static [AccessTable] {
        match self {
            Self::Tool => &[AccessTable::Grants, AccessTable::Wildcards, AccessTable::Exclusions],
            Self::User => &[AccessTable::Grants, AccessTable::Exclusions],
        }
    }
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Holds {
    #[diesel(sql_type = Bool)]
    holds: bool,
}

#[derive(QueryableByName)]
struct AccessRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    user_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    username: Option<String>,
    #[diesel(sql_type = BigInt)]
    tool_id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    tool: Option<String>,
}

#[derive(QueryableByName)]
struct GapRow {
    #[diesel(sql_type = Text)]
    username: String,
    #[diesel(sql_type = Text)]
    tool: String,
}

/// The version of the database system; any answer proves that it answers.
pub(crate) fn server_version(conn: &mut AnyConnection) -> QueryResult<String> {
    let query = match conn.dialect() {
        Dialect::Sqlite => "SELECT sqlite_version() AS version",
        Dialect::Postgres => "SELECT current_setting('server_version') AS version",
    };
    Ok(diesel::sql_query(query).get_result::<Version>(conn)?.version)
}

pub(crate) fn list_tools(conn: &mut AnyConnection) -> QueryResult<Vec<ToolDefinition>> {
    let rows: Vec<(String, String, String, bool, bool)> = tools::table
        .select((
            tools::name,
            tools::description,
            tools::route,
            tools::is_default,
            tools::is_active,
        ))
        .order(tools::name)
        .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|(name, description, route, is_default, is_active)| ToolDefinition {
            name,
            description,
            route,
            is_default,
            is_active,
        })
        .collect())
}

/// Whether the database itself proves that every row of `table` has its parent.
///
/// On PostgreSQL, that is a validated foreign key none of whose triggers is switched off. SQLite has no such proof:
/// there, each connection decides for itself whether foreign keys are enforced.
pub(crate) fn foreign_key_holds(
    conn: &mut AnyConnection,
    table: AccessTable,
    parent: Parent,
) -> QueryResult<bool> {
    if conn.dialect() == Dialect::Sqlite {
        return Ok(false);
    }
    let query = "SELECT EXISTS ( \
            SELECT 1 FROM pg_constraint AS c \
            JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] \
            WHERE c.contype = 'f' AND c.convalidated \
                AND c.conrelid = to_regclass($1) AND c.confrelid = to_regclass($2) \
                AND cardinality(c.conkey) = 1 AND a.attname = $3 \
                AND NOT EXISTS ( \
                    SELECT 1 FROM pg_trigger AS t \
                    WHERE t.tgconstraint = c.oid AND t.tgenabled NOT IN ('O', 'A') \
                ) \
        ) AS holds";
    let row: Holds = diesel::sql_query(query)
        .bind::<Text, _>(table.name())
        .bind::<Text, _>(parent.table())
        .bind::<Text, _>(parent.column())
        .get_result(conn)?;
    Ok(row.holds)
}

/// The rows of `table` that refer to something that does not exist.
pub(crate) fn find_orphans(
    conn: &mut AnyConnection,
    table: AccessTable,
    parent: Parent,
) -> QueryResult<Found> {
    let name = table.name();
    let (column, parents) = (parent.column(), parent.table());
    // SQLite answers the first several times as fast; PostgreSQL would scan the list once per row where it is long.
    let from = match conn.dialect() {
        Dialect::Sqlite => {
            format!("FROM {name} AS child WHERE child.{column} NOT IN (SELECT id FROM {parents})")
        }
        Dialect::Postgres => format!(
            "FROM {name} AS child WHERE NOT EXISTS \
             (SELECT 1 FROM {parents} AS parent WHERE parent.id = child.{column})"
        ),
    };
    let (user, order) = if table.has_users() {
        (
            "child.user_id AS user_id, \
             (SELECT username FROM users WHERE users.id = child.user_id) AS username",
            "child.user_id, child.tool_id",
        )
    } else {
        ("CAST(NULL AS BIGINT) AS user_id, CAST(NULL AS TEXT) AS username", "child.tool_id")
    };
    let query = format!(
        "SELECT {user}, child.tool_id AS tool_id, \
         (SELECT name FROM tools WHERE tools.id = child.tool_id) AS tool \
         {from} ORDER BY {order} LIMIT {}",
        SHOWN_ROWS + 1
    );
    let rows = diesel::sql_query(query).load::<AccessRow>(conn)?;
    let rows = rows.into_iter().map(|row| row.describe(name)).collect();
    counted(conn, rows, &from)
}

/// The active default tools that are not everyone's anyway.
pub(crate) fn list_wanted_tools(conn: &mut AnyConnection) -> QueryResult<Vec<i64>> {
    tools::table
        .filter(tools::is_default.and(tools::is_active))
        .filter(tools::id.ne_all(tool_access_everyone::table.select(tool_access_everyone::tool_id)))
        .select(tools::id)
        .load(conn)
}

/// The pairs of an active user and one of the `wanted` tools that the user neither has nor is excluded from, of which
/// `granted` are granted.
pub(crate) fn find_missing_defaults(
    conn: &mut AnyConnection,
    wanted: &[i64],
    granted: i64,
) -> QueryResult<Found> {
    // Counting what is there and subtracting reads the grants once; asking for each pair whether it is missing takes
    // many times as long, and is done only where the names are needed.
    let query = format!(
        "SELECT {} * (SELECT count(*) FROM users WHERE is_active) - {granted} \
            - (SELECT count(*) FROM tool_access_exclusion AS exclusion \
                JOIN users ON users.id = exclusion.user_id AND users.is_active \
                WHERE {} \
                AND NOT EXISTS (SELECT 1 FROM tool_access AS access \
                    WHERE access.user_id = exclusion.user_id AND access.tool_id = exclusion.tool_id)) \
            AS count",
        wanted.len(),
        one_of(conn.dialect(), "exclusion.tool_id", wanted)
    );
    let count = diesel::sql_query(query).get_result::<Count>(conn)?.count.unsigned_abs();
    let first = if count == 0 { Vec::new() } else { list_missing_defaults(conn)? };
    Ok(Found { count, first })
}

/// The condition that `column` is one of `ids`, of which there may be none.
fn one_of(dialect: Dialect, column: &str, ids: &[i64]) -> String {
    let list = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    match dialect {
        Dialect::Sqlite => format!("{column} IN ({list})"),
        Dialect::Postgres => format!("{column} = ANY ('{{{list}}}'::bigint[])"),
    }
}

fn list_missing_defaults(conn: &mut AnyConnection) -> QueryResult<Vec<String>> {
    let query = format!(
        "SELECT users.username AS username, tools.name AS tool FROM tools CROSS JOIN users \
         WHERE tools.is_default AND tools.is_active AND users.is_active \
             AND NOT EXISTS (SELECT 1 FROM tool_access_everyone AS wildcard \
                 WHERE wildcard.tool_id = tools.id) \
             AND NOT EXISTS (SELECT 1 FROM tool_access AS access \
                 WHERE access.user_id = users.id AND access.tool_id = tools.id) \
             AND NOT EXISTS (SELECT 1 FROM tool_access_exclusion AS exclusion \
                 WHERE exclusion.user_id = users.id AND exclusion.tool_id = tools.id) \
         ORDER BY users.username, tools.name LIMIT {SHOWN_ROWS}"
    );
    let rows = diesel::sql_query(query).load::<GapRow>(conn)?;
    let describe =
        |GapRow { username, tool }| format!("{} lacks {}", one_line(&username), one_line(&tool));
    Ok(rows.into_iter().map(describe).collect())
}

/// Counts what `from` selects, unless `rows`, at most one more than are shown, already are all of it.
fn counted(conn: &mut AnyConnection, mut rows: Vec<String>, from: &str) -> QueryResult<Found> {
    let mut count = rows.len() as u64;
    if rows.len() > SHOWN_ROWS {
        rows.truncate(SHOWN_ROWS);
        let query = format!("SELECT count(*) AS count {from}");
        count = diesel::sql_query(query).get_result::<Count>(conn)?.count.unsigned_abs();
    }
    Ok(Found { count, first: rows })
}

impl AccessRow {
    /// `tool_access: user alice, tool 42`, with the key of what has no name any more.
    fn describe(self, table: &str) -> String {
        let Self { user_id, username, tool_id, tool } = self;
        let named = |name: Option<String>, id: i64| {
            name.map_or_else(|| format!("{id} (unknown)"), |name| one_line(&name))
        };
        let tool = named(tool, tool_id);
        match user_id {
            Some(id) => format!("{table}: user {}, tool {tool}", named(username, id)),
            None => format!("{table}: tool {tool}"),
        }
    }
}
