//! The secret that makes masked values unguessable and the same in each refresh.

use std::{fmt, fmt::Write as _, io, path::Path};

use sha2::{Digest as _, Sha256};

/// The SQL function of a SQLite connection for 32 hexadecimal digits.
pub(super) const HASH_FUNCTION: &str = "omnitool_mask";
/// The SQL function of a SQLite connection for four decimal digits.
pub(super) const DIGITS_FUNCTION: &str = "omnitool_mask_digits";

/// A secret of one environment. It never leaves this machine: databases get keys that are derived from it, one per column.
#[derive(Clone)]
pub struct MaskingKey([u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaskingKeyError {
    /// Its file cannot be read or written.
    #[error("cannot use the masking key {}", .file.display())]
    File {
        /// The file.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no masking key", .file.display())]
    Malformed {
        /// The file.
        file: std::path::PathBuf,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a masking key")]
    Random(#[source] getrandom::Error),
}

impl fmt::Debug for MaskingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskingKey(***)")
    }
}

impl MaskingKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key in `file`, which is made with mode 0600 where it does not exist.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read or made, or holds something else.
    pub fn load_or_make(file: &Path) -> Result<Self, MaskingKeyError> {
        let failed = |source| MaskingKeyError::File { file: file.to_owned(), source };
        match std::fs::read_to_string(file) {
            Ok(text) => parse(text.trim())
                .ok_or_else(|| MaskingKeyError::Malformed { file: file.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).map_err(MaskingKeyError::Random)?;
                crate::refresh::write_private(file, hex(&bytes).as_bytes()).map_err(failed)?;
                Ok(Self(bytes))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The key of one column, from which neither this key nor another column's can be found.
    pub(super) fn of_column(&self, path: &str) -> ColumnKey {
        let mut inner = Sha256::new();
        inner.update(self.0);
        inner.update(path.as_bytes());
        // Hashed twice, so that a longer path's key cannot be computed from this one.
        let mut outer = Sha256::new();
        outer.update(self.0);
        outer.update(inner.finalize());
        ColumnKey(outer.finalize().into())
    }
}

/// The key of one column.
#[derive(Clone)]
pub(super) struct ColumnKey([u8; 32]);

impl ColumnKey {
    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Half of SHA-256 over key and value: what PostgreSQL computes by itself. Halving it keeps anybody from going on
    /// with the hash of a longer value.
    pub(super) fn hash(&self, value: &str) -> String {
        hex(&self.digest(value)[..16])
    }

    pub(super) fn digits(&self, value: &str) -> String {
        let digest = self.digest(value);
        let number = u32::from_be_bytes([0, digest[0], digest[1], digest[2]]);
        format!("{:04}", number % 10_000)
    }

    fn digest(&self, value: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(value.as_bytes());
        hash.finalize().into()
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn parse(text: &str) -> Option<MaskingKey> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(MaskingKey(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("staging/masking.key");
        let made = MaskingKey::load_or_make(&file).unwrap();
        let read = MaskingKey::load_or_make(&file).unwrap();
        assert_eq!(made.0, read.0);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(format!("{made:?}"), "MaskingKey(***)");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("masking.key");
        for text in ["", "secret", &"g".repeat(64), &"ä".repeat(32)] {
            std::fs::write(&file, text).unwrap();
            let error = MaskingKey::load_or_make(&file).unwrap_err().to_string();
            assert!(error.ends_with("holds no masking key"), "{error}");
        }
    }

    #[test]
    fn columns_have_different_keys() {
        let key = MaskingKey::new([7; 32]);
        let hash = |path| key.of_column(path).hash("alice@example.com");
        assert_eq!(hash("users.email"), hash("users.email"));
        assert_ne!(hash("users.email"), hash("users.username"));
        assert_ne!(
            hash("users.email"),
            MaskingKey::new([8; 32]).of_column("users.email").hash("alice@example.com")
        );
    }
}
