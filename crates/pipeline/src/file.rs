//! Files that only their owner reads, and that are whole or not there.

use std::{
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use fs_err as fs;
use serde::Serialize;

/// Writes `value` to `file` as [`write()`] does.
pub(crate) fn write_json(file: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write(file, &text)
}

/// Writes `content` to `file` through a file beside it that is then renamed, with mode 0600.
pub(crate) fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let temporary = file.with_file_name(name);
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut partial = fs::OpenOptions::from_options(options).open(&temporary)?;
        partial.write_all(content)?;
        partial.sync_all()?;
        fs::rename(&temporary, file)
    };
    write().inspect_err(|_| {
        // What could not be written may not be there either.
        let _ = fs::remove_file(&temporary);
    })
}
