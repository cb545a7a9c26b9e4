//! One run per environment.

use std::{
    fmt,
    fs::TryLockError,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
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
    /// Since when: UTC, to the second.
    pub since: String,
    /// The run, or what else it is doing.
    pub run: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, pid, since, run } = self;
        write!(f, "{user} (process {pid}) since {since}, run {run}")
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

/// Holds an environment until it is dropped, or until its process ends in whatever way.
#[derive(Debug)]
pub struct DeployLock {
    locked: std::fs::File,
}

impl DeployLock {
    /// Takes the lock in the environment's `folder`, and writes into it who has it.
    ///
    /// # Errors
    ///
    /// Fails at once where somebody else has it, and says who.
    pub fn acquire(folder: &Path, holder: &Holder) -> Result<Self, AcquireLockError> {
        let path = folder.join("deploy.lock");
        let failed = |source| AcquireLockError::Io { file: path.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = match file.read_to_string(&mut text) {
                    Ok(_) => serde_json::from_str::<Holder>(&text)
                        .map_or_else(|_| "nobody knows who".to_owned(), |who| who.to_string()),
                    Err(_) => "nobody knows who".to_owned(),
                };
                return Err(AcquireLockError::Held { holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut write = || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&serde_json::to_vec(holder)?)
        };
        write().map_err(failed)?;
        Ok(Self { locked: file })
    }
}

impl Drop for DeployLock {
    fn drop(&mut self) {
        // Closing the file unlocks it, too, but not while a child that is just being started has a copy of it.
        let _ = self.locked.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(run: &str) -> Holder {
        Holder {
            user: "ann".to_owned(),
            pid: 42,
            since: "2026-01-12T10:00:00Z".to_owned(),
            run: run.to_owned(),
        }
    }

    #[test]
    fn a_second_run_is_refused_until_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = DeployLock::acquire(folder.path(), &holder("one, with a long name")).unwrap();
        let error = DeployLock::acquire(folder.path(), &holder("two")).unwrap_err();
        insta::assert_snapshot!(
            error,
            @"another run holds this environment: ann (process 42) since 2026-01-12T10:00:00Z, run one, with a long name"
        );
        drop(first);
        let second = DeployLock::acquire(folder.path(), &holder("two")).unwrap();
        let error = DeployLock::acquire(folder.path(), &holder("three")).unwrap_err();
        assert!(error.to_string().ends_with("run two"), "{error}");
        drop(second);
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
