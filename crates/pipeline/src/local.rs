//! The local platform: releases in numbered folders, and one supervised process on this machine.

mod app;
mod config;
mod releases;

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use omnitool_environment::{DatabaseUrl, EnvironmentName};

pub use self::app::{App, AppError, AppSpec, RunningApp};
use self::{config::Config, releases::Releases};
use crate::{
    Activation, Artifact, ConfigChange, DatabaseState, HerokuWay, Home, Platform, PlatformError,
    ProgramCall, ProgramOutput, ReleaseId, RunProgramError, Serving, Site, Situation,
    UnpackArtifactError, Variable, Watch, chain::chain, program::run_program,
};

/// An environment on this machine.
#[derive(Debug)]
pub struct LocalPlatform {
    app: App,
    config: Config,
    releases: Releases,
    database_url: DatabaseUrl,
    listen: SocketAddr,
    /// The variables that were set in this run, so that the secret ones among them are known.
    variables: Vec<Variable>,
}

/// Why the local platform did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalPlatformError {
    /// The site is one of another platform.
    #[error("{environment} is on another platform, not on this machine")]
    NotHere {
        /// The environment.
        environment: EnvironmentName,
    },
    /// The base URL is not one that a process on this machine can answer at.
    #[error("no app on this machine can answer at {base_url}: {reason}")]
    Listen {
        /// The base URL.
        base_url: String,
        /// Why not.
        reason: String,
    },
    /// The app could not be looked at, stopped or started.
    #[error(transparent)]
    App(#[from] AppError),
    /// The old app did not end, or the new one did not come up.
    #[error("release {release} does not serve; {recovery}")]
    NotServing {
        /// The new release.
        release: ReleaseId,
        /// What serves instead.
        recovery: Recovery,
        /// Why.
        #[source]
        source: Box<Self>,
    },
    /// The artifact could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackArtifactError),
    /// The release is there already, made from something else.
    #[error("release {release} is there already, from another artifact{}", found_text(.found.as_ref()))]
    OtherArtifact {
        /// The release.
        release: ReleaseId,
        /// The SHA-256 of the artifact that it is from, where it says so.
        found: Option<String>,
    },
    /// Something else is where the link to the current release should be.
    #[error("{link} is not a link to a release")]
    NotALink {
        /// Where the link should be.
        link: PathBuf,
    },
    /// A file or folder of the platform cannot be read or written; the source names it.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// A file of the platform is damaged.
    #[error("cannot understand {file}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

fn found_text(found: Option<&String>) -> String {
    found.map(|sha256| format!(" ({sha256})")).unwrap_or_default()
}

/// What serves after a release's app did not come up.
#[derive(Debug)]
#[non_exhaustive]
pub enum Recovery {
    /// Nothing served before either.
    NothingServed,
    /// The release that served before serves again.
    Restored(String),
    /// The release that served before did not come up again.
    NotRestored {
        /// That release.
        release: String,
        /// Why.
        error: String,
    },
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingServed => f.write_str("nothing served before it, so nothing serves now"),
            Self::Restored(release) => write!(f, "release {release} serves again"),
            Self::NotRestored { release, error } => {
                write!(f, "and release {release}, which served before, did not either ({error})")
            }
        }
    }
}

impl LocalPlatform {
    /// The platform of `site`, which keeps everything in `.omnitool/ENVIRONMENT` of the project. Nothing is made yet.
    ///
    /// # Errors
    ///
    /// Fails where the site, or its base URL, is not one of this machine.
    pub fn new(site: &Site) -> Result<Self, LocalPlatformError> {
        let Home::Local { database_url } = &site.home else {
            return Err(LocalPlatformError::NotHere { environment: site.environment });
        };
        let folder = Self::folder(&site.root, site);
        Ok(Self {
            listen: listen_address(site)?,
            app: App::new(&folder),
            config: Config::new(&folder),
            releases: Releases::new(&folder),
            database_url: database_url.clone(),
            variables: Vec::new(),
        })
    }

    /// Where an environment keeps its releases, its log and its journals.
    #[must_use]
    pub fn folder(root: &Path, site: &Site) -> PathBuf {
        root.join(".omnitool").join(site.environment.as_str())
    }

    /// Where the app listens.
    #[must_use]
    pub const fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The app, whichever release it is of.
    #[must_use]
    pub const fn app(&self) -> &App {
        &self.app
    }

    /// The variables for a process of the release `name`.
    fn process_variables(&self, name: &str) -> Result<Vec<Variable>, LocalPlatformError> {
        let mut variables = self.variables.clone();
        for (name, value) in self.config.load()? {
            // What somebody else has added may be secret.
            if !variables.iter().any(|variable| variable.name() == name) {
                variables.push(Variable::secret(&name, value));
            }
        }
        variables.push(Variable::plain("OMNITOOL_RELEASE", name));
        Ok(variables)
    }

    fn start(
        &self,
        release: &str,
        listen: SocketAddr,
        watch: &Watch<'_>,
    ) -> Result<RunningApp, LocalPlatformError> {
        let folder = self.releases.folder_named(release);
        let spec = AppSpec {
            program: folder.join("bin/omnitool"),
            folder,
            variables: self.process_variables(release)?,
            release: release.to_owned(),
            listen,
        };
        Ok(self.app.start(&spec, watch)?)
    }

    /// Puts back what served before `release`, which does not serve because of `error`.
    fn restore(
        &self,
        release: ReleaseId,
        before: &Before,
        error: LocalPlatformError,
    ) -> LocalPlatformError {
        let Before { current, app } = before;
        let mut trouble = self.releases.switch(*current).err().map(|error| chain(&error));
        // An app that could not be stopped serves still.
        let stopped = !matches!(self.app.running(), Ok(Some(_)));
        if let (Some((old, listen)), true) = (app, stopped) {
            // Whoever wants this run to stop does not want the app that served to stop.
            let mut ignore = |_, _: &str| {};
            let started = self.start(old, *listen, &Watch::new(&|| false, &mut ignore));
            trouble = trouble.or(started.err().map(|error| chain(&error)));
        }
        let recovery = match (app, trouble) {
            (None, None) => Recovery::NothingServed,
            (None, Some(error)) => {
                let release = current.map_or_else(|| "(none)".to_owned(), |old| old.to_string());
                Recovery::NotRestored { release, error }
            }
            (Some((old, _)), None) => Recovery::Restored(old.clone()),
            (Some((old, _)), Some(error)) => Recovery::NotRestored { release: old.clone(), error },
        };
        LocalPlatformError::NotServing { release, recovery, source: Box::new(error) }
    }

    /// What to put back should `release` not come up.
    fn before(
        &self,
        release: ReleaseId,
        old: Option<&RunningApp>,
    ) -> Result<Before, LocalPlatformError> {
        let current = self.releases.current()?;
        if current != Some(release) {
            let app = old.map(|old| (old.release.clone(), old.listen));
            return Ok(Before { current, app });
        }
        // A run that died had switched already, and perhaps stopped the app that served until then.
        let current = self.releases.before(release);
        let app = match old {
            Some(old) if old.release != release.to_string() => {
                Some((old.release.clone(), old.listen))
            }
            _ => current.map(|current| (current.to_string(), self.listen)),
        };
        Ok(Before { current, app })
    }

    /// Whether the app of `release` serves already, as after a run that died before it could say so.
    fn serves(
        &self,
        release: ReleaseId,
        app: Option<&RunningApp>,
        watch: &Watch<'_>,
    ) -> Result<bool, LocalPlatformError> {
        let Some(app) = app else { return Ok(false) };
        let same = app.release == release.to_string()
            && app.listen == self.listen
            && self.releases.current()? == Some(release);
        Ok(same && self.app.answers(app, watch)?)
    }
}

impl Platform for LocalPlatform {
    fn look(&self) -> Result<Situation, PlatformError> {
        let running = self.app.running().map_err(LocalPlatformError::from)?;
        // A run that could not switch the link in the end would be in vain.
        self.releases.current()?;
        // Our own app has the port; only a port that is free or somebody else's needs a look.
        if running.as_ref().is_none_or(|app| app.listen != self.listen) {
            app::check_port(self.listen).map_err(LocalPlatformError::from)?;
        }
        let database = match self.database_url.sqlite_path() {
            Some(path) if !path.exists() => DatabaseState::Missing,
            _ => DatabaseState::Present,
        };
        Ok(Situation {
            serving: running.and_then(|app| app.release.parse().ok()),
            newest: self.releases.list()?.last().copied(),
            database,
            heroku: None,
        })
    }

    fn set_config(
        &mut self,
        variables: &[Variable],
        _: &mut Watch<'_>,
    ) -> Result<ConfigChange, PlatformError> {
        let change = self.config.set(variables)?;
        self.variables = variables.to_vec();
        Ok(change)
    }

    fn install(
        &mut self,
        release: ReleaseId,
        artifact: &Artifact,
        _: HerokuWay,
    ) -> Result<String, PlatformError> {
        self.releases.install(release, artifact)?;
        Ok(format!("release {release} unpacked"))
    }

    fn run_program(
        &mut self,
        release: ReleaseId,
        call: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<ProgramOutput, RunProgramError> {
        let folder = self.releases.folder_of(release);
        // A damaged file of variables was refused when they were set.
        let variables =
            self.process_variables(&release.to_string()).unwrap_or_else(|_| self.variables.clone());
        run_program(call, &folder.join("bin"), &folder, &variables, watch)
    }

    fn activate(
        &mut self,
        release: ReleaseId,
        watch: &mut Watch<'_>,
    ) -> Result<Activation, PlatformError> {
        let started = Instant::now();
        let old = self.app.running().map_err(LocalPlatformError::from)?;
        if self.serves(release, old.as_ref(), watch)? {
            return Ok(format!("release {release} serves on {} already", self.listen).into());
        }
        let before = self.before(release, old.as_ref())?;
        if old.as_ref().is_none_or(|app| app.listen != self.listen) {
            app::check_port(self.listen).map_err(LocalPlatformError::from)?;
        }
        if let Some(old) = &old {
            // A full or read-only disk has to show while the old app still serves.
            self.app.keep_track_of(old).map_err(LocalPlatformError::from)?;
        }
        self.releases.switch(Some(release))?;
        let stopped = old.as_ref().map_or(Ok(()), |old| self.app.stop(old));
        let new = stopped
            .map_err(LocalPlatformError::from)
            .and_then(|()| self.start(&release.to_string(), self.listen, watch))
            .map_err(|error| self.restore(release, &before, error))?;
        let mut text = format!(
            "release {release} serves on {} as process {}, up within {} ms",
            self.listen,
            new.pid,
            started.elapsed().as_millis()
        );
        if let Some(old) = old {
            text.push_str(&format!("; the app of release {} was stopped", old.release));
        }
        Ok(text.into())
    }

    fn remove_old_releases(&mut self, keep: usize) -> Result<Vec<ReleaseId>, PlatformError> {
        Ok(self.releases.remove_old(keep)?)
    }

    fn previous(&self) -> Result<Option<ReleaseId>, PlatformError> {
        let current = self.releases.current()?;
        let before = current.and_then(|current| self.releases.before(current));
        Ok(before.filter(|before| self.releases.folder_of(*before).is_dir()))
    }

    fn serving(&self) -> Serving {
        let running = self.app.running();
        running.map_or(Serving::Unknown, |app| app.and_then(|app| app.release.parse().ok()).into())
    }
}

/// What served before a switch.
#[derive(Debug)]
struct Before {
    /// The release that `current` points to.
    current: Option<ReleaseId>,
    /// The release of the app, and where it listened.
    app: Option<(String, SocketAddr)>,
}

/// How long an app may take to come up. It runs no migrations, so a second is a long time.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Where the app of `site` listens.
fn listen_address(site: &Site) -> Result<SocketAddr, LocalPlatformError> {
    let url = &site.base_url;
    let refuse = |reason: String| LocalPlatformError::Listen { base_url: url.to_string(), reason };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(refuse("it names no host and port".to_owned()));
    };
    if url.scheme() != "http" {
        return Err(refuse("the app speaks http".to_owned()));
    }
    let addresses: Vec<SocketAddr> = (host.trim_start_matches('[').trim_end_matches(']'), port)
        .to_socket_addrs()
        .map_err(|error| refuse(error.to_string()))?
        .filter(|address| address.ip().is_loopback())
        .collect();
    addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first())
        .copied()
        .ok_or_else(|| refuse(format!("{host} is not this machine's loopback address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(base_url: &str) -> Result<SocketAddr, String> {
        let site = Site {
            environment: EnvironmentName::Staging,
            home: Home::Local { database_url: DatabaseUrl::sqlite("/x.db".as_ref()) },
            root: "/project".into(),
            base_url: base_url.parse().unwrap(),
        };
        listen_address(&site).map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_loopback_address_is_listened_on() {
        assert_eq!(listen("http://127.0.0.1:5001"), Ok("127.0.0.1:5001".parse().unwrap()));
        assert_eq!(listen("http://[::1]:5001/"), Ok("[::1]:5001".parse().unwrap()));
        assert!(listen("http://localhost:5001").is_ok());
        insta::assert_snapshot!(
            listen("http://192.0.2.1:5001").unwrap_err(),
            @"no app on this machine can answer at http://192.0.2.1:5001/: 192.0.2.1 is not this machine's loopback address"
        );
        insta::assert_snapshot!(
            listen("https://127.0.0.1:5001").unwrap_err(),
            @"no app on this machine can answer at https://127.0.0.1:5001/: the app speaks http"
        );
    }
}
