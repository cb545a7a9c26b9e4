//! What the checks came to.

mod github;
mod junit;
mod text;

use std::{fmt, time::Duration};

use omnitool_environment::EnvironmentName;
use serde::{Serialize, Serializer};

pub use self::text::Detail;
use crate::{CHECKS, Check, Severity, Subject, check::Verdict};

/// How many of a finding's rows are named.
pub(crate) const SHOWN_ROWS: usize = 10;

/// What a run of the checks came to. `Serialize` is the JSON form; there is a method for each other form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The result in one line, such as `12 checks: 11 passed, 1 warning`.
    pub summary: String,
    /// Whether the deployment may go on.
    pub status: Status,
    /// The environment that was asked for, else the one that the database is stamped as.
    pub environment: Option<EnvironmentName>,
    /// The database, without its password.
    pub database: String,
    /// How long all of it took.
    #[serde(rename = "elapsed_ms", skip_serializing_if = "Elapsed::is_hidden")]
    pub elapsed: Elapsed,
    /// How many connections shared the checks; hidden with the times, since a busy server gives fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// Every check that was selected, in order.
    pub checks: Vec<CheckReport>,
    /// The ids of the checks that were not selected.
    pub not_selected: Vec<&'static str>,
}

/// Whether the deployment may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every check passed, or only warned.
    Passed,
    /// A critical check failed, or a check could not be run.
    Failed,
}

/// What one check came to.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Its stable name.
    pub id: &'static str,
    /// Its number.
    pub number: u8,
    /// Its name for people.
    pub name: &'static str,
    /// The worst that its findings can be.
    pub severity: Severity,
    /// What is known when it passes.
    pub proves: &'static str,
    /// How what it finds is repaired.
    pub repair: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen, or why it could not be run, in one line.
    pub message: String,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// How long it took.
    #[serde(rename = "elapsed_ms", skip_serializing_if = "Elapsed::is_hidden")]
    pub elapsed: Elapsed,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What it proves is so.
    Passed,
    /// There is something worth a look.
    Warned,
    /// There is something that stops the deployment.
    Failed,
    /// Nothing is known, which stops the deployment, too.
    CouldNotRun,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in one line.
    pub message: String,
    /// How many rows it is about; 0 where it is about none in particular.
    pub count: u64,
    /// The first ten of them.
    pub rows: Vec<String>,
    /// The command that repairs it.
    pub repair: Option<String>,
}

/// A time that was taken. Hidden where two reports with the same findings have to be the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(Option<Duration>);

impl Report {
    pub(crate) fn new(
        subject: &Subject,
        stamped: Option<EnvironmentName>,
        checks: Vec<CheckReport>,
        connections: usize,
        elapsed: Duration,
    ) -> Self {
        let not_selected = CHECKS
            .iter()
            .map(|check| check.id)
            .filter(|id| !checks.iter().any(|check| check.id == *id))
            .collect();
        Self {
            summary: summary(&checks),
            status: if checks.iter().any(|check| check.outcome.stops()) {
                Status::Failed
            } else {
                Status::Passed
            },
            environment: subject.environment.or(stamped),
            database: subject.database_url.to_string(),
            elapsed: Elapsed::of(elapsed),
            connections: Some(connections),
            checks,
            not_selected,
        }
    }

    /// The report without times, which is the same whenever the findings are.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        self.elapsed = Elapsed(None);
        self.connections = None;
        for check in &mut self.checks {
            check.elapsed = Elapsed(None);
        }
        self
    }
}

fn summary(checks: &[CheckReport]) -> String {
    let of = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    let warned = of(Outcome::Warned);
    let parts: Vec<String> = [
        (of(Outcome::Passed), "passed"),
        (warned, if warned == 1 { "warning" } else { "warnings" }),
        (of(Outcome::Failed), "failed"),
        (of(Outcome::CouldNotRun), "could not run"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{number} {what}"))
    .collect();
    let checked = if checks.len() == CHECKS.len() {
        format!("{} checks", CHECKS.len())
    } else {
        format!("{} of {} checks", checks.len(), CHECKS.len())
    };
    format!("{checked}: {}", parts.join(", "))
}

impl CheckReport {
    /// A check that was run; the worst finding decides.
    pub(crate) fn ran(check: &'static Check, verdict: Verdict, elapsed: Duration) -> Self {
        let Verdict { message, findings } = verdict;
        let outcome = match findings.iter().map(|finding| finding.severity).max() {
            None => Outcome::Passed,
            Some(Severity::Warning) => Outcome::Warned,
            Some(Severity::Critical) => Outcome::Failed,
        };
        Self { findings, ..Self::new(check, outcome, &message, elapsed) }
    }

    /// A check that failed in a way that has no rows.
    pub(crate) fn failed(check: &'static Check, why: &str, elapsed: Duration) -> Self {
        let findings = vec![Finding::critical(why).repair(check.repair)];
        Self { findings, ..Self::new(check, Outcome::Failed, why, elapsed) }
    }

    pub(crate) fn could_not_run(check: &'static Check, why: &str, elapsed: Duration) -> Self {
        Self::new(check, Outcome::CouldNotRun, why, elapsed)
    }

    fn new(check: &'static Check, outcome: Outcome, message: &str, elapsed: Duration) -> Self {
        let Check { id, number, name, severity, proves, repair, body: _ } = *check;
        Self {
            id,
            number,
            name,
            severity,
            proves,
            repair,
            outcome,
            message: one_line(message),
            findings: Vec::new(),
            elapsed: Elapsed::of(elapsed),
        }
    }
}

impl Outcome {
    const fn stops(self) -> bool {
        match self {
            Self::Passed | Self::Warned => false,
            Self::Failed | Self::CouldNotRun => true,
        }
    }
}

impl Finding {
    pub(crate) fn critical(message: impl AsRef<str>) -> Self {
        Self::new(Severity::Critical, message.as_ref())
    }

    pub(crate) fn warning(message: impl AsRef<str>) -> Self {
        Self::new(Severity::Warning, message.as_ref())
    }

    fn new(severity: Severity, message: &str) -> Self {
        Self { severity, message: one_line(message), count: 0, rows: Vec::new(), repair: None }
    }

    /// What all of them are, in one line.
    pub(crate) fn summary(findings: &[Self]) -> String {
        let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        messages.join("; ")
    }

    /// Names all rows that it is about; the first ten are kept.
    pub(crate) fn rows(self, mut rows: Vec<String>) -> Self {
        let count = rows.len() as u64;
        rows.truncate(SHOWN_ROWS);
        self.first_rows(rows.iter().map(|row| one_line(row)).collect(), count)
    }

    /// Names the first of `count` rows.
    pub(crate) fn first_rows(mut self, rows: Vec<String>, count: u64) -> Self {
        self.rows = rows;
        self.count = count;
        self
    }

    pub(crate) fn repair(mut self, command: impl Into<String>) -> Self {
        self.repair = Some(command.into());
        self
    }

    /// How many rows are not named.
    fn unnamed(&self) -> u64 {
        self.count.saturating_sub(self.rows.len() as u64)
    }
}

impl Elapsed {
    pub(crate) const fn of(duration: Duration) -> Self {
        Self(Some(duration))
    }

    const fn is_hidden(&self) -> bool {
        self.0.is_none()
    }

    /// The time, unless it is hidden.
    #[must_use]
    pub const fn duration(self) -> Option<Duration> {
        self.0
    }
}

/// ` (0.4 ms)`, or nothing where the time is hidden.
impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) if time < Duration::from_secs(1) => {
                write!(f, " ({:.1} ms)", time.as_secs_f64() * 1000.0)
            }
            Some(time) => write!(f, " ({:.1} s)", time.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// Milliseconds, to the microsecond.
impl Serialize for Elapsed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_precision_loss, reason = "no run takes centuries")]
        let milliseconds = |time: Duration| time.as_micros() as f64 / 1000.0;
        self.0.map(milliseconds).serialize(serializer)
    }
}

/// `1 row`, `2 rows`.
pub(crate) fn quantity(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Text from the database or from elsewhere without characters that would break out of its line or its terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
