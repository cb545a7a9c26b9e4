//! The report for people.

use std::fmt::{self, Display};

use super::{CheckReport, Finding, Outcome, Report};
use crate::Severity;

/// The checks whose message is shown although they passed: the numbers of check 7 are what people look for, and 10 to 12
/// pass also where they had nothing to compare with.
const SAY_WHAT_THEY_SAW: [u8; 4] = [7, 10, 11, 12];

/// How much of the report is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// One line per check, and what was found.
    #[default]
    Brief,
    /// What each check proves and what it saw, too.
    Verbose,
}

impl Report {
    /// The text for people.
    #[must_use]
    pub fn text(&self, detail: Detail) -> String {
        Text { report: self, detail }.to_string()
    }
}

struct Text<'a> {
    report: &'a Report,
    detail: Detail,
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { summary, environment, database, elapsed, checks, not_selected, .. } =
            self.report;
        if self.detail == Detail::Verbose {
            writeln!(f, "Database: {database}")?;
            if let Some(environment) = environment {
                writeln!(f, "Environment: {environment}")?;
            }
        }
        for check in checks {
            write_check(f, check, self.detail)?;
        }
        if self.detail == Detail::Verbose && !not_selected.is_empty() {
            writeln!(f, "Not selected: {}", not_selected.join(", "))?;
        }
        writeln!(f, "{summary}{elapsed}")
    }
}

/// The outcome as it begins a line.
pub(super) const fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "[PASS]",
        Outcome::Warned => "[WARN]",
        Outcome::Failed | Outcome::CouldNotRun => "[FAIL]",
    }
}

pub(super) fn write_check(
    f: &mut impl fmt::Write,
    check: &CheckReport,
    detail: Detail,
) -> fmt::Result {
    let CheckReport { number, name, outcome, message, findings, elapsed, proves, .. } = check;
    writeln!(f, "{} {number} {name}{elapsed}", label(*outcome))?;
    if detail == Detail::Verbose {
        writeln!(f, "       proves: {proves}")?;
    }
    match outcome {
        Outcome::CouldNotRun => writeln!(f, "       could not run: {message}")?,
        // Where the findings say the same, once is enough.
        _ if Finding::summary(findings) == *message => {}
        Outcome::Passed if detail == Detail::Brief && !SAY_WHAT_THEY_SAW.contains(number) => {}
        _ => writeln!(f, "       {message}")?,
    }
    for finding in findings {
        write_finding(f, finding, "       ")?;
    }
    Ok(())
}

pub(super) fn write_finding(
    f: &mut impl fmt::Write,
    finding: &Finding,
    indent: &str,
) -> fmt::Result {
    let Finding { severity, message, count: _, rows, repair } = finding;
    let prefix = match severity {
        Severity::Warning => "warning: ",
        Severity::Critical => "",
    };
    let colon = if rows.is_empty() { "" } else { ":" };
    writeln!(f, "{indent}{prefix}{message}{colon}")?;
    for row in rows {
        writeln!(f, "{indent}  - {row}")?;
    }
    if finding.unnamed() > 0 {
        writeln!(f, "{indent}  … and {} more", finding.unnamed())?;
    }
    if let Some(repair) = repair {
        writeln!(f, "{indent}repair: {repair}")?;
    }
    Ok(())
}
