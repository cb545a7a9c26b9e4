//! Check 2, second half: the live schema is what the migrations make.

use omnitool_database::{
    Dialect,
    migration::{self, Difference},
};

use super::{Context, quoted, shell_word};
use crate::{Finding, report::quantity};

/// Definitions that are longer are cut to where they differ.
const SHORT: usize = 60;

/// How `drift` begins the name of a table or view.
const KINDS: [&str; 3] = ["table", "view", "materialized view"];

/// What can be done about a difference.
enum Remedy {
    /// SQL that makes it as the migrations do, and loses nothing.
    Sql(String),
    /// The same for a view.
    View(String),
    /// The same for the type of this column, which PostgreSQL does not change while a view reads it.
    Type(String, String),
    /// SQL that removes what no migration makes, with what is in it.
    Removal(String),
    /// It is only in a backup, or no statement changes it in place.
    Restore,
    /// It goes with another difference of the same view.
    Covered,
}

pub(super) fn findings(
    differences: &[Difference],
    dialect: Dialect,
    context: &Context,
) -> Vec<Finding> {
    let (mut repaired, mut removed, mut restored) =
        (Group::default(), Group::default(), Group::default());
    let (mut views, mut retyped) = (Vec::new(), Vec::new());
    for difference in differences {
        let row = describe(difference);
        match remedy(difference, dialect) {
            Remedy::Sql(sql) => repaired.add(row, sql),
            Remedy::View(sql) => {
                repaired.rows.push(row);
                views.push(sql);
            }
            Remedy::Type(sql, column) => {
                repaired.add(row, sql);
                retyped.push(column);
            }
            Remedy::Removal(sql) => removed.add(row, sql),
            Remedy::Restore => restored.add(row, String::new()),
            Remedy::Covered => repaired.rows.push(row),
        }
    }
    let readers = readers(&retyped);
    repaired.sql = if readers.is_empty() {
        [repaired.sql, views].concat()
    } else {
        without(&readers, repaired.sql)
    };
    let mut findings = Vec::new();
    if !repaired.rows.is_empty() {
        let command = shell(dialect, &repaired.sql, context);
        findings.push(repaired.finding("not as the migrations make it").repair(command));
    }
    if !removed.rows.is_empty() {
        let command = shell(dialect, &removed.sql, context);
        findings.push(removed.finding("made by no migration").repair(format!(
            "cargo xtask new-migration NAME, to keep it; or remove it with all that it holds: {command}"
        )));
    }
    if !restored.rows.is_empty() {
        findings.push(
            restored
                .finding("that cannot be made right in place")
                .repair(context.command("rollback-migration")),
        );
    }
    findings
}

/// Differences about which the same is to be done.
#[derive(Default)]
struct Group {
    rows: Vec<String>,
    sql: Vec<String>,
}

impl Group {
    fn add(&mut self, row: String, sql: String) {
        self.rows.push(row);
        self.sql.push(sql);
    }

    fn finding(&mut self, what: &str) -> Finding {
        let rows = std::mem::take(&mut self.rows);
        let count = quantity(rows.len() as u64, "part");
        Finding::critical(format!("{count} of the schema {what}")).rows(rows)
    }
}

/// The views that read one of these columns, if any; then all that there are, since one of them may be among the
/// differences itself.
fn readers(columns: &[String]) -> Vec<(String, String)> {
    let views = migration::postgres_views();
    let reads = |(_, query): &(String, String)| columns.iter().any(|column| query.contains(column));
    if views.iter().any(reads) { views } else { Vec::new() }
}

/// `sql` while there are no `views`, which it makes anew.
fn without(views: &[(String, String)], sql: Vec<String>) -> Vec<String> {
    let drop = views.iter().map(|(name, _)| format!("DROP VIEW IF EXISTS {}", identifier(name)));
    let create = views.iter().map(|(name, query)| create_view(&identifier(name), query));
    drop.chain(sql).chain(create).collect()
}

fn create_view(name: &str, query: &str) -> String {
    format!("CREATE VIEW {name} AS {}", query.trim_end_matches(';'))
}

/// The command that runs `sql` in one transaction.
fn shell(dialect: Dialect, sql: &[String], context: &Context) -> String {
    let sql = sql.join("; ");
    match (dialect, context.subject.database_url.sqlite_path()) {
        (Dialect::Sqlite, Some(file)) => {
            let sql = shell_word(&format!("BEGIN; {sql}; COMMIT"));
            format!("sqlite3 -bail {} {sql}", quoted(file))
        }
        _ => format!("psql \"$DATABASE_URL\" --command {}", shell_word(&sql)),
    }
}

fn remedy(difference: &Difference, dialect: Dialect) -> Remedy {
    let Difference { object, expected, found } = difference;
    let (relation, part) = object.split_once(": ").unwrap_or((object, ""));
    let (kind, relation) = KINDS
        .iter()
        .find_map(|kind| Some((*kind, relation.strip_prefix(kind)?.strip_prefix(" ")?)))
        .unwrap_or(("", relation));
    let (what, name) = part.split_once(' ').unwrap_or((part, ""));
    let table = identifier(relation);
    let own = identifier(name);
    match (kind, what, expected, found) {
        (kind, "", None, _) => Remedy::Removal(format!("DROP {} {table}", kind.to_uppercase())),
        ("view", "definition", Some(expected), Some(_)) if is_plain(expected) => {
            let create = match dialect {
                Dialect::Sqlite => expected.clone(),
                Dialect::Postgres => create_view(&table, expected),
            };
            Remedy::View(format!("DROP VIEW {table}; {create}"))
        }
        ("view", _, _, Some(_)) => Remedy::Covered,
        ("table", "column", None, _) => {
            Remedy::Removal(format!("ALTER TABLE {table} DROP COLUMN {own}"))
        }
        ("table", "column", Some(expected), Some(found)) if dialect == Dialect::Postgres => {
            change_column(&table, &own, expected, found).unwrap_or(Remedy::Restore)
        }
        ("table", "index", Some(expected), found) if is_plain(expected) => {
            let drop = found.as_ref().map_or_else(String::new, |_| format!("DROP INDEX {own}; "));
            Remedy::Sql(format!("{drop}{expected}"))
        }
        ("table", "index", None, _) => Remedy::Sql(format!("DROP INDEX {own}")),
        ("table", "trigger", expected, found) if expected.as_deref().is_none_or(is_plain) => {
            let on = match dialect {
                Dialect::Sqlite => String::new(),
                Dialect::Postgres => format!(" ON {table}"),
            };
            let drop = found.as_ref().map(|_| format!("DROP TRIGGER {own}{on}"));
            let statements: Vec<String> = drop.into_iter().chain(expected.clone()).collect();
            Remedy::Sql(statements.join("; "))
        }
        ("table", "foreign", None, Some(_)) if name == "key triggers" => {
            Remedy::Sql(format!("ALTER TABLE {table} ENABLE TRIGGER ALL"))
        }
        ("table", "rule", None, Some(_)) => Remedy::Sql(format!("DROP RULE {own} ON {table}")),
        ("table", "row", None, Some(_)) => Remedy::Sql(format!(
            "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY"
        )),
        ("table", "exclusion", None, Some(_)) => {
            Remedy::Sql(format!("ALTER TABLE {table} DROP CONSTRAINT {own}"))
        }
        ("table", "check", expected, found) if dialect == Dialect::Postgres => {
            let drop = found.as_ref().map(|_| format!("DROP CONSTRAINT {own}"));
            let add = expected.as_ref().map(|expected| format!("ADD CONSTRAINT {own} {expected}"));
            let actions: Vec<String> = drop.into_iter().chain(add).collect();
            Remedy::Sql(format!("ALTER TABLE {table} {}", actions.join(", ")))
        }
        ("table", "primary" | "unique" | "foreign", Some(expected), None)
            if dialect == Dialect::Postgres =>
        {
            Remedy::Sql(format!("ALTER TABLE {table} ADD {expected}"))
        }
        _ => Remedy::Restore,
    }
}

/// Descriptions have their line breaks removed, after which a comment would swallow what follows it.
fn is_plain(sql: &str) -> bool {
    !sql.is_empty() && !sql.contains("--")
}

/// Makes a PostgreSQL column that is `found` as it is `expected`; an identity is not made or removed.
fn change_column(table: &str, column: &str, expected: &str, found: &str) -> Option<Remedy> {
    let (wanted, is) = (Column::parse(expected), Column::parse(found));
    if wanted.has_identity || is.has_identity {
        return None;
    }
    let alter = format!("ALTER COLUMN {column}");
    let mut actions = Vec::new();
    if wanted.kind != is.kind {
        actions.push(format!("{alter} TYPE {}", wanted.kind));
    }
    if wanted.default != is.default {
        actions.push(match wanted.default {
            Some(default) => format!("{alter} SET DEFAULT {default}"),
            None => format!("{alter} DROP DEFAULT"),
        });
    }
    if wanted.is_required != is.is_required {
        let verb = if wanted.is_required { "SET" } else { "DROP" };
        actions.push(format!("{alter} {verb} NOT NULL"));
    }
    let sql = format!("ALTER TABLE {table} {}", actions.join(", "));
    Some(if wanted.kind == is.kind {
        Remedy::Sql(sql)
    } else {
        Remedy::Type(sql, format!("{table}.{column}"))
    })
}

/// A column as `drift` describes it: type with collation, nullability, identity, default.
struct Column<'a> {
    kind: &'a str,
    is_required: bool,
    has_identity: bool,
    default: Option<&'a str>,
}

impl<'a> Column<'a> {
    fn parse(text: &'a str) -> Self {
        let (text, default) = match text.split_once(" DEFAULT ") {
            Some((text, default)) if !text.ends_with("GENERATED BY") => (text, Some(default)),
            _ => (text, None),
        };
        let (text, has_identity) = match text.split_once(" GENERATED ") {
            Some((text, _)) => (text, true),
            None => (text, false),
        };
        let (kind, is_required) = match text.strip_suffix(" NOT NULL") {
            Some(kind) => (kind, true),
            None => (text, false),
        };
        Self { kind, is_required, has_identity, default }
    }
}

fn identifier(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// The difference in one line; of two long definitions, only what stands in one of them.
fn describe(difference: &Difference) -> String {
    let (Some(expected), Some(found)) = (&difference.expected, &difference.found) else {
        return difference.to_string();
    };
    if expected.len().min(found.len()) <= SHORT {
        return difference.to_string();
    }
    let [expected, found] = [expected, found].map(|text| text.split(' ').collect::<Vec<_>>());
    let same_start = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let rest = expected.len().min(found.len()) - same_start;
    let same_end = expected
        .iter()
        .rev()
        .zip(found.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    let [lacks, has] =
        [expected, found].map(|words| words[same_start..words.len() - same_end].join(" "));
    let object = &difference.object;
    match (lacks.is_empty(), has.is_empty()) {
        (false, true) => format!("{object} lacks `{lacks}`"),
        (true, false) => format!("{object} has `{has}`, which the migrations do not make"),
        _ => format!("{object} has `{has}`, where the migrations make `{lacks}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(object: &str, expected: Option<&str>, found: Option<&str>) -> Difference {
        Difference {
            object: object.to_owned(),
            expected: expected.map(str::to_owned),
            found: found.map(str::to_owned),
        }
    }

    #[test]
    fn a_long_definition_is_cut_to_what_differs() {
        let long = "SELECT users.id FROM users WHERE users.is_active AND users.is_admin AND NOT users.is_new";
        let short = long.replace(" AND users.is_admin", "");
        let describe =
            |a: &str, b: &str| describe(&difference("view v: definition", Some(a), Some(b)));
        insta::assert_snapshot!(describe(long, &short), @"view v: definition lacks `users.is_admin AND`");
        insta::assert_snapshot!(describe(&short, long), @"view v: definition has `users.is_admin AND`, which the migrations do not make");
        let other = long.replace("is_admin", "is_owner");
        insta::assert_snapshot!(describe(long, &other), @"view v: definition has `users.is_owner`, where the migrations make `users.is_admin`");
    }

    #[test]
    fn names_that_are_no_plain_identifiers_are_quoted() {
        let Remedy::Removal(sql) =
            remedy(&difference("table My \"Notes", None, Some("")), Dialect::Postgres)
        else {
            panic!("an extra table is removed")
        };
        assert_eq!(sql, "DROP TABLE \"My \"\"Notes\"");
    }
}
