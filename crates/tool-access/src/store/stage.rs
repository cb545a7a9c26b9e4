//! The temporary tables of an import. They belong to the connection and are not part of the database's data.

use std::{
    cell::RefCell,
    io::{self, Write as _},
};

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::{AnyConnection, on};

use super::facts::Pairs;

mod table {
    diesel::table! {
        import_grant (user_id, tool_id) {
            user_id -> BigInt,
            tool_id -> BigInt,
        }
    }
    diesel::table! {
        import_exclusion (user_id, tool_id) {
            user_id -> BigInt,
            tool_id -> BigInt,
        }
    }
    diesel::table! {
        import_user (user_id) {
            user_id -> BigInt,
        }
    }
    diesel::table! {
        import_tool (tool_id) {
            tool_id -> BigInt,
            has_wildcard -> Bool,
            has_no_wildcard -> Bool,
            has_excluded -> Bool,
            has_granted -> Bool,
        }
    }
}
use table::{import_exclusion, import_grant, import_tool, import_user};

/// How many rows travel in one statement to SQLite.
const BATCH: usize = 1000;

/// What the file says about a tool, besides users.
pub(crate) struct ToolScope {
    pub(crate) tool_id: i64,
    pub(crate) everyone: Option<bool>,
    pub(crate) has_excluded: bool,
    pub(crate) has_granted: bool,
}

/// The tables: what the file says, what of it the target lacks (`missing_…`), and what the target has against it
/// (`against_…`).
const PAIR_TABLES: [&str; 6] = [
    "import_grant",
    "import_exclusion",
    "missing_grant",
    "missing_exclusion",
    "against_grant",
    "against_exclusion",
];
const KEY_TABLES: [(&str, &str); 3] =
    [("import_user", "user_id"), ("missing_everyone", "tool_id"), ("against_everyone", "tool_id")];

/// Makes the tables, empty. A connection that was opened for reading may do so: it cannot write anything else.
pub(crate) fn create(conn: &mut AnyConnection) -> QueryResult<()> {
    let mut statements = remove_statements(conn);
    // SQLite keeps the rows in the order of the key; PostgreSQL's hash joins need none, and keeping one would double
    // the time.
    let key = match conn {
        AnyConnection::Sqlite(_) => ", PRIMARY KEY (user_id, tool_id)) WITHOUT ROWID",
        AnyConnection::Postgres(_) => ")",
    };
    for table in PAIR_TABLES {
        statements.push(format!(
            "CREATE TEMPORARY TABLE {table} (user_id BIGINT NOT NULL, tool_id BIGINT NOT NULL{key}"
        ));
    }
    for (table, key) in KEY_TABLES {
        statements
            .push(format!("CREATE TEMPORARY TABLE {table} ({key} BIGINT PRIMARY KEY NOT NULL)"));
    }
    statements.push(
        "CREATE TEMPORARY TABLE import_tool (tool_id BIGINT PRIMARY KEY NOT NULL, has_wildcard BOOLEAN NOT NULL, \
         has_no_wildcard BOOLEAN NOT NULL, has_excluded BOOLEAN NOT NULL, has_granted BOOLEAN NOT NULL)"
            .to_owned(),
    );
    run_all(conn, &statements)
}

/// Removes the tables, where there are any.
pub(crate) fn remove(conn: &mut AnyConnection) -> QueryResult<()> {
    let statements = remove_statements(conn);
    run_all(conn, &statements)
}

fn remove_statements(conn: &AnyConnection) -> Vec<String> {
    let schema = match conn {
        AnyConnection::Sqlite(_) => "temp",
        AnyConnection::Postgres(_) => "pg_temp",
    };
    let keyed = KEY_TABLES.iter().map(|(table, _)| *table);
    PAIR_TABLES
        .into_iter()
        .chain(keyed)
        .chain(["import_tool"])
        .map(|table| format!("DROP TABLE IF EXISTS {schema}.{table}"))
        .collect()
}

fn run_all(conn: &mut AnyConnection, statements: &[String]) -> QueryResult<()> {
    let statements = statements.join(";\n");
    match conn {
        // The file itself stays closed to a connection that was opened for reading; its temporary tables are elsewhere.
        AnyConnection::Sqlite(c) => {
            c.batch_execute("PRAGMA query_only = OFF; PRAGMA cache_size = -8000")?;
            c.batch_execute(&statements)
        }
        // A session that only reads may make temporary tables in a transaction that says so.
        AnyConnection::Postgres(c) => {
            let made = c.batch_execute(&format!("BEGIN READ WRITE;\n{statements};\nCOMMIT"));
            if made.is_err() {
                c.batch_execute("ROLLBACK")?;
            }
            made
        }
    }
}

/// Fills in for whom and for what the file speaks.
pub(crate) fn fill_scope(
    conn: &mut AnyConnection,
    users: impl Iterator<Item = i64>,
    tools: &[ToolScope],
) -> QueryResult<()> {
    let tools: Vec<_> = tools
        .iter()
        .map(|tool| {
            (
                import_tool::tool_id.eq(tool.tool_id),
                import_tool::has_wildcard.eq(tool.everyone == Some(true)),
                import_tool::has_no_wildcard.eq(tool.everyone == Some(false)),
                import_tool::has_excluded.eq(tool.has_excluded),
                import_tool::has_granted.eq(tool.has_granted),
            )
        })
        .collect();
    for batch in tools.chunks(BATCH) {
        on!(conn, c => diesel::insert_into(import_tool::table).values(batch).execute(c))?;
    }
    let mut users = users.peekable();
    while users.peek().is_some() {
        let batch: Vec<_> =
            users.by_ref().take(BATCH).map(|user| import_user::user_id.eq(user)).collect();
        on!(conn, c => diesel::insert_into(import_user::table).values(batch).execute(c))?;
    }
    Ok(())
}

/// Shows rows, in the order of their keys, to a function.
pub(crate) type Rows<'a> =
    &'a dyn Fn(Pairs, &mut dyn FnMut(i64, i64) -> QueryResult<()>) -> QueryResult<()>;

/// Fills in what the file says; returns how many rows that is.
pub(crate) fn fill(conn: &mut AnyConnection, pairs: Pairs, rows: Rows<'_>) -> QueryResult<u64> {
    macro_rules! fill {
        ($table:ident) => {
            match conn {
                AnyConnection::Sqlite(c) => {
                    let mut count = 0;
                    let mut batch = Vec::with_capacity(BATCH);
                    let mut insert = |batch: &mut Vec<(i64, i64)>| {
                        count += batch.len() as u64;
                        let row =
                            |(user, tool)| ($table::user_id.eq(user), $table::tool_id.eq(tool));
                        let values: Vec<_> = batch.drain(..).map(row).collect();
                        diesel::insert_into($table::table).values(values).execute(c).map(drop)
                    };
                    rows(pairs, &mut |user, tool| {
                        batch.push((user, tool));
                        if batch.len() == BATCH { insert(&mut batch) } else { Ok(()) }
                    })?;
                    if !batch.is_empty() {
                        insert(&mut batch)?;
                    }
                    Ok(count)
                }
                AnyConnection::Postgres(c) => {
                    let count = RefCell::new(0);
                    diesel::copy_from($table::table)
                        .from_raw_data($table::table, |to: &mut dyn io::Write| {
                            *count.borrow_mut() = copy(pairs, rows, to)?;
                            QueryResult::Ok(())
                        })
                        .execute(c)?;
                    Ok(count.into_inner())
                }
            }
        };
    }
    match pairs {
        Pairs::Grants => fill!(import_grant),
        Pairs::Exclusions => fill!(import_exclusion),
    }
}

/// Numbers need no escaping in COPY's text format.
fn copy(pairs: Pairs, rows: Rows<'_>, to: &mut dyn io::Write) -> QueryResult<u64> {
    let failed = |error: io::Error| diesel::result::Error::SerializationError(Box::new(error));
    let mut to = io::BufWriter::with_capacity(1 << 16, to);
    let mut count = 0;
    rows(pairs, &mut |user, tool| {
        count += 1;
        writeln!(to, "{user}\t{tool}").map_err(failed)
    })?;
    to.flush().map_err(failed)?;
    Ok(count)
}

/// Tells the planner how large the tables are.
pub(crate) fn finish(conn: &mut AnyConnection) -> QueryResult<()> {
    match conn {
        AnyConnection::Sqlite(_) => Ok(()),
        AnyConnection::Postgres(c) => c.batch_execute(
            "ANALYZE import_grant; ANALYZE import_exclusion; ANALYZE import_user; ANALYZE import_tool",
        ),
    }
}
