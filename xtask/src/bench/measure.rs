//! Times whole processes.

use std::{
    fmt::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use omnitool_cli::Failure;

/// The times of the same command, run several times.
#[derive(Clone, Debug)]
pub(super) struct Samples(Vec<Duration>);

/// One line of a table.
#[derive(Debug)]
pub(super) struct Row {
    name: String,
    ours: Samples,
    raw: Option<Samples>,
}

impl Samples {
    /// Runs what `prepare` returns `runs` times, and once before to warm the caches. Preparing is not timed.
    ///
    /// # Errors
    ///
    /// Fails where the command cannot be started or fails, since the time of a failure says nothing.
    pub(super) fn of(
        runs: usize,
        mut prepare: impl FnMut() -> Result<Command, Failure>,
    ) -> Result<Self, Failure> {
        let mut times = Vec::with_capacity(runs);
        for round in 0..=runs {
            let time = run_once(prepare()?)?;
            if round > 0 {
                times.push(time);
            }
        }
        times.sort_unstable();
        Ok(Self(times))
    }

    fn minimum(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }
}

impl Row {
    pub(super) fn new(name: impl Into<String>, ours: Samples, raw: Option<Samples>) -> Self {
        Self { name: name.into(), ours, raw }
    }
}

/// Runs `command` and returns how long it took.
///
/// # Errors
///
/// Fails where it cannot be started or fails.
pub(super) fn run_once(mut command: Command) -> Result<Duration, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command.output()?;
    let time = started.elapsed();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let program = command.get_program().display();
        return Err(Failure::failed(format!("{program} failed: {}", text.trim())));
    }
    Ok(time)
}

/// A Markdown table, so that it can stand in the documentation as it was printed.
pub(super) fn render(title: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "\n| {title} | ours, ms (median, minimum) | raw, ms | ratio |\n| --- | --- | --- | --- |\n"
    );
    for Row { name, ours, raw } in rows {
        let (raw, ratio) = raw.as_ref().map_or(("–".to_owned(), "–".to_owned()), |raw| {
            let ratio = ours.median().as_secs_f64() / raw.median().as_secs_f64();
            (milliseconds(raw.median()), format!("{ratio:.2}"))
        });
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {} ({}) | {raw} | {ratio} |",
            milliseconds(ours.median()),
            milliseconds(ours.minimum()),
        );
    }
    text
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_median_minimum_and_the_ratio_to_the_raw_limit() {
        let samples = |times: [u64; 3]| Samples(times.map(Duration::from_millis).to_vec());
        let rows = [
            Row::new("export", samples([4, 6, 9]), Some(samples([2, 3, 5]))),
            Row::new("verify", samples([1, 2, 3]), None),
        ];
        insta::assert_snapshot!(render("SQLite", &rows).trim_start(), @r"
        | SQLite | ours, ms (median, minimum) | raw, ms | ratio |
        | --- | --- | --- | --- |
        | export | 6.0 (4.0) | 3.0 | 2.00 |
        | verify | 2.0 (1.0) | – | – |
        ");
    }

    #[test]
    fn a_command_that_fails_is_no_measurement() {
        let failure = Samples::of(1, || Ok(Command::new("false"))).unwrap_err();
        assert!(failure.render().contains("false failed"), "{}", failure.render());
    }
}
