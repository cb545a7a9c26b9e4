//! The table of checks.

mod access;
mod application;
mod assertions;
mod backup;
mod counts;
mod drift;
mod expected;
mod schema;
mod tools;

use std::{io, path::Path};

use omnitool_database::{
    AnyConnection,
    migration::{CompareSchemaError, MigrateError},
    stamp::ReadStampError,
};
use omnitool_environment::EnvironmentName;
use omnitool_tool_access::ImportError;
use serde::Serialize;

pub(crate) use self::application::ask as ask_application;
pub use self::{
    application::{AppAnswer, AppCheck},
    backup::{FindBackup, LastBackup},
};
use crate::{Expectations, Finding, Subject, store::Counts};

/// Every check, in the order in which they run and are reported. The first eight are those of the workflow guide, with
/// its numbers and names.
pub static CHECKS: [Check; 12] = [
    Check {
        id: "database-connectivity",
        number: 1,
        name: "Database connectivity",
        severity: Severity::Critical,
        proves: "the database can be opened and answers a query",
        repair: "start the database, or correct DATABASE_URL",
        body: Body::Database(schema::connectivity),
    },
    Check {
        id: "schema-version",
        number: 2,
        name: "Schema version",
        severity: Severity::Critical,
        proves: "every migration of this build is applied, none that it does not know, and the schema is what they make",
        repair: "migrate-db, or deploy the build that the database belongs to; a difference has its own command",
        body: Body::Database(schema::version),
    },
    Check {
        id: "tool-definitions",
        number: 3,
        name: "Tool definitions match",
        severity: Severity::Critical,
        proves: "the tools are those of data/tools.toml; one that is in the database only is a warning",
        repair: "sync-tools",
        body: Body::Database(tools::definitions_match),
    },
    Check {
        id: "orphaned-tools",
        number: 4,
        name: "No orphaned tool_access (invalid tools)",
        severity: Severity::Critical,
        proves: "every grant, wildcard and exclusion names a tool that exists",
        repair: "sync-tools --prune-orphans",
        body: Body::Database(access::no_orphans_of_tools),
    },
    Check {
        id: "orphaned-users",
        number: 5,
        name: "No orphaned tool_access (invalid users)",
        severity: Severity::Critical,
        proves: "every grant and exclusion names a user who exists",
        repair: "sync-tools --prune-orphans",
        body: Body::Database(access::no_orphans_of_users),
    },
    Check {
        id: "default-tools",
        number: 6,
        name: "Default tools assigned to all users",
        severity: Severity::Warning,
        proves: "every active user has every active default tool, unless excluded from it",
        repair: "sync-tools --assign-defaults",
        body: Body::Database(access::defaults_are_assigned),
    },
    Check {
        id: "table-counts",
        number: 7,
        name: "Table counts",
        severity: Severity::Warning,
        proves: "there are users and tools",
        repair: "omnitool create-user NAME, sync-tools",
        body: Body::Database(counts::tables_have_rows),
    },
    Check {
        id: "application",
        number: 8,
        name: "Application imports correctly",
        severity: Severity::Critical,
        proves: "the app's own `omnitool check` passes: configuration, templates, database pool",
        repair: "omnitool check",
        body: Body::Application,
    },
    Check {
        id: "environment-stamp",
        number: 9,
        name: "Environment stamp",
        severity: Severity::Critical,
        proves: "the database is the one of the environment that was asked for",
        repair: "choose the right --env or DATABASE_URL; migrate-db stamps a database that has no stamp",
        body: Body::Database(schema::stamp),
    },
    Check {
        id: "expected-access",
        number: 10,
        name: "Access matches the deployed export",
        severity: Severity::Critical,
        proves: "the database has every fact of the export, and nobody whom it excludes may use the tool",
        repair: "import-tool-access --source FILE",
        body: Body::Apart(expected::access_is_as_exported),
    },
    Check {
        id: "access-assertions",
        number: 11,
        name: "Access assertions hold",
        severity: Severity::Critical,
        proves: "what data/access_tests.toml says about who may use what is so",
        repair: "import-tool-access, or correct the assertion; a finding has the command",
        body: Body::Database(assertions::hold),
    },
    Check {
        id: "rows-since-backup",
        number: 12,
        name: "No rows lost since the last backup",
        severity: Severity::Critical,
        proves: "no table has lost more than a stated share of the rows that the last backup has",
        repair: "rollback-migration",
        body: Body::Database(backup::no_rows_are_lost),
    },
];

/// One check.
#[derive(Debug)]
pub struct Check {
    /// Its stable name in flags, reports and logs.
    pub id: &'static str,
    /// Its number in the workflow guide, or the next one.
    pub number: u8,
    /// Its name for people.
    pub name: &'static str,
    /// The worst that its findings can be.
    pub severity: Severity,
    /// What is known when it passes.
    pub proves: &'static str,
    /// How what it finds is repaired; a finding has the exact command.
    pub repair: &'static str,
    pub(crate) body: Body,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look; the deployment goes on.
    Warning,
    /// The deployment must not go on.
    Critical,
}

/// What a check does.
#[derive(Debug)]
pub(crate) enum Body {
    /// Reads the database, on the snapshot that all checks share.
    Database(DatabaseCheck),
    /// Reads the database on a connection of its own, since it needs temporary tables, which are made outside of a
    /// transaction that only reads.
    Apart(DatabaseCheck),
    /// Asks the app.
    Application,
}

pub(crate) type DatabaseCheck = fn(&mut AnyConnection, &Context) -> Result<Verdict, CheckError>;

/// What the checks know besides the database's content.
pub(crate) struct Context<'a> {
    pub(crate) subject: &'a Subject<'a>,
    /// What the last checks compare with.
    pub(crate) expected: &'a Expectations<'a>,
    /// What the database says that it is, where that could be read.
    pub(crate) stamped: Option<EnvironmentName>,
    /// What several checks need to know of the same rows.
    pub(crate) counts: Counts,
}

impl Context<'_> {
    /// The environment that the caller named, else the database's stamp.
    pub(crate) fn environment(&self) -> Option<EnvironmentName> {
        self.subject.environment.or(self.stamped)
    }

    /// `sync-tools` for this environment, with the definitions that were compared.
    fn sync_tools(&self) -> String {
        match self.subject.definitions_file {
            Some(file) => self.command(&format!("sync-tools --tools {}", quoted(file))),
            None => self.command("sync-tools"),
        }
    }

    /// A command of ours for this environment.
    fn command(&self, command: &str) -> String {
        match self.environment() {
            Some(environment) => format!("{command} --env {environment}"),
            None => command.to_owned(),
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    shell_word(&path.display().to_string())
}

/// A text as a shell takes it.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// What a check that could be run came to.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// What was seen, in one line.
    pub(crate) message: String,
    /// What is not as it should be.
    pub(crate) findings: Vec<Finding>,
}

impl Verdict {
    fn passed(message: impl Into<String>) -> Self {
        Self { message: message.into(), findings: Vec::new() }
    }

    /// A verdict whose message is that of its findings.
    fn found(findings: Vec<Finding>) -> Self {
        Self { message: Finding::summary(&findings), findings }
    }
}

/// Why a check could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("the database could not be read")]
    Read(#[from] diesel::result::Error),
    #[error(transparent)]
    Migrations(#[from] MigrateError),
    #[error(transparent)]
    Stamp(#[from] ReadStampError),
    #[error("the schema could not be compared")]
    Drift(#[from] CompareSchemaError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("the environment is unknown: none was named, and the database has no stamp")]
    NoEnvironment,
    #[error("cannot read the assertions")]
    Assertions(#[source] io::Error),
    #[error("cannot read the last backup's manifest")]
    Backup(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Application(Box<dyn std::error::Error + Send + Sync>),
}

/// Which checks are run.
#[derive(Clone, Debug)]
pub struct Selection(Vec<&'static Check>);

/// There is no check of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no check `{given}` (known: {})", CHECKS.each_ref().map(|check| check.id).join(", "))]
pub struct UnknownCheckError {
    /// What was given.
    pub given: String,
}

/// Nothing would be checked, which must not look like success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no check is left to run")]
pub struct EmptySelectionError;

/// Finds a check by its id or its number.
///
/// # Errors
///
/// Fails where there is none.
pub fn find_check(given: &str) -> Result<&'static Check, UnknownCheckError> {
    CHECKS
        .iter()
        .find(|check| check.id == given || check.number.to_string() == given)
        .ok_or_else(|| UnknownCheckError { given: given.to_owned() })
}

impl Selection {
    /// Every check.
    #[must_use]
    pub fn all() -> Self {
        Self(CHECKS.iter().collect())
    }

    /// The checks of `only`, or all where it is empty, without those of `skip`.
    ///
    /// # Errors
    ///
    /// Fails where none is left.
    pub fn new(
        only: &[&'static Check],
        skip: &[&'static Check],
    ) -> Result<Self, EmptySelectionError> {
        let among = |checks: &[&Check], check: &Check| checks.iter().any(|c| c.id == check.id);
        let chosen: Vec<_> = CHECKS
            .iter()
            .filter(|check| only.is_empty() || among(only, check))
            .filter(|check| !among(skip, check))
            .collect();
        if chosen.is_empty() { Err(EmptySelectionError) } else { Ok(Self(chosen)) }
    }

    pub(crate) fn checks(&self) -> &[&'static Check] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kebab_case_and_numbers_count_up() {
        for (index, check) in CHECKS.iter().enumerate() {
            assert_eq!(usize::from(check.number), index + 1);
            assert!(check.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", check.id);
        }
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        assert_eq!(quoted(Path::new("data/tools.toml")), "data/tools.toml");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }

    #[test]
    fn a_check_is_found_by_id_and_by_number() {
        assert_eq!(find_check("table-counts").unwrap().number, 7);
        assert_eq!(find_check("7").unwrap().id, "table-counts");
        insta::assert_snapshot!(
            find_check("counts").unwrap_err(),
            @"there is no check `counts` (known: database-connectivity, schema-version, tool-definitions, orphaned-tools, orphaned-users, default-tools, table-counts, application, environment-stamp, expected-access, access-assertions, rows-since-backup)"
        );
    }

    #[test]
    fn a_selection_keeps_the_order_and_is_never_empty() {
        let check = |id| find_check(id).unwrap();
        let chosen = Selection::new(&[check("9"), check("2"), check("1")], &[check("2")]).unwrap();
        let numbers: Vec<u8> = chosen.checks().iter().map(|check| check.number).collect();
        assert_eq!(numbers, [1, 9]);
        assert_eq!(Selection::new(&[check("2")], &[check("2")]).unwrap_err(), EmptySelectionError);
    }
}
