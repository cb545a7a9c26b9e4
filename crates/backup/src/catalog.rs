//! The folder with an environment's backups.

mod reservation;

use std::{
    fs::{File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use omnitool_environment::EnvironmentName;

use self::reservation::Reservation;
use crate::{
    BackupId, Keys, Manifest, Recipient, UnsealError,
    digest::Fingerprint,
    manifest::{ParseManifestError, System},
    seal,
};

/// Where the folders of all environments are, relative to a project's root.
pub const DEFAULT_FOLDER: &str = "data/backups";

/// Remembers the highest number ever given, so that a pruned one does not come back.
const LAST_ID: &str = "last-id";
const TEMPORARY: &str = ".manifest-";
const PARTIAL: &str = "partial";
/// Decrypted copies of backups, as long as somebody looks at them.
const UNSEALED: &str = ".unsealed-";

/// The folder with an environment's backups and their manifests.
#[derive(Clone, Debug)]
pub struct Catalog {
    folder: PathBuf,
    environment: EnvironmentName,
    keys: Keys,
}

/// What a catalog holds, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The backups that can be used.
    pub backups: Vec<Manifest>,
    /// Backups with something wrong that shows without opening them. They are never chosen, counted or pruned.
    pub broken: Vec<BrokenBackup>,
}

/// A backup that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BrokenBackup {
    /// Its name.
    pub id: BackupId,
    /// What is wrong with it.
    pub problem: String,
}

/// Why a catalog could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The folder, or a file in it.
    #[error("cannot use the folder of the backups {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such backup.
    #[error("there is no backup {id} of {environment} in {folder}")]
    NotFound {
        /// The name.
        id: BackupId,
        /// Whose backups were looked at.
        environment: EnvironmentName,
        /// Where.
        folder: PathBuf,
    },
    /// The manifest cannot be trusted.
    #[error("cannot trust the manifest {file}")]
    Manifest {
        /// The manifest.
        file: PathBuf,
        /// Why.
        #[source]
        source: ParseManifestError,
    },
    /// The manifest is there and its backup is not.
    #[error("the file of backup {id} is missing or no file: {file}")]
    File {
        /// The backup.
        id: BackupId,
        /// Where its file should be.
        file: PathBuf,
    },
    /// It was pinned after somebody decided to remove it.
    #[error("backup {id} is pinned")]
    Pinned {
        /// The backup.
        id: BackupId,
    },
}

impl Catalog {
    /// The catalog of `environment` in a folder below `parent`; nothing is made before the first capture.
    #[must_use]
    pub fn new(parent: &Path, environment: EnvironmentName) -> Self {
        Self { folder: parent.join(environment.as_str()), environment, keys: Keys::default() }
    }

    /// Encrypts new backups, and reads those that are.
    #[must_use]
    pub fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// The same for backups of what was encrypted to `recipients`: nothing of it must lie there for everybody.
    pub(crate) fn as_private_as(&self, recipients: &[String]) -> Self {
        let mut catalog = self.clone();
        if catalog.keys.recipients.is_empty() {
            // What is in a manifest and is none cannot have been encrypted to.
            catalog.keys.recipients =
                recipients.iter().filter_map(|recipient| recipient.parse().ok()).collect();
        }
        catalog
    }

    /// To whom new backups are encrypted.
    pub(crate) fn recipients(&self) -> &[Recipient] {
        &self.keys.recipients
    }

    /// A decrypted copy of `file`, which goes away with the value; none where it is not encrypted.
    pub(crate) fn unseal(&self, file: &Path) -> Result<Option<Unsealed>, UnsealError> {
        let read = |source| UnsealError::Read { file: file.to_owned(), source };
        if !seal::is_sealed(file).map_err(read)? {
            return Ok(None);
        }
        let Some(identity) = &self.keys.identity else {
            return Err(UnsealError::NoIdentity { file: file.to_owned() });
        };
        let write = |source| UnsealError::Write { file: file.to_owned(), source };
        create_private_folder(&self.folder).map_err(write)?;
        // Its mode is 0600, and its lock says that it is no leftover.
        let mut copy = tempfile::Builder::new()
            .prefix(UNSEALED)
            .tempfile_in(&self.folder)
            .and_then(|copy| copy.as_file().lock().map(|()| copy))
            .map_err(write)?;
        let [stored, plain] = seal::unseal(file, copy.as_file_mut(), identity)?;
        Ok(Some(Unsealed { copy, stored, plain }))
    }

    /// Whose backups these are.
    #[must_use]
    pub const fn environment(&self) -> EnvironmentName {
        self.environment
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a backup's file is.
    #[must_use]
    pub fn file(&self, backup: &Manifest) -> PathBuf {
        self.folder.join(&backup.file)
    }

    /// All backups. A folder that does not exist has none.
    ///
    /// # Errors
    ///
    /// Fails where the folder cannot be read.
    pub fn list(&self) -> Result<Listing, CatalogError> {
        let mut ids: Vec<BackupId> = self
            .names()?
            .iter()
            .filter_map(|name| {
                let id = BackupId::of_file(name)?;
                (*name == manifest_name(id)).then_some(id)
            })
            .collect();
        ids.sort_unstable();
        let mut listing = Listing::default();
        for id in ids {
            match self.find(id) {
                Ok(backup) => listing.backups.push(backup),
                // Removed since the folder was read.
                Err(CatalogError::NotFound { .. }) => {}
                Err(error) => {
                    let problem = match std::error::Error::source(&error) {
                        Some(source) => format!("{error}: {source}"),
                        None => error.to_string(),
                    };
                    listing.broken.push(BrokenBackup { id, problem });
                }
            }
        }
        Ok(listing)
    }

    /// The manifest of `id`, whose file is there.
    ///
    /// # Errors
    ///
    /// Fails where there is none, or the manifest or the file is not what it should be.
    pub fn find(&self, id: BackupId) -> Result<Manifest, CatalogError> {
        let file = self.folder.join(manifest_name(id));
        match std::fs::symlink_metadata(&file) {
            Ok(metadata) if metadata.is_file() => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.error(error));
            }
            _ => {
                let folder = self.folder.clone();
                return Err(CatalogError::NotFound { id, environment: self.environment, folder });
            }
        }
        let bytes = fs_err::read(&file).map_err(|source| self.error(source))?;
        let backup = Manifest::parse(&String::from_utf8_lossy(&bytes), id, self.environment)
            .map_err(|source| CatalogError::Manifest { file, source })?;
        let file = self.file(&backup);
        match std::fs::symlink_metadata(&file) {
            Ok(metadata) if metadata.is_file() => Ok(backup),
            _ => Err(CatalogError::File { id, file }),
        }
    }

    /// Changes the manifest of `id`, whatever others changed in it meanwhile.
    pub(crate) fn update(
        &self,
        id: BackupId,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<Manifest, CatalogError> {
        let _lock = self.lock()?;
        let mut backup = self.find(id)?;
        change(&mut backup);
        let temporary = self.write_manifest(&backup)?;
        temporary
            .persist(self.folder.join(manifest_name(id)))
            .map_err(|error| self.error(error.error))?;
        self.sync()?;
        Ok(backup)
    }

    /// Removes a backup unless it was pinned meanwhile.
    pub(crate) fn remove(&self, id: BackupId) -> Result<(), CatalogError> {
        let _lock = self.lock()?;
        let backup = self.find(id)?;
        if backup.pinned {
            return Err(CatalogError::Pinned { id });
        }
        // The manifest goes first: whatever happens then, half a backup is none.
        let in_order = [self.folder.join(manifest_name(id)), self.file(&backup)];
        for file in in_order {
            fs_err::remove_file(file).map_err(|source| self.error(source))?;
        }
        self.sync()
    }

    /// Files of captures that were killed.
    pub(crate) fn leftovers(&self) -> Result<Vec<String>, CatalogError> {
        let names = self.names()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let mut leftovers: Vec<String> =
            self.names()?.into_iter().filter(|name| self.is_leftover(name)).collect();
        leftovers.sort_unstable();
        Ok(leftovers)
    }

    /// Removes what [`Self::leftovers`] named, where it still is one.
    pub(crate) fn remove_leftover(&self, name: &str) -> Result<(), CatalogError> {
        let _lock = self.lock()?;
        if self.is_leftover(name) {
            fs_err::remove_file(self.folder.join(name)).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    /// Whether nobody needs this file. Only under the folder's lock: manifests are written and published under it.
    fn is_leftover(&self, name: &str) -> bool {
        let path = self.folder.join(name);
        let ours = name.starts_with(TEMPORARY)
            || name.starts_with(UNSEALED)
            || BackupId::of_file(name).is_some_and(|id| {
                let plain = name.strip_suffix(&format!(".{}", seal::EXTENSION)).unwrap_or(name);
                let of_capture = name.starts_with(&partial_name(id))
                    || System::ALL
                        .iter()
                        .any(|system| plain.ends_with(&format!(".{}", system.extension())));
                of_capture && !self.folder.join(manifest_name(id)).exists()
            });
        let is_file = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        // A capture that still runs holds a lock on its file.
        ours && is_file && File::open(&path).is_ok_and(|file| file.try_lock().is_ok())
    }

    /// Takes the next number and makes its file, empty and for us alone.
    pub(crate) fn reserve(&self) -> Result<Reservation<'_>, CatalogError> {
        create_private_folder(&self.folder).map_err(|source| self.error(source))?;
        let _lock = self.lock()?;
        let last = std::fs::read_to_string(self.folder.join(LAST_ID)).unwrap_or_default();
        let highest = self
            .names()?
            .iter()
            .filter_map(|name| BackupId::of_file(name))
            .chain(last.trim().parse())
            .max()
            .map_or(0, BackupId::number);
        let id =
            BackupId::new(highest.checked_add(1).ok_or_else(|| {
                self.error(io::Error::other("all numbers of backups are used up"))
            })?);
        let partial = self.folder.join(partial_name(id));
        let file = create_private(&partial).map_err(|source| self.error(source))?;
        let files = vec![partial.clone()];
        let reservation =
            Reservation { catalog: self, id, finished: partial, files, locks: vec![file] };
        reservation.locks[0].try_lock().map_err(|error| self.error(lock_error(error)))?;
        self.write_atomically(LAST_ID, &format!("{id}\n"))?;
        Ok(reservation)
    }

    fn write_atomically(&self, name: &str, text: &str) -> Result<(), CatalogError> {
        let temporary = self.write_temporary(text).map_err(|source| self.error(source))?;
        temporary.persist(self.folder.join(name)).map(drop).map_err(|error| self.error(error.error))
    }

    fn write_manifest(&self, backup: &Manifest) -> Result<tempfile::NamedTempFile, CatalogError> {
        let text = backup.to_json().map_err(|error| self.error(io::Error::other(error)))?;
        self.write_temporary(&text).map_err(|source| self.error(source))
    }

    fn write_temporary(&self, text: &str) -> io::Result<tempfile::NamedTempFile> {
        // Its mode is 0600.
        let mut temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.folder)?;
        temporary.write_all(text.as_bytes())?;
        temporary.as_file().sync_all()?;
        Ok(temporary)
    }

    fn names(&self) -> Result<Vec<String>, CatalogError> {
        let entries = match fs_err::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.error(source)),
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
            .map_err(|source| self.error(source))
    }

    /// Keeps other programs from changing the folder until the value goes away.
    fn lock(&self) -> Result<File, CatalogError> {
        let lock = || {
            let folder = File::open(&self.folder)?;
            folder.lock()?;
            Ok(folder)
        };
        lock().map_err(|source| self.error(source))
    }

    /// Renames are durable only when the folder is on disk, too.
    fn sync(&self) -> Result<(), CatalogError> {
        let sync = || File::open(&self.folder)?.sync_all();
        sync().map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> CatalogError {
        CatalogError::Folder { folder: self.folder.clone(), source }
    }
}

/// A decrypted copy of a backup.
#[derive(Debug)]
pub(crate) struct Unsealed {
    copy: tempfile::NamedTempFile,
    /// Of the encrypted file.
    pub(crate) stored: Fingerprint,
    /// Of the copy.
    pub(crate) plain: Fingerprint,
}

impl Unsealed {
    pub(crate) fn file(&self) -> &Path {
        self.copy.path()
    }
}

fn lock_error(error: TryLockError) -> io::Error {
    match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    }
}

fn manifest_name(id: BackupId) -> String {
    format!("{id}.json")
}

fn partial_name(id: BackupId) -> String {
    format!("{id}.{PARTIAL}")
}

/// Makes an empty file with mode 0600, which must not exist.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    fs_err::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(path)?.into_parts().0)
}

/// Makes a folder, with its parents, that only we can look into: backups hold personal data.
fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(folder.path(), EnvironmentName::Staging);
        (folder, catalog)
    }

    fn publish(catalog: &Catalog) -> BackupId {
        let reservation = catalog.reserve().unwrap();
        let id = reservation.id();
        reservation.publish(&crate::manifest::tests::manifest(id.number())).unwrap();
        id
    }

    #[test]
    fn two_captures_at_once_never_get_the_same_number() {
        let (_folder, catalog) = catalog();
        let mut ids: Vec<u32> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope
                        .spawn(|| (0..10).map(|_| publish(&catalog).number()).collect::<Vec<u32>>())
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        ids.sort_unstable();
        assert_eq!(ids, (1..=40).collect::<Vec<u32>>());
        assert_eq!(catalog.list().unwrap().backups.len(), 40);
    }

    #[test]
    fn a_removed_backups_number_does_not_come_back() {
        let (_folder, catalog) = catalog();
        let id = publish(&catalog);
        catalog.remove(id).unwrap();
        assert_eq!(publish(&catalog), BackupId::new(2));
    }

    #[test]
    fn an_abandoned_capture_leaves_nothing() {
        let (_folder, catalog) = catalog();
        let reservation = catalog.reserve().unwrap();
        assert!(reservation.partial().exists());
        drop(reservation);
        assert_eq!(catalog.names().unwrap(), [LAST_ID]);
    }

    #[test]
    fn a_capture_that_runs_is_no_leftover_and_one_that_was_killed_is() {
        let (_folder, catalog) = catalog();
        publish(&catalog);
        let running = catalog.reserve().unwrap();
        for killed in ["b003.partial", "b004-20261123T000000Z-x.sqlite3", ".manifest-x"] {
            std::fs::write(catalog.folder.join(killed), "half").unwrap();
        }
        for other in ["b003-notes.txt", "notes.sqlite3"] {
            std::fs::write(catalog.folder.join(other), "somebody's").unwrap();
        }
        let leftovers = catalog.leftovers().unwrap();
        assert_eq!(leftovers, [".manifest-x", "b003.partial", "b004-20261123T000000Z-x.sqlite3"]);
        for name in &leftovers {
            catalog.remove_leftover(name).unwrap();
        }
        assert_eq!(catalog.leftovers().unwrap(), Vec::<String>::new());
        assert!(running.partial().exists());
        assert!(catalog.folder.join("b003-notes.txt").exists());
    }

    #[test]
    fn a_backup_whose_file_or_manifest_is_not_right_is_listed_as_broken() {
        let (_folder, catalog) = catalog();
        let backups: Vec<Manifest> =
            (0..3).map(|_| catalog.find(publish(&catalog)).unwrap()).collect();
        std::fs::remove_file(catalog.file(&backups[0])).unwrap();
        std::fs::write(catalog.folder.join("b002.json"), "{}").unwrap();
        let Listing { backups, broken } = catalog.list().unwrap();
        assert_eq!(backups.len(), 1);
        let problems: Vec<&str> = broken.iter().map(|broken| broken.problem.as_str()).collect();
        assert!(problems[0].starts_with("the file of backup b001 is missing"), "{problems:?}");
        assert!(problems[1].contains("it is malformed"), "{problems:?}");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_a_backup() {
        use std::os::unix::fs::PermissionsExt as _;

        let (_folder, catalog) = catalog();
        let backup = catalog.find(publish(&catalog)).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(catalog.folder()), 0o700);
        assert_eq!(mode(&catalog.file(&backup)), 0o600);
        assert_eq!(mode(&catalog.folder.join("b001.json")), 0o600);
    }
}
