//! The report as annotations of a GitHub Actions run.

use std::fmt::Write as _;

use super::{Report, TestOutcome, TestReport, text::Told};

impl Report {
    /// A line for each test, and a workflow command, which becomes an annotation, for each that failed or was warned of.
    #[must_use]
    pub fn github(&self) -> String {
        let mut text = String::new();
        let mut told = Told::new();
        for test in &self.tests {
            // Writing to a string cannot fail.
            let _ = test.write_line(&mut text);
            text.push_str(&annotation(test, &mut told));
        }
        let _ = writeln!(text, "{}", self.summary);
        text
    }
}

fn annotation<'a>(test: &'a TestReport, told: &mut Told<'a>) -> String {
    let command = match test.outcome {
        TestOutcome::Failed => "error",
        TestOutcome::Warned => "warning",
        TestOutcome::Passed | TestOutcome::Skipped => return String::new(),
    };
    let title = property(&format!("{} {}", test.number, test.name));
    let body = format!("{}\n{}", test.message, test.trouble(told));
    format!("::{command} title={title}::{}\n", data(&body))
}

/// Escapes a command's text, as the runner unescapes it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property, which also ends at a colon or a comma.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
