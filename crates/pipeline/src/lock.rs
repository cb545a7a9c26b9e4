//! One run per environment.
//!
//! The lock is the operating system's: it goes with the process that holds it, however that ends, and with the programs that
//! this process has started: those of a run that was killed go on, and no other run may begin meanwhile. What the file says
//! is only for people; a file that says something while nobody holds the lock is what a run left that died.

use std::{
    fmt,
    fs::TryLockError,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use fs_err as fs;
use serde::{Deserialize, Serialize};

/// Who holds an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The user.
    pub user: String,
    /// The process.
    pub pid: u32,
    /// The machine that it runs on.
    #[serde(default)]
    pub host: Option<String>,
    /// Since when: UTC, to the second.
    pub since: String,
    /// The run, or what else it is doing.
    pub run: String,
    /// The commit that it works on.
    #[serde(default)]
    pub commit: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, pid, host, since, run, commit } = self;
        write!(f, "{user} (process {pid}")?;
        if let Some(host) = host {
            write!(f, " on {host}")?;
        }
        write!(f, ") since {since}, run {run}")?;
        match commit {
            Some(commit) => write!(f, ", commit {}", commit.get(..10).unwrap_or(commit)),
            None => Ok(()),
        }
    }
}

/// Why an environment could not be held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireLockError {
    /// Somebody else has it.
    #[error("another run holds this environment: {holder}")]
    Held {
        /// Who, as far as the lock's file says.
        holder: String,
    },
    /// Somebody wanted to stop while waiting for it.
    #[error("interrupted while waiting for {holder}")]
    Interrupted {
        /// Who has it, as far as the lock's file says.
        holder: String,
    },
    /// The lock's file cannot be made or locked.
    #[error("cannot lock {file}")]
    Io {
        /// The lock's file.
        file: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

/// Holds an environment until it is dropped, or until its process and the programs that share it have ended in whatever way.
#[derive(Debug)]
pub struct DeployLock {
    locked: std::fs::File,
    left_behind: Option<Holder>,
}

/// How long to wait for a lock that somebody else has, and how waiting is watched.
pub struct Waiting<'a> {
    /// How long; for ever where there is no limit.
    pub limit: Option<Duration>,
    /// Whether to stop waiting.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Told once for each holder that is waited for.
    pub tell: &'a mut dyn FnMut(&str),
}

/// How often a lock is tried that somebody has.
const POLL: Duration = Duration::from_millis(100);
/// Whoever only looks who has the lock has it for a moment.
const LOOK: Duration = Duration::from_millis(100);

impl DeployLock {
    /// Takes the lock in the environment's `folder`, and writes into it who has it.
    ///
    /// # Errors
    ///
    /// Fails at once where somebody else has it, and says who.
    pub fn acquire(folder: &Path, holder: &Holder) -> Result<Self, AcquireLockError> {
        let waiting =
            Waiting { limit: Some(LOOK), interrupted: &|| false, tell: &mut |_: &str| {} };
        Self::acquire_within(folder, holder, waiting)
    }

    /// Takes the lock as [`DeployLock::acquire`] does, and waits for it.
    ///
    /// # Errors
    ///
    /// Fails where somebody else has it for too long, or somebody wants to stop.
    pub fn acquire_within(
        folder: &Path,
        holder: &Holder,
        waiting: Waiting<'_>,
    ) -> Result<Self, AcquireLockError> {
        let Waiting { limit, interrupted, tell } = waiting;
        let (path, failed) = errors(folder);
        fs::create_dir_all(folder).map_err(&failed)?;
        let mut file = open(&path).map_err(&failed)?;
        let since = Instant::now();
        let mut told = String::new();
        while !try_lock(&file).map_err(&failed)? {
            let found = holder_text(&mut file);
            if limit.is_some_and(|limit| since.elapsed() >= limit) {
                return Err(AcquireLockError::Held { holder: found });
            }
            if interrupted() {
                return Err(AcquireLockError::Interrupted { holder: found });
            }
            if told != found && since.elapsed() > LOOK {
                tell(&found);
                told = found;
            }
            thread::sleep(if since.elapsed() > LOOK { POLL } else { POLL / 20 });
        }
        let left_behind = read_holder(&mut file);
        let write = write_holder(&mut file, Some(holder));
        write.map_err(failed)?;
        Ok(Self { locked: file, left_behind })
    }

    /// Who holds the environment's `folder` now; nobody where its last holder has ended, in whatever way.
    ///
    /// # Errors
    ///
    /// Fails where the lock's file cannot be read.
    pub fn look(folder: &Path) -> Result<Option<Holder>, AcquireLockError> {
        let (path, failed) = errors(folder);
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(read_holder(&mut file)),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The lock for a program that this process starts, and that has it as long as it runs. An orderly end unlocks it all
    /// the same.
    ///
    /// # Errors
    ///
    /// Fails where this process may open no more files.
    pub(crate) fn share(&self) -> io::Result<std::fs::File> {
        self.locked.try_clone()
    }

    /// Who had the lock before and died without giving it back.
    #[must_use]
    pub fn left_behind(&self) -> Option<&Holder> {
        self.left_behind.as_ref()
    }
}

impl Drop for DeployLock {
    fn drop(&mut self) {
        // An orderly end leaves an empty file. One that says too much harms nobody: nobody holds it.
        let _ = write_holder(&mut self.locked, None);
        // Closing the file unlocks it, too, but not while a child that is just being started has a copy of it.
        let _ = self.locked.unlock();
    }
}

fn errors(folder: &Path) -> (PathBuf, impl Fn(io::Error) -> AcquireLockError) {
    let path = folder.join("deploy.lock");
    (path.clone(), move |source| AcquireLockError::Io { file: path.clone(), source })
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn try_lock(file: &std::fs::File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(source),
    }
}

fn read_holder(file: &mut std::fs::File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn holder_text(file: &mut std::fs::File) -> String {
    read_holder(file).map_or_else(|| "nobody knows who".to_owned(), |holder| holder.to_string())
}

fn write_holder(file: &mut std::fs::File, holder: Option<&Holder>) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    match holder {
        Some(holder) => file.write_all(&serde_json::to_vec(holder)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn holder(run: &str) -> Holder {
        Holder {
            user: "ann".to_owned(),
            pid: 42,
            host: Some("build-1".to_owned()),
            since: "2026-01-12T10:00:00Z".to_owned(),
            run: run.to_owned(),
            commit: Some("0123456789abcdef".to_owned()),
        }
    }

    #[test]
    fn a_second_run_is_refused_until_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(DeployLock::look(folder.path()).unwrap(), None);
        let first = DeployLock::acquire(folder.path(), &holder("one, with a long name")).unwrap();
        let error = DeployLock::acquire(folder.path(), &holder("two")).unwrap_err();
        insta::assert_snapshot!(
            error,
            @"another run holds this environment: ann (process 42 on build-1) since 2026-01-12T10:00:00Z, run one, with a long name, commit 0123456789"
        );
        let found = DeployLock::look(folder.path()).unwrap();
        assert_eq!(found, Some(holder("one, with a long name")));
        drop(first);
        assert_eq!(DeployLock::look(folder.path()).unwrap(), None);
        let second = DeployLock::acquire(folder.path(), &holder("two")).unwrap();
        assert_eq!(second.left_behind(), None);
        drop(second);
    }

    #[test]
    fn who_waits_gets_it_when_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let first = Cell::new(Some(DeployLock::acquire(folder.path(), &holder("one")).unwrap()));
        let mut told = Vec::new();
        let mut tell = |who: &str| {
            told.push(who.to_owned());
            drop(first.take());
        };
        let waiting = Waiting { limit: None, interrupted: &|| false, tell: &mut tell };
        let _second = DeployLock::acquire_within(folder.path(), &holder("two"), waiting).unwrap();
        assert_eq!(told, [holder("one").to_string()]);
        let waiting = Waiting { limit: None, interrupted: &|| true, tell: &mut |_: &str| {} };
        let error = DeployLock::acquire_within(folder.path(), &holder("three"), waiting);
        assert!(matches!(error, Err(AcquireLockError::Interrupted { .. })));
    }

    #[test]
    fn what_a_run_left_that_died_holds_nothing_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        // As an older version wrote it.
        let text = r#"{"user":"ann","pid":42,"since":"2026-01-12T10:00:00Z","run":"one"}"#;
        fs::write(folder.path().join("deploy.lock"), text).unwrap();
        assert_eq!(DeployLock::look(folder.path()).unwrap(), None);
        let lock = DeployLock::acquire(folder.path(), &holder("two")).unwrap();
        assert_eq!(lock.left_behind().unwrap().run, "one");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("staging");
        fs::write(&file, "a file where the folder should be").unwrap();
        let error = DeployLock::acquire(&file, &holder("one")).unwrap_err();
        assert!(matches!(error, AcquireLockError::Io { .. }), "{error}");
    }
}
