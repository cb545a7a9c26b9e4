//! What Heroku does not know about its backups: files of ours on this machine.

use std::{
    error::Error as _,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use omnitool_heroku::Transfer;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{HerokuBackupError, Seen, now};
use crate::{BackupId, Manifest, Method, System, Verified, refresh::write_private};

const FORMAT: &str = "omnitool.heroku-backup";
const VERSION: u32 = 1;
/// What the name of a download's file begins with.
const DOWNLOAD: &str = ".download-";

/// Why a file about a backup on Heroku cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HerokuRecordError {
    /// It cannot be read or written.
    #[error("cannot use {file}")]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is none of ours, or of a newer build.
    #[error("cannot understand {file}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The folder of an environment's records.
#[derive(Clone, Debug)]
pub(super) struct Records {
    folder: PathBuf,
}

/// What is known about a backup.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: String,
    version: u32,
    /// Numbers begin anew with an app that was made anew; this does not.
    uuid: String,
    /// Whether it was taken on this machine: of another one, nobody here knows whether it is pinned there.
    #[serde(default)]
    pub(super) taken_here: bool,
    /// What the last look found wrong with it; a look that sees less does not take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<Problem>,
    pub(super) backup: Manifest,
}

/// What a look found wrong with a backup.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Problem {
    /// How it was looked at.
    pub(super) how: Method,
    /// What was found.
    pub(super) what: String,
}

impl Record {
    pub(super) fn new(transfer: &Transfer, backup: Manifest, taken_here: bool) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            uuid: transfer.uuid.clone(),
            taken_here,
            problem: None,
            backup,
        }
    }

    /// What a look of the kind `how` does not see.
    pub(super) fn problem_beyond(&self, how: Method) -> Option<&Problem> {
        self.problem.as_ref().filter(|problem| depth(problem.how) > depth(how))
    }

    /// Notes what a look has found. One that goes less deep leaves it as verified as it was.
    pub(super) fn note(&mut self, seen: Result<&Seen, &HerokuBackupError>) {
        match seen {
            Ok(seen) => {
                let backup = &mut self.backup;
                if let Some(contents) = &seen.contents {
                    backup.sha256.clone_from(&seen.sha256);
                    backup.schema_version.clone_from(&contents.schema_version);
                    backup.rows.clone_from(&contents.rows);
                }
                let known = backup.verified.as_ref();
                if known.is_none_or(|known| depth(known.how) <= depth(seen.how)) {
                    backup.verified = Some(Verified { when: now(), how: seen.how });
                }
                self.problem = None;
            }
            Err(error) if error.is_about_the_backup() => {
                self.backup.verified = None;
                let how = match error {
                    HerokuBackupError::Rehearse { .. } => System::Postgres.rehearsed(),
                    _ => System::Postgres.method(),
                };
                self.problem = Some(Problem { how, what: with_causes(error) });
            }
            // It may be good; it only cannot be looked at now.
            Err(_) => {}
        }
    }
}

/// How much a look of this kind sees.
const fn depth(how: Method) -> u8 {
    match how {
        Method::Reported | Method::Digest => 0,
        Method::OpenedCopy | Method::ReadDump => 1,
        Method::RestoredDump => 2,
    }
}

fn with_causes(error: &HerokuBackupError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Records {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn file(&self, id: BackupId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// What is known about a backup here; nothing where it was neither taken nor looked at.
    pub(super) fn find(
        &self,
        id: BackupId,
        transfer: &Transfer,
    ) -> Result<Option<Record>, HerokuRecordError> {
        let record: Option<Record> = read_json(&self.file(id))?;
        Ok(record
            .filter(|record| record.format == FORMAT && record.version == VERSION)
            .filter(|record| record.uuid == transfer.uuid && record.backup.id == id))
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), HerokuRecordError> {
        write_json(&self.file(record.backup.id), record)
    }

    /// A new file for a download: of mode 0600, locked so that nobody takes it for a leftover, and gone with the value.
    pub(super) fn new_download(&self) -> io::Result<NamedTempFile> {
        std::fs::create_dir_all(&self.folder)?;
        loop {
            let file = tempfile::Builder::new().prefix(DOWNLOAD).tempfile_in(&self.folder)?;
            file.as_file().lock()?;
            // Somebody who removes leftovers may have been faster.
            if file.path().exists() {
                return Ok(file);
            }
        }
    }

    /// Files of downloads that were killed: they hold all the data of a database.
    pub(super) fn leftovers(&self) -> Result<Vec<String>, HerokuRecordError> {
        let failed = |source| HerokuRecordError::File { file: self.folder.clone(), source };
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut leftovers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if name.starts_with(DOWNLOAD) && is_file && lock_leftover(&entry.path()).is_some() {
                leftovers.push(name);
            }
        }
        leftovers.sort_unstable();
        Ok(leftovers)
    }

    /// Removes what [`Self::leftovers`] named, where it still is one.
    pub(super) fn remove_leftover(&self, name: &str) -> Result<(), HerokuRecordError> {
        let file = self.folder.join(name);
        match lock_leftover(&file) {
            Some(_lock) => remove(&file),
            None => Ok(()),
        }
    }

    pub(super) fn remove(&self, id: BackupId) -> Result<(), HerokuRecordError> {
        remove(&self.file(id))
    }
}

/// The lock of a download's file, which one that still runs holds.
fn lock_leftover(file: &Path) -> Option<File> {
    File::open(file).ok().filter(|file| file.try_lock().is_ok())
}

/// Reads a file of ours; nothing where it is not there.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(
    file: &Path,
) -> Result<Option<T>, HerokuRecordError> {
    match std::fs::read(file) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| HerokuRecordError::Malformed { file: file.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HerokuRecordError::File { file: file.to_owned(), source }),
    }
}

/// Writes a file of mode 0600, whole or not at all.
pub(super) fn write_json(file: &Path, value: &impl Serialize) -> Result<(), HerokuRecordError> {
    serde_json::to_vec_pretty(value)
        .map_err(io::Error::other)
        .and_then(|text| write_private(file, &text))
        .map_err(|source| HerokuRecordError::File { file: file.to_owned(), source })
}

/// Removes a file; one that is not there is fine.
pub(super) fn remove(file: &Path) -> Result<(), HerokuRecordError> {
    match std::fs::remove_file(file) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(HerokuRecordError::File { file: file.to_owned(), source })
        }
        _ => Ok(()),
    }
}
