//! What is known about the last refresh, in a file beside the copies.

use std::{
    fs::{File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};

use super::RefreshStep;
use crate::{BackupId, heroku::HerokuCopy};

const FILE: &str = "refresh.json";
const LOCK: &str = "refresh.lock";
const FORMAT: &str = "omnitool.refresh";
const VERSION: u32 = 1;

/// A refresh: the one that runs, or the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshRecord {
    format: String,
    version: u32,
    /// The database that is copied, without its password.
    pub source: String,
    /// Whether contact data is copied as it is.
    pub unmasked: bool,
    /// The deployment's run, where it is part of one.
    pub run_id: Option<String>,
    /// When it began (UTC, whole seconds).
    pub started_at: DateTime<Utc>,
    /// When it ended (UTC, whole seconds).
    pub ended_at: Option<DateTime<Utc>>,
    /// The steps that are done.
    pub done: Vec<RefreshStep>,
    /// The backup of what it replaced.
    pub safety_backup: Option<BackupId>,
    /// How it ended; none while it runs, or where it was killed.
    pub outcome: Option<RefreshOutcome>,
    /// On Heroku: the database that it has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heroku: Option<HerokuCopy>,
    /// On Heroku: whether the app was asked to use it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_switching: bool,
}

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefreshOutcome {
    /// The copy is in place.
    Done,
    /// The database is as it was.
    Failed,
    /// The copy is in place, and the checks found something.
    Unverified,
}

/// What is going on in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RefreshState {
    /// There never was a refresh.
    Never,
    /// One runs.
    Running {
        /// What it has done so far.
        record: Option<RefreshRecord>,
    },
    /// One was killed.
    Killed {
        /// What it had done.
        record: RefreshRecord,
    },
    /// The last one came to its end.
    Ended {
        /// What it did.
        record: RefreshRecord,
    },
}

impl RefreshState {
    /// What the newest refresh did, as far as it is known.
    #[must_use]
    pub const fn record(&self) -> Option<&RefreshRecord> {
        match self {
            Self::Never => None,
            Self::Running { record } => record.as_ref(),
            Self::Killed { record } | Self::Ended { record } => Some(record),
        }
    }
}

/// Why nothing can be said about refreshes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshRecordError {
    /// The folder or a file in it.
    #[error("cannot use {}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another refresh holds the lock.
    #[error("another refresh is running (it has locked {})", .file.display())]
    Running {
        /// The lock.
        file: PathBuf,
    },
    /// The record is none of ours.
    #[error("cannot understand {}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl RefreshRecord {
    pub(crate) fn new(source: String, unmasked: bool, run_id: Option<String>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            source,
            unmasked,
            run_id,
            started_at: Utc::now().trunc_subsecs(0),
            ended_at: None,
            done: Vec::new(),
            safety_backup: None,
            outcome: None,
            heroku: None,
            is_switching: false,
        }
    }
}

impl RefreshRecord {
    /// The same, going on.
    pub(crate) fn resumed(&self) -> Self {
        let mut record = self.clone();
        (record.outcome, record.ended_at) = (None, None);
        record
    }
}

impl RefreshState {
    /// What the folder says. Writes nothing.
    ///
    /// # Errors
    ///
    /// Fails where the folder's files cannot be read.
    pub fn read(folder: &Path) -> Result<Self, RefreshRecordError> {
        let record = read_record(folder)?;
        if is_locked(folder)? {
            return Ok(Self::Running { record });
        }
        Ok(match record {
            None => Self::Never,
            Some(record) if record.outcome.is_none() => Self::Killed { record },
            Some(record) => Self::Ended { record },
        })
    }
}

fn read_record(folder: &Path) -> Result<Option<RefreshRecord>, RefreshRecordError> {
    let file = folder.join(FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => match serde_json::from_str(&text) {
            Ok(record) => Ok(Some(record)),
            Err(source) => Err(RefreshRecordError::Malformed { file, source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RefreshRecordError::File { file, source }),
    }
}

fn is_locked(folder: &Path) -> Result<bool, RefreshRecordError> {
    let file = folder.join(LOCK);
    let failed = |source| RefreshRecordError::File { file: file.clone(), source };
    match File::open(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(lock) => match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        },
    }
}

/// The record of the refresh that runs here; nobody else's runs meanwhile.
pub(crate) struct Journal {
    folder: PathBuf,
    record: RefreshRecord,
    /// Held until the end; the system gives it back when we are killed.
    _lock: File,
}

impl Journal {
    pub(crate) fn begin(folder: &Path, record: RefreshRecord) -> Result<Self, RefreshRecordError> {
        let file = folder.join(LOCK);
        let failed = |source| RefreshRecordError::File { file: file.clone(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let lock = options.open(&file).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RefreshRecordError::Running { file }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let journal = Self { folder: folder.to_owned(), record, _lock: lock };
        journal.write()?;
        Ok(journal)
    }

    pub(crate) fn done(&mut self, step: RefreshStep) -> Result<(), RefreshRecordError> {
        self.record.done.push(step);
        self.write()
    }

    pub(crate) fn has_done(&self, step: RefreshStep) -> bool {
        self.record.done.contains(&step)
    }

    pub(crate) const fn record(&self) -> &RefreshRecord {
        &self.record
    }

    pub(crate) fn set_copy(&mut self, copy: HerokuCopy) -> Result<(), RefreshRecordError> {
        self.record.heroku = Some(copy);
        self.write()
    }

    pub(crate) fn change_copy(
        &mut self,
        change: impl FnOnce(&mut HerokuCopy),
    ) -> Result<(), RefreshRecordError> {
        self.record.heroku.as_mut().map(change);
        self.write()
    }

    /// The copy is gone, and with it what was done to it.
    pub(crate) fn forget_copy(&mut self) -> Result<(), RefreshRecordError> {
        self.record.heroku = None;
        self.record.is_switching = false;
        self.record.done.retain(|step| *step == RefreshStep::Backup);
        self.write()
    }

    pub(crate) fn switching(&mut self) -> Result<(), RefreshRecordError> {
        self.record.is_switching = true;
        self.write()
    }

    pub(crate) fn safety_backup(&mut self, id: Option<BackupId>) {
        self.record.safety_backup = id;
    }

    pub(crate) fn end(
        mut self,
        outcome: RefreshOutcome,
    ) -> Result<RefreshRecord, RefreshRecordError> {
        self.record.outcome = Some(outcome);
        self.record.ended_at = Some(Utc::now().trunc_subsecs(0));
        self.write()?;
        Ok(self.record)
    }

    fn write(&self) -> Result<(), RefreshRecordError> {
        let file = self.folder.join(FILE);
        let written = serde_json::to_vec_pretty(&self.record)
            .map_err(io::Error::other)
            .and_then(|text| write_private(&file, &text));
        written.map_err(|source| RefreshRecordError::File { file, source })
    }
}

/// Writes a file of mode 0600, whole or not at all.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Its files have mode 0600.
    let mut temporary = tempfile::Builder::new().prefix(".omnitool-").tempfile_in(folder)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file).map_err(|error| error.error)?;
    Ok(())
}
