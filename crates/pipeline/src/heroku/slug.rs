//! The artifact as Heroku wants it: everything below `./app`, and the process types beside it.

use std::{
    io::{self, BufReader, BufWriter, Read as _},
    path::Path,
};

use fs_err as fs;
use sha2::{Digest as _, Sha256};

use super::HerokuPlatformError;
use crate::{
    Artifact, ReleaseId, UnpackArtifactError,
    artifact::{Hashed, PROCFILE, append, hex},
};

/// What a slug is made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// The SHA-256 of the file, in hexadecimal digits.
    pub(super) sha256: String,
    /// Process types, each with its command.
    pub(super) process_types: Vec<(String, String)>,
}

/// Packs `artifact` into the slug `file`. Its processes know that they are of `release`.
pub(super) fn pack(
    artifact: &Artifact,
    release: ReleaseId,
    file: &Path,
) -> Result<Packed, HerokuPlatformError> {
    let (found, procfile) = repack(artifact, file)
        .map_err(|source| HerokuPlatformError::Io { what: "make the slug", source })?;
    if found != artifact.sha256 {
        let expected = artifact.sha256.clone();
        let file = artifact.file.clone();
        return Err(UnpackArtifactError::Changed { file, expected, found }.into());
    }
    let process_types = process_types(&procfile, release).ok_or(HerokuPlatformError::Procfile)?;
    let bytes = fs::read(file)
        .map_err(|source| HerokuPlatformError::Io { what: "read the slug", source })?;
    Ok(Packed { sha256: hex(&Sha256::digest(bytes)), process_types })
}

/// Returns the SHA-256 of the artifact as it was read, and its Procfile.
fn repack(artifact: &Artifact, file: &Path) -> io::Result<(String, String)> {
    let hashed = Hashed::new(fs::File::open(&artifact.file)?);
    let mut reader = BufReader::with_capacity(1 << 17, hashed);
    let mut from = tar::Archive::new(flate2::bufread::GzDecoder::new(&mut reader));
    let writer = BufWriter::with_capacity(1 << 17, fs::File::create(file)?);
    let gzip = flate2::GzBuilder::new().mtime(0).write(writer, flate2::Compression::new(1));
    let mut to = tar::Builder::new(gzip);
    let mut procfile = String::new();
    for entry in from.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let (mode, size) = (entry.header().mode()?, entry.size());
        if name == PROCFILE {
            entry.read_to_string(&mut procfile)?;
            append(&mut to, &format!("./app/{name}"), mode, size, procfile.as_bytes())?;
        } else {
            append(&mut to, &format!("./app/{name}"), mode, size, entry)?;
        }
    }
    drop(from);
    to.into_inner()?.finish()?.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    // The archive's reader stops at its end mark; the hash is of the whole file.
    io::copy(&mut reader, &mut io::sink())?;
    Ok((reader.into_inner().finish(), procfile))
}

/// What the Procfile says, for processes that know their release. Without `web` and `release` nothing would work.
pub(super) fn process_types(procfile: &str, release: ReleaseId) -> Option<Vec<(String, String)>> {
    let types: Vec<(String, String)> = procfile
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, command)| {
            (name.trim().to_owned(), format!("OMNITOOL_RELEASE={release} {}", command.trim()))
        })
        .collect();
    let has = |wanted| types.iter().any(|(name, _)| name == wanted);
    (has("web") && has("release")).then_some(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_know_their_release() {
        let release = ReleaseId::after(None);
        let types =
            process_types("# two\nrelease: bin/migrate-db\nweb: bin/omnitool serve\n", release);
        let types = types.unwrap();
        assert_eq!(types[0].1, "OMNITOOL_RELEASE=0001 bin/migrate-db");
        assert_eq!(
            types[1],
            ("web".to_owned(), "OMNITOOL_RELEASE=0001 bin/omnitool serve".to_owned())
        );
        assert_eq!(process_types("web: bin/omnitool serve", release), None);
    }
}
