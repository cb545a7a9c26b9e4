//! Reading all facts, for exports and comparisons.

use std::{collections::HashMap, io};

use diesel::{
    connection::{DefaultLoadingMode, SimpleConnection as _},
    prelude::*,
};
use omnitool_database::{
    AnyConnection,
    schema::{tool_access, tool_access_everyone, tool_access_exclusion, tools, users},
};

use crate::facts::{Facts, Roster, ToolFacts, UserSet};

/// Users in the order of their names, with the keys by ordinal.
pub(crate) fn load_users(conn: &mut AnyConnection) -> QueryResult<(Roster, Vec<i64>)> {
    let mut roster = Roster::default();
    let mut ids = Vec::new();
    let mut last: Option<String> = None;
    loop {
        let query = users::table
            .order(users::username)
            .select((users::id, users::username))
            .limit(PAGE)
            .into_boxed();
        let page: Vec<(i64, String)> = match last {
            Some(last) => query.filter(users::username.gt(last)).load(conn)?,
            None => query.load(conn)?,
        };
        for (id, name) in &page {
            roster.insert(name);
            ids.push(*id);
        }
        last = page.into_iter().next_back().map(|(_, name)| name);
        if last.is_none() {
            return Ok((roster, ids));
        }
    }
}

/// How many users travel at a time; PostgreSQL's client keeps a whole answer in memory.
const PAGE: i64 = 4096;

/// All facts of the database. Run it in one snapshot.
pub(crate) fn load(conn: &mut AnyConnection) -> QueryResult<Facts> {
    let (roster, ids) = load_users(conn)?;
    let ordinals: HashMap<i64, u32> = ids.into_iter().zip(0..).collect();
    let wildcards: Vec<i64> =
        tool_access_everyone::table.select(tool_access_everyone::tool_id).load(conn)?;
    let names: Vec<(i64, String)> = tools::table.select((tools::id, tools::name)).load(conn)?;
    let mut facts: HashMap<i64, ToolFacts> = names
        .iter()
        .map(|(id, _)| {
            let tool = ToolFacts {
                everyone: Some(wildcards.contains(id)),
                excluded: Some(UserSet::default()),
                granted: Some(UserSet::default()),
                ..ToolFacts::default()
            };
            (*id, tool)
        })
        .collect();
    // Rows come by user, mostly; looking a user up once for all its rows is enough.
    let mut last = (0, None);
    let mut add = |facts: &mut HashMap<i64, ToolFacts>, list: Pairs, user: i64, tool: i64| {
        if last.0 != user || last.1.is_none() {
            last = (user, ordinals.get(&user).copied());
        }
        // On a database without foreign keys a row may belong to nobody; it lets nobody in, and is no fact.
        if let (Some(ordinal), Some(tool)) = (last.1, facts.get_mut(&tool)) {
            let set = match list {
                Pairs::Grants => &mut tool.granted,
                Pairs::Exclusions => &mut tool.excluded,
            };
            set.get_or_insert_default().insert(ordinal);
        }
    };
    for list in [Pairs::Grants, Pairs::Exclusions] {
        for_each(conn, list, |user, tool| add(&mut facts, list, user, tool))?;
    }
    let tools =
        names.into_iter().map(|(id, name)| (name, facts.remove(&id).unwrap_or_default())).collect();
    let everybody = {
        let mut set = UserSet::default();
        for ordinal in (0..).take(roster.len()) {
            set.insert(ordinal);
        }
        set
    };
    Ok(Facts { roster, users: Some(everybody), tools, emails: Roster::default() })
}

/// The tables with a user and a tool in each row.
#[derive(Clone, Copy)]
pub(crate) enum Pairs {
    Grants,
    Exclusions,
}

/// Shows every row's user and tool, in no particular order and without keeping them.
pub(crate) fn for_each(
    conn: &mut AnyConnection,
    pairs: Pairs,
    mut see: impl FnMut(i64, i64),
) -> QueryResult<()> {
    macro_rules! each {
        ($table:ident) => {
            match conn {
                AnyConnection::Sqlite(c) => {
                    let query = $table::table.select(($table::user_id, $table::tool_id));
                    for row in query.load_iter::<(i64, i64), DefaultLoadingMode>(c)? {
                        let (user, tool) = row?;
                        see(user, tool);
                    }
                    Ok(())
                }
                AnyConnection::Postgres(c) => {
                    let read = diesel::copy_to(($table::user_id, $table::tool_id))
                        .load_raw(c)
                        .and_then(|copy| see_lines(copy, &mut see).map_err(to_query_error));
                    // Until something reads to its end, the connection takes the copy for unfinished.
                    c.batch_execute("SELECT 1")?;
                    read
                }
            }
        };
    }
    match pairs {
        Pairs::Grants => each!(tool_access),
        Pairs::Exclusions => each!(tool_access_exclusion),
    }
}

/// Both columns are numbers and never null, so a line is two numbers and a tab.
fn see_lines(mut copy: impl io::BufRead, see: &mut impl FnMut(i64, i64)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if copy.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let mut numbers = std::str::from_utf8(&line)
            .map_err(io::Error::other)?
            .trim_end()
            .split('\t')
            .map(|text| text.parse().map_err(io::Error::other));
        match (numbers.next(), numbers.next()) {
            (Some(user), Some(tool)) => see(user?, tool?),
            _ => return Err(io::Error::other("a row without two numbers")),
        }
    }
}

fn to_query_error(error: io::Error) -> diesel::result::Error {
    diesel::result::Error::DeserializationError(Box::new(error))
}
