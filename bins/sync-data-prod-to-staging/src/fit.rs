//! What makes the copy a database of this build: tools, access, checks.

use std::path::PathBuf;

use omnitool_backup::Cause;
use omnitool_cli::Failure;
use omnitool_database::{Mode, connect};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_tool_access::{Approval, ImportRequest, Replacement, run_import};
use omnitool_tool_registry::{Definitions, Deprecation, Options, sync};
use omnitool_verification::{
    CheckReport, Depth, Expectations, Outcome, Selection, Subject, default_access_tests,
    find_check, verify_against,
};

use crate::{args::Args, failure};

/// The app is not there for the copy; `verify-migration` and the smoke tests ask it afterwards.
const NOT_ABOUT_DATA: &str = "application";

/// The committed input.
pub(crate) struct Fit {
    environment: EnvironmentName,
    definitions: Definitions,
    definitions_file: Option<PathBuf>,
    access: PathBuf,
    run_id: Option<String>,
}

impl Fit {
    pub(crate) fn new(args: &Args, environment: EnvironmentName) -> Result<Self, Failure> {
        let definitions = args
            .tools
            .as_deref()
            .map_or_else(Definitions::shipped, Definitions::load)
            .map_err(failure::of_tools)?;
        if let Err(source) = std::fs::metadata(&args.access) {
            return Err(failure::of_access(args.access.clone(), source));
        }
        Ok(Self {
            environment,
            definitions,
            definitions_file: args.tools.clone(),
            access: args.access.clone(),
            run_id: args.run_id.clone(),
        })
    }

    pub(crate) fn sync_tools(&self, copy: &DatabaseUrl) -> Result<(), Cause> {
        let (mut conn, _) = connect(copy, Some(self.environment), Mode::Write)?;
        Ok(sync(&mut conn, &self.definitions, Options::default()).map(drop)?)
    }

    /// A merge: production's facts stay, and what was excluded in development is excluded here, too.
    pub(crate) fn import_access(&self, copy: &DatabaseUrl) -> Result<(), Cause> {
        let replacement = |name: &str| {
            self.definitions.deprecated().get(name).map(|deprecation| match deprecation {
                Deprecation::RenamedTo(new) => Replacement::RenamedTo(new.clone()),
                Deprecation::Deleted => Replacement::Deleted,
            })
        };
        let (mut conn, environment) = connect(copy, Some(self.environment), Mode::Write)?;
        let request =
            ImportRequest { replacement: &replacement, ..ImportRequest::merge(&self.access) };
        run_import(&mut conn, environment, &request, self.run_id.clone(), |_| Approval::Apply)?;
        Ok(())
    }

    /// What is wrong with the database at `url`, if anything is.
    pub(crate) fn check(&self, url: &DatabaseUrl) -> Result<(), String> {
        let application = find_check(NOT_ABOUT_DATA).map_err(|error| error.to_string())?;
        let selection = Selection::new(&[], &[application]).map_err(|error| error.to_string())?;
        let subject = Subject {
            database_url: url,
            environment: Some(self.environment),
            definitions: &self.definitions,
            definitions_file: self.definitions_file.as_deref(),
            app: &|| Err("the app is not asked about a copy".into()),
            depth: Depth::ReadEverything,
        };
        let expected =
            Expectations { access_tests: default_access_tests(), ..Expectations::default() };
        let problems: Vec<String> = verify_against(&subject, &expected, &selection)
            .checks
            .iter()
            .filter_map(problem)
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }
}

fn problem(check: &CheckReport) -> Option<String> {
    match check.outcome {
        Outcome::Passed | Outcome::Warned => None,
        Outcome::Failed | Outcome::CouldNotRun => {
            let findings = check.findings.iter().map(|finding| finding.message.as_str());
            let says: Vec<&str> = [check.message.as_str()].into_iter().chain(findings).collect();
            Some(format!("{}: {}", check.name, says.join(", ")))
        }
    }
}
