//! Lengths and SHA-256 of files.

use std::{
    fmt::Write as _,
    io::{self, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

/// What tells whether two files are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Bytes.
    pub(crate) size: u64,
    /// Hexadecimal.
    pub(crate) sha256: String,
}

/// The fingerprint of `file`, read in pieces.
pub(crate) fn of_file(file: &Path) -> io::Result<Fingerprint> {
    let mut source = fs_err::File::open(file)?;
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 1 << 18];
    loop {
        let length = source.read(&mut piece)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&piece[..length]);
    }
}

/// Makes a fingerprint of bytes as they come.
#[derive(Default)]
pub(crate) struct Hasher {
    size: u64,
    hash: Sha256,
}

impl Hasher {
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        self.size += piece.len() as u64;
    }

    pub(crate) fn finish(self) -> Fingerprint {
        let mut sha256 = String::with_capacity(64);
        for byte in self.hash.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Fingerprint { size: self.size, sha256 }
    }
}
