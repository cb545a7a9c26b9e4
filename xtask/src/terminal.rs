//! What a run looks like on the terminal.

use std::{io::IsTerminal as _, time::Duration};

use anstyle::{AnsiColor, Style};
use omnitool_cli::{Failure, ProgressBar, print, spinner};
use omnitool_pipeline::{
    Aftermath, Credential, Event, NextStep, Sink, Standing, StepId, StepOutcome, WriteJournalError,
};
use secrecy::ExposeSecret as _;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Prints each step when it has ended, and shows on a terminal which one is running.
pub(crate) struct Terminal {
    running: ProgressBar,
    /// Where nobody sees the running step, the lines of long steps are printed.
    prints_lines: bool,
    failed: Option<Failure>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let prints_lines = !std::io::stderr().is_terminal();
        Self { running: ProgressBar::hidden(), prints_lines, failed: None }
    }

    /// Fails where something could not be printed.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.running.finish_and_clear();
        self.failed.map_or(Ok(()), Err)
    }

    fn print(&mut self, text: &str) {
        // A run does not stop because nobody reads; whether it could be printed is told in the end.
        if let (Err(error), None) = (print(text), &self.failed) {
            self.failed = Some(error);
        }
    }
}

impl Sink for Terminal {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        match event {
            Event::StepStarted { step, .. } => self.running = spinner(step.as_str()),
            Event::StepOutput { step: step @ (StepId::Build | StepId::Tests), line, .. } => {
                if self.prints_lines {
                    self.print(&format!("{DIM}     | {line}{DIM:#}\n"));
                } else {
                    self.running.set_message(format!("{step}: {}", line.trim()));
                }
            }
            Event::StepEnded { step, outcome, duration_ms, evidence } => {
                self.running.finish_and_clear();
                let text = step_text(*step, outcome, *duration_ms, evidence);
                self.print(&text);
            }
            _ => {}
        }
        Ok(())
    }
}

fn step_text(step: StepId, outcome: &StepOutcome, duration_ms: u64, evidence: &[String]) -> String {
    let (mark, style) = match outcome {
        StepOutcome::Done => ("done", GREEN),
        StepOutcome::Warned { .. } => ("warn", YELLOW),
        StepOutcome::Skipped { .. } => ("skip", DIM),
        StepOutcome::Kept { .. } => ("kept", DIM),
        _ => ("FAIL", RED),
    };
    let time = match outcome {
        StepOutcome::Skipped { .. } | StepOutcome::Kept { .. } => "-".to_owned(),
        _ => seconds(Duration::from_millis(duration_ms)),
    };
    let mut lines: Vec<&str> = evidence.iter().map(String::as_str).collect();
    match outcome {
        StepOutcome::Warned { reason } | StepOutcome::Skipped { reason } => lines.push(reason),
        // The failure is printed at the end, with its causes and a hint.
        StepOutcome::Failed { .. } => lines.push("see below"),
        _ => {}
    }
    let mut text = String::new();
    for (index, line) in lines.iter().flat_map(|line| line.lines()).enumerate() {
        if index == 0 {
            text = format!("{style}{mark}{style:#}  {step:<14}{time:>8}  {line}\n");
        } else {
            text.push_str(&format!("{:30}{line}\n", ""));
        }
    }
    if text.is_empty() {
        text = format!("{style}{mark}{style:#}  {step:<14}{time:>8}\n");
    }
    text
}

/// A duration as people read it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A heading.
pub(crate) fn heading(text: &str) -> String {
    format!("\n{BOLD}{text}{BOLD:#}\n")
}

/// What each part of the environment is like now.
pub(crate) fn standing_text(standing: &[Standing]) -> String {
    let lines = standing.iter().map(|Standing { part, state }| format!("  {part:<10} {state}\n"));
    lines.collect()
}

/// What to do next.
pub(crate) fn next_text(next: &[NextStep]) -> String {
    let lines = next.iter().map(|NextStep { purpose, command }| {
        format!("  {:<34} {command}\n", format!("{purpose}:"))
    });
    lines.collect()
}

/// The passwords that were made in this run. They are printed here and nowhere else.
pub(crate) fn credentials_text(credentials: &[Credential]) -> String {
    if credentials.is_empty() {
        return String::new();
    }
    let mut text = heading("Demo users, with passwords that are shown only now");
    for Credential { username, password, is_admin } in credentials {
        let admin = if *is_admin { "  (admin)" } else { "" };
        text.push_str(&format!("  {username:<10} {}{admin}\n", password.expose_secret()));
    }
    text
}

/// The users that a run has made, whatever became of it.
pub(crate) fn print_credentials(aftermath: &Aftermath) -> Result<(), Failure> {
    print(&credentials_text(&aftermath.credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_a_line_and_more_evidence_is_indented() {
        let evidence = ["one".to_owned(), "two".to_owned()];
        let text = [
            step_text(StepId::Release, &StepOutcome::Done, 1234, &evidence),
            step_text(
                StepId::Refresh,
                &StepOutcome::Skipped { reason: "not asked for".to_owned() },
                0,
                &[],
            ),
            step_text(
                StepId::PruneBackups,
                &StepOutcome::Warned { reason: "stuck".to_owned() },
                60_000,
                &[],
            ),
            step_text(StepId::Smoke, &StepOutcome::Failed { error: "no".to_owned() }, 5, &[]),
        ]
        .concat();
        insta::assert_snapshot!(anstream_free(&text), @r"
        done  release          1.2 s  one
                                      two
        skip  refresh              -  not asked for
        warn  prune-backups   60.0 s  stuck
        FAIL  smoke            0.0 s  see below
        ");
    }

    /// `text` without colours.
    fn anstream_free(text: &str) -> String {
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            plain.push_str(before);
            rest = after.split_once('m').map_or("", |(_, after)| after);
        }
        plain + rest
    }
}
