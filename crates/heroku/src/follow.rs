//! Following a release phase or a build: its output as it comes, until it has ended.

use std::{
    io::Read as _,
    thread,
    time::{Duration, Instant},
};

use crate::{Heroku, HerokuError, Secret};

/// How long one reading of an output may take. It is read again from where it broke off.
const READING: Duration = Duration::from_secs(20);

/// Who is told of something that is waited for.
pub struct Follow<'a> {
    /// Gets each line that it prints.
    pub see: &'a mut dyn FnMut(&str),
    /// Says whether nobody waits any longer. What was waited for goes on.
    pub stop: &'a dyn Fn() -> bool,
}

impl Heroku {
    /// Looks until `look` says that it is no longer pending, and passes on what is printed until then. Where nobody waits
    /// any longer, it is returned as it is.
    pub(crate) fn follow<T>(
        &self,
        what: &str,
        limit: Duration,
        follow: Follow<'_>,
        mut look: impl FnMut() -> Result<(Option<Secret>, bool, T), HerokuError>,
    ) -> Result<T, HerokuError> {
        let started = Instant::now();
        let interval = self.pace().release_interval;
        let mut lines = Lines { seen: 0, partial: Vec::new(), see: follow.see };
        loop {
            let (output, is_pending, found) = look()?;
            if let Some(url) = output {
                self.read_output(&url, &mut lines);
            }
            if !is_pending || (follow.stop)() {
                lines.end();
                return Ok(found);
            }
            if started.elapsed() + interval > limit {
                return Err(HerokuError::Deadline {
                    what: what.to_owned(),
                    waited: started.elapsed(),
                    last: "pending".to_owned(),
                });
            }
            thread::sleep(interval);
        }
    }

    /// Passes on what is new. An output that has not begun, or cannot be read, says nothing about what prints it.
    fn read_output(&self, url: &Secret, lines: &mut Lines<'_>) {
        let sent =
            self.agent.get(url.expose()).config().timeout_global(Some(READING)).build().call();
        let Ok(response) = sent else { return };
        if response.status() != 200 {
            return;
        }
        let mut reader = response.into_body().into_reader();
        let mut skip = lines.seen;
        let mut buffer = vec![0; 1 << 14];
        while let Ok(length) = reader.read(&mut buffer) {
            if length == 0 {
                return;
            }
            let known = skip.min(length);
            skip -= known;
            lines.take(&buffer[known..length]);
        }
    }
}

/// Makes lines of an output that comes in pieces.
struct Lines<'a> {
    seen: usize,
    partial: Vec<u8>,
    see: &'a mut dyn FnMut(&str),
}

impl Lines<'_> {
    fn take(&mut self, piece: &[u8]) {
        self.seen += piece.len();
        self.partial.extend_from_slice(piece);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            (self.see)(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        }
    }

    fn end(&mut self) {
        if !self.partial.is_empty() {
            (self.see)(&String::from_utf8_lossy(&self.partial));
            self.partial.clear();
        }
    }
}
