//! A program's `main`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use crate::{Failure, Format, Outcome, logging};

/// The arguments of a program.
pub trait Program: Parser {
    /// How the caller wants the result, so that a failure is printed the same way.
    fn format(&self) -> Format;

    /// What to log where `RUST_LOG` does not say it: warnings and errors, unless the log is what the program is watched by.
    fn log_level(&self) -> LevelFilter {
        LevelFilter::WARN
    }
}

/// Parses the arguments, starts the logs, runs, and says how it ended.
///
/// A failure is printed to stderr, and with `--format json` also to stdout as one JSON document.
pub fn run<P: Program>(body: impl FnOnce(P) -> Result<Outcome, Failure>) -> ExitCode {
    let arguments = P::parse();
    let format = arguments.format();
    logging::start(arguments.log_level());
    match body(arguments) {
        Ok(outcome) => outcome.into(),
        Err(failure) => {
            let mut stderr = anstream::stderr();
            // Nothing is left to tell where stderr is closed.
            let _ = stderr.write_all(failure.render().as_bytes());
            if format == Format::Json {
                let _ = print_json(&failure);
            }
            failure.exit_code()
        }
    }
}

/// Prints `text` to stdout and flushes it. A reader that went away (`… | head`) is no error.
///
/// # Errors
///
/// Fails where stdout cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(error).hint("stdout could not be written"))
        }
        _ => Ok(()),
    }
}

/// Prints `value` to stdout as indented JSON and a newline.
///
/// # Errors
///
/// Fails where the value cannot be serialized or stdout cannot be written.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}
