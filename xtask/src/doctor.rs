//! `cargo xtask doctor`: what is missing or wrong before a deployment finds out, each with its repair.
//!
//! It only looks. What is on Heroku is looked at with `--platform heroku`.

mod heroku;
mod machine;
mod workflows;

use anstyle::{AnsiColor, Style};
use clap::Args;
use omnitool_cli::{Failure, Format, Outcome, PlatformArgs, print, print_json};
use omnitool_environment::{EnvironmentName, Platform};
use serde::Serialize;

use crate::project::Project;

/// The flags of `doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    platform: PlatformArgs,

    /// Look at this environment's app only [default: staging and production]
    #[arg(long, env = "OMNITOOL_ENV", value_name = "ENV")]
    env: Option<EnvironmentName>,

    /// How to print the findings
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl DoctorArgs {
    pub(crate) const fn format(&self) -> Format {
        self.format
    }
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, such as `git`, or `stack` of an app.
    check: String,
    outcome: State,
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// As it should be.
    Good,
    /// Deployments work, and something else may not.
    Warning,
    /// Deployments do not work, or do harm.
    Problem,
}

impl Finding {
    pub(crate) fn good(check: impl Into<String>, message: impl Into<String>) -> Self {
        let (check, message) = (check.into(), message.into());
        Self { check, outcome: State::Good, message, repair: None }
    }

    pub(crate) fn warning(
        check: impl Into<String>,
        message: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        let repair = Some(repair.into());
        Self { outcome: State::Warning, repair, ..Self::good(check, message) }
    }

    pub(crate) fn problem(
        check: impl Into<String>,
        message: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        let repair = Some(repair.into());
        Self { outcome: State::Problem, repair, ..Self::good(check, message) }
    }

    fn text(&self) -> String {
        const GOOD: Style = AnsiColor::Green.on_default().bold();
        const WARNING: Style = AnsiColor::Yellow.on_default().bold();
        const PROBLEM: Style = AnsiColor::Red.on_default().bold();
        let Self { check, outcome, message, repair } = self;
        let (style, mark) = match outcome {
            State::Good => (GOOD, "[OK]"),
            State::Warning => (WARNING, "[WARN]"),
            State::Problem => (PROBLEM, "[FAIL]"),
        };
        let mut text = format!("{style}{mark}{style:#} {check}: {message}\n");
        if let Some(repair) = repair {
            text += &format!("       repair: {repair}\n");
        }
        text
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    summary: String,
    findings: Vec<Finding>,
}

pub(crate) fn run(project: &Project, args: &DoctorArgs) -> Result<Outcome, Failure> {
    let mut findings = machine::look(project);
    findings.extend(workflows::look(project.root()));
    if args.platform.platform == Platform::Heroku {
        let environments = match args.env {
            Some(environment) => vec![environment],
            None => vec![EnvironmentName::Staging, EnvironmentName::Production],
        };
        findings.extend(heroku::look(project, &environments));
    }
    let count = |wanted| findings.iter().filter(|finding| finding.outcome == wanted).count();
    let (problems, warnings) = (count(State::Problem), count(State::Warning));
    let summary =
        format!("{} looked at: {problems} to repair, {warnings} to know about", findings.len());
    let (status, outcome) = match problems {
        0 => ("done", Outcome::Done),
        _ => ("failed", Outcome::Failed),
    };
    match args.format {
        Format::Json => print_json(&Report { status, summary, findings })?,
        Format::Text => {
            let text: String = findings.iter().map(Finding::text).collect();
            print(&format!("{text}{summary}\n"))?;
        }
    }
    Ok(outcome)
}
