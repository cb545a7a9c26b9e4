//! What GitHub Actions shows of a run: a summary in Markdown, annotations, and masks of secrets.
//!
//! The crate only makes the texts; whoever calls it knows whether this is GitHub Actions and where they go.

use crate::{
    Overview, Record, RunOutcome, StepState, Variable,
    html::title,
    overview::{duration, point_in_time},
};

/// How much of a text is shown, in characters. GitHub refuses a whole summary above 1 MiB.
const LONGEST_TEXT: usize = 1_000;
/// How many lines of evidence a step shows.
const MOST_LINES: usize = 20;

/// The run with this journal, in GitHub's Markdown, for the file that `GITHUB_STEP_SUMMARY` names.
#[must_use]
pub fn step_summary(records: &[Record]) -> String {
    let Some(run) = Overview::new(records) else { return String::new() };
    let Overview { platform, .. } = &run;
    let over = match run.replaces {
        Some(old) => format!("over release {old}"),
        None => "where nothing served".to_owned(),
    };
    let mut text = format!(
        "## {} {}: {}\n\n{over}, on the {platform} platform, by {}, began {}, took {}\n\n",
        mark_of_run(&run),
        title(&run),
        verdict(&run),
        escaped(run.user),
        point_in_time(run.started),
        duration(run.duration_ms),
    );
    if let Some((step, error)) = run.failure() {
        text.push_str(&format!("It stopped in the step **{step}**:\n\n{}", fenced("", error)));
    }
    text.push_str("| | Step | Time | What it did |\n| --- | --- | ---: | --- |\n");
    for step in &run.steps {
        let time = match step.began_ms {
            Some(_) => duration(step.duration_ms),
            None => "–".to_owned(),
        };
        let mut lines: Vec<String> =
            step.evidence.iter().flat_map(|line| line.lines()).map(escaped).collect();
        if let (StepState::Skipped | StepState::Warned, Some(note)) = (step.state, step.note) {
            lines.extend(note.lines().map(escaped));
        }
        shorten(&mut lines);
        let line = lines.join("<br>");
        text.push_str(&format!("| {} | {} | {time} | {line} |\n", mark(step.state), step.id));
    }
    let ways = run.ways_back();
    if !ways.is_empty() {
        let lines: Vec<String> =
            ways.iter().map(|(purpose, command)| format!("# {purpose}\n{command}")).collect();
        text.push_str(&format!("\n### The way back\n\n{}", fenced("sh", &lines.join("\n"))));
    }
    text.push_str(&format!("\nRun `{}`\n\n", run.run.replace('`', "")));
    text
}

/// The lines that make GitHub show what failed and what warned beside the job; empty where nothing did.
#[must_use]
pub fn annotations(records: &[Record]) -> String {
    let Some(run) = Overview::new(records) else { return String::new() };
    let what = title(&run);
    let mut text = String::new();
    for step in &run.steps {
        if let (StepState::Warned, Some(note)) = (step.state, step.note) {
            text.push_str(&command("warning", &format!("{what}: {} warns", step.id), note));
        }
    }
    if let Some((step, error)) = run.failure() {
        text.push_str(&command("error", &format!("{what}: stopped in {step}"), error));
    }
    text
}

/// The lines that make GitHub hide the values of the secrets among `variables` wherever they are printed afterwards.
///
/// These lines hold the secrets: print them only where GitHub reads them, and nowhere else.
#[must_use]
pub fn masks(variables: &[Variable]) -> String {
    let secrets = variables.iter().filter(|variable| variable.is_secret());
    let lines = secrets.flat_map(|variable| variable.expose().lines());
    let lines = lines.map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| format!("::add-mask::{}\n", data(line))).collect()
}

/// A workflow command with a title.
fn command(name: &str, title: &str, message: &str) -> String {
    let title = data(title).replace(':', "%3A").replace(',', "%2C");
    format!("::{name} title={title}::{}\n", data(&cut(message)))
}

/// `text` as the message of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn verdict(run: &Overview<'_>) -> &'static str {
    match run.outcome {
        Some(RunOutcome::Done) => "done",
        Some(RunOutcome::Warned) => "done, with warnings",
        Some(RunOutcome::Failed { .. }) => "failed",
        None => "not finished",
    }
}

fn mark_of_run(run: &Overview<'_>) -> &'static str {
    mark(match run.outcome {
        Some(RunOutcome::Done) => StepState::Done,
        Some(RunOutcome::Warned) => StepState::Warned,
        Some(RunOutcome::Failed { .. }) => StepState::Failed,
        None => StepState::Unfinished,
    })
}

const fn mark(state: StepState) -> &'static str {
    match state {
        StepState::Done => "✅",
        StepState::Warned => "⚠️",
        StepState::Failed => "❌",
        StepState::Unfinished => "⏳",
        StepState::Skipped | StepState::Kept | StepState::NotReached => "➖",
    }
}

fn shorten(lines: &mut Vec<String>) {
    let more = lines.len().saturating_sub(MOST_LINES);
    lines.truncate(MOST_LINES);
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `text` as GitHub's Markdown shows it to the letter, in one cell of a table.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in cut(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '@' | '!' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A block of code that ends where it should, whatever it holds.
fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}\n\n", cut(text).trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_annotation_is_one_line_whatever_it_says() {
        let line = command("error", "a:b,c%", "one\r\ntwo: 100%");
        assert_eq!(line, "::error title=a%3Ab%2Cc%25::one%0D%0Atwo: 100%25\n");
    }

    #[test]
    fn only_secrets_are_masked_line_by_line() {
        let variables = [
            Variable::plain("PORT", "80"),
            Variable::secret("DATABASE_URL", "postgres://u:p%40@h/d"),
            Variable::secret("KEY", "one\n\ntwo\n"),
            Variable::secret("EMPTY", ""),
        ];
        let lines = "::add-mask::postgres://u:p%2540@h/d\n::add-mask::one\n::add-mask::two\n";
        assert_eq!(masks(&variables), lines);
    }

    proptest! {
        #[test]
        fn nothing_breaks_out_of_a_cell_a_block_or_a_line(text in "[\\PC\n\r|<`\\\\*]{0,40}") {
            let cell = escaped(&text);
            prop_assert!(!cell.contains(['\n', '\r', '<']));
            prop_assert!(!cell.replace("\\\\", "").replace("\\|", "").contains('|'));
            let block = fenced("", &text);
            let fence: String = block.chars().take_while(|c| *c == '`').collect();
            prop_assert!(fence.len() > 2 && block.matches(fence.as_str()).count() == 2);
            prop_assert_eq!(command("error", &text, &text).lines().count(), 1);
        }
    }
}
