//! The artifacts that are kept: found, unpacked, and removed when they are old.

use std::{
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{
    Artifact, FORMAT, Origin, PackArtifactError, Revision, VERSION,
    hash::{Hashed, hash_file},
};
use crate::file;

const PARTIAL: &str = ".partial";
/// How long something half done is left alone: whoever makes it may still be at it.
const PARTIAL_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an artifact that was packed before cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindArtifactError {
    /// It was removed, or never was on this machine.
    #[error("the artifact {file} is not there any more")]
    Missing {
        /// Where it should be.
        file: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the artifact")]
    Read(#[source] io::Error),
    /// It is damaged, was replaced, or cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackArtifactError),
}

/// Why an artifact was not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackArtifactError {
    /// The artifact is damaged or was replaced.
    #[error("the artifact {file} is not what was packed: its sha256 is {found}, not {expected}")]
    Changed {
        /// The artifact.
        file: PathBuf,
        /// The hash of what was packed.
        expected: String,
        /// The hash of the file as it is.
        found: String,
    },
    /// It cannot be read, or the folder cannot be written.
    #[error("cannot unpack the artifact {file} into {folder}")]
    Unpack {
        /// The artifact.
        file: PathBuf,
        /// Where it should go.
        folder: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

/// Remembers which artifact was packed from which input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Packed {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) sha256: String,
    pub(super) size: u64,
}

/// A name for something half done, which no other process has: two environments may pack the same artifact at once.
pub(super) fn unique_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".{what}.{}-{next}{PARTIAL}", std::process::id())
}

pub(super) fn remember(memory: &Path, packed: &Packed) -> io::Result<()> {
    let temporary = memory.with_file_name(unique_name(&packed.sha256));
    file::write_json(&temporary, packed)?;
    fs::rename(temporary, memory)
}

pub(super) fn recall(memory: &Path) -> Option<Packed> {
    // A memory that is missing, damaged or of another version only costs the time to pack again.
    let packed: Packed = serde_json::from_slice(&fs::read(memory).ok()?).ok()?;
    (packed.format == FORMAT && packed.version == VERSION).then_some(packed)
}

/// Finds the artifact with this hash in `store`.
///
/// # Errors
///
/// Fails where it is not there, or is not what it was when it was packed.
pub fn find_artifact(store: &Path, sha256: &str) -> Result<Artifact, FindArtifactError> {
    let file = store.join(format!("{sha256}.tar.gz"));
    let size = match fs::metadata(&file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FindArtifactError::Missing { file });
        }
        Err(error) => return Err(FindArtifactError::Read(error)),
    };
    let found = hash_file(&file).map_err(FindArtifactError::Read)?;
    if found != sha256 {
        let expected = sha256.to_owned();
        return Err(UnpackArtifactError::Changed { file, expected, found }.into());
    }
    let revision = read_revision(&file).map_err(FindArtifactError::Read)?;
    Ok(Artifact { file, sha256: found, size, revision, origin: Origin::Found })
}

/// The commit that the artifact `file` says it was packed from. The manifest is its first entry.
fn read_revision(file: &Path) -> io::Result<Option<Revision>> {
    #[derive(Deserialize)]
    struct Manifest {
        revision: Option<Revision>,
    }
    let reader = BufReader::new(fs::File::open(file)?);
    let mut archive = tar::Archive::new(flate2::bufread::GzDecoder::new(reader));
    let first = archive.entries()?.next().transpose()?;
    let first = first.ok_or_else(|| io::Error::other("the artifact is empty"))?;
    let manifest: Manifest = serde_json::from_reader(first)?;
    Ok(manifest.revision)
}

/// The folder in `store` that `artifact` is unpacked in, for programs that run on this machine.
pub(crate) fn unpacked_programs(
    store: &Path,
    artifact: &Artifact,
) -> Result<PathBuf, FindArtifactError> {
    let folder = store.join(&artifact.sha256);
    if folder.is_dir() {
        return Ok(folder);
    }
    let temporary = store.join(unique_name(&artifact.sha256));
    let placed = unpack_artifact(artifact, &temporary).and_then(|()| {
        match fs::rename(&temporary, &folder) {
            // Another process was as quick; its folder has the same content.
            Err(_) if folder.is_dir() => {
                let _ = fs::remove_dir_all(&temporary);
                Ok(())
            }
            Err(source) => Err(UnpackArtifactError::Unpack {
                file: artifact.file.clone(),
                folder: folder.clone(),
                source,
            }),
            Ok(()) => Ok(()),
        }
    });
    if let Err(error) = placed {
        // A full disk is emptied again; that this may fail, too, changes nothing.
        let _ = fs::remove_dir_all(&temporary);
        return Err(error.into());
    }
    Ok(folder)
}

/// Unpacks `artifact` into the new folder `into`.
///
/// # Errors
///
/// Fails where the artifact is not what was packed, or the folder cannot be written; `into` is then incomplete.
pub fn unpack_artifact(artifact: &Artifact, into: &Path) -> Result<(), UnpackArtifactError> {
    let unpack = || -> io::Result<String> {
        fs::create_dir_all(into)?;
        let hashed = Hashed::new(fs::File::open(&artifact.file)?);
        let mut reader = BufReader::with_capacity(1 << 17, hashed);
        let mut archive = tar::Archive::new(flate2::bufread::GzDecoder::new(&mut reader));
        archive.set_preserve_mtime(false);
        archive.unpack(into)?;
        drop(archive);
        // The archive's reader stops at its end mark; the hash is of the whole file.
        io::copy(&mut reader, &mut io::sink())?;
        Ok(reader.into_inner().finish())
    };
    let found = unpack().map_err(|source| UnpackArtifactError::Unpack {
        file: artifact.file.clone(),
        folder: into.to_owned(),
        source,
    })?;
    if found == artifact.sha256 {
        Ok(())
    } else {
        Err(UnpackArtifactError::Changed {
            file: artifact.file.clone(),
            expected: artifact.sha256.clone(),
            found,
        })
    }
}

/// Removes all artifacts in `store` but `current` and the newest `keep`, with what was unpacked of them.
pub(crate) fn remove_old_artifacts(
    store: &Path,
    current: &Artifact,
    keep: usize,
) -> Result<(), PackArtifactError> {
    let failed = |source| PackArtifactError::Write { folder: store.to_owned(), source };
    let mut artifacts = Vec::new();
    let mut others = Vec::new();
    for entry in fs::read_dir(store).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") if path != current.file => {
                let packed = fs::metadata(&path).and_then(|metadata| metadata.modified());
                artifacts.push((packed.map_err(failed)?, path));
            }
            Some("gz") => {}
            _ => others.push(path),
        }
    }
    artifacts.sort();
    let old = artifacts.len().saturating_sub(keep.saturating_sub(1));
    for (_, artifact) in artifacts.drain(..old) {
        remove(&artifact).map_err(failed)?;
    }
    for path in others.iter().filter(|path| is_useless(store, path)) {
        remove(path).map_err(failed)?;
    }
    Ok(())
}

/// Whether `path` in `store` belongs to an artifact that is gone, or was left half done by a run that died.
fn is_useless(store: &Path, path: &Path) -> bool {
    let has = |sha256: &str| store.join(format!("{sha256}.tar.gz")).exists();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(PARTIAL) {
        let age = fs::metadata(path).and_then(|metadata| metadata.modified());
        return age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > PARTIAL_KEPT));
    }
    if name.ends_with(".json") {
        return !recall(path).is_some_and(|packed| has(&packed.sha256));
    }
    name.len() == 64 && path.is_dir() && !has(&name)
}

/// Removes a file or folder. Another environment may have been quicker.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
