//! The report for people.

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    time::Duration,
};

use super::{Attempt, Report, Request, Status, TestOutcome, TestReport};
use crate::text::{count, duration};

/// How many of a failed test's requests the text shows; JSON has them all.
const SHOWN_REQUESTS: usize = 3;

/// The requests that were shown already: method, address, and when the first attempt began.
pub(super) type Told<'a> = BTreeSet<(&'static str, &'a str, Option<u64>)>;

/// What stands before the lines below a test's own.
const INDENT: &str = "       ";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Smoke tests of {}", self.url)?;
        if self.startup.attempts.len() > 1 {
            writeln!(f, "Waited for the app: {}", attempts(&self.startup.attempts))?;
        }
        writeln!(f)?;
        let mut told = Told::new();
        for test in &self.tests {
            test.write_line(f)?;
            // Where no test was run, all of them have the same reason, which is told once.
            if !self.is_unrun() {
                test.write_trouble(f, &mut told)?;
            }
        }
        if self.is_unrun() {
            writeln!(f)?;
            self.startup.write_answer(f)?;
            if let Some(next) = self.tests.iter().find_map(|test| test.next) {
                writeln!(f, "{INDENT}next:     {next}")?;
            }
        }
        let closing = match self.status {
            Status::Passed => "All smoke tests passed",
            Status::Failed => "Smoke tests FAILED",
        };
        writeln!(f, "\n{closing}: {}", self.summary)
    }
}

impl TestReport {
    /// Writes the test's line.
    pub(super) fn write_line(&self, f: &mut dyn Write) -> fmt::Result {
        let Self { number, name, outcome, kind, message, duration_ms, .. } = self;
        let mark = match outcome {
            TestOutcome::Passed => "PASS",
            TestOutcome::Warned => "WARN",
            TestOutcome::Failed => "FAIL",
            TestOutcome::Skipped => "SKIP",
        };
        let time = duration(Duration::from_millis(*duration_ms));
        let kind = kind.map(|kind| format!("{kind}: ")).unwrap_or_default();
        writeln!(f, "[{mark}] {number} {name:<21} {time:>8}  {kind}{message}")
    }

    /// What to know about a test that failed or was warned of; see [`Self::write_trouble`].
    pub(super) fn trouble<'a>(&'a self, told: &mut Told<'a>) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_trouble(&mut text, told);
        let lines: Vec<&str> =
            text.lines().map(|line| line.strip_prefix(INDENT).unwrap_or(line)).collect();
        lines.join("\n")
    }

    /// Writes the answers in trouble; those in `told` stand further up already.
    pub(super) fn write_trouble<'a>(
        &'a self,
        f: &mut dyn Write,
        told: &mut Told<'a>,
    ) -> fmt::Result {
        let Some(next) = self.next else { return Ok(()) };
        let (troubled, fine): (Vec<&Request>, Vec<&Request>) =
            self.requests.iter().partition(|request| request.has_trouble());
        // Where no request failed, the content did, of which the first is an example.
        let shown = if troubled.is_empty() { fine } else { troubled };
        for request in shown.iter().take(SHOWN_REQUESTS) {
            let begun = request.attempts.first().map(|attempt| attempt.at_ms);
            if told.insert((request.method, &request.url, begun)) {
                request.write_answer(f)?;
            } else {
                writeln!(f, "{INDENT}request:  {} {} (see above)", request.method, request.url)?;
            }
        }
        if shown.len() > SHOWN_REQUESTS {
            let more = count(shown.len() - SHOWN_REQUESTS, "more request");
            writeln!(f, "{INDENT}… and {more}")?;
        }
        writeln!(f, "{INDENT}next:     {next}")
    }
}

impl Request {
    fn write_answer(&self, f: &mut dyn Write) -> fmt::Result {
        writeln!(f, "{INDENT}request:  {} {}", self.method, self.url)?;
        for redirect in &self.redirects {
            writeln!(f, "{INDENT}sent to:  {redirect}")?;
        }
        writeln!(f, "{INDENT}attempts: {}", attempts(&self.attempts))?;
        for (name, value) in &self.headers {
            writeln!(f, "{INDENT}header:   {name}: {value}")?;
        }
        for line in self.body.iter().flat_map(|body| body.lines()) {
            writeln!(f, "{INDENT}| {line}")?;
        }
        Ok(())
    }
}

/// The attempts in one line: equal ones that follow each other are told once.
fn attempts(attempts: &[Attempt]) -> String {
    let runs: Vec<String> = attempts
        .chunk_by(|one, next| one.outcome == next.outcome)
        .map(|run| match run {
            [] => String::new(),
            [one] => one.outcome.clone(),
            [first, .., last] => {
                let from = duration(Duration::from_millis(first.at_ms));
                let until = duration(Duration::from_millis(last.at_ms));
                format!("{} ({} times, from {from} to {until})", first.outcome, run.len())
            }
        })
        .collect();
    runs.join(", then ")
}
