//! The app's process, supervised from one run to the next.

use std::{
    io::{self, Read as _, Seek as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use fs_err as fs;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::READY_WITHIN;
use crate::{CommandLine, Variable, Watch, file, process, program::tail_text};

/// How long an app may take to answer its last requests after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long the operating system may take to end a process that was killed.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);
/// How often a process or a port is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The app of an environment. It is there or not; there are never two.
#[derive(Debug)]
pub struct App {
    record: PathBuf,
    log: PathBuf,
}

/// What is started.
#[derive(Debug)]
pub struct AppSpec {
    /// The program `omnitool`.
    pub program: PathBuf,
    /// Where it runs.
    pub folder: PathBuf,
    /// The variables it gets.
    pub variables: Vec<Variable>,
    /// The release that it is of.
    pub release: String,
    /// Where it listens.
    pub listen: SocketAddr,
}

/// An app that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningApp {
    /// Its process.
    pub pid: u32,
    /// When the process began, so that a process that got the same id later is not mistaken for it.
    began: String,
    /// The release that it is of.
    pub release: String,
    /// Where it listens.
    pub listen: SocketAddr,
}

/// Why the app could not be looked at, stopped or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// Another program listens where the app should.
    #[error("port {} on {} is used by a program that is not ours", .listen.port(), .listen.ip())]
    PortInUse {
        /// Where the app should listen.
        listen: SocketAddr,
    },
    /// The app may not listen there.
    #[error("cannot listen on {listen}")]
    Listen {
        /// Where the app should listen.
        listen: SocketAddr,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The app's files cannot be read or written; the source names them.
    #[error("cannot keep track of the app")]
    Track(#[source] io::Error),
    /// The file that says which process is the app is damaged.
    #[error("cannot understand {file}, which says which process is the app")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The app's program cannot be executed.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The app ended before it answered.
    #[error("the app ended with {status} before it answered{}", tail_text(.log))]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The app did not answer in time, and was stopped.
    #[error("the app did not answer on {listen} within {} seconds and was stopped{}", .within.as_secs(), tail_text(.log))]
    NotReady {
        /// Where it should listen.
        listen: SocketAddr,
        /// How long it could have taken.
        within: Duration,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// Somebody wanted the run to stop before the app answered; the app was stopped.
    #[error("interrupted before the app answered")]
    Interrupted,
    /// The app does not end.
    #[error("the app (process {pid}) does not end, not even when it is killed")]
    DoesNotEnd {
        /// Its process.
        pid: u32,
    },
}

impl App {
    /// The app whose files are in the environment's `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { record: folder.join("app.json"), log: folder.join("app.log") }
    }

    /// The app's log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The app that was started by this or an earlier run, if it still runs.
    ///
    /// # Errors
    ///
    /// Fails where the file that says so cannot be read or understood.
    pub fn running(&self) -> Result<Option<RunningApp>, AppError> {
        let text = match fs::read(&self.record) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AppError::Track(error)),
        };
        let app: RunningApp = serde_json::from_slice(&text)
            .map_err(|source| AppError::Damaged { file: self.record.clone(), source })?;
        Ok(is_alive(&app).then_some(app))
    }

    /// Starts the app and returns when it answers. It goes on when the process that started it ends.
    ///
    /// # Errors
    ///
    /// Fails where it does not come up; there is no app then.
    pub fn start(&self, spec: &AppSpec, watch: &Watch<'_>) -> Result<RunningApp, AppError> {
        check_port(spec.listen)?;
        let AppSpec { program, folder: _, variables: _, release, listen } = spec;
        let start_error = |source| AppError::Start { program: program.clone(), source };
        fs::metadata(program).map_err(start_error)?;
        let (log, log_start) = self.open_log().map_err(AppError::Track)?;
        let both = log.try_clone().map_err(AppError::Track)?;
        let mut child = waiting_process(spec)
            .stdout(log)
            .stderr(both)
            // A group of its own: Ctrl-C on the terminal is for the deployment and not for the app.
            .process_group(0)
            .spawn()
            .map_err(start_error)?;
        let app = RunningApp {
            pid: child.id(),
            began: began(child.id()).unwrap_or_default(),
            release: release.clone(),
            listen: *listen,
        };
        let ready = self
            .keep_track_of(&app)
            .and_then(|()| let_go(&mut child).map_err(start_error))
            .and_then(|()| self.wait_until_ready(&mut child, *listen, log_start, watch));
        if let Err(error) = ready {
            self.end(&mut child)?;
            return Err(error);
        }
        Ok(app)
    }

    /// Waits until `app` answers, and says whether it does: not where it ends, or takes too long.
    ///
    /// # Errors
    ///
    /// Fails where somebody wants to stop.
    pub(super) fn answers(&self, app: &RunningApp, watch: &Watch<'_>) -> Result<bool, AppError> {
        let since = Instant::now();
        while is_alive(app) && since.elapsed() < READY_WITHIN {
            let answered = TcpStream::connect_timeout(&app.listen, CONNECT_WITHIN).is_ok();
            if answered {
                return Ok(is_alive(app));
            }
            if watch.is_interrupted() {
                return Err(AppError::Interrupted);
            }
            thread::sleep(POLL);
        }
        Ok(false)
    }

    /// Writes down that `app` is the app.
    pub(super) fn keep_track_of(&self, app: &RunningApp) -> Result<(), AppError> {
        file::write_json(&self.record, app).map_err(AppError::Track)
    }

    /// Stops `app`: asks it to, and kills it when it does not.
    ///
    /// # Errors
    ///
    /// Fails where it does not end.
    pub fn stop(&self, app: &RunningApp) -> Result<(), AppError> {
        for (request, within) in [(Signal::TERM, STOP_WITHIN), (Signal::KILL, KILL_WITHIN)] {
            if is_alive(app) {
                process::signal(app.pid, request);
            }
            let since = Instant::now();
            while is_alive(app) {
                if since.elapsed() > within {
                    break;
                }
                thread::sleep(POLL);
            }
        }
        if is_alive(app) {
            return Err(AppError::DoesNotEnd { pid: app.pid });
        }
        self.forget()
    }

    /// The log, and where what is written from now on begins.
    fn open_log(&self) -> io::Result<(std::fs::File, u64)> {
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let log = fs::OpenOptions::from_options(options).open(&self.log)?;
        let start = log.metadata()?.len();
        Ok((log.into_parts().0, start))
    }

    fn wait_until_ready(
        &self,
        child: &mut Child,
        listen: SocketAddr,
        log_start: u64,
        watch: &Watch<'_>,
    ) -> Result<(), AppError> {
        let since = Instant::now();
        let mut answered = false;
        loop {
            if let Some(status) = child.try_wait().map_err(AppError::Track)? {
                return Err(AppError::Died { status, log: self.log_tail(log_start) });
            }
            if answered {
                return Ok(());
            }
            answered = TcpStream::connect_timeout(&listen, CONNECT_WITHIN).is_ok();
            if answered {
                // Whether it was our app that answered is only known while it lives.
                continue;
            }
            if watch.is_interrupted() {
                return Err(AppError::Interrupted);
            }
            if since.elapsed() > READY_WITHIN {
                let log = self.log_tail(log_start);
                return Err(AppError::NotReady { listen, within: READY_WITHIN, log });
            }
            thread::sleep(POLL);
        }
    }

    /// Ends an app that did not come up.
    fn end(&self, child: &mut Child) -> Result<(), AppError> {
        process::signal(child.id(), Signal::TERM);
        let since = Instant::now();
        while child.try_wait().map_err(AppError::Track)?.is_none() {
            if since.elapsed() > STOP_WITHIN {
                child.kill().and_then(|()| child.wait()).map_err(AppError::Track)?;
                break;
            }
            thread::sleep(POLL);
        }
        self.forget()
    }

    fn forget(&self) -> Result<(), AppError> {
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AppError::Track(error)),
            _ => Ok(()),
        }
    }

    /// The last lines that were logged after `start`.
    fn log_tail(&self, start: u64) -> Vec<String> {
        const LINES: usize = 12;
        const BYTES: u64 = 16 << 10;
        let read = || {
            let mut log = fs::File::open(&self.log)?;
            let end = log.metadata()?.len();
            log.seek(io::SeekFrom::Start(start.max(end.saturating_sub(BYTES))))?;
            let mut text = Vec::new();
            log.read_to_end(&mut text)?;
            Ok::<_, io::Error>(text)
        };
        // The log is only quoted; an error without it is still an error.
        let text = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].iter().map(|&line| line.to_owned()).collect()
    }
}

/// The shell waits for a word and becomes the app, with the same process id; without the word it ends.
///
/// Should whoever starts the app be killed before it has written down which process it is, there is no app that nobody
/// knows of and that holds the port.
const WAIT: &str = r#"read -r word && exec "$0" "$@" </dev/null"#;

/// A process that becomes the app of `spec` when it is let go.
fn waiting_process(spec: &AppSpec) -> Command {
    let AppSpec { program, folder, variables, release: _, listen } = spec;
    let mut process = CommandLine::new("sh", folder)
        .arguments(["-c", WAIT])
        .variables(variables.iter().cloned())
        .to_process();
    process.arg(program).args(["serve", "--listen", &listen.to_string()]).stdin(Stdio::piped());
    process
}

fn let_go(child: &mut Child) -> io::Result<()> {
    match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(b"go\n"),
        None => Ok(()),
    }
}

/// Refuses where another program listens.
pub(super) fn check_port(listen: SocketAddr) -> Result<(), AppError> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(AppError::PortInUse { listen })
        }
        Err(source) => Err(AppError::Listen { listen, source }),
    }
}

fn is_alive(app: &RunningApp) -> bool {
    began(app.pid).is_some_and(|began| began == app.began)
}

/// When process `pid` began, in words that no other process with this id shares; nothing where it has ended.
fn began(pid: u32) -> Option<String> {
    if Path::new("/proc/self/stat").exists() { began_by_proc(pid) } else { began_by_ps(pid) }
}

fn began_by_proc(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in parentheses and may hold anything, also parentheses.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    // Fields 20 and 22; the second counts from the machine's start, so the start has to be named, too.
    let (threads, ticks) = (fields.nth(16)?, fields.nth(1)?);
    // A process whose first thread has ended still holds its port until the others have.
    if matches!(state, "Z" | "X" | "x") && matches!(threads, "0" | "1") {
        return None;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{}:{ticks}", boot.trim()))
}

/// For systems without `/proc`, such as macOS.
fn began_by_ps(pid: u32) -> Option<String> {
    let output = Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid.to_string()])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (state, began) = text.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| began.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_process_that_got_the_same_id_later_is_not_the_app() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::new(folder.path());
        let mut child = sleeping();
        let listen = "127.0.0.1:1".parse().unwrap();
        let began = began(child.id()).unwrap();
        let mut record = RunningApp { pid: child.id(), began, release: "0001".to_owned(), listen };
        file::write_json(&app.record, &record).unwrap();
        assert_eq!(app.running().unwrap(), Some(record.clone()));
        record.began.push('0');
        file::write_json(&app.record, &record).unwrap();
        assert_eq!(app.running().unwrap(), None);
        // It is not ours, so it is not stopped either.
        app.stop(&record).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn an_app_whose_starter_is_gone_before_it_was_written_down_never_starts() {
        let folder = tempfile::tempdir().unwrap();
        let started = folder.path().join("started");
        // A shell that is told to serve runs the script of that name.
        fs::write(folder.path().join("serve"), "touch started").unwrap();
        let spec = AppSpec {
            program: "/bin/sh".into(),
            folder: folder.path().to_owned(),
            variables: Vec::new(),
            release: "0001".to_owned(),
            listen: "127.0.0.1:1".parse().unwrap(),
        };
        let mut child = waiting_process(&spec).spawn().unwrap();
        drop(child.stdin.take());
        assert!(!child.wait().unwrap().success());
        assert!(!started.exists());

        let mut child = waiting_process(&spec).spawn().unwrap();
        let_go(&mut child).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(started.exists());
    }

    #[test]
    fn an_app_is_stopped_also_by_a_process_that_did_not_start_it() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::new(folder.path());
        let mut child = sleeping();
        let record = RunningApp {
            pid: child.id(),
            began: began(child.id()).unwrap(),
            release: "0001".to_owned(),
            listen: "127.0.0.1:1".parse().unwrap(),
        };
        file::write_json(&app.record, &record).unwrap();
        app.stop(&record).unwrap();
        assert_eq!(app.running().unwrap(), None);
        assert!(!app.record.exists());
        child.wait().unwrap();
        app.stop(&record).unwrap();
    }

    #[test]
    fn a_process_that_has_ended_is_dead_before_its_parent_looks() {
        let mut child = Command::new("true").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while began(child.id()).is_some() {
            assert!(Instant::now() < deadline);
            thread::sleep(POLL);
        }
        child.wait().unwrap();
    }

    #[test]
    fn both_ways_to_look_at_a_process_see_the_same() {
        let id = std::process::id();
        assert!(began_by_proc(id).is_some() || !Path::new("/proc/self/stat").exists());
        if let Some(began) = began_by_ps(id) {
            assert_eq!(began_by_ps(id), Some(began));
        }
        assert_eq!(began_by_proc(u32::MAX), None);
        assert_eq!(began_by_ps(0), None);
    }

    #[test]
    fn a_port_in_use_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listener.local_addr().unwrap();
        let error = check_port(listen).unwrap_err().to_string();
        let expected =
            format!("port {} on 127.0.0.1 is used by a program that is not ours", listen.port());
        assert_eq!(error, expected);
        drop(listener);
        check_port(listen).unwrap();
    }
}
