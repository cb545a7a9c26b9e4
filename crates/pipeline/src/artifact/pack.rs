//! What goes into an artifact, and the file that is made of it.

use std::{
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use fs_err as fs;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    Artifact, ArtifactSource, FORMAT, Origin, PROCFILE, PROGRAMS, REQUIRED_DATA, Revision, VERSION,
    hash::{hash_file, hex},
    store::{Packed, recall, remember, unique_name},
};

/// Personal data, which never enters an artifact.
const NOT_PACKED: &str = "backups";
/// Inside of the artifact, what it was packed from.
pub(super) const MANIFEST: &str = "artifact.json";

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackArtifactError {
    /// Without this file a release cannot work.
    #[error("{file} is missing, so no release can be made")]
    MissingData {
        /// The file, relative to the project's root.
        file: String,
    },
    /// The folder of programs has none.
    #[error("there are no programs in {folder}")]
    NoPrograms {
        /// The folder.
        folder: PathBuf,
    },
    /// Only files and folders can be packed.
    #[error("{file} is neither a file nor a folder and cannot be packed")]
    Unsupported {
        /// The entry.
        file: PathBuf,
    },
    /// An input cannot be read; the source names it.
    #[error("cannot read what the artifact is packed from")]
    Read(#[source] io::Error),
    /// The artifact cannot be written; the source says why, such as a full disk.
    #[error("cannot write the artifact to {folder}")]
    Write {
        /// Where artifacts are kept.
        folder: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

/// A file that goes into the artifact.
#[derive(Debug)]
struct Input {
    name: String,
    path: PathBuf,
    mode: u32,
    sha256: String,
}

/// Packs an artifact into `store`, or finds the one that was packed from the same input.
///
/// # Errors
///
/// Fails where an input is missing or unreadable, or the artifact cannot be written; `store` then has no new artifact.
pub fn pack_artifact(source: &ArtifactSource, store: &Path) -> Result<Artifact, PackArtifactError> {
    let inputs = find_inputs(source)?;
    let manifest = manifest(&inputs, source.revision.as_ref());
    let fingerprint = hex(&Sha256::digest(manifest.as_bytes()));
    let write_error = |error| PackArtifactError::Write { folder: store.to_owned(), source: error };
    fs::create_dir_all(store).map_err(write_error)?;
    let memory = store.join(format!("{fingerprint}.json"));
    let artifact = |packed: Packed, origin| Artifact {
        file: store.join(format!("{}.tar.gz", packed.sha256)),
        sha256: packed.sha256,
        size: packed.size,
        revision: source.revision.clone(),
        origin,
    };
    if let Some(packed) = recall(&memory) {
        let found = artifact(packed, Origin::Reused);
        // One that was damaged since is packed again; else every later run would fail on it.
        if hash_file(&found.file).is_ok_and(|sha256| sha256 == found.sha256) {
            return Ok(found);
        }
    }
    let temporary = store.join(unique_name(&fingerprint));
    let result = write_archive(&temporary, &inputs, &manifest).and_then(|(sha256, size)| {
        fs::rename(&temporary, store.join(format!("{sha256}.tar.gz")))?;
        let packed = Packed { format: FORMAT.to_owned(), version: VERSION, sha256, size };
        remember(&memory, &packed)?;
        Ok(packed)
    });
    match result {
        Ok(packed) => Ok(artifact(packed, Origin::Packed)),
        Err(error) => {
            // What could not be written may not be there either.
            let _ = fs::remove_file(&temporary);
            Err(write_error(error))
        }
    }
}

/// Checks that `root` has everything that a release cannot do without.
///
/// # Errors
///
/// Fails with the first file that is missing.
pub fn check_required_data(root: &Path) -> Result<(), PackArtifactError> {
    match REQUIRED_DATA.iter().find(|file| !root.join(file).is_file()) {
        Some(file) => Err(PackArtifactError::MissingData { file: (*file).to_owned() }),
        None => Ok(()),
    }
}

/// Everything that goes into the artifact, sorted by name.
fn find_inputs(source: &ArtifactSource) -> Result<Vec<Input>, PackArtifactError> {
    check_required_data(&source.root)?;
    let mut files: Vec<(String, PathBuf, u32)> = PROGRAMS
        .iter()
        .map(|program| (format!("bin/{program}"), source.programs.join(program), 0o755))
        .filter(|(_, path, _)| path.is_file())
        .collect();
    if files.is_empty() {
        return Err(PackArtifactError::NoPrograms { folder: source.programs.clone() });
    }
    find_data(&source.root.join("data"), "data", &mut files)?;
    let procfile = source.root.join(PROCFILE);
    if procfile.is_file() {
        files.push((PROCFILE.to_owned(), procfile, 0o644));
    }
    files.sort();
    files
        .into_iter()
        .map(|(name, path, mode)| {
            let sha256 = hash_file(&path).map_err(PackArtifactError::Read)?;
            Ok(Input { name, path, mode, sha256 })
        })
        .collect()
}

fn find_data(
    folder: &Path,
    name: &str,
    files: &mut Vec<(String, PathBuf, u32)>,
) -> Result<(), PackArtifactError> {
    for entry in fs::read_dir(folder).map_err(PackArtifactError::Read)? {
        let path = entry.map_err(PackArtifactError::Read)?.path();
        let Some(own) = path.file_name().and_then(|own| own.to_str()) else {
            return Err(PackArtifactError::Unsupported { file: path });
        };
        // Hidden files are those of editors and of interrupted writes.
        if own.starts_with('.') || (name == "data" && own == NOT_PACKED) {
            continue;
        }
        let name = format!("{name}/{own}");
        let metadata = fs::metadata(&path).map_err(PackArtifactError::Read)?;
        if metadata.is_dir() {
            find_data(&path, &name, files)?;
        } else if metadata.is_file() {
            files.push((name, path, 0o644));
        } else {
            return Err(PackArtifactError::Unsupported { file: path });
        }
    }
    Ok(())
}

/// The text that decides whether two artifacts are the same, and that tells what is in one.
fn manifest(inputs: &[Input], revision: Option<&Revision>) -> String {
    #[derive(Serialize)]
    struct Manifest<'a> {
        format: &'static str,
        version: u32,
        revision: Option<&'a Revision>,
        files: Vec<File<'a>>,
    }
    #[derive(Serialize)]
    struct File<'a> {
        name: &'a str,
        mode: String,
        sha256: &'a str,
    }
    let files = inputs
        .iter()
        .map(|Input { name, path: _, mode, sha256 }| File {
            name,
            mode: format!("{mode:o}"),
            sha256,
        })
        .collect();
    let manifest = Manifest { format: FORMAT, version: VERSION, revision, files };
    let mut text =
        serde_json::to_string_pretty(&manifest).expect("strings and numbers are valid JSON");
    text.push('\n');
    text
}

fn write_archive(file: &Path, inputs: &[Input], manifest: &str) -> io::Result<(String, u64)> {
    let counted = Counted { inner: fs::File::create(file)?, hasher: Sha256::new(), size: 0 };
    let buffered = BufWriter::with_capacity(1 << 17, counted);
    // The fastest level: most of an artifact is machine code, and the time is a person's.
    let gzip = flate2::GzBuilder::new().mtime(0).write(buffered, flate2::Compression::new(1));
    let mut archive = tar::Builder::new(gzip);
    append(&mut archive, MANIFEST, 0o644, manifest.len() as u64, manifest.as_bytes())?;
    for Input { name, path, mode, sha256: _ } in inputs {
        let content = fs::File::open(path)?;
        let size = content.metadata()?.len();
        append(&mut archive, name, *mode, size, content)?;
    }
    let counted = archive.into_inner()?.finish()?.into_inner().map_err(|e| e.into_error())?;
    let Counted { inner, hasher, size } = counted;
    inner.sync_all()?;
    Ok((hex(&hasher.finalize()), size))
}

pub(crate) fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    mode: u32,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, name, content)
}

struct Counted<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
