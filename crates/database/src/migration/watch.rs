//! Watching a migration's statements: how long each takes, and who has to wait for it.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use diesel::{prelude::*, sql_types::Text};

use crate::{AnyConnection, Dialect};

/// How many characters of a statement are shown.
const SHOWN: usize = 160;

/// A migration that was applied, and what it did if that was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its name.
    pub name: String,
    /// Its statements in order; none where nobody watched.
    pub statements: Vec<WatchedStatement>,
}

/// A statement of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedStatement {
    /// Its beginning, on one line.
    pub sql: String,
    /// How long it took.
    pub duration: Duration,
    /// What it locked of what was there before the migration, such as `AccessExclusiveLock on users`.
    pub locks: Vec<String>,
    /// How long these locks were held: until the migration's end.
    pub held: Duration,
}

/// Writes down what a migration's statements do.
#[derive(Debug, Default)]
pub(super) struct Watch {
    statements: RefCell<Vec<WatchedStatement>>,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// The locks on tables that this transaction has: who wants an index wants its table. Those of the catalogue are everybody's.
const LOCKS: &str = "SELECT lock.mode || ' on ' || lock.relation::regclass::text AS line \
     FROM pg_locks AS lock JOIN pg_class AS class ON class.oid = lock.relation \
     JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace \
     WHERE lock.pid = pg_backend_pid() AND lock.granted AND lock.locktype = 'relation' \
     AND class.relkind IN ('r', 'p', 'm') \
     AND namespace.nspname NOT LIKE 'pg\\_%' AND namespace.nspname <> 'information_schema' ORDER BY 1";
/// The tables that are there.
const RELATIONS: &str = "SELECT class.oid::regclass::text AS line FROM pg_class AS class \
     JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace \
     WHERE class.relkind IN ('r', 'p', 'm') AND namespace.nspname NOT LIKE 'pg\\_%' \
     AND namespace.nspname <> 'information_schema'";

impl Watch {
    /// Runs each of `statements` with `run`.
    pub(super) fn run(
        &self,
        conn: &mut AnyConnection,
        statements: &[&str],
        mut run: impl FnMut(&mut AnyConnection, &str) -> QueryResult<()>,
    ) -> QueryResult<()> {
        // An attempt that gave way is no part of it.
        self.statements.borrow_mut().clear();
        let before = load(conn, RELATIONS)?;
        let mut known = load(conn, LOCKS)?;
        for sql in statements {
            let started = Instant::now();
            run(conn, sql)?;
            let duration = started.elapsed();
            let locks = self.new_locks(conn, &before, &mut known)?;
            let held = Duration::ZERO;
            let sql = shown(sql);
            self.statements.borrow_mut().push(WatchedStatement { sql, duration, locks, held });
        }
        Ok(())
    }

    /// What was locked since the last time, of what was there before.
    fn new_locks(
        &self,
        conn: &mut AnyConnection,
        before: &BTreeSet<String>,
        known: &mut BTreeSet<String>,
    ) -> QueryResult<Vec<String>> {
        if conn.dialect() == Dialect::Sqlite {
            // All of a run is one transaction, which began with it.
            let is_first = self.statements.borrow().is_empty();
            return Ok(is_first
                .then(|| "write lock on the database".to_owned())
                .into_iter()
                .collect());
        }
        let all = load(conn, LOCKS)?;
        let is_new = |lock: &&String| {
            let relation = lock.split_once(" on ").map_or("", |(_, relation)| relation);
            !known.contains(*lock) && before.contains(relation)
        };
        let new = all.iter().filter(is_new).cloned().collect();
        *known = all;
        Ok(new)
    }

    /// What was written down, when the migration has ended.
    pub(super) fn end(self) -> Vec<WatchedStatement> {
        let mut statements = self.statements.into_inner();
        let mut held = Duration::ZERO;
        for statement in statements.iter_mut().rev() {
            held += statement.duration;
            if !statement.locks.is_empty() {
                statement.held = held;
            }
        }
        statements
    }
}

fn load(conn: &mut AnyConnection, query: &str) -> QueryResult<BTreeSet<String>> {
    if conn.dialect() == Dialect::Sqlite {
        return Ok(BTreeSet::new());
    }
    let lines: Vec<Line> = diesel::sql_query(query).load(conn)?;
    Ok(lines.into_iter().map(|line| line.line).collect())
}

/// The beginning of a statement on one line, without the comments before it.
fn shown(sql: &str) -> String {
    let lines = sql.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    let text = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_shown_on_one_line_without_its_comments() {
        let sql = "\n-- Why.\nALTER TABLE users\n    ADD COLUMN note TEXT";
        assert_eq!(shown(sql), "ALTER TABLE users ADD COLUMN note TEXT");
        assert_eq!(shown(&"é".repeat(200)).chars().count(), SHOWN + 1);
    }
}
