//! The report as annotations of a GitHub Actions run.

use std::fmt::{self, Display};

use super::{CheckReport, Outcome, Report, text};
use crate::Severity;

impl Report {
    /// Workflow commands, one annotation per finding, and a line for each check that passed.
    #[must_use]
    pub fn github(&self) -> String {
        Annotations(self).to_string()
    }
}

struct Annotations<'a>(&'a Report);

impl Display for Annotations<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { summary, elapsed, checks, .. } = self.0;
        for check in checks {
            write_check(f, check)?;
        }
        writeln!(f, "{summary}{elapsed}")
    }
}

fn write_check(f: &mut fmt::Formatter<'_>, check: &CheckReport) -> fmt::Result {
    let CheckReport { number, name, outcome, message, findings, elapsed, repair, .. } = check;
    writeln!(f, "{} {number} {name}{elapsed}", text::label(*outcome))?;
    let title = property(&format!("{number} {name}"));
    if *outcome == Outcome::CouldNotRun {
        let body = format!("could not run: {message}\nrepair: {repair}");
        return writeln!(f, "::error title={title}::{}", data(&body));
    }
    for finding in findings {
        let command = match finding.severity {
            Severity::Warning => "warning",
            Severity::Critical => "error",
        };
        let mut body = String::new();
        text::write_finding(&mut body, finding, "")?;
        f.write_str("::")?;
        writeln!(f, "{command} title={title}::{}", data(body.trim_end()))?;
    }
    Ok(())
}

/// Escapes a command's text, as the runner unescapes it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property, which also ends at a colon or a comma.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
