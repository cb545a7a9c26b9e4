//! Definitions to sync, and what a database holds.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use diesel::prelude::*;
use omnitool_database::{
    AnyConnection,
    schema::{tool_access, tool_access_everyone, tool_access_exclusion, tools, users},
};
use omnitool_tool_registry::{Definitions, Options, SyncPlan};

/// Active tools that are no defaults, and what became of older ones; `None` is deleted.
pub(crate) fn definitions(names: &[&str], deprecated: &[(&str, Option<&str>)]) -> Definitions {
    let tools: String = names.iter().map(|name| tool(name, "")).collect();
    parse(&(tools + &deprecations(deprecated)))
}

pub(crate) fn parse(text: &str) -> Definitions {
    // A file without any tool still has to say so.
    let text =
        if text.contains("[[tool]]") { text.to_owned() } else { format!("tool = []\n{text}") };
    Definitions::parse(&text, Path::new("tools.toml")).unwrap()
}

/// A tool as the fixture makes it, except for the fields in `changes`.
pub(crate) fn tool(name: &str, changes: &str) -> String {
    let route = format!("/{}", name.to_lowercase().replace(' ', "_"));
    let mut text = format!("[[tool]]\nname = {name:?}\n{changes}\n");
    for (field, value) in [
        ("description", "\"\"".to_owned()),
        ("route", format!("{route:?}")),
        ("is_default", "false".to_owned()),
        ("is_active", "true".to_owned()),
    ] {
        if !changes.contains(field) {
            writeln!(text, "{field} = {value}").unwrap();
        }
    }
    text
}

pub(crate) fn deprecations(deprecated: &[(&str, Option<&str>)]) -> String {
    let mut text = String::from("[deprecated]\n");
    for (old, new) in deprecated {
        let new = new.map_or("false".to_owned(), |new| format!("{new:?}"));
        writeln!(text, "{old:?} = {new}").unwrap();
    }
    text
}

/// Syncs as the program does without further flags.
pub(crate) fn sync(conn: &mut AnyConnection, definitions: &Definitions) -> SyncPlan {
    omnitool_tool_registry::sync(conn, definitions, Options::default()).unwrap()
}

/// What a database says about users and tools, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) tools: BTreeSet<String>,
    pub(crate) grants: BTreeSet<(String, String)>,
    pub(crate) wildcards: BTreeSet<String>,
    pub(crate) exclusions: BTreeSet<(String, String)>,
}

impl State {
    pub(crate) fn read(conn: &mut AnyConnection) -> Self {
        let pair = (users::username, tools::name);
        Self {
            tools: tools::table.select(tools::name).load(conn).unwrap().into_iter().collect(),
            grants: tool_access::table
                .inner_join(users::table)
                .inner_join(tools::table)
                .select(pair)
                .load(conn)
                .unwrap()
                .into_iter()
                .collect(),
            wildcards: tool_access_everyone::table
                .inner_join(tools::table)
                .select(tools::name)
                .load(conn)
                .unwrap()
                .into_iter()
                .collect(),
            exclusions: tool_access_exclusion::table
                .inner_join(users::table)
                .inner_join(tools::table)
                .select(pair)
                .load(conn)
                .unwrap()
                .into_iter()
                .collect(),
        }
    }
}

/// Makes rows without a parent possible, as in a database that was once used without foreign keys.
pub(crate) fn without_foreign_keys(
    conn: &mut AnyConnection,
    body: impl FnOnce(&mut AnyConnection),
) {
    use diesel::connection::SimpleConnection as _;
    let (off, on) = match conn {
        AnyConnection::Sqlite(_) => ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
        AnyConnection::Postgres(_) => {
            ("SET session_replication_role = replica", "SET session_replication_role = origin")
        }
    };
    conn.batch_execute(off).unwrap();
    body(conn);
    conn.batch_execute(on).unwrap();
}
