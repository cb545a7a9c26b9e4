//! What the Python system's tables have, and whether there is a place for it.

use std::collections::BTreeMap;

use diesel::QueryResult;

use super::{AdoptError, lines, number, rows};
use crate::{AnyConnection, Dialect, migration::description::Description};

/// Rows of `tool_access` whose user or tool is gone.
pub(super) const ORPHANS: &str = "\
SELECT 'tool_access ' || id || ': user ' || user_id || ', tool ' || tool_id AS line FROM tool_access
WHERE NOT EXISTS (SELECT 1 FROM users WHERE users.id = tool_access.user_id)
    OR NOT EXISTS (SELECT 1 FROM tools WHERE tools.id = tool_access.tool_id)
ORDER BY id";

/// A column that has a place in our schema.
pub(super) struct Column {
    pub(super) name: &'static str,
    kind: Kind,
    need: Need,
    /// What our column gets where theirs has no value; `None` where ours may have none, too.
    pub(super) without_value: Option<&'static str>,
    /// What our column gets where theirs does not exist.
    pub(super) without_column: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Text,
    Flag,
    Time,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// May have no value.
    Optional,
    /// May have no value, and no other row has the same.
    Unique,
    /// Must have a value.
    Required,
    /// Must have a value that no other row has.
    RequiredUnique,
}

const fn column(name: &'static str, kind: Kind, need: Need) -> Column {
    Column { name, kind, need, without_value: None, without_column: "NULL" }
}

/// Nobody becomes active by a missing value; where there is no such column at all, nobody was inactive.
const fn flag(name: &'static str, without_column: &'static str) -> Column {
    Column {
        without_value: Some("FALSE"),
        without_column,
        ..column(name, Kind::Flag, Need::Optional)
    }
}

const fn text(name: &'static str) -> Column {
    Column {
        without_value: Some("''"),
        without_column: "''",
        ..column(name, Kind::Text, Need::Optional)
    }
}

const fn time(name: &'static str) -> Column {
    let now = "CURRENT_TIMESTAMP";
    Column {
        without_value: Some(now),
        without_column: now,
        ..column(name, Kind::Time, Need::Optional)
    }
}

pub(super) const USERS: &[Column] = &[
    column("id", Kind::Key, Need::RequiredUnique),
    column("username", Kind::Text, Need::RequiredUnique),
    column("email", Kind::Text, Need::Unique),
    column("password_hash", Kind::Text, Need::Required),
    flag("is_admin", "FALSE"),
    flag("is_active", "TRUE"),
    time("created_at"),
    column("phone_number", Kind::Text, Need::Optional),
];

pub(super) const TOOLS: &[Column] = &[
    column("id", Kind::Key, Need::RequiredUnique),
    column("name", Kind::Text, Need::RequiredUnique),
    text("description"),
    text("route"),
    flag("is_default", "FALSE"),
    flag("is_active", "TRUE"),
    time("created_at"),
];

pub(super) const TOOL_ACCESS: &[Column] = &[
    column("id", Kind::Key, Need::RequiredUnique),
    column("user_id", Kind::Key, Need::Required),
    column("tool_id", Kind::Key, Need::Required),
    time("granted_at"),
];

const TABLES: [(&str, &[Column]); 3] =
    [("users", USERS), ("tools", TOOLS), ("tool_access", TOOL_ACCESS)];

/// The tables' columns by name, each with its definition.
pub(super) type Tables = BTreeMap<String, BTreeMap<String, String>>;

/// Reads the structure, and fails with everything that has no place in ours.
pub(super) fn tables(conn: &mut AnyConnection) -> Result<Tables, AdoptError> {
    let mut tables = Tables::new();
    let mut problems = Vec::new();
    for (relation, parts) in Description::read(conn)?.relations {
        match relation.strip_prefix("table ") {
            Some(table)
                if table == "alembic_version" || TABLES.iter().any(|(name, _)| *name == table) =>
            {
                let columns = parts.into_iter().filter_map(|(part, definition)| {
                    Some((part.strip_prefix("column ")?.to_owned(), definition))
                });
                tables.insert(table.to_owned(), columns.collect());
            }
            _ => problems.push(format!("{relation} is none of the Python system's")),
        }
    }
    for (table, columns) in TABLES {
        match tables.get(table) {
            None => problems.push(format!("table {table} is missing")),
            Some(found) => structure(conn, table, columns, found, &mut problems)?,
        }
    }
    // The values are looked at only where the columns are there.
    if problems.is_empty() {
        for (table, columns) in TABLES {
            for column in columns.iter().filter(|column| tables[table].contains_key(column.name)) {
                values(conn, table, column, &mut problems)?;
            }
        }
    }
    if problems.is_empty() { Ok(tables) } else { Err(AdoptError::Unmappable { problems }) }
}

fn structure(
    conn: &mut AnyConnection,
    table: &str,
    columns: &[Column],
    found: &BTreeMap<String, String>,
    problems: &mut Vec<String>,
) -> QueryResult<()> {
    for column in columns {
        let name = column.name;
        match found.get(name) {
            None if matches!(column.need, Need::Required | Need::RequiredUnique) => {
                problems.push(format!("column {table}.{name} is missing"));
            }
            Some(definition)
                if conn.dialect() == Dialect::Postgres && !column.kind.is(definition) =>
            {
                problems.push(format!("column {table}.{name} is `{definition}`"));
            }
            _ => {}
        }
    }
    for name in found.keys().filter(|name| columns.iter().all(|column| column.name != *name)) {
        let count = number(conn, &format!("SELECT count(\"{name}\") AS number FROM {table}"))?;
        if count > 0 {
            problems.push(format!(
                "column {table}.{name} is none of ours and has a value in {}",
                rows(count)
            ));
        }
    }
    Ok(())
}

impl Kind {
    /// Whether a column that PostgreSQL defines so can be copied.
    fn is(self, definition: &str) -> bool {
        let types: &[&str] = match self {
            Self::Key => &["bigint", "integer", "smallint"],
            Self::Text => &["text", "character varying"],
            Self::Flag => &["boolean"],
            Self::Time => &["timestamp without time zone"],
        };
        types.iter().any(|name| definition.starts_with(name))
    }
}

fn values(
    conn: &mut AnyConnection,
    table: &str,
    column: &Column,
    problems: &mut Vec<String>,
) -> QueryResult<()> {
    let name = column.name;
    let mut conditions = Vec::new();
    if matches!(column.need, Need::Required | Need::RequiredUnique) {
        conditions.push((format!("{name} IS NULL"), "no value"));
    }
    if column.kind == Kind::Text && column.need == Need::RequiredUnique {
        conditions.push((format!("{name} = ''"), "an empty value"));
    }
    match (conn.dialect(), column.kind) {
        // SQLite keeps in a column whatever it is given.
        (Dialect::Sqlite, Kind::Key) => {
            conditions.push((format!("typeof({name}) NOT IN ('integer', 'null')"), "no number"));
        }
        (Dialect::Sqlite, Kind::Text) => {
            conditions.push((format!("typeof({name}) NOT IN ('text', 'null')"), "no text"));
        }
        (Dialect::Sqlite, Kind::Flag) => {
            conditions.push((format!("{name} NOT IN (0, 1)"), "neither true nor false"));
        }
        (Dialect::Sqlite, Kind::Time) => conditions.push((
            format!("{name} IS NOT NULL AND (typeof({name}) <> 'text' OR length({name}) < 19 OR datetime({name}) IS NULL)"),
            "no date and time",
        )),
        (Dialect::Postgres, Kind::Time) => {
            conditions.push((format!("NOT isfinite({name})"), "no date and time"));
        }
        _ => {}
    }
    for (condition, what) in conditions {
        let query = format!("SELECT count(*) AS number FROM {table} WHERE {condition}");
        let count = number(conn, &query)?;
        if count > 0 {
            problems.push(format!("column {table}.{name} has {what} in {}", rows(count)));
        }
    }
    if matches!(column.need, Need::Unique | Need::RequiredUnique) {
        let query = format!(
            "SELECT CAST({name} AS TEXT) AS line FROM {table} WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) > 1"
        );
        for value in lines(conn, &query)? {
            problems.push(format!("column {table}.{name} has `{value}` in more than one row"));
        }
    }
    Ok(())
}

/// What changes its meaning a little.
pub(super) fn notes(conn: &mut AnyConnection, tables: &Tables) -> QueryResult<Vec<String>> {
    let mut notes = vec!["times are taken as UTC".to_owned()];
    for (table, columns) in TABLES {
        for column in columns {
            let (name, Some(value)) = (column.name, column.without_value) else { continue };
            if !tables.get(table).is_some_and(|found| found.contains_key(name)) {
                continue;
            }
            let query = format!("SELECT count(*) AS number FROM {table} WHERE {name} IS NULL");
            let count = number(conn, &query)?;
            if count > 0 {
                notes.push(format!(
                    "{table}.{name} gets {value} in {} without a value",
                    rows(count)
                ));
            }
        }
    }
    let foreign = "SELECT count(*) AS number FROM users WHERE password_hash NOT LIKE '$argon2%'";
    let foreign = number(conn, foreign)?;
    if foreign > 0 {
        notes.push(format!("{} of users: the password is kept in a form that cannot be checked here; they need a new one", rows(foreign)));
    }
    Ok(notes)
}
