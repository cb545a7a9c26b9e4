//! What a running action reports to, and how it learns that it should stop.

use std::{fs::File, io, process::Stdio};

use serde::{Deserialize, Serialize};

/// Where a line of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The result.
    Stdout,
    /// Logs, hints and progress.
    Stderr,
}

/// Given to everything that takes time: it takes the output, line by line, and says whether somebody wants to stop.
pub struct Watch<'a> {
    interrupted: &'a dyn Fn() -> bool,
    line: &'a mut dyn FnMut(Stream, &str),
    lock: Option<&'a File>,
}

impl<'a> Watch<'a> {
    /// Asks `interrupted` whether to stop, and gives each line of output to `line`.
    pub fn new(interrupted: &'a dyn Fn() -> bool, line: &'a mut dyn FnMut(Stream, &str)) -> Self {
        Self { interrupted, line, lock: None }
    }

    /// The same, for programs that hold `lock` as long as they run.
    pub(crate) fn locking<'b>(&'b mut self, lock: Option<&'b File>) -> Watch<'b> {
        Watch { interrupted: self.interrupted, line: self.line, lock }
    }

    /// What a program has for its standard input: nothing to read. What goes on after this process has been killed keeps the
    /// lock by it.
    pub(crate) fn stdin(&self) -> io::Result<Stdio> {
        self.lock.map_or_else(|| Ok(Stdio::null()), |lock| lock.try_clone().map(Stdio::from))
    }

    /// Whether somebody wants to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        (self.interrupted)()
    }

    /// Asks whether somebody wants to stop; for what holds this watch already.
    pub(crate) fn interrupted(&self) -> &'a dyn Fn() -> bool {
        self.interrupted
    }

    /// Takes one line of output.
    pub fn line(&mut self, stream: Stream, line: &str) {
        (self.line)(stream, line);
    }
}
