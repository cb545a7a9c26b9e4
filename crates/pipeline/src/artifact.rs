//! The release artifact: the programs and `data/` in one file that is the same wherever it is packed from the same input.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::file;

/// The programs that a release consists of, as far as they have been built.
pub const PROGRAMS: [&str; 10] = [
    "backup-database",
    "export-tool-access",
    "import-tool-access",
    "migrate-db",
    "omnitool",
    "rollback-migration",
    "smoke-tests",
    "sync-data-prod-to-staging",
    "sync-tools",
    "verify-migration",
];

/// What a release cannot do without, relative to the project's root.
pub const REQUIRED_DATA: [&str; 3] = [
    "data/environments.toml",
    "data/tool_access_exports/local_tool_access.json",
    "data/tools.toml",
];

/// What runs where on Heroku, relative to the project's root. Other platforms do not need it.
pub(crate) const PROCFILE: &str = "Procfile";

/// Personal data, which never enters an artifact.
const NOT_PACKED: &str = "backups";
const PARTIAL: &str = ".partial";
/// How long something half done is left alone: whoever makes it may still be at it.
const PARTIAL_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const FORMAT: &str = "omnitool.artifact";
const VERSION: u32 = 1;
/// Inside of the artifact, what it was packed from.
const MANIFEST: &str = "artifact.json";

/// What an artifact is packed from.
#[derive(Clone, Debug)]
pub struct ArtifactSource {
    /// The folder with the built programs.
    pub programs: PathBuf,
    /// The project's root, which holds `data/`.
    pub root: PathBuf,
    /// The commit that is checked out, where there is one.
    pub revision: Option<Revision>,
}

/// The commit that an artifact was packed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// The commit's hash.
    pub commit: String,
    /// Whether files differed from the commit.
    pub modified: bool,
}

/// A packed artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The file.
    pub file: PathBuf,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// What it was packed from.
    pub revision: Option<Revision>,
    /// Whether it had to be packed.
    pub origin: Origin,
}

/// Whether an artifact had to be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was packed.
    Packed,
    /// Its input was unchanged, so it was there already.
    Reused,
    /// It was asked for by its SHA-256.
    Found,
}

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

/// A file that goes into the artifact.
#[derive(Debug)]
struct Input {
    name: String,
    path: PathBuf,
    mode: u32,
    sha256: String,
}

/// Remembers which artifact was packed from which input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    format: String,
    version: u32,
    sha256: String,
    size: u64,
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

/// A name for something half done, which no other process has: two environments may pack the same artifact at once.
fn unique_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".{what}.{}-{next}{PARTIAL}", std::process::id())
}

fn remember(memory: &Path, packed: &Packed) -> io::Result<()> {
    let temporary = memory.with_file_name(unique_name(&packed.sha256));
    file::write_json(&temporary, packed)?;
    fs::rename(temporary, memory)
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

fn recall(memory: &Path) -> Option<Packed> {
    // A memory that is missing, damaged or of another version only costs the time to pack again.
    let packed: Packed = serde_json::from_slice(&fs::read(memory).ok()?).ok()?;
    (packed.format == FORMAT && packed.version == VERSION).then_some(packed)
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// `bytes` in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// The SHA-256 of what was read, in hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        hex(&self.hasher.finalize())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn project(folder: &Path) -> ArtifactSource {
        for file in REQUIRED_DATA {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "content").unwrap();
        }
        fs::create_dir_all(folder.join("data/backups/staging")).unwrap();
        fs::write(folder.join("data/backups/staging/b001.db"), "personal").unwrap();
        fs::create_dir_all(folder.join("target")).unwrap();
        fs::write(folder.join("target/migrate-db"), "program").unwrap();
        fs::write(folder.join("target/something-else"), "program").unwrap();
        ArtifactSource {
            programs: folder.join("target"),
            root: folder.to_owned(),
            revision: Some(Revision { commit: "abc".to_owned(), modified: false }),
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_in_every_folder() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = pack_artifact(&project(one.path()), &one.path().join("store")).unwrap();
        let source = project(two.path());
        let program = two.path().join("target/migrate-db");
        fs::set_permissions(program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let second = pack_artifact(&source, &two.path().join("store")).unwrap();
        assert_eq!(first.sha256, second.sha256);
        assert_eq!(fs::read(first.file).unwrap(), fs::read(second.file).unwrap());
    }

    #[test]
    fn an_artifact_is_reused_until_its_input_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (source, store) = (project(folder.path()), folder.path().join("store"));
        let first = pack_artifact(&source, &store).unwrap();
        assert_eq!(first.origin, Origin::Packed);
        let again = pack_artifact(&source, &store).unwrap();
        assert_eq!((again.origin, &again.sha256), (Origin::Reused, &first.sha256));
        fs::write(folder.path().join("data/tools.toml"), "changed").unwrap();
        let changed = pack_artifact(&source, &store).unwrap();
        assert_eq!(changed.origin, Origin::Packed);
        assert_ne!(changed.sha256, first.sha256);
        fs::remove_file(&changed.file).unwrap();
        assert_eq!(pack_artifact(&source, &store).unwrap().origin, Origin::Packed);
    }

    #[test]
    fn an_artifact_that_was_damaged_is_packed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (source, store) = (project(folder.path()), folder.path().join("store"));
        let first = pack_artifact(&source, &store).unwrap();
        let mut bytes = fs::read(&first.file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&first.file, bytes).unwrap();
        let again = pack_artifact(&source, &store).unwrap();
        assert_eq!((again.origin, &again.sha256), (Origin::Packed, &first.sha256));
        unpack_artifact(&again, &folder.path().join("release")).unwrap();
    }

    #[test]
    fn an_artifact_holds_programs_and_data_but_no_backups() {
        let folder = tempfile::tempdir().unwrap();
        let artifact =
            pack_artifact(&project(folder.path()), &folder.path().join("store")).unwrap();
        let into = folder.path().join("release");
        unpack_artifact(&artifact, &into).unwrap();
        let mode = |file: &str| fs::metadata(into.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("bin/migrate-db") & 0o700, 0o700);
        assert_eq!(mode("data/tools.toml") & 0o700, 0o600);
        assert!(!into.join("bin/something-else").exists());
        assert!(!into.join("data/backups").exists());
        assert!(fs::read_to_string(into.join(MANIFEST)).unwrap().contains("\"commit\": \"abc\""));
    }

    #[test]
    fn only_the_newest_artifacts_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (source, store) = (project(folder.path()), folder.path().join("store"));
        let pack = |content: &str| {
            fs::write(folder.path().join("data/tools.toml"), content).unwrap();
            pack_artifact(&source, &store).unwrap()
        };
        let all: Vec<Artifact> = ["a", "b", "c"].into_iter().map(pack).collect();
        remove_old_artifacts(&store, &all[0], 2).unwrap();
        let there = all.iter().map(|artifact| artifact.file.exists()).collect::<Vec<_>>();
        assert_eq!(there, [true, false, true]);
        assert_eq!(fs::read_dir(&store).unwrap().count(), 4);
        assert_eq!(pack("a").origin, Origin::Reused);
        assert_eq!(pack("b").origin, Origin::Packed);
    }

    #[test]
    fn a_damaged_artifact_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut artifact =
            pack_artifact(&project(folder.path()), &folder.path().join("store")).unwrap();
        artifact.sha256 = "0".repeat(64);
        let error = unpack_artifact(&artifact, &folder.path().join("release")).unwrap_err();
        assert!(matches!(error, UnpackArtifactError::Changed { .. }), "{error}");
    }

    #[test]
    fn missing_input_is_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (source, store) = (project(folder.path()), folder.path().join("store"));
        fs::remove_file(folder.path().join("data/tools.toml")).unwrap();
        let error = pack_artifact(&source, &store).unwrap_err();
        insta::assert_snapshot!(error, @"data/tools.toml is missing, so no release can be made");
        fs::write(folder.path().join("data/tools.toml"), "").unwrap();
        fs::remove_file(folder.path().join("target/migrate-db")).unwrap();
        let error = pack_artifact(&source, &store).unwrap_err();
        assert!(matches!(error, PackArtifactError::NoPrograms { .. }), "{error}");
        assert!(!store.exists());
    }

    #[test]
    fn an_artifact_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::write(&store, "a file where the folder should be").unwrap();
        let error = pack_artifact(&project(folder.path()), &store).unwrap_err();
        assert!(matches!(error, PackArtifactError::Write { .. }), "{error}");
    }
}
