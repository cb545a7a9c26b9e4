//! A commit's files as Heroku builds them: those of git, with process types that know their release.

use std::{
    io::{self, BufReader, BufWriter, Read as _},
    path::Path,
    process::{Command, Stdio},
};

use fs_err as fs;
use sha2::{Digest as _, Sha256};

use super::{HerokuPlatformError, slug::process_types};
use crate::{
    PROGRAMS, ReleaseId, Revision,
    artifact::{PROCFILE, append, hex},
};

/// Where a build for Rust leaves programs, as seen from `bin`.
const BUILT: &str = "../target/release";

/// Packs the files of the commit into `file`, and returns the SHA-256 of that.
pub(super) fn pack(
    root: &Path,
    revision: Option<&Revision>,
    release: ReleaseId,
    file: &Path,
) -> Result<String, HerokuPlatformError> {
    let Some(Revision { commit, modified: false }) = revision else {
        return Err(HerokuPlatformError::Uncommitted);
    };
    let error = |source| HerokuPlatformError::Io { what: "pack the sources", source };
    let procfile = archive(root, commit, release, file).map_err(error)?;
    if !procfile {
        return Err(HerokuPlatformError::Procfile);
    }
    let bytes = fs::read(file).map_err(error)?;
    Ok(hex(&Sha256::digest(bytes)))
}

/// Returns whether there is a usable Procfile.
fn archive(root: &Path, commit: &str, release: ReleaseId, file: &Path) -> io::Result<bool> {
    let mut git = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["archive", "--format=tar", commit])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = git.stdout.take().ok_or_else(|| io::Error::other("git has no output"))?;
    let mut from = tar::Archive::new(BufReader::new(output));
    let writer = BufWriter::with_capacity(1 << 17, fs::File::create(file)?);
    let gzip = flate2::GzBuilder::new().mtime(0).write(writer, flate2::Compression::new(1));
    let mut to = tar::Builder::new(gzip);
    let mut types = None;
    for entry in from.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if name == PROCFILE {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            types = process_types(&text, release);
            let lines = types.iter().flatten();
            let text: String =
                lines.map(|(name, command)| format!("{name}: {command}\n")).collect();
            append(&mut to, PROCFILE, 0o644, text.len() as u64, text.as_bytes())?;
        } else if !name.starts_with("pax_global_header") {
            let header = entry.header().clone();
            to.append(&header, entry)?;
        }
    }
    for program in PROGRAMS {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        to.append_link(&mut header, format!("bin/{program}"), format!("{BUILT}/{program}"))?;
    }
    to.into_inner()?.finish()?.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    let status = git.wait()?;
    if status.success() {
        Ok(types.is_some())
    } else {
        Err(io::Error::other(format!("`git archive` ended with {status}")))
    }
}
