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
        import_grant_mask (user_id, block) {
            user_id -> BigInt,
            block -> BigInt,
            mask -> BigInt,
        }
    }
    diesel::table! {
        import_exclusion_mask (user_id, block) {
            user_id -> BigInt,
            block -> BigInt,
            mask -> BigInt,
        }
    }
    diesel::table! {
        import_bit (block, bit) {
            block -> BigInt,
            bit -> BigInt,
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
use table::{import_bit, import_exclusion_mask, import_grant_mask, import_tool, import_user};

/// How many rows travel in one statement to SQLite.
const BATCH: usize = 1000;

/// What the file says about a tool, besides users.
pub(crate) struct ToolScope {
    pub(crate) tool_id: i64,
    pub(crate) everyone: Option<bool>,
    pub(crate) has_excluded: bool,
    pub(crate) has_granted: bool,
}

/// How many tools share one number of a mask; SQLite's numbers have a sign.
const BITS: usize = 62;

/// The tables: what the file says (`import_…`), what of it the target lacks (`missing_…`), and what the target has
/// against it (`against_…`).
const STAGED: [&str; 2] = ["import_grant", "import_exclusion"];
const DIFFERENCES: [&str; 4] =
    ["missing_grant", "missing_exclusion", "against_grant", "against_exclusion"];
const KEY_TABLES: [(&str, &str); 3] =
    [("import_user", "user_id"), ("missing_everyone", "tool_id"), ("against_everyone", "tool_id")];

/// Makes the tables, empty. A connection that was opened for reading may do so: it cannot write anything else.
pub(crate) fn create(conn: &mut AnyConnection) -> QueryResult<()> {
    // SQLite keeps the order of the keys and shows each user's facts in it. PostgreSQL joins by hashes, which need no
    // index, and keeping one would double the time.
    let (end, join) = match conn {
        AnyConnection::Sqlite(_) => (") WITHOUT ROWID", "CROSS JOIN"),
        AnyConnection::Postgres(_) => (")", "JOIN"),
    };
    let key = |columns: &str| match end {
        ")" => String::new(),
        _ => format!(", PRIMARY KEY ({columns})"),
    };
    let mut statements = remove_statements(conn);
    statements.push(
        "CREATE TEMPORARY TABLE import_bit (block BIGINT NOT NULL, bit BIGINT NOT NULL, \
         tool_id BIGINT NOT NULL UNIQUE, PRIMARY KEY (block, bit))"
            .to_owned(),
    );
    // A row for a user and 62 tools takes as long to insert, and to find, as one for a single tool. The views give the
    // single facts back.
    for table in STAGED {
        statements.push(format!(
            "CREATE TEMPORARY TABLE {table}_mask (user_id BIGINT NOT NULL, block BIGINT NOT NULL, \
             mask BIGINT NOT NULL{}{end}",
            key("user_id, block")
        ));
        statements.push(format!(
            "CREATE TEMPORARY VIEW {table} AS SELECT m.user_id, b.tool_id FROM {table}_mask AS m \
             {join} import_bit AS b ON b.block = m.block AND m.mask & b.bit <> 0"
        ));
    }
    for table in DIFFERENCES {
        statements.push(format!(
            "CREATE TEMPORARY TABLE {table} (user_id BIGINT NOT NULL, tool_id BIGINT NOT NULL{}{end}",
            key("user_id, tool_id")
        ));
    }
    for (table, key) in KEY_TABLES {
        statements.push(format!(
            "CREATE TEMPORARY TABLE {table} ({key} BIGINT PRIMARY KEY NOT NULL{end}"
        ));
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
    let views = STAGED.iter().map(|view| format!("DROP VIEW IF EXISTS {schema}.{view}"));
    let tables = DIFFERENCES.into_iter().chain(KEY_TABLES.iter().map(|(table, _)| *table)).chain([
        "import_grant_mask",
        "import_exclusion_mask",
        "import_bit",
        "import_tool",
    ]);
    views.chain(tables.map(|table| format!("DROP TABLE IF EXISTS {schema}.{table}"))).collect()
}

fn run_all(conn: &mut AnyConnection, statements: &[String]) -> QueryResult<()> {
    let statements = statements.join(";\n");
    match conn {
        // The caches of all files are one: where temporary tables fill it, it keeps no page of the target, either.
        // The file itself stays closed to a connection that was opened for reading; its temporary tables are elsewhere.
        AnyConnection::Sqlite(c) => {
            c.batch_execute("PRAGMA query_only = OFF; PRAGMA main.cache_size = -6000; PRAGMA temp.cache_size = -6000")?;
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
    scopes: &[ToolScope],
) -> QueryResult<()> {
    let tools: Vec<_> = scopes
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
    let bits: Vec<_> = scopes
        .iter()
        .enumerate()
        .map(|(place, tool)| {
            let (block, bit) = bit_of(place);
            let tool_id = import_bit::tool_id.eq(tool.tool_id);
            (import_bit::block.eq(block), import_bit::bit.eq(bit), tool_id)
        })
        .collect();
    for batch in bits.chunks(BATCH) {
        on!(conn, c => diesel::insert_into(import_bit::table).values(batch).execute(c))?;
    }
    let mut users = users.peekable();
    while users.peek().is_some() {
        let batch: Vec<_> =
            users.by_ref().take(BATCH).map(|user| import_user::user_id.eq(user)).collect();
        on!(conn, c => diesel::insert_into(import_user::table).values(batch).execute(c))?;
    }
    Ok(())
}

/// The block of a tool's bit, and the bit, by the tool's place in the scope.
fn bit_of(place: usize) -> (i64, i64) {
    let block = i64::try_from(place / BITS).expect("the reader limits how many tools");
    (block, 1 << (place % BITS))
}

/// A fact: a user's key, and a tool's place in the scope.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) user_id: i64,
    pub(crate) tool_place: usize,
}

/// Shows rows, in the order of their keys, to a function.
pub(crate) type Rows<'a> =
    &'a dyn Fn(Pairs, &mut dyn FnMut(Row) -> QueryResult<()>) -> QueryResult<()>;

/// Fills in what the file says; returns how many facts that is.
pub(crate) fn fill(conn: &mut AnyConnection, pairs: Pairs, rows: Rows<'_>) -> QueryResult<u64> {
    macro_rules! fill {
        ($table:ident) => {
            match conn {
                AnyConnection::Sqlite(c) => {
                    let mut batch = Vec::with_capacity(BATCH);
                    let mut insert = |batch: &mut Vec<Mask>| {
                        let row = |Mask { user_id, block, mask }| {
                            (
                                $table::user_id.eq(user_id),
                                $table::block.eq(block),
                                $table::mask.eq(mask),
                            )
                        };
                        let values: Vec<_> = batch.drain(..).map(row).collect();
                        diesel::insert_into($table::table).values(values).execute(c)
                    };
                    let count = each_mask(pairs, rows, &mut |mask| {
                        batch.push(mask);
                        if batch.len() == BATCH { insert(&mut batch).map(drop) } else { Ok(()) }
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
        Pairs::Grants => fill!(import_grant_mask),
        Pairs::Exclusions => fill!(import_exclusion_mask),
    }
}

/// Facts of one user about the tools of one block.
struct Mask {
    user_id: i64,
    block: i64,
    mask: i64,
}

/// Shows the facts to `see`, by user and block; returns how many facts there are.
fn each_mask(
    pairs: Pairs,
    rows: Rows<'_>,
    see: &mut dyn FnMut(Mask) -> QueryResult<()>,
) -> QueryResult<u64> {
    let mut count = 0;
    let mut last: Option<Mask> = None;
    rows(pairs, &mut |Row { user_id, tool_place }| {
        count += 1;
        let (block, bit) = bit_of(tool_place);
        match &mut last {
            Some(last) if last.user_id == user_id && last.block == block => {
                last.mask |= bit;
                Ok(())
            }
            _ => last.replace(Mask { user_id, block, mask: bit }).map_or(Ok(()), &mut *see),
        }
    })?;
    last.map_or(Ok(()), see)?;
    Ok(count)
}

/// Numbers need no escaping in COPY's text format.
fn copy(pairs: Pairs, rows: Rows<'_>, to: &mut dyn io::Write) -> QueryResult<u64> {
    let failed = |error: io::Error| diesel::result::Error::SerializationError(Box::new(error));
    let mut to = io::BufWriter::with_capacity(1 << 16, to);
    let count = each_mask(pairs, rows, &mut |Mask { user_id, block, mask }| {
        writeln!(to, "{user_id}\t{block}\t{mask}").map_err(failed)
    })?;
    to.flush().map_err(failed)?;
    Ok(count)
}

/// Tells the planner how large the tables are.
pub(crate) fn finish(conn: &mut AnyConnection) -> QueryResult<()> {
    match conn {
        AnyConnection::Sqlite(_) => Ok(()),
        AnyConnection::Postgres(c) => c.batch_execute(
            "ANALYZE import_grant_mask; ANALYZE import_exclusion_mask; ANALYZE import_bit; \
             ANALYZE import_user; ANALYZE import_tool",
        ),
    }
}
