//! `cargo xtask lint-migrations`: would a migration on PostgreSQL block the app, or break the release that still serves?

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use fs_err as fs;
use omnitool_cli::{Failure, Outcome, print};
use serde::Deserialize;

use crate::project::Project;

/// The linter, from Python's package index.
const LINTER: &str = "squawk-cli";
const VERSION: &str = "2.70.0";

/// Rules that say what we do otherwise, and where.
const NOT_OURS: [&str; 4] = [
    // Both dialects keep UTC in TIMESTAMP.
    "prefer-timestamp-tz",
    // migrate-db sets both.
    "require-lock-timeout",
    "require-statement-timeout",
    // migrate-db runs each migration in a transaction, or says what was interrupted.
    "prefer-robust-stmts",
];

/// What each check plants first: a linter that overlooks one of these has nothing to say about our migrations.
const PLANTED: [(&str, &str); 7] = [
    ("ALTER TABLE users DROP COLUMN email;", "ban-drop-column"),
    ("ALTER TABLE users ALTER COLUMN username TYPE VARCHAR(20);", "changing-column-type"),
    ("ALTER TABLE users ALTER COLUMN email SET NOT NULL;", "adding-not-nullable-field"),
    ("ALTER TABLE users RENAME COLUMN email TO mail;", "renaming-column"),
    ("CREATE INDEX users_mail ON users (email);", "require-concurrent-index-creation"),
    ("ALTER TABLE tools ADD CONSTRAINT named CHECK (name <> '');", "constraint-missing-not-valid"),
    ("DROP TABLE tools;", "ban-drop-table"),
];

#[derive(Debug, Deserialize)]
struct Violation {
    file: String,
    line: u32,
    rule_name: String,
    message: String,
}

/// `migrations/lint-exceptions.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    migration: String,
    rule: String,
    reason: String,
}

/// The linter could not be had, or did not work.
#[derive(Debug, thiserror::Error)]
enum LintError {
    #[error("cannot install {LINTER} {VERSION}: {0}")]
    Install(String),
    #[error("{LINTER} did not do its work: {0}")]
    Run(String),
    #[error("{LINTER} overlooked planted faults: {}", .0.join("; "))]
    Blind(Vec<String>),
    #[error("cannot understand what {LINTER} says")]
    Parse(#[from] serde_json::Error),
    #[error("cannot understand the exceptions in {file}")]
    Exceptions {
        file: PathBuf,
        #[source]
        source: toml::de::Error,
    },
}

/// Checks all migrations of PostgreSQL.
pub(crate) fn run(project: &Project) -> Result<Outcome, Failure> {
    let problems = check(project)?;
    for problem in &problems {
        print(&format!("{problem}\n"))?;
    }
    if problems.is_empty() {
        print("The migrations of PostgreSQL can run while the release before them serves.\n")?;
        return Ok(Outcome::Done);
    }
    print(
        "\nChange the migration; or, where no release reads or writes it any more, write the exception with its reason \
         into migrations/lint-exceptions.toml.\n",
    )?;
    Ok(Outcome::Failed)
}

/// What is wrong, line by line.
pub(crate) fn check(project: &Project) -> Result<Vec<String>, Failure> {
    let linter = provide(project)?;
    let overlooked = overlooked(&lint_planted(&linter)?);
    if !overlooked.is_empty() {
        return Err(Failure::failed(LintError::Blind(overlooked))
            .hint("see whether the rules have other names in this version"));
    }
    let migrations = project.root().join("migrations");
    let file = migrations.join("lint-exceptions.toml");
    let exceptions: Exceptions = toml::from_str(&fs::read_to_string(&file)?)
        .map_err(|source| LintError::Exceptions { file, source })?;
    let mut violations = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(migrations.join("postgres"))? {
        folders.push(entry?.path());
    }
    folders.sort();
    for folder in folders {
        violations.extend(lint(&linter, &folder)?);
    }
    Ok(problems(&violations, &exceptions))
}

/// The linter's program, installed where it is not yet.
fn provide(project: &Project) -> Result<PathBuf, Failure> {
    let folder = project.root().join(format!(".omnitool/tools/{LINTER}-{VERSION}"));
    let program = folder.join("bin/squawk");
    if program.is_file() {
        return Ok(program);
    }
    print(&format!("Installing {LINTER} {VERSION} from PyPI into {}\n", project.shown(&folder)))?;
    let hint = "install Python 3 with pip; the package comes from PyPI";
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--upgrade",
        ])
        .args(["--only-binary", ":all:", "--target"])
        .arg(&folder)
        .arg(format!("{LINTER}=={VERSION}"))
        .output()
        .map_err(|error| Failure::failed(LintError::Install(error.to_string())).hint(hint))?;
    if output.status.success() && program.is_file() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::failed(LintError::Install(said)).hint(hint))
}

fn lint(linter: &Path, folder: &Path) -> Result<Vec<Violation>, Failure> {
    let up = folder.join("up.sql");
    let mut command = Command::new(linter);
    command.args(["--reporter", "json", "--pg-version", "15.0"]);
    command.arg(format!("--exclude={}", NOT_OURS.join(",")));
    // One that has settings runs without a transaction: that is the only one there is.
    if !folder.join("metadata.toml").exists() {
        command.arg("--assume-in-transaction");
    }
    let output = command.arg(&up).output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if stdout.trim().is_empty() {
        if output.status.success() {
            return Ok(Vec::new());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::failed(LintError::Run(said)));
    }
    Ok(serde_json::from_str(&stdout).map_err(LintError::Parse)?)
}

fn lint_planted(linter: &Path) -> Result<Vec<Violation>, Failure> {
    let folder = tempfile::tempdir()?;
    let text: Vec<&str> = PLANTED.iter().map(|(statement, _)| *statement).collect();
    fs::write(folder.path().join("up.sql"), text.join("\n"))?;
    lint(linter, folder.path())
}

/// The planted faults, each on a line of its own, that nobody found.
fn overlooked(violations: &[Violation]) -> Vec<String> {
    let is_found = |number: u32, rule: &str| {
        violations.iter().any(|found| found.line == number && found.rule_name == rule)
    };
    (0..)
        .zip(PLANTED)
        .filter(|(number, (_, rule))| !is_found(*number, rule))
        .map(|(_, (statement, rule))| format!("`{statement}` ({rule})"))
        .collect()
}

/// The violations without a written reason, and the reasons without a violation.
fn problems(violations: &[Violation], exceptions: &Exceptions) -> Vec<String> {
    let mut used = BTreeSet::new();
    let mut problems = Vec::new();
    for violation in violations {
        let Violation { file, line, rule_name, message } = violation;
        let migration = Path::new(file)
            .parent()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let excepted = exceptions.exception.iter().position(|exception| {
            exception.migration == migration
                && exception.rule == *rule_name
                && !exception.reason.trim().is_empty()
        });
        match excepted {
            Some(number) => {
                used.insert(number);
            }
            // Its lines count from 0.
            None => {
                let message = message.trim_end();
                problems.push(format!("{migration}, line {}: {rule_name}: {message}", line + 1));
            }
        }
    }
    for (number, Exception { migration, rule, .. }) in exceptions.exception.iter().enumerate() {
        if !used.contains(&number) {
            problems.push(format!(
                "lint-exceptions.toml: {migration} does not violate {rule}, or the reason is empty"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation() -> Vec<Violation> {
        vec![Violation {
            file: "migrations/postgres/2026-12-01-090000_drop_it/up.sql".to_owned(),
            line: 2,
            rule_name: "ban-drop-column".to_owned(),
            message: "Dropping a column may break existing clients.".to_owned(),
        }]
    }

    fn exceptions(reason: &str) -> Exceptions {
        let text = format!(
            "[[exception]]\nmigration = \"2026-12-01-090000_drop_it\"\nrule = \"ban-drop-column\"\nreason = \"{reason}\"\n"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_violation_needs_a_written_reason() {
        let found = problems(&violation(), &Exceptions::default());
        let line = "2026-12-01-090000_drop_it, line 3: ban-drop-column: Dropping a column may break existing clients.";
        assert_eq!(found, [line]);
        assert_eq!(
            problems(&violation(), &exceptions("nothing reads it since 0.3")),
            Vec::<String>::new()
        );
        assert_eq!(problems(&violation(), &exceptions(" ")).len(), 2);
    }

    #[test]
    fn a_linter_that_overlooks_a_planted_fault_is_not_believed() {
        let mut found: Vec<Violation> = (0..)
            .zip(PLANTED)
            .map(|(line, (_, rule))| Violation {
                file: "up.sql".to_owned(),
                line,
                rule_name: rule.to_owned(),
                message: String::new(),
            })
            .collect();
        assert_eq!(overlooked(&found), Vec::<String>::new());
        found.pop();
        assert_eq!(overlooked(&found), ["`DROP TABLE tools;` (ban-drop-table)"]);
    }

    #[test]
    fn a_reason_without_a_violation_is_a_problem() {
        let found = problems(&[], &exceptions("nothing reads it since 0.3"));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
