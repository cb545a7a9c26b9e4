//! Databases with facts by name, and imports from texts.

use std::{cell::RefCell, collections::BTreeSet, path::Path};

use diesel::prelude::*;
use omnitool_database::{
    AnyConnection,
    schema::{tool_access, tool_access_everyone, tool_access_exclusion, tools, users},
};
use omnitool_environment::EnvironmentName;
use omnitool_testing::fixture;
use omnitool_tool_access::{
    Approval, Export, Fact, FactKind, ImportError, ImportPlan, ImportRequest, Mode, run_import,
};
use tempfile::NamedTempFile;

pub(crate) const LOCAL: EnvironmentName = EnvironmentName::Local;

/// A file with `text`, removed with the value.
pub(crate) fn file(text: impl AsRef<[u8]>) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

pub(crate) fn grant(user: &str, tool: &str) -> Fact {
    Fact { tool: tool.to_owned(), user: Some(user.to_owned()), fact: FactKind::Grant }
}

pub(crate) fn exclusion(user: &str, tool: &str) -> Fact {
    Fact { tool: tool.to_owned(), user: Some(user.to_owned()), fact: FactKind::Exclusion }
}

pub(crate) fn wildcard(tool: &str) -> Fact {
    Fact { tool: tool.to_owned(), user: None, fact: FactKind::Wildcard }
}

/// Makes users and tools.
pub(crate) fn people(conn: &mut AnyConnection, users: &[&str], tools: &[&str]) {
    for user in users {
        fixture::user(conn, user);
    }
    for tool in tools {
        tool_named(conn, tool);
    }
}

/// A tool whose route does not depend on its name.
pub(crate) fn tool_named(conn: &mut AnyConnection, name: &str) -> i64 {
    diesel::insert_into(tools::table)
        .values((tools::name.eq(name), tools::route.eq("/x")))
        .returning(tools::id)
        .get_result(conn)
        .unwrap()
}

pub(crate) fn user_id(conn: &mut AnyConnection, name: &str) -> i64 {
    users::table.filter(users::username.eq(name)).select(users::id).first(conn).unwrap()
}

pub(crate) fn tool_id(conn: &mut AnyConnection, name: &str) -> i64 {
    tools::table.filter(tools::name.eq(name)).select(tools::id).first(conn).unwrap()
}

/// Puts facts into the database past the crate under test.
pub(crate) fn put(conn: &mut AnyConnection, facts: impl IntoIterator<Item = Fact>) {
    for Fact { tool, user, fact } in facts {
        let tool = tool_id(conn, &tool);
        match (fact, user) {
            (FactKind::Wildcard, _) => fixture::everyone(conn, tool),
            (FactKind::Grant, user) => {
                let user = user_id(conn, &user.unwrap());
                fixture::grant(conn, user, tool);
            }
            (FactKind::Exclusion, user) => {
                let user = user_id(conn, &user.unwrap());
                fixture::exclude(conn, user, tool);
            }
        }
    }
}

/// All facts in the database.
pub(crate) fn facts(conn: &mut AnyConnection) -> BTreeSet<Fact> {
    let grants: Vec<(String, String)> = tool_access::table
        .inner_join(users::table)
        .inner_join(tools::table)
        .select((users::username, tools::name))
        .load(conn)
        .unwrap();
    let exclusions: Vec<(String, String)> = tool_access_exclusion::table
        .inner_join(users::table)
        .inner_join(tools::table)
        .select((users::username, tools::name))
        .load(conn)
        .unwrap();
    let wildcards: Vec<String> = tool_access_everyone::table
        .inner_join(tools::table)
        .select(tools::name)
        .load(conn)
        .unwrap();
    let grants = grants.iter().map(|(user, tool)| grant(user, tool));
    let exclusions = exclusions.iter().map(|(user, tool)| exclusion(user, tool));
    grants.chain(exclusions).chain(wildcards.iter().map(|tool| wildcard(tool))).collect()
}

pub(crate) fn exported(conn: &mut AnyConnection) -> String {
    let mut bytes = Vec::new();
    Export::load(conn, LOCAL).unwrap().write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn request(file: &Path, mode: Mode) -> ImportRequest<'_> {
    ImportRequest { mode, ..ImportRequest::merge(file) }
}

pub(crate) fn import(
    conn: &mut AnyConnection,
    request: &ImportRequest<'_>,
) -> Result<ImportPlan, ImportError> {
    let seen = RefCell::new(None);
    let plan = run_import(conn, LOCAL, request, None, |plan| {
        *seen.borrow_mut() = Some(plan.clone());
        Approval::Apply
    })?;
    assert_eq!(plan_json(&plan), plan_json(&seen.into_inner().unwrap()));
    let skipped = plan.skipped.total();
    assert_eq!(plan.read.total(), plan.added.total() + plan.present + skipped + plan.refused);
    Ok(plan)
}

pub(crate) fn plan_json(plan: &ImportPlan) -> serde_json::Value {
    serde_json::to_value(plan).unwrap()
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
