//! The project that the commands work on: its files, its build, and who works on it.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use chrono::{SecondsFormat, Utc};
use fs_err as fs;
use omnitool_cli::{Failure, HerokuAccount, Interrupt, print};
use omnitool_environment::{EnvironmentName, Environments, FreezeWindow, Platform as PlatformName};
use omnitool_heroku::Settings;
use omnitool_pipeline::{
    AcquireLockError, AppError, CommandLine, DeployLock, HerokuPlatform, Holder, Home,
    LocalPlatform, LocalPlatformError, Platform, PlatformError, Revision, Site, Situation,
    Variable, Waiting,
};
use serde::Deserialize;

/// A working copy of the project.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
}

/// How the programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Fast programs.
    Release,
    /// Fast builds.
    Dev,
}

impl Profile {
    const fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}

/// Whom the programs can talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// SQLite, and PostgreSQL on this machine: needs nothing but a C compiler.
    Plain,
    /// PostgreSQL elsewhere, too, encrypted: OpenSSL is built first, which takes minutes.
    Encrypted,
}

/// The feature of the packages that can be built for [`Connections::Encrypted`].
const ENCRYPTED: &str = "tls";

/// What cargo says about the workspace.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    features: BTreeMap<String, Vec<String>>,
}

/// The root is not one.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {root} as the project's root")]
struct OpenProjectError {
    root: PathBuf,
    #[source]
    source: io::Error,
}

/// Cargo did not say where it builds.
#[derive(Debug, thiserror::Error)]
#[error("cannot ask cargo about the workspace")]
struct ReadMetadataError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Project {
    /// The project at `root`, else the one that this program was built from.
    pub(crate) fn open(root: Option<PathBuf>) -> Result<Self, Failure> {
        let root = root.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".."));
        match fs::canonicalize(&root) {
            Ok(root) => Ok(Self { root }),
            Err(source) => Err(OpenProjectError { root, source }.into()),
        }
    }

    /// The root, an absolute path.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `path` as it is shown: relative to the root where it is below it.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    fn environments(&self) -> Result<Environments, Failure> {
        Ok(Environments::load(&self.root.join(Environments::DEFAULT_FILE))?)
    }

    /// The freeze that the environment is in now.
    pub(crate) fn freeze(&self, name: EnvironmentName) -> Result<Option<FreezeWindow>, Failure> {
        let environments = self.environments()?;
        let now = Utc::now();
        Ok(environments.freeze_windows(name).iter().find(|window| window.contains(now)).cloned())
    }

    /// Where release artifacts are kept.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join(".omnitool/artifacts")
    }

    /// The environment on this machine.
    pub(crate) fn site(&self, environment: EnvironmentName) -> Result<Site, Failure> {
        self.site_on(environment, PlatformName::Local)
    }

    /// The environment on `platform`.
    pub(crate) fn site_on(
        &self,
        environment: EnvironmentName,
        platform: PlatformName,
    ) -> Result<Site, Failure> {
        let environments = self.environments()?;
        let base_url = environments.base_url(environment, platform)?.clone();
        let home = match platform {
            PlatformName::Local => {
                let url = &environments.on_this_machine(environment)?.database_url;
                Home::Local { database_url: url.clone().relative_to(&self.root) }
            }
            PlatformName::Heroku => {
                let app = environments.on_heroku(environment)?.app.clone();
                let staging = environments.on_heroku(EnvironmentName::Staging).ok();
                let staging = staging.map(|staging| staging.app.clone());
                let staging = staging.filter(|staging| *staging != app);
                Home::Heroku { app, staging, access: heroku_access() }
            }
        };
        Ok(Site { environment, home, root: self.root.clone(), base_url })
    }

    /// Takes the lock of the environment whose folder this is; waits for it, for so long, where the caller wants to.
    pub(crate) fn lock(
        &self,
        folder: &Path,
        run: &str,
        commit: Option<String>,
        waiting: Option<(Option<Duration>, &Interrupt)>,
    ) -> Result<DeployLock, Failure> {
        let holder = Holder {
            user: user(),
            pid: std::process::id(),
            host: host(),
            since: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            run: run.to_owned(),
            commit,
        };
        let taken = match waiting {
            None => DeployLock::acquire(folder, &holder),
            Some((limit, interrupt)) => {
                let interrupted = || interrupt.is_set();
                // Nobody needs to read it for the run to go on.
                let mut tell = |who: &str| drop(print(&format!("waiting for {who}\n")));
                let waiting = Waiting { limit, interrupted: &interrupted, tell: &mut tell };
                DeployLock::acquire_within(folder, &holder, waiting)
            }
        };
        taken.map_err(|error| match error {
            AcquireLockError::Held { .. } | AcquireLockError::Interrupted { .. } => {
                Failure::refused(error)
                    .hint("wait until it has ended, and whatever it started (--wait does); nothing was changed by this one")
            }
            _ => Failure::failed(error),
        })
    }

    /// The command that builds all programs.
    pub(crate) fn build(
        &self,
        profile: Profile,
        connections: Connections,
    ) -> Result<CommandLine, Failure> {
        let mut command = CommandLine::new("cargo", &self.root).arguments(["build", "--locked"]);
        if profile == Profile::Release {
            command = command.arguments(["--release"]);
        }
        for Package { name, features, .. } in self.programs()? {
            if connections == Connections::Encrypted && features.contains_key(ENCRYPTED) {
                command =
                    command.arguments(["--features".to_owned(), format!("{name}/{ENCRYPTED}")]);
            }
            command = command.arguments(["--package".to_owned(), name]);
        }
        Ok(command)
    }

    /// Builds all programs, and says where they are.
    pub(crate) fn build_programs(
        &self,
        profile: Profile,
        connections: Connections,
    ) -> Result<PathBuf, Failure> {
        let command = self.build(profile, connections)?;
        // stdout is the result of whoever asks for the programs.
        let status = self.cargo().args(command.list()).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(Failure::failed("the programs do not build")
                .hint("what the compiler says is above; nothing else was done"));
        }
        self.programs_folder(profile)
    }

    /// Where cargo puts the programs.
    pub(crate) fn programs_folder(&self, profile: Profile) -> Result<PathBuf, Failure> {
        let metadata = self.workspace()?;
        Ok(metadata.target_directory.join(profile.folder()))
    }

    /// What cargo says about the workspace, as JSON.
    pub(crate) fn metadata(&self) -> Result<Vec<u8>, Failure> {
        let output = self
            .cargo()
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| ReadMetadataError(error.into()))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            let ended = format!("`cargo metadata` ended with {}", output.status);
            Err(ReadMetadataError(ended.into()).into())
        }
    }

    /// Cargo, in the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    fn workspace(&self) -> Result<Workspace, Failure> {
        Ok(serde_json::from_slice(&self.metadata()?)
            .map_err(|error| ReadMetadataError(error.into()))?)
    }

    /// The packages of the workspace's programs, sorted.
    fn programs(&self) -> Result<Vec<Package>, Failure> {
        let Workspace { mut packages, workspace_root, .. } = self.workspace()?;
        let folder = workspace_root.join("bins");
        packages.retain(|package| package.manifest_path.starts_with(&folder));
        packages.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(packages)
    }

    /// The commit that is checked out; nothing where this is no working copy, or where there is no git.
    pub(crate) fn revision(&self) -> Option<Revision> {
        let text = self.git(&["rev-parse", "HEAD", "--show-prefix"])?;
        let mut lines = text.lines();
        let commit = lines.next()?.to_owned();
        // A folder inside of another repository has a prefix, and the commit is that repository's.
        if lines.next().is_some_and(|prefix| !prefix.is_empty()) {
            return None;
        }
        let modified = !self.git(&["status", "--porcelain"])?.is_empty();
        Some(Revision { commit, modified })
    }

    /// Which of `main` and `origin/main` contain `commit`.
    pub(crate) fn main_branches_with(&self, commit: &str) -> Vec<String> {
        let contains = |name: &&str| {
            let branch = match name.split_once('/') {
                Some(_) => format!("refs/remotes/{name}"),
                None => format!("refs/heads/{name}"),
            };
            self.git(&["merge-base", "--is-ancestor", commit, &branch]).is_some()
        };
        ["main", "origin/main"]
            .iter()
            .filter(|name| contains(name))
            .map(ToString::to_string)
            .collect()
    }

    /// What names the files of a commit: two commits with the same files have the same.
    pub(crate) fn tree_of(&self, commit: &str) -> Option<String> {
        self.git(&["rev-parse", "--verify", "--quiet", &format!("{commit}^{{tree}}")])
    }

    /// What git prints; nothing where it fails.
    fn git(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.root)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then_some(output.stdout).map(String::from_utf8)?.ok()
    }
}

/// The variables by which Heroku is reached, as they are set.
fn heroku_access() -> Vec<Variable> {
    let set = HerokuAccount::VARIABLES.into_iter().filter_map(|name| {
        let value = env::var(name).ok().filter(|value| !value.is_empty())?;
        Some(match name {
            HerokuAccount::TOKEN => Variable::secret(name, value),
            _ => Variable::plain(name, value),
        })
    });
    set.collect()
}

/// The platform of `site`.
pub(crate) fn platform(site: &Site) -> Result<Box<dyn Platform>, Failure> {
    match site.home {
        Home::Local { .. } => Ok(Box::new(LocalPlatform::new(site)?)),
        Home::Heroku { .. } => {
            let folder = LocalPlatform::folder(&site.root, site);
            Ok(Box::new(HerokuPlatform::new(site, heroku_settings()?, folder)?))
        }
    }
}

/// By what Heroku is reached.
pub(crate) fn heroku_settings() -> Result<Settings, Failure> {
    let account = HerokuAccount::from_environment().map_err(|error| {
        let hint = error.hint();
        Failure::refused(error).hint(format!("{hint}; nothing was changed"))
    })?;
    let HerokuAccount { api, data, token, roots } = account;
    Ok(Settings::of(api, data, token, roots))
}

/// Looks at the platform before anything changes.
pub(crate) fn look(platform: &dyn Platform) -> Result<Situation, Failure> {
    platform.look().map_err(|error| match error {
        PlatformError::Heroku(error) => {
            let hint = error.hint().unwrap_or("see `heroku status`, and try again").to_owned();
            Failure::refused(error).hint(format!("{hint}; nothing was changed"))
        }
        PlatformError::Local(LocalPlatformError::App(error)) => app_failure(error),
        PlatformError::Local(error @ LocalPlatformError::NotALink { .. }) => {
            Failure::refused(error).hint("move it away and try again; nothing was changed")
        }
        error => Failure::failed(error),
    })
}

/// A failure to look at the app, before anything has changed.
pub(crate) fn app_failure(error: AppError) -> Failure {
    let hint = match &error {
        AppError::PortInUse { .. } => {
            "stop the program that uses it, or give the environment another base_url in \
             data/environments.toml; nothing was changed"
        }
        AppError::Damaged { .. } => {
            "stop the app yourself if it runs (a process `omnitool serve`), remove the file and \
             try again; nothing was changed"
        }
        _ => return Failure::failed(error),
    };
    Failure::refused(error).hint(hint)
}

/// The machine that this runs on.
pub(crate) fn host() -> Option<String> {
    let output = Command::new("uname").arg("-n").stdin(Stdio::null()).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// Who runs this.
pub(crate) fn user() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(env::var_os)
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| OsString::from("unknown"))
        .to_string_lossy()
        .into_owned()
}
