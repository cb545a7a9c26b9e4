//! Check 10: access is as the deployed export says.

use std::{
    io::{self, Write},
    path::Path,
};

use omnitool_database::AnyConnection;
use omnitool_tool_access::{
    Fact, FactKind, ImportPlan, ImportRequest, Replacement, plan_import, save_import_plan,
};
use omnitool_tool_registry::{Definitions, Resolution};

use super::{CheckError, Context, Verdict, quoted};
use crate::{
    Finding,
    report::{SHOWN_ROWS, one_line, quantity},
    store,
};

/// How many missing exclusions are looked at one by one.
const MOST_EXCLUSIONS: usize = 10_000;

pub(super) fn access_is_as_exported(
    conn: &mut AnyConnection,
    context: &Context,
) -> Result<Verdict, CheckError> {
    let Some(file) = context.expected.access_export else {
        return Ok(Verdict::passed("not asked for: no export was given"));
    };
    let environment = context.environment().ok_or(CheckError::NoEnvironment)?;
    let replacement = |name: &str| replacement(context.subject.definitions, name);
    let request = ImportRequest { replacement: &replacement, ..ImportRequest::merge(file) };
    let plan = plan_import(conn, environment, &request)?;
    // A pipe is read only once: then the facts are counted and not named.
    let is_repeatable = std::fs::metadata(file).is_ok_and(|found| found.is_file());
    let missing = if plan.additions.is_empty() && !plan.is_empty() && is_repeatable {
        // More than the plan lists: it is written again, and only what is needed is kept of it.
        let mut missing = Missing::default();
        save_import_plan(conn, environment, &request, &mut missing)?;
        missing
    } else {
        plan.additions.iter().cloned().fold(Missing::default(), Missing::with)
    };
    let mut findings = still_let_in(conn, &plan, &missing, context)?;
    findings.extend(lacking(&plan, missing, context));
    findings.extend(beyond(&plan, context));
    findings.extend(waiting(&plan, context));
    if findings.is_empty() {
        return Ok(Verdict::passed(message(&plan)));
    }
    Ok(Verdict::found(findings))
}

fn replacement(definitions: &Definitions, name: &str) -> Option<Replacement> {
    match definitions.resolve(name) {
        Resolution::Renamed(new) => Some(Replacement::RenamedTo(new.to_owned())),
        Resolution::Deleted => Some(Replacement::Deleted),
        Resolution::Defined | Resolution::Unknown => None,
    }
}

fn message(plan: &ImportPlan) -> String {
    let mut text = format!("{} of {} are there", facts(plan.present), plan.source.display());
    if plan.unknown_user_count > 0 {
        let skipped = facts(plan.skipped.unknown_users);
        let users = quantity(plan.unknown_user_count, "user");
        text += &format!("; {skipped} about {users} who do not exist here were not looked at");
    }
    text
}

/// Users whom the file excludes and who may use the tool all the same.
fn still_let_in(
    conn: &mut AnyConnection,
    plan: &ImportPlan,
    missing: &Missing,
    context: &Context,
) -> Result<Vec<Finding>, CheckError> {
    let mut findings = Vec::new();
    let let_in = store::find_effective(conn, &missing.exclusions)?;
    if !let_in.is_empty() {
        let seen = missing.exclusions.len() as u64;
        let at_least = if plan.added.exclusions > seen { "at least " } else { "" };
        let users = quantity(let_in.len() as u64, "user");
        let what = format!("{at_least}{users} with a tool from which the export excludes them");
        let count = let_in.len() as u64;
        let rows = let_in.into_iter().take(SHOWN_ROWS);
        let rows = rows.map(|(user, tool)| format!("{}: {}", one_line(&tool), one_line(&user)));
        findings.push(
            Finding::critical(what)
                .first_rows(rows.collect(), count)
                .repair(import(&plan.source, context)),
        );
    }
    let without_effect = store::count_effective_exclusions(conn)?;
    if without_effect > 0 {
        let what =
            format!("{} without effect in this database", quantity(without_effect, "exclusion"));
        findings.push(
            Finding::critical(what)
                .repair(context.command("verify-migration --only schema-version")),
        );
    }
    Ok(findings)
}

/// Facts of the file that the database lacks.
fn lacking(plan: &ImportPlan, missing: Missing, context: &Context) -> Option<Finding> {
    let count = plan.added.total();
    (count > 0).then(|| {
        let what = format!("{} of the export missing", facts(count));
        Finding::critical(what)
            .first_rows(missing.first, count)
            .repair(import(&plan.source, context))
    })
}

/// Facts of the database in the file's scope that the file has not.
fn beyond(plan: &ImportPlan, context: &Context) -> Option<Finding> {
    let count = plan.contradiction_count;
    (count > 0).then(|| {
        let rows = plan.contradictions.iter().take(SHOWN_ROWS);
        let rows = rows.map(|contradiction| one_line(&contradiction.fact.to_string())).collect();
        let repair = match plan.contradictions.as_slice() {
            [only] => only.command.clone(),
            _ => format!("{} --mode sync --confirm", import(&plan.source, context)),
        };
        let what = format!("{} that the export, which speaks for it, has not", facts(count));
        Finding::warning(what).first_rows(rows, count).repair(repair)
    })
}

/// Exclusions of users who do not exist here: nothing keeps out whoever gets such a name before the next import.
fn waiting(plan: &ImportPlan, context: &Context) -> Option<Finding> {
    let count = plan.unknown_exclusion_count;
    (count > 0).then(|| {
        let rows = plan.unknown_exclusions.iter().take(SHOWN_ROWS);
        let what = format!("{} of users who do not exist here", quantity(count, "exclusion"));
        Finding::warning(what)
            .first_rows(rows.map(|fact| one_line(&fact.to_string())).collect(), count)
            .repair(format!("once they are created: {}", import(&plan.source, context)))
    })
}

fn import(file: &Path, context: &Context) -> String {
    context.command(&format!("import-tool-access --source {}", quoted(file)))
}

fn facts(count: u64) -> String {
    quantity(count, "fact")
}

/// What is kept of the facts that the database lacks, however many there are.
#[derive(Debug, Default)]
struct Missing {
    /// The first of them, for people.
    first: Vec<String>,
    /// Users and the tools that they must not use.
    exclusions: Vec<(String, String)>,
    /// What a saved plan has begun to say in a line.
    line: Vec<u8>,
}

impl Missing {
    fn with(mut self, fact: Fact) -> Self {
        if self.first.len() < SHOWN_ROWS {
            self.first.push(one_line(&fact.to_string()));
        }
        if let Fact { tool, user: Some(user), fact: FactKind::Exclusion } = fact
            && self.exclusions.len() < MOST_EXCLUSIONS
        {
            self.exclusions.push((user, tool));
        }
        self
    }

    /// Reads a line of a saved plan: a change stands in a line of its own.
    fn see(&mut self) {
        let line = self.line.trim_ascii();
        let line = line.strip_suffix(b",").unwrap_or(line);
        let change: Result<(String, String, String), _> = serde_json::from_slice(line);
        self.line.clear();
        let Ok((change, user, tool)) = change else { return };
        let kind = match change.as_str() {
            "grant" => FactKind::Grant,
            "exclude" => FactKind::Exclusion,
            "grant-everyone" => FactKind::Wildcard,
            _ => return,
        };
        let user = (kind != FactKind::Wildcard).then_some(user);
        *self = std::mem::take(self).with(Fact { tool, user, fact: kind });
    }
}

/// Reads a plan while it is saved.
impl Write for Missing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.see();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
