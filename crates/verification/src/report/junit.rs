//! The report as JUnit XML, which CI systems show.

use std::fmt::{self, Display, Write};

use super::{CheckReport, Elapsed, Outcome, Report, text};

impl Report {
    /// JUnit XML with one test case per check. A warning is a passed case with output.
    #[must_use]
    pub fn junit(&self) -> String {
        Suite(self).to_string()
    }
}

struct Suite<'a>(&'a Report);

impl Display for Suite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { elapsed, checks, summary, .. } = self.0;
        let of = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
        let (failures, errors) = (of(Outcome::Failed), of(Outcome::CouldNotRun));
        let counts = format!(
            "tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\"{}",
            checks.len(),
            Time(*elapsed)
        );
        writeln!(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
        writeln!(f, "<testsuites name=\"verify-migration\" {counts}>")?;
        writeln!(f, "  <testsuite name=\"verify-migration\" {counts}>")?;
        for check in checks {
            write_case(f, check)?;
        }
        writeln!(f, "    <system-out>{}</system-out>", Escaped(summary))?;
        writeln!(f, "  </testsuite>")?;
        writeln!(f, "</testsuites>")
    }
}

fn write_case(f: &mut fmt::Formatter<'_>, check: &CheckReport) -> fmt::Result {
    let CheckReport { id, number, name, outcome, message, findings, elapsed, .. } = check;
    let name = format!("{number} {name}");
    write!(
        f,
        "    <testcase classname=\"verify-migration.{id}\" name=\"{}\"{}",
        Escaped(&name),
        Time(*elapsed)
    )?;
    let mut details = String::new();
    for finding in findings {
        text::write_finding(&mut details, finding, "")?;
    }
    let (message, details) = (Escaped(message), Escaped(details.trim_end()));
    match outcome {
        Outcome::Passed => writeln!(f, "/>"),
        Outcome::Warned => writeln!(f, "><system-out>{details}</system-out></testcase>"),
        Outcome::Failed => {
            writeln!(f, "><failure message=\"{message}\">{details}</failure></testcase>")
        }
        Outcome::CouldNotRun => writeln!(f, "><error message=\"{message}\"/></testcase>"),
    }
}

/// A `time` attribute in seconds, or nothing where the time is hidden.
struct Time(Elapsed);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.duration() {
            Some(time) => write!(f, " time=\"{:.6}\"", time.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// Text as XML wants it, in elements and attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\n' => f.write_str("&#10;")?,
                // XML 1.0 has no way to write these at all.
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                    f.write_char(char::REPLACEMENT_CHARACTER)?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
