//! PostgreSQL's COPY of the staged grants into a target that has none.

use std::{
    collections::HashMap,
    io::{self, Write as _},
};

use diesel::{
    connection::SimpleConnection as _, pg::PgConnection, prelude::*, sql_query, sql_types::BigInt,
};
use omnitool_database::schema::{tool_access, tool_access_event};

use crate::change::Change;

/// How many rows of masks are in memory at a time, for at most 62 grants each.
const MASKS: usize = 10_000;

/// A user's grants of the tools of one block.
#[derive(QueryableByName)]
struct Mask {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = BigInt)]
    block: i64,
    #[diesel(sql_type = BigInt)]
    mask: i64,
}

#[derive(QueryableByName)]
struct Bit {
    #[diesel(sql_type = BigInt)]
    block: i64,
    #[diesel(sql_type = BigInt)]
    bit: i64,
    #[diesel(sql_type = BigInt)]
    tool_id: i64,
}

/// Writes all staged grants, and an event for each. COPY fills a page at a time where INSERT writes each row by itself,
/// which takes nearly twice as long; the rows are read back as masks, of which there are few.
pub(super) fn grants(conn: &mut PgConnection, run_key: i64) -> QueryResult<()> {
    let tools = tools(conn)?;
    conn.batch_execute(
        "DECLARE staged_grant NO SCROLL CURSOR FOR SELECT user_id, block, mask FROM import_grant_mask",
    )?;
    loop {
        let masks: Vec<Mask> = sql_query(format!("FETCH {MASKS} FROM staged_grant")).load(conn)?;
        if masks.is_empty() {
            return conn.batch_execute("CLOSE staged_grant");
        }
        let change = Change::Grant.as_str();
        let event = (
            tool_access_event::run,
            tool_access_event::user_id,
            tool_access_event::tool_id,
            tool_access_event::change,
        );
        diesel::copy_from(tool_access_event::table)
            .from_raw_data(event, |to: &mut dyn io::Write| {
                write(&masks, &tools, to, &|to, user_id, tool_id| {
                    writeln!(to, "{run_key}\t{user_id}\t{tool_id}\t{change}")
                })
            })
            .execute(conn)?;
        let grant = (tool_access::user_id, tool_access::tool_id, tool_access::origin);
        diesel::copy_from(tool_access::table)
            .from_raw_data(grant, |to: &mut dyn io::Write| {
                write(&masks, &tools, to, &|to, user_id, tool_id| {
                    writeln!(to, "{user_id}\t{tool_id}\timport")
                })
            })
            .execute(conn)?;
    }
}

/// The bits and tools of each block, by key.
fn tools(conn: &mut PgConnection) -> QueryResult<HashMap<i64, Vec<(i64, i64)>>> {
    let bits: Vec<Bit> =
        sql_query("SELECT block, bit, tool_id FROM import_bit ORDER BY tool_id").load(conn)?;
    let mut tools: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
    for Bit { block, bit, tool_id } in bits {
        tools.entry(block).or_default().push((bit, tool_id));
    }
    Ok(tools)
}

type WriteRow<'w> = &'w dyn Fn(&mut dyn io::Write, i64, i64) -> io::Result<()>;

/// Numbers and our own words need no escaping in COPY's text format.
fn write(
    masks: &[Mask],
    tools: &HashMap<i64, Vec<(i64, i64)>>,
    to: &mut dyn io::Write,
    row: WriteRow<'_>,
) -> QueryResult<()> {
    let failed = |error: io::Error| diesel::result::Error::SerializationError(Box::new(error));
    let mut to = io::BufWriter::with_capacity(1 << 16, to);
    for Mask { user_id, block, mask } in masks {
        for (bit, tool_id) in tools.get(block).into_iter().flatten() {
            if mask & bit != 0 {
                row(&mut to, *user_id, *tool_id).map_err(failed)?;
            }
        }
    }
    to.flush().map_err(failed)
}
