//! Child processes: output line by line, a deadline, and an orderly end when somebody wants to stop.

use std::{
    io::{self, BufRead, BufReader, Read},
    process::{Child, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::{CommandLine, Stream, Watch};

/// How many lines of stderr an error quotes.
const TAIL: usize = 12;
/// Ctrl-C on a terminal reaches the child, too; it gets this long to end by itself before it is told again.
const GRACE: Duration = Duration::from_secs(2);
/// How long a child may take after SIGTERM before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(10);

/// Why a command has no exit status to look at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunCommandError {
    /// The program cannot be executed.
    #[error("cannot start `{command}`")]
    Start {
        /// The command, without secrets.
        command: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The operating system lost track of the child.
    #[error("cannot wait for `{command}`")]
    Wait {
        /// The command, without secrets.
        command: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// It took too long and was stopped.
    #[error("`{command}` did not end within {} seconds and was stopped", .limit.as_secs())]
    TimedOut {
        /// The command, without secrets.
        command: String,
        /// How long it could have taken.
        limit: Duration,
    },
    /// Somebody wanted to stop; the child has ended.
    #[error("interrupted during `{command}`")]
    Interrupted {
        /// The command, without secrets.
        command: String,
    },
}

/// What becomes of a child's stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// Each line goes to the watcher.
    Report,
    /// It is the result: kept, and shown to nobody, since it may hold passwords.
    Keep,
}

/// A child that ended by itself.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// With [`Stdout::Report`], only its last line that says something, without secrets.
    pub(crate) stdout: Vec<u8>,
    /// The last lines of stderr.
    pub(crate) stderr_tail: Vec<String>,
}

/// Runs `command` to its end.
pub(crate) fn run(
    command: &CommandLine,
    stdout: Stdout,
    limit: Option<Duration>,
    watch: &mut Watch<'_>,
) -> Result<Finished, RunCommandError> {
    let spawn = || {
        let mut process = command.to_process();
        process.stdin(watch.stdin()?).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let mut child = spawn().map_err(|source| RunCommandError::Start {
        command: command.without_variables(),
        source,
    })?;
    let lines = read_lines(&mut child);
    let mut running =
        Running { command, child, limit, started: Instant::now(), stopping: None, status: None };
    let mut kept = Vec::new();
    let mut tail: Vec<String> = Vec::new();
    let mut ended: Option<Instant> = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(10)) {
            Ok((Stream::Stdout, line)) if stdout == Stdout::Keep => kept.extend(line),
            Ok((stream, line)) => {
                let text = String::from_utf8_lossy(&line);
                let text = command.redact(text.trim_end_matches(['\n', '\r']));
                watch.line(stream, &text);
                if stream == Stream::Stderr {
                    if tail.len() == TAIL {
                        tail.remove(0);
                    }
                    tail.push(text);
                } else if !text.trim().is_empty() {
                    kept = text.into_bytes();
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        running.poll(watch)?;
        if running.status.is_some() {
            // A grandchild may hold the pipes open for ever; what the child wrote is read by then.
            let since = *ended.get_or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_secs(1) {
                break;
            }
        }
    }
    let status = running.wait(watch)?;
    Ok(Finished { status, stdout: kept, stderr_tail: tail })
}

/// A child on its way to its end.
struct Running<'a> {
    command: &'a CommandLine,
    child: Child,
    limit: Option<Duration>,
    started: Instant,
    stopping: Option<Stopping>,
    status: Option<ExitStatus>,
}

struct Stopping {
    why: Why,
    since: Instant,
    told: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Interrupted,
    TimedOut(Duration),
}

impl Running<'_> {
    /// Looks at the child once, and tells it to end where it should.
    fn poll(&mut self, watch: &Watch<'_>) -> Result<(), RunCommandError> {
        if self.status.is_some() {
            return Ok(());
        }
        self.status = self.child.try_wait().map_err(|source| RunCommandError::Wait {
            command: self.command.without_variables(),
            source,
        })?;
        if self.status.is_some() {
            return Ok(());
        }
        if self.stopping.is_none() {
            let why = match self.limit {
                _ if watch.is_interrupted() => Some(Why::Interrupted),
                Some(limit) if self.started.elapsed() > limit => Some(Why::TimedOut(limit)),
                _ => None,
            };
            self.stopping = why.map(|why| Stopping { why, since: Instant::now(), told: None });
        }
        if let Some(stopping) = &mut self.stopping {
            match stopping.told {
                None if stopping.why != Why::Interrupted || stopping.since.elapsed() > GRACE => {
                    signal(self.child.id(), Signal::TERM);
                    stopping.told = Some(Instant::now());
                }
                // Killing a child that has just ended is no error worth reporting.
                Some(told) if told.elapsed() > TERM_GRACE => {
                    let _ = self.child.kill();
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn wait(mut self, watch: &Watch<'_>) -> Result<ExitStatus, RunCommandError> {
        loop {
            self.poll(watch)?;
            let Some(status) = self.status else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let command = || self.command.without_variables();
            return match self.stopping {
                Some(Stopping { why: Why::TimedOut(limit), .. }) => {
                    Err(RunCommandError::TimedOut { command: command(), limit })
                }
                _ if !status.success() && is_interrupted_soon(watch) => {
                    Err(RunCommandError::Interrupted { command: command() })
                }
                _ => Ok(status),
            };
        }
    }
}

/// Whether whoever is at the terminal wants it to stop. A child gets Ctrl-C, too, and may have ended of it before the thread
/// of this process that waits for signals was given its turn.
fn is_interrupted_soon(watch: &Watch<'_>) -> bool {
    (0..20).any(|round| {
        if round > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        watch.is_interrupted()
    })
}

/// Sends `signal` to process `pid`, and says whether there was one.
pub(crate) fn signal(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

fn read_lines(child: &mut Child) -> mpsc::Receiver<(Stream, Vec<u8>)> {
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        read_stream(Stream::Stdout, stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read_stream(Stream::Stderr, stderr, sender);
    }
    lines
}

fn read_stream(
    stream: Stream,
    source: impl Read + Send + 'static,
    sender: mpsc::Sender<(Stream, Vec<u8>)>,
) {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        loop {
            let mut line = Vec::new();
            match source.read_until(b'\n', &mut line) {
                Ok(1..) if sender.send((stream, line)).is_ok() => {}
                _ => return,
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::Variable;

    fn shell(script: &str) -> CommandLine {
        CommandLine::new("sh", "/").arguments(["-c", script])
    }

    fn run_shell(
        command: &CommandLine,
        stdout: Stdout,
        limit: Option<Duration>,
        interrupted: &dyn Fn() -> bool,
    ) -> (Result<Finished, RunCommandError>, Vec<String>) {
        let lines = RefCell::new(Vec::new());
        let mut take = |_: Stream, line: &str| lines.borrow_mut().push(line.to_owned());
        let result = run(command, stdout, limit, &mut Watch::new(interrupted, &mut take));
        (result, lines.into_inner())
    }

    #[test]
    fn output_is_reported_by_line_and_secrets_are_replaced() {
        let command = shell("echo one; echo \"two $SECRET\"; exit 3")
            .variables([Variable::secret("SECRET", "hunter2")]);
        let (result, lines) = run_shell(&command, Stdout::Report, None, &|| false);
        assert_eq!(result.unwrap().status.code(), Some(3));
        assert_eq!(lines, ["one", "two ***"]);
    }

    #[test]
    fn a_kept_stdout_is_not_reported() {
        let command = shell("echo secret; echo log >&2");
        let (result, lines) = run_shell(&command, Stdout::Keep, None, &|| false);
        let finished = result.unwrap();
        assert_eq!(finished.stdout, b"secret\n");
        assert_eq!(lines, ["log"]);
        assert_eq!(finished.stderr_tail, ["log"]);
    }

    #[test]
    fn a_child_that_takes_too_long_is_stopped() {
        let limit = Some(Duration::from_millis(50));
        let (result, _) = run_shell(&shell("exec sleep 60"), Stdout::Keep, limit, &|| false);
        assert!(matches!(result, Err(RunCommandError::TimedOut { .. })));
    }

    #[test]
    fn ctrl_c_counts_also_where_the_child_was_quicker_to_end_of_it() {
        let asked = Cell::new(0);
        let ended = Cell::new(false);
        let mut take = |_: Stream, _: &str| ended.set(true);
        // It is noticed some time after the child, which is ending, has said its last word.
        let interrupted = || {
            asked.set(if ended.get() { asked.get() + 1 } else { 0 });
            asked.get() > 10
        };
        let command = shell("echo over >&2; exit 1");
        let result = run(&command, Stdout::Keep, None, &mut Watch::new(&interrupted, &mut take));
        assert!(matches!(result, Err(RunCommandError::Interrupted { .. })));
    }

    #[test]
    fn an_interrupted_child_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ended");
        let command = shell(&format!(
            "trap 'touch {0}; exit 1' TERM; echo up >&2; while :; do sleep 0.05; done",
            file.display()
        ));
        let up = Cell::new(false);
        let mut take = |_: Stream, _: &str| up.set(true);
        let interrupted = || up.get();
        let result = run(&command, Stdout::Keep, None, &mut Watch::new(&interrupted, &mut take));
        assert!(matches!(result, Err(RunCommandError::Interrupted { .. })));
        assert!(file.exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let command = CommandLine::new("/nowhere/program", "/");
        let (result, _) = run_shell(&command, Stdout::Keep, None, &|| false);
        insta::assert_snapshot!(result.unwrap_err(), @"cannot start `/nowhere/program`");
    }
}
