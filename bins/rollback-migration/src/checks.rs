//! The checks of `verify-migration`, on the staged backup before anything is replaced.

// The same question to the same app: `verify-migration` asks it about the live database.
#[path = "../../verify-migration/src/app.rs"]
mod app;

use omnitool_backup::{Kind, Target};
use omnitool_cli::Failure;
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_tool_registry::Definitions;
use omnitool_verification::{
    CheckReport, Depth, Detail, Expectations, Finding, Outcome, Report, Selection, Status, Subject,
    default_access_tests, verify_against,
};

/// What compares the database with this build: a backup of an earlier release differs there as it should.
const OF_THIS_RELEASE: [&str; 5] =
    ["schema-version", "tool-definitions", "default-tools", "application", "access-assertions"];

/// The checks of one rollback.
pub(crate) struct Checks {
    environment: EnvironmentName,
    definitions: Definitions,
    belongs_to: Release,
}

/// Which release the backup belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    /// As far as anybody knows, this one.
    This,
    /// One that served before this one was deployed.
    Earlier,
    /// One whose schema lacks some of this build's migrations, so that not every check can be run.
    OlderSchema,
}

impl Checks {
    pub(crate) fn new(environment: EnvironmentName, target: &Target) -> Result<Self, Failure> {
        let belongs_to = if target.pending_migrations > 0 {
            Release::OlderSchema
        } else if target.kind == Some(Kind::BeforeDeploy) {
            Release::Earlier
        } else {
            Release::This
        };
        let definitions = Definitions::shipped()?;
        Ok(Self { environment, definitions, belongs_to })
    }

    /// Runs all checks on the staged copy.
    pub(crate) fn run(&self, staged: &DatabaseUrl) -> Report {
        let subject = Subject {
            database_url: staged,
            environment: Some(self.environment),
            definitions: &self.definitions,
            definitions_file: None,
            app: &|| app::ask(staged, Some(self.environment)),
            depth: Depth::TrustConstraints,
        };
        // What must be so after every deployment must be so after a rollback.
        let expected =
            Expectations { access_tests: default_access_tests(), ..Expectations::default() };
        verify_against(&subject, &expected, &Selection::all())
    }

    /// What must not be restored, if anything.
    pub(crate) fn problem(&self, report: &Report) -> Option<String> {
        let problems: Vec<String> = report
            .checks
            .iter()
            .filter(|check| stops(check, self.belongs_to))
            .map(|check| format!("{}: {}", check.name, says(check)))
            .collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// What they came to, for people.
    pub(crate) fn text(&self, report: &Report) -> String {
        let mut text = String::from("Checks of the backup:\n");
        if report.checks.iter().all(|check| check.outcome == Outcome::Passed) {
            text = format!("Checks of the backup: {}\n", report.summary);
        } else {
            text += &report.text(Detail::Brief);
        }
        if self.belongs_to != Release::This && report.status == Status::Failed {
            text += "What compares the backup with this build does not count: it belongs to an earlier release.\n";
        }
        text
    }
}

/// What a check found, on one line; the report has all of it.
fn says(check: &CheckReport) -> String {
    let mut parts = vec![check.message.clone()];
    for Finding { message, rows, .. } in &check.findings {
        if *message != check.message {
            parts.push(message.clone());
        }
        parts.extend(rows.iter().take(3).filter(|row| !check.message.contains(*row)).cloned());
    }
    parts.join(", ")
}

/// Whether a rollback must not go on.
fn stops(check: &CheckReport, belongs_to: Release) -> bool {
    let compares = OF_THIS_RELEASE.contains(&check.id);
    match (check.outcome, belongs_to) {
        (Outcome::Passed | Outcome::Warned, _) => false,
        // What it reads is not there yet; that the file itself is whole was checked before.
        (Outcome::CouldNotRun, Release::OlderSchema) => false,
        (Outcome::Failed | Outcome::CouldNotRun, Release::This) => true,
        (Outcome::Failed | Outcome::CouldNotRun, Release::Earlier | Release::OlderSchema) => {
            !compares
        }
    }
}
