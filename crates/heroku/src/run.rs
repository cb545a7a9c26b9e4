//! One-off dynos: a command's output as it comes, and its exit status for sure or not at all.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    Dyno, Heroku, HerokuError,
    call::{Api, Call},
    rendezvous::{Console, Found, Marker},
};

/// A command that is to be run once.
#[derive(Clone, Debug)]
pub struct OneOff<'a> {
    /// The program and its arguments. They are quoted here: no shell sees them otherwise.
    pub arguments: &'a [&'a str],
    /// Variables besides the app's. They are visible in Heroku's dashboard while it runs: no secrets.
    pub variables: &'a [(&'a str, &'a str)],
    /// The dyno's size, where it is not the app's.
    pub size: Option<&'a str>,
    /// How long it may run. Heroku ends it then, too.
    pub limit: Duration,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum RunOutcome {
    /// With this status.
    Exited(i32),
    /// Nobody can tell: it may have done all, some or nothing, and may still run.
    Unknown {
        /// The dyno.
        dyno: String,
        /// What is known.
        why: String,
    },
}

impl RunOutcome {
    /// Whether it certainly ended well.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }
}

/// How long the log is asked for an exit status that the console did not show.
const LOG_PATIENCE: Duration = Duration::from_secs(20);

impl Heroku {
    /// Runs a command in a dyno of its own. `see` gets its output as it comes, without the marker.
    ///
    /// # Errors
    ///
    /// Fails where the dyno could not be started. Where it was and its end is not known, that is
    /// [`RunOutcome::Unknown`], which must be treated as a failure.
    pub fn run(
        &self,
        app: &str,
        command: &OneOff<'_>,
        see: &mut dyn FnMut(&[u8]),
    ) -> Result<RunOutcome, HerokuError> {
        self.run_until(app, command, see, &|| false)
    }

    /// As [`run`](Self::run); the dyno is stopped once `stop` says so.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_until(
        &self,
        app: &str,
        command: &OneOff<'_>,
        see: &mut dyn FnMut(&[u8]),
        stop: &dyn Fn() -> bool,
    ) -> Result<RunOutcome, HerokuError> {
        let started = Instant::now();
        let marker = Marker::random();
        let dyno = self.start(app, command, &marker)?;
        let broken = match self.watch(&dyno, command.limit, &marker, see, stop) {
            Ok(Found::Status(status)) => return Ok(RunOutcome::Exited(status)),
            Ok(Found::End) => "the console closed without an exit status".to_owned(),
            Ok(found @ (Found::Timeout | Found::NotUp | Found::Stopped)) => {
                self.stop_dyno(app, &dyno.name)?;
                let seconds = |limit: Duration| limit.as_secs();
                match found {
                    Found::NotUp => {
                        let start = seconds(self.pace().dyno_start);
                        format!("it did not come up within {start} s and was stopped")
                    }
                    Found::Stopped => "it was interrupted and stopped".to_owned(),
                    _ => {
                        let limit = seconds(command.limit);
                        format!("it ran for more than {limit} s and was stopped")
                    }
                }
            }
            Err(error) => match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        };
        self.ask_the_log(app, &dyno, started, command.limit, broken)
    }

    /// Starts the dyno. Where the answer is lost, it is known by the marker in its command.
    fn start(&self, app: &str, command: &OneOff<'_>, marker: &Marker) -> Result<Dyno, HerokuError> {
        let quoted = shlex::try_join(command.arguments.iter().copied()).map_err(|_| {
            HerokuError::Unusable {
                what: "an argument with a NUL byte".to_owned(),
                kind: "argument",
            }
        })?;
        let line = marker.wrap(&quoted);
        let mut variables = serde_json::Map::new();
        variables.insert("TERM".to_owned(), json!("dumb"));
        for (name, value) in command.variables {
            variables.insert((*name).to_owned(), json!(value));
        }
        let mut body = json!({
            "attach": true,
            "command": line,
            "env": variables,
            "force_no_tty": true,
            "type": "run",
            "time_to_live": command.limit.as_secs().clamp(60, 86_400),
        });
        if let Some(size) = command.size {
            body["size"] = json!(size);
        }
        let call = Call::new(Api::Platform, "POST", &["apps", app, "dynos"]).json(&body);
        let mut conflicts = 0;
        loop {
            let created = self.create(&call, &mut || {
                Ok(self.dynos(app)?.into_iter().find(|dyno| marker.is_in(&dyno.command)))
            });
            match created {
                // The release may be so new that the runtime does not know it yet.
                Err(HerokuError::Refused { status: 409, .. }) if conflicts < 3 => {
                    conflicts += 1;
                    std::thread::sleep(self.pace().release_interval);
                }
                done => return done,
            }
        }
    }

    fn watch(
        &self,
        dyno: &Dyno,
        limit: Duration,
        marker: &Marker,
        see: &mut dyn FnMut(&[u8]),
        stop: &dyn Fn() -> bool,
    ) -> Result<Found, HerokuError> {
        let Some(url) = &dyno.attach_url else {
            return Err(HerokuError::Unusable {
                what: format!("{} without a console", dyno.name),
                kind: "attached dyno",
            });
        };
        let mut console = Console::open(url, &self.settings.roots, limit)?;
        console.read(marker, self.pace().dyno_start, see, stop).map_err(HerokuError::Rendezvous)
    }

    /// The log may know what the console did not show.
    fn ask_the_log(
        &self,
        app: &str,
        dyno: &Dyno,
        started: Instant,
        limit: Duration,
        why: String,
    ) -> Result<RunOutcome, HerokuError> {
        let patience = LOG_PATIENCE.min(self.pace().settle * 2);
        let mut since_end: Option<Instant> = None;
        loop {
            if let Some(status) = self.exit_status_in_log(app, dyno)? {
                return Ok(RunOutcome::Exited(status));
            }
            let is_running = self.dyno(app, &dyno.name)?.is_some();
            let ended = match (is_running, since_end) {
                (true, _) => None,
                (false, Some(when)) => Some(when),
                (false, None) => Some(Instant::now()),
            };
            since_end = ended;
            let gave_up = match ended {
                Some(when) => when.elapsed() > patience,
                None => started.elapsed() > limit + patience,
            };
            if gave_up {
                let state = if is_running { "it still runs" } else { "it has ended" };
                let why = format!("{why}; {state}, and its log has no exit status");
                return Ok(RunOutcome::Unknown { dyno: dyno.name.clone(), why });
            }
            std::thread::sleep(self.pace().release_interval);
        }
    }
}
