//! A backup that is being taken: its number, and its files until it is published.

use std::{fs::File, io, path::PathBuf};

use super::{Catalog, CatalogError, create_private, lock_error, manifest_name, partial_name};
use crate::{
    BackupId, Manifest,
    digest::{self, Fingerprint},
    seal,
};

/// A number that belongs to a capture. Without [`Reservation::publish`], its files are removed with it.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) id: BackupId,
    /// What is published: the copy, or the encrypted one.
    pub(super) finished: PathBuf,
    pub(super) files: Vec<PathBuf>,
    /// Open and locked as long as the capture runs, so that nobody takes the files for leftovers.
    pub(super) locks: Vec<File>,
}

impl Reservation<'_> {
    pub(crate) const fn id(&self) -> BackupId {
        self.id
    }

    /// Where to write the backup to: an empty file.
    pub(crate) fn partial(&self) -> PathBuf {
        self.catalog.folder.join(partial_name(self.id))
    }

    /// Encrypts what was written, where that is wanted, and flushes it to disk. The fingerprint is of what is published.
    pub(crate) fn finish(&mut self) -> Result<Fingerprint, CatalogError> {
        let finish = |reservation: &mut Self| {
            let recipients = reservation.catalog.recipients();
            if recipients.is_empty() {
                reservation.locks[0].sync_all()?;
                return digest::of_file(&reservation.finished);
            }
            let plain = reservation.partial();
            let sealed = plain.with_added_extension(seal::EXTENSION);
            let file = create_private(&sealed)?;
            reservation.files.push(sealed.clone());
            file.try_lock().map_err(lock_error)?;
            reservation.locks.push(file.try_clone()?);
            let fingerprint = seal::seal(&plain, file, recipients)?;
            fs_err::remove_file(plain)?;
            reservation.finished = sealed;
            Ok(fingerprint)
        };
        finish(self).map_err(|source| self.catalog.error(source))
    }

    /// Gives the file its name and makes the backup exist.
    pub(crate) fn publish(mut self, backup: &Manifest) -> Result<(), CatalogError> {
        let catalog = self.catalog;
        let _lock = catalog.lock()?;
        let file = catalog.file(backup);
        self.files.push(file.clone());
        fs_err::rename(&self.finished, &file).map_err(|source| catalog.error(source))?;
        catalog.sync()?;
        catalog
            .write_manifest(backup)?
            .persist_noclobber(catalog.folder.join(manifest_name(self.id)))
            .map_err(|error| catalog.error(error.error))?;
        self.files.clear();
        catalog.sync()
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        for file in &self.files {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("cannot remove {}: {error}", file.display());
                }
                _ => {}
            }
        }
    }
}
