//! The statements that mask a table, as texts.

use std::collections::BTreeMap;

use omnitool_database::Dialect;

use crate::masking::{
    key::{DIGITS_FUNCTION, HASH_FUNCTION},
    rules::Rule,
    schema::{Kind, Table},
};

/// A statement and the columns whose derived keys it takes as parameters.
pub(in crate::masking) struct Update {
    pub(in crate::masking) sql: String,
    pub(in crate::masking) keys: Vec<String>,
}

/// One statement that masks all masked columns of a table.
pub(in crate::masking) fn update(
    dialect: Dialect,
    name: &str,
    table: &Table,
    masked: &BTreeMap<String, Rule>,
) -> Update {
    let mut writer = Writer { dialect, keys: Vec::new() };
    let sets: Vec<String> = masked
        .iter()
        .map(|(column, rule)| {
            let value = writer.value(name, table, column, rule);
            format!("{} = {value}", quoted(column))
        })
        .collect();
    let sql = format!("UPDATE {} SET {}", quoted_path(dialect, name), sets.join(", "));
    Update { sql, keys: writer.keys }
}

/// An identifier.
pub(in crate::masking) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table as the schema names it, which on PostgreSQL may be in another schema.
pub(in crate::masking) fn quoted_path(dialect: Dialect, table: &str) -> String {
    match (dialect, table.split_once('.')) {
        (Dialect::Postgres, Some((schema, table))) => {
            format!("{}.{}", quoted(schema), quoted(table))
        }
        _ => quoted(table),
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

struct Writer {
    dialect: Dialect,
    keys: Vec<String>,
}

impl Writer {
    fn value(&mut self, name: &str, table: &Table, column: &str, rule: &Rule) -> String {
        let path = format!("{name}.{column}");
        let value = match rule {
            // Neither is written by an update.
            Rule::Keep => return quoted(column),
            Rule::Null => return "NULL".to_owned(),
            Rule::Fixed(text) => literal(text),
            Rule::Hash => {
                let value = self.as_text(&quoted(column));
                self.hash(&path, &value)
            }
            Rule::Email => {
                let (key, hash) = self.of_row(&path, table);
                format!("'user-' || {key} || '-' || substr({hash}, 1, 8) || '@example.invalid'")
            }
            Rule::Name => {
                let (key, hash) = self.of_row(&path, table);
                format!("'Person ' || {key} || '-' || substr({hash}, 1, 4)")
            }
            Rule::Phone => {
                let (key, digits) = self.digits_of_row(&path, table);
                format!("'+999 ' || {key} || ' ' || {digits}")
            }
        };
        let column = quoted(column);
        format!("CASE WHEN {column} IS NOT NULL THEN {value} END")
    }

    /// What tells the row from all others, and the keyed hash of it.
    fn of_row(&mut self, path: &str, table: &Table) -> (String, String) {
        let text = self.row_text(table);
        let hash = self.hash(path, &text);
        let key = self.unique_part(table, &text, path);
        (key, hash)
    }

    fn digits_of_row(&mut self, path: &str, table: &Table) -> (String, String) {
        let text = self.row_text(table);
        let digits = self.digits(path, &text);
        let key = self.unique_part(table, &text, path);
        (key, digits)
    }

    /// The primary key as one text.
    fn row_text(&self, table: &Table) -> String {
        let parts: Vec<String> = table
            .primary_key()
            .into_iter()
            .map(|column| self.as_text(&quoted(&column.name)))
            .collect();
        parts.join(" || '-' || ")
    }

    /// Numbers say nothing about anybody and stand in the result; other keys might, and are hashed.
    fn unique_part(&mut self, table: &Table, text: &str, path: &str) -> String {
        if table.primary_key().iter().all(|column| column.kind == Kind::Integer) {
            text.to_owned()
        } else {
            self.hash(path, text)
        }
    }

    fn as_text(&self, column: &str) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("CAST({column} AS TEXT)"),
            Dialect::Postgres => format!("{column}::text"),
        }
    }

    /// 32 hexadecimal digits of the keyed hash of `value`.
    fn hash(&mut self, path: &str, value: &str) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("{HASH_FUNCTION}({}, {value})", literal(path)),
            Dialect::Postgres => format!("left({}, 32)", self.postgres_hash(path, value)),
        }
    }

    /// Four digits of the keyed hash of `value`.
    fn digits(&mut self, path: &str, value: &str) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("{DIGITS_FUNCTION}({}, {value})", literal(path)),
            Dialect::Postgres => {
                let hash = self.postgres_hash(path, value);
                format!("lpad((('x' || left({hash}, 6))::bit(24)::integer % 10000)::text, 4, '0')")
            }
        }
    }

    fn postgres_hash(&mut self, path: &str, value: &str) -> String {
        let known = self.keys.iter().position(|key| key == path);
        let position = known.unwrap_or_else(|| {
            self.keys.push(path.to_owned());
            self.keys.len() - 1
        });
        format!("encode(sha256(${} || convert_to({value}, 'UTF8')), 'hex')", position + 1)
    }
}
