//! Check 11: what `data/access_tests.toml` says is so.

use std::{collections::BTreeSet, path::Path};

use omnitool_database::AnyConnection;
use omnitool_tool_registry::Resolution;
use serde_json::json;

use super::{CheckError, Context, Verdict, quoted, shell_word};
use crate::{
    Finding,
    assertion::{self, Assertion, Group, Problem, Users},
    report::{one_line, quantity},
    store::{self, NamedTool, Person, Whom},
};

pub(super) fn hold(conn: &mut AnyConnection, context: &Context) -> Result<Verdict, CheckError> {
    let Some(file) = context.expected.access_tests else {
        return Ok(Verdict::passed("not asked for: no assertions were given"));
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        CheckError::Assertions(std::io::Error::new(
            error.kind(),
            format!("{}: {error}", file.display()),
        ))
    })?;
    let assertions = match assertion::parse(&text) {
        Ok(assertions) => assertions,
        Err(problems) => return Ok(malformed(file, problems)),
    };
    let tools = store::list_named_tools(conn)?;
    let mut notes = Notes::default();
    let mut findings = Vec::new();
    for assertion in &assertions {
        let place = Place { file, line: assertion.line, because: &assertion.because };
        if let Users::Named(names) = &assertion.users {
            let unknown = store::find_unknown_users(conn, names)?;
            if assertion.has && !unknown.is_empty() {
                findings.push(nobody(&place, assertion, unknown));
            } else {
                notes.unknown_users.extend(unknown);
            }
        }
        match find_tool(&tools, assertion, context) {
            Found::Tool(tool) => {
                let whom = Whom::new(conn.dialect(), &assertion.users);
                let (count, first) = store::find_exceptions(conn, &whom, tool.id, assertion.has)?;
                if count > 0 {
                    findings.push(exception(&place, assertion, tool, count, &first, context));
                }
            }
            Found::Deleted if assertion.has => findings.push(
                Finding::critical(format!(
                    "nobody can have {}, which is deleted, against {place}",
                    assertion.tool
                ))
                .repair(format!("correct or remove it in {}", quoted(file))),
            ),
            Found::Deleted => {
                notes.deleted_tools.insert(assertion.tool.clone());
            }
            Found::NotSynced(name) => findings.push(
                Finding::critical(format!("the tool {name}, of which {place} speaks, is missing"))
                    .repair(context.sync_tools()),
            ),
            Found::Unknown => findings.push(
                Finding::critical(format!(
                    "there is no tool {}, of which {place} speaks",
                    assertion.tool
                ))
                .repair(format!("correct its name in {}", quoted(file))),
            ),
        }
    }
    if findings.is_empty() {
        let count = assertions.len() as u64;
        return Ok(Verdict::passed(format!(
            "{} of {}{notes}",
            quantity(count, "assertion"),
            file.display()
        )));
    }
    Ok(Verdict::found(findings))
}

/// Users who should have a tool and do not exist: a warning, since environments differ in their users.
fn nobody(place: &Place, assertion: &Assertion, unknown: Vec<String>) -> Finding {
    let users = quantity(unknown.len() as u64, "user");
    Finding::warning(format!("{users} unknown here who should have {} by {place}", assertion.tool))
        .rows(unknown)
        .repair(format!("omnitool create-user NAME, or correct the name in {}", quoted(place.file)))
}

fn malformed(file: &Path, problems: Vec<Problem>) -> Verdict {
    let name = file.display().to_string();
    let count = problems.len() as u64;
    let what = format!("{name} is malformed: {}", quantity(count, "problem"));
    let row = |Problem { line, what }| one_line(&format!("{name}:{line}: {what}"));
    // All of them: whoever corrects the file wants to do it once.
    let rows = problems.into_iter().map(row).collect();
    Verdict::found(vec![
        Finding::critical(what).first_rows(rows, count).repair(format!("correct {}", quoted(file))),
    ])
}

/// Where an assertion stands, and why.
struct Place<'a> {
    file: &'a Path,
    line: usize,
    because: &'a str,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, because } = self;
        write!(f, "{}:{line} ({because})", file.display())
    }
}

/// What the message of a passed check says besides the number of assertions.
#[derive(Default)]
struct Notes {
    unknown_users: BTreeSet<String>,
    deleted_tools: BTreeSet<String>,
}

impl std::fmt::Display for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (names, what) in [
            (&self.unknown_users, "without access, since there is no such user"),
            (&self.deleted_tools, "without users, since the tool is deleted"),
        ] {
            if !names.is_empty() {
                let names: Vec<String> = names.iter().map(|name| one_line(name)).collect();
                write!(f, "; {what}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

enum Found<'a> {
    Tool(&'a NamedTool),
    /// It is deprecated and gone, so that nobody has it.
    Deleted,
    /// It is defined, but not in the database.
    NotSynced(&'a str),
    /// Nobody has ever heard of it.
    Unknown,
}

fn find_tool<'a>(
    tools: &'a [NamedTool],
    assertion: &'a Assertion,
    context: &'a Context,
) -> Found<'a> {
    let find = |name: &str| tools.iter().find(|tool| tool.name == name);
    if let Some(tool) = find(&assertion.tool) {
        return Found::Tool(tool);
    }
    match context.subject.definitions.resolve(&assertion.tool) {
        Resolution::Defined => Found::NotSynced(&assertion.tool),
        Resolution::Renamed(new) => find(new).map_or(Found::NotSynced(new), Found::Tool),
        Resolution::Deleted => Found::Deleted,
        Resolution::Unknown => Found::Unknown,
    }
}

fn exception(
    place: &Place,
    assertion: &Assertion,
    tool: &NamedTool,
    count: u64,
    first: &[Person],
    context: &Context,
) -> Finding {
    let users = quantity(count, "user");
    let what = if assertion.has {
        format!("{users} without {} against {place}", tool.name)
    } else {
        format!("{users} with {} against {place}", tool.name)
    };
    let rows = first.iter().map(|person| describe(person, assertion.has)).collect();
    Finding::critical(what).first_rows(rows, count).repair(repair(assertion, tool, first, context))
}

fn describe(person: &Person, should_have: bool) -> String {
    let name = one_line(&person.username);
    match person {
        Person { is_active: false, .. } if should_have => format!("{name} (inactive)"),
        Person { is_excluded: true, .. } if should_have => format!("{name} (excluded)"),
        Person { .. } => name,
    }
}

/// The command that brings about what is asserted for the users that are named.
fn repair(assertion: &Assertion, tool: &NamedTool, first: &[Person], context: &Context) -> String {
    if assertion.has && !tool.is_active {
        return format!(
            "set is_active = true for {} in data/tools.toml and run: {}",
            one_line(&tool.name),
            context.sync_tools()
        );
    }
    let active = first.iter().filter(|person| person.is_active || !assertion.has);
    let names: Vec<&str> = active.map(|person| person.username.as_str()).collect();
    if names.is_empty() {
        return "activate these users, or assert it for \"active\" users only".to_owned();
    }
    let is_for_all = matches!(assertion.users, Users::Group(Group::Active | Group::Everyone))
        && !first.iter().any(|person| person.is_excluded);
    let facts = match (assertion.has, is_for_all) {
        (true, true) => json!({ "everyone": true }),
        (true, false) => json!({ "excluded": [], "granted": names }),
        (false, _) => json!({ "excluded": names }),
    };
    let environment = context.environment().map_or("local", |environment| environment.as_str());
    let file = format!(
        "{{\"format\":{},\"version\":{},\"environment\":\"{environment}\",\"users\":{},\"tools\":{}}}",
        json!(omnitool_tool_access::FORMAT),
        omnitool_tool_access::VERSION,
        json!(names),
        json!({ &tool.name: facts }),
    );
    // An exclusion is lifted by a sync only, within the scope of these users and this tool.
    let mode = if assertion.has { " --mode sync --confirm" } else { "" };
    let import = context.command(&format!("import-tool-access --source /dev/stdin{mode}"));
    format!("printf %s {} | {import}", shell_word(&file))
}
