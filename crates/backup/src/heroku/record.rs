//! What Heroku does not know about its backups: files of ours on this machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use omnitool_heroku::Transfer;
use serde::{Deserialize, Serialize};

use crate::{BackupId, Manifest, refresh::write_private};

const FORMAT: &str = "omnitool.heroku-backup";
const VERSION: u32 = 1;

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
    pub(super) backup: Manifest,
}

impl Record {
    pub(super) fn new(transfer: &Transfer, backup: Manifest, taken_here: bool) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            uuid: transfer.uuid.clone(),
            taken_here,
            backup,
        }
    }
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

    pub(super) fn remove(&self, id: BackupId) -> Result<(), HerokuRecordError> {
        remove(&self.file(id))
    }
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
