//! An import's differences and their application, as statements over whole tables.

use diesel::{
    connection::SimpleConnection as _,
    prelude::*,
    sql_query,
    sql_types::{BigInt, Text},
};
use omnitool_database::{AnyConnection, try_lock};

use super::{copy, lock::PATIENCE};
use crate::{Counts, Fact, FactKind, ForeignKeyCheck, change::Change};

/// From so many new grants on, checking foreign keys once is faster than for each row; measured on PostgreSQL 15 at
/// 19 µs for a row, 0.4 µs for a row checked at the end, and some 20 ms for replacing the constraints.
const MANY: u64 = 10_000;
/// Checking at the end looks at all rows of the table, so the new ones must be at least this part of the others.
const PART: u64 = 25;

/// About what the file speaks, and so what may be against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It has no scope.
    Nothing,
    /// Its users and tools.
    Scope,
    /// Everything there is but exclusions, of which it cannot speak.
    AllButExclusions,
    /// Everything there is.
    Everything,
}

/// Whether all of the file is missing in the target, so that the staged rows need not be copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) all_grants: bool,
    pub(crate) all_exclusions: bool,
}

impl Sources {
    const fn grants(self) -> &'static str {
        if self.all_grants { "import_grant" } else { "missing_grant" }
    }

    const fn exclusions(self) -> &'static str {
        if self.all_exclusions { "import_exclusion" } else { "missing_exclusion" }
    }
}

/// How the file and the target differ.
pub(crate) struct Differences {
    pub(crate) missing: Counts,
    pub(crate) against: Counts,
    /// Of the grants in `against`, those of users whom the file excludes.
    pub(crate) without_effect: u64,
    /// The target's facts in the file's reach.
    pub(crate) scope: u64,
    /// The target's grants.
    pub(crate) grants: u64,
    pub(crate) sources: Sources,
}

/// Prepares the connection before the transaction begins: it waits longer for another import than for other writers,
/// and SQLite's foreign keys are checked once, by [`check_foreign_keys`], instead of twice for each row.
pub(crate) fn prepare(conn: &mut AnyConnection) -> QueryResult<()> {
    match conn {
        AnyConnection::Sqlite(c) => {
            c.batch_execute("PRAGMA busy_timeout = 120000; PRAGMA foreign_keys = OFF")
        }
        AnyConnection::Postgres(_) => Ok(()),
    }
}

/// Undoes [`prepare`] after the transaction, however it ended.
pub(crate) fn restore(conn: &mut AnyConnection) -> QueryResult<()> {
    match conn {
        AnyConnection::Sqlite(c) => {
            c.batch_execute("PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000")
        }
        AnyConnection::Postgres(_) => Ok(()),
    }
}

/// Fails where a staged fact belongs to no user or no tool. The keys were read in this very transaction, so that only
/// a fault of this program could bring that about.
fn check_foreign_keys(conn: &mut AnyConnection) -> QueryResult<()> {
    if matches!(conn, AnyConnection::Postgres(_)) {
        return Ok(());
    }
    let orphans = count(
        conn,
        "SELECT (SELECT count(*) FROM import_grant_mask WHERE user_id NOT IN (SELECT id FROM users)) \
         + (SELECT count(*) FROM import_exclusion_mask WHERE user_id NOT IN (SELECT id FROM users)) \
         + (SELECT count(*) FROM import_bit WHERE tool_id NOT IN (SELECT id FROM tools)) \
         + (SELECT count(*) FROM missing_grant WHERE user_id NOT IN (SELECT id FROM users) \
            OR tool_id NOT IN (SELECT id FROM tools)) \
         + (SELECT count(*) FROM missing_exclusion WHERE user_id NOT IN (SELECT id FROM users) \
            OR tool_id NOT IN (SELECT id FROM tools)) \
         + (SELECT count(*) FROM missing_everyone WHERE tool_id NOT IN (SELECT id FROM tools)) AS count",
    )?;
    if orphans == 0 {
        Ok(())
    } else {
        let what = format!("{orphans} staged facts belong to no user or no tool");
        Err(diesel::result::Error::QueryBuilderError(what.into()))
    }
}

/// Compares what is staged with the target and fills the tables `missing_…` and `against_…`.
pub(crate) fn diff(
    conn: &mut AnyConnection,
    reach: Reach,
    staged: Counts,
) -> QueryResult<Differences> {
    if let AnyConnection::Postgres(c) = conn {
        c.batch_execute("SET LOCAL work_mem = '64MB'")?;
    }
    let grants = diff_pairs(conn, reach, "tool_access", "grant", "has_granted", staged.grants)?;
    let exclusions = diff_pairs(
        conn,
        if reach == Reach::AllButExclusions { Reach::Nothing } else { reach },
        "tool_access_exclusion",
        "exclusion",
        "has_excluded",
        staged.exclusions,
    )?;
    let missing_everyone = run(
        conn,
        "INSERT INTO missing_everyone (tool_id) SELECT tool_id FROM import_tool WHERE has_wildcard \
         AND tool_id NOT IN (SELECT tool_id FROM tool_access_everyone)",
    )?;
    let against_everyone = match reach {
        Reach::Nothing => 0,
        Reach::Scope => run(
            conn,
            "INSERT INTO against_everyone (tool_id) SELECT tool_id FROM tool_access_everyone \
             WHERE tool_id IN (SELECT tool_id FROM import_tool WHERE has_no_wildcard)",
        )?,
        Reach::AllButExclusions | Reach::Everything => run(
            conn,
            "INSERT INTO against_everyone (tool_id) SELECT tool_id FROM tool_access_everyone \
             WHERE tool_id NOT IN (SELECT tool_id FROM import_tool WHERE has_wildcard)",
        )?,
    };
    let without_effect = if grants.against == 0 || staged.exclusions == 0 {
        0
    } else {
        count(
            conn,
            "SELECT count(*) AS count FROM against_grant WHERE EXISTS (SELECT 1 FROM import_exclusion AS e \
             WHERE e.user_id = against_grant.user_id AND e.tool_id = against_grant.tool_id)",
        )?
    };
    let missing = Counts {
        grants: grants.missing,
        wildcards: missing_everyone,
        exclusions: exclusions.missing,
    };
    let against = Counts {
        grants: grants.against,
        wildcards: against_everyone,
        exclusions: exclusions.against,
    };
    Ok(Differences {
        missing,
        against,
        without_effect,
        // What the target has in the file's reach is in the file, or against it.
        scope: staged.total() - missing.total() + against.total(),
        grants: grants.total,
        sources: Sources { all_grants: grants.is_all, all_exclusions: exclusions.is_all },
    })
}

struct PairDifference {
    missing: u64,
    against: u64,
    total: u64,
    is_all: bool,
}

fn diff_pairs(
    conn: &mut AnyConnection,
    reach: Reach,
    target: &str,
    kind: &str,
    speaks: &str,
    staged: u64,
) -> QueryResult<PairDifference> {
    let total = count(conn, &format!("SELECT count(*) AS count FROM {target}"))?;
    let is_all = total == 0;
    let missing = if is_all || staged == 0 {
        staged
    } else {
        let select = match conn {
            AnyConnection::Sqlite(_) => format!(
                "SELECT user_id, tool_id FROM import_{kind} AS s WHERE NOT EXISTS \
                 (SELECT 1 FROM {target} AS t WHERE t.user_id = s.user_id AND t.tool_id = s.tool_id)"
            ),
            // A look into an index costs more here; the target's facts as masks are few, and compared first.
            AnyConnection::Postgres(_) => format!(
                "WITH missing AS MATERIALIZED (SELECT s.user_id, s.block, s.mask & ~coalesce(t.mask, 0) AS mask \
                  FROM import_{kind}_mask AS s LEFT JOIN \
                  (SELECT user_id, block, bit_or(bit) AS mask FROM {target} JOIN import_bit USING (tool_id) \
                   GROUP BY user_id, block) AS t ON t.user_id = s.user_id AND t.block = s.block \
                  WHERE s.mask & ~coalesce(t.mask, 0) <> 0) \
                 SELECT m.user_id, b.tool_id FROM missing AS m \
                 JOIN import_bit AS b ON b.block = m.block AND m.mask & b.bit <> 0"
            ),
        };
        run(conn, &format!("INSERT INTO missing_{kind} (user_id, tool_id) {select}"))?
    };
    let scope = match reach {
        Reach::Nothing => None,
        Reach::Scope => Some(format!(
            "t.user_id IN (SELECT user_id FROM import_user) \
             AND t.tool_id IN (SELECT tool_id FROM import_tool WHERE {speaks}) AND "
        )),
        Reach::AllButExclusions | Reach::Everything => Some(String::new()),
    };
    let against = match scope {
        // Where the target has as many rows as it shares with the file, there are no others.
        Some(scope) if total > staged - missing => run(
            conn,
            &format!(
                "INSERT INTO against_{kind} (user_id, tool_id) SELECT user_id, tool_id FROM {target} AS t \
                 WHERE {scope}NOT EXISTS (SELECT 1 FROM import_{kind} AS s \
                 WHERE s.user_id = t.user_id AND s.tool_id = t.tool_id)"
            ),
        )?,
        _ => 0,
    };
    Ok(PairDifference { missing, against, total, is_all })
}

/// How foreign keys should be checked for `added` grants beside `existing` ones.
pub(crate) fn foreign_key_check(
    conn: &mut AnyConnection,
    added: u64,
    existing: u64,
) -> QueryResult<Option<ForeignKeyCheck>> {
    if matches!(conn, AnyConnection::Sqlite(_)) {
        return Ok(None);
    }
    let is_worth_it = added >= MANY && added.saturating_mul(PART) >= existing;
    // Only the table's owner may replace its constraints, and lock the tables that they belong to.
    let may = is_worth_it
        && count(
            conn,
            "SELECT count(*) AS count FROM pg_class \
             WHERE oid IN ('tool_access'::regclass, 'users'::regclass, 'tools'::regclass) \
             AND pg_has_role(current_user, relowner, 'USAGE')",
        )? == 3;
    Ok(Some(if may { ForeignKeyCheck::OnceAtTheEnd } else { ForeignKeyCheck::EachRow }))
}

#[derive(QueryableByName)]
struct Constraint {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    definition: String,
}

/// Writes the differences and the history.
pub(crate) fn apply(
    conn: &mut AnyConnection,
    run_key: i64,
    sources: Sources,
    foreign_keys: Option<ForeignKeyCheck>,
    removes: bool,
) -> QueryResult<()> {
    check_foreign_keys(conn)?;
    let constraints = match foreign_keys {
        Some(ForeignKeyCheck::OnceAtTheEnd) => drop_foreign_keys(conn)?,
        _ => Vec::new(),
    };
    // What remains is done by statements over whole tables.
    let grants = match conn {
        AnyConnection::Postgres(c) if sources.all_grants => {
            copy::grants(c, run_key)?;
            None
        }
        _ => Some(sources.grants()),
    };
    append_events(conn, run_key, grants, sources.exclusions(), removes)?;
    insert(conn, grants, sources.exclusions())?;
    if removes {
        delete(conn)?;
    }
    for Constraint { name, definition } in constraints {
        conn.batch_execute(&format!(
            "ALTER TABLE tool_access ADD CONSTRAINT {} {definition}",
            quoted(&name)
        ))?;
    }
    Ok(())
}

fn append_events(
    conn: &mut AnyConnection,
    run_key: i64,
    grants: Option<&str>,
    exclusions: &str,
    removes: bool,
) -> QueryResult<()> {
    let added = [
        (Change::Grant, "user_id", grants),
        (Change::Exclude, "user_id", Some(exclusions)),
        (Change::GrantEveryone, "0", Some("missing_everyone")),
    ];
    let removed = [
        (Change::Revoke, "user_id", Some("against_grant")),
        (Change::Include, "user_id", Some("against_exclusion")),
        (Change::RevokeEveryone, "0", Some("against_everyone")),
    ];
    for (change, user, table) in added.into_iter().chain(removed.into_iter().filter(|_| removes)) {
        let Some(table) = table else { continue };
        run(
            conn,
            &format!(
                "INSERT INTO tool_access_event (run, user_id, tool_id, change) \
                 SELECT {run_key}, {user}, tool_id, '{}' FROM {table}",
                change.as_str()
            ),
        )?;
    }
    Ok(())
}

fn insert(conn: &mut AnyConnection, grants: Option<&str>, exclusions: &str) -> QueryResult<()> {
    // Once here instead of once for each row.
    let now = match conn {
        AnyConnection::Sqlite(_) => "(SELECT CURRENT_TIMESTAMP)",
        AnyConnection::Postgres(_) => "(now() AT TIME ZONE 'utc')",
    };
    for (target, table, keys, time) in [
        ("tool_access", grants, "user_id, tool_id", "granted_at"),
        ("tool_access_exclusion", Some(exclusions), "user_id, tool_id", "excluded_at"),
        ("tool_access_everyone", Some("missing_everyone"), "tool_id", "granted_at"),
    ] {
        let Some(table) = table else { continue };
        run(
            conn,
            &format!(
                "INSERT INTO {target} ({keys}, {time}, origin) SELECT {keys}, {now}, 'import' FROM {table}"
            ),
        )?;
    }
    Ok(())
}

fn delete(conn: &mut AnyConnection) -> QueryResult<()> {
    for (target, table, keys) in [
        ("tool_access", "against_grant", "user_id, tool_id"),
        ("tool_access_exclusion", "against_exclusion", "user_id, tool_id"),
        ("tool_access_everyone", "against_everyone", "tool_id"),
    ] {
        run(conn, &format!("DELETE FROM {target} WHERE ({keys}) IN (SELECT {keys} FROM {table})"))?;
    }
    Ok(())
}

/// Drops the foreign keys of `tool_access` and returns them: none where somebody else is using the tables that they belong
/// to, and may be waiting for this very transaction. Then each row is checked.
fn drop_foreign_keys(conn: &mut AnyConnection) -> QueryResult<Vec<Constraint>> {
    let tables = "LOCK TABLE users, tools, tool_access IN ACCESS EXCLUSIVE MODE";
    if !try_lock(conn, tables, PATIENCE)? {
        return Ok(Vec::new());
    }
    let constraints: Vec<Constraint> = sql_query(
        "SELECT conname::text AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint \
         WHERE conrelid = 'tool_access'::regclass AND contype = 'f' ORDER BY conname",
    )
    .load(conn)?;
    for constraint in &constraints {
        let name = quoted(&constraint.name);
        conn.batch_execute(&format!("ALTER TABLE tool_access DROP CONSTRAINT {name}"))?;
    }
    Ok(constraints)
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Which grants of `against_grant` are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grants {
    All,
    /// Not those of users whom the file excludes.
    InEffect,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    tool: String,
    #[diesel(sql_type = Text)]
    username: String,
}

/// The first facts that are to be added, by kind (exclusions first, grants last), tool and user.
pub(crate) fn list_missing(
    conn: &mut AnyConnection,
    sources: Sources,
    most: usize,
) -> QueryResult<Vec<Fact>> {
    list(conn, [sources.grants(), sources.exclusions(), "missing_everyone"], "", most)
}

/// The first facts that the target has against the file, by kind (exclusions first, grants last), tool and user.
pub(crate) fn list_against(
    conn: &mut AnyConnection,
    most: usize,
    grants: Grants,
) -> QueryResult<Vec<Fact>> {
    let condition = match grants {
        Grants::All => "",
        Grants::InEffect => {
            "WHERE NOT EXISTS (SELECT 1 FROM import_exclusion AS e \
             WHERE e.user_id = s.user_id AND e.tool_id = s.tool_id) "
        }
    };
    list(conn, ["against_grant", "against_exclusion", "against_everyone"], condition, most)
}

fn list(
    conn: &mut AnyConnection,
    [grants, exclusions, everyone]: [&str; 3],
    grant_condition: &str,
    most: usize,
) -> QueryResult<Vec<Fact>> {
    let mut facts = Vec::new();
    for (kind, table, condition) in
        [(FactKind::Grant, grants, grant_condition), (FactKind::Exclusion, exclusions, "")]
    {
        let rows: Vec<Named> = sql_query(format!(
            "SELECT tools.name AS tool, users.username AS username FROM {table} AS s \
             JOIN users ON users.id = s.user_id JOIN tools ON tools.id = s.tool_id {condition}\
             ORDER BY tools.name, users.username LIMIT {most}"
        ))
        .load(conn)?;
        facts.extend(rows.into_iter().map(|row| Fact {
            tool: row.tool,
            user: Some(row.username),
            fact: kind,
        }));
    }
    let rows: Vec<Named> = sql_query(format!(
        "SELECT tools.name AS tool, '' AS username FROM {everyone} AS s \
         JOIN tools ON tools.id = s.tool_id ORDER BY tools.name LIMIT {most}"
    ))
    .load(conn)?;
    facts.extend(rows.into_iter().map(|row| Fact {
        tool: row.tool,
        user: None,
        fact: FactKind::Wildcard,
    }));
    // What lets somebody in, or keeps somebody out, most: no long list of grants may hide it.
    facts.sort_by(|a, b| b.fact.cmp(&a.fact).then_with(|| a.cmp(b)));
    facts.truncate(most);
    Ok(facts)
}

/// Puts changes by key into the tables from which [`apply`] takes them.
pub(crate) fn fill_changes(
    conn: &mut AnyConnection,
    change: Change,
    rows: &[(i64, i64)],
) -> QueryResult<()> {
    let (table, is_everyone) = match change {
        Change::Grant => ("missing_grant", false),
        Change::Revoke => ("against_grant", false),
        Change::Exclude => ("missing_exclusion", false),
        Change::Include => ("against_exclusion", false),
        Change::GrantEveryone => ("missing_everyone", true),
        Change::RevokeEveryone => ("against_everyone", true),
    };
    let values: Vec<String> = rows
        .iter()
        .map(
            |(user, tool)| {
                if is_everyone { format!("({tool})") } else { format!("({user},{tool})") }
            },
        )
        .collect();
    if values.is_empty() {
        return Ok(());
    }
    run(conn, &format!("INSERT INTO {table} VALUES {}", values.join(","))).map(drop)
}

/// Shows every change that is staged, by names: the kind, the user (empty for everyone) and the tool.
pub(crate) fn each_change(
    conn: &mut AnyConnection,
    sources: Sources,
    removes: bool,
    see: &mut dyn FnMut(Change, &str, &str) -> QueryResult<()>,
) -> QueryResult<()> {
    use diesel::connection::DefaultLoadingMode;
    let added = [
        (Change::Grant, sources.grants()),
        (Change::Exclude, sources.exclusions()),
        (Change::GrantEveryone, "missing_everyone"),
    ];
    let removed = [
        (Change::Revoke, "against_grant"),
        (Change::Include, "against_exclusion"),
        (Change::RevokeEveryone, "against_everyone"),
    ];
    for (change, table) in added.into_iter().chain(removed.into_iter().filter(|_| removes)) {
        let is_everyone = matches!(change, Change::GrantEveryone | Change::RevokeEveryone);
        let query = if is_everyone {
            format!(
                "SELECT tools.name AS tool, '' AS username FROM {table} AS s \
                 JOIN tools ON tools.id = s.tool_id ORDER BY tools.name"
            )
        } else {
            format!(
                "SELECT tools.name AS tool, users.username AS username FROM {table} AS s \
                 JOIN users ON users.id = s.user_id JOIN tools ON tools.id = s.tool_id \
                 ORDER BY tools.name, users.username"
            )
        };
        match conn {
            AnyConnection::Sqlite(c) => {
                for row in sql_query(query).load_iter::<Named, DefaultLoadingMode>(c)? {
                    let row = row?;
                    see(change, &row.username, &row.tool)?;
                }
            }
            AnyConnection::Postgres(c) => {
                use diesel::pg::PgRowByRowLoadingMode;
                for row in sql_query(query).load_iter::<Named, PgRowByRowLoadingMode>(c)? {
                    let row = row?;
                    see(change, &row.username, &row.tool)?;
                }
            }
        }
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn count(conn: &mut AnyConnection, query: &str) -> QueryResult<u64> {
    Ok(sql_query(query).get_result::<Count>(conn)?.count.unsigned_abs())
}

fn run(conn: &mut AnyConnection, statement: &str) -> QueryResult<u64> {
    Ok(sql_query(statement).execute(conn)? as u64)
}
