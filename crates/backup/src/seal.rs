//! Encryption of backups with [age](https://age-encryption.org).
//!
//! Whoever takes backups needs only recipients, which are no secrets; whoever looks into them needs an identity.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use age::{DecryptError, Decryptor, Encryptor, x25519};

use crate::digest::{Fingerprint, Hasher};

/// What every encrypted file begins with.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// The ending of an encrypted file's name, after that of what is in it.
pub(crate) const EXTENSION: &str = "age";
/// Much more than a file of keys has.
const IDENTITY_FILE_LIMIT: u64 = 1 << 20;

/// Somebody who can read a backup: a public key, `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

/// A text that is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no age recipient: they look like age1…, and `age-keygen` makes them")]
pub struct ParseRecipientError {
    /// What was given instead, without what could be a secret.
    pub given: String,
}

/// To whom backups are encrypted, and with which key this program reads them.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// New backups are for all of these; without any, they are not encrypted.
    pub recipients: Vec<Recipient>,
    /// The file with the secret key. It is read when an encrypted backup is.
    pub identity: Option<PathBuf>,
}

/// Why an encrypted backup cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// Nobody said with which key.
    #[error("the backup {file} is encrypted, and no identity was named")]
    NoIdentity {
        /// The backup.
        file: PathBuf,
    },
    /// The file with the secret key cannot be read.
    #[error("cannot read the identity file {identity}")]
    ReadIdentity {
        /// The file with the secret key.
        identity: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something else in it.
    #[error("line {line} of the identity file {identity} is no AGE-SECRET-KEY-1…")]
    ParseIdentity {
        /// The file with the secret key.
        identity: PathBuf,
        /// Where.
        line: usize,
    },
    /// The backup is for others, or somebody changed it.
    #[error("cannot decrypt the backup {file} with the identity file {identity}")]
    Decrypt {
        /// The backup.
        file: PathBuf,
        /// The file with the secret key.
        identity: PathBuf,
        /// Why.
        #[source]
        source: DecryptError,
    },
    /// The backup cannot be read to its end.
    #[error("cannot read the backup {file} to its end")]
    Read {
        /// The backup.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The decrypted copy cannot be written.
    #[error("cannot write the decrypted copy of {file}")]
    Write {
        /// The backup.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FromStr for Recipient {
    type Err = ParseRecipientError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        given.parse().map(Self).map_err(|_| ParseRecipientError {
            // Whoever mixes them up must not find a secret key in a log.
            given: if given.to_ascii_uppercase().starts_with("AGE-SECRET") {
                "AGE-SECRET-…".to_owned()
            } else {
                given.to_owned()
            },
        })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

/// Whether `file` is an encrypted one.
pub(crate) fn is_sealed(file: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(file)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

/// Encrypts `plain` into `sealed` and flushes it to disk; the fingerprint is of the encrypted file.
pub(crate) fn seal(
    plain: &Path,
    sealed: File,
    recipients: &[Recipient],
) -> io::Result<Fingerprint> {
    let recipients = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
    let mut writer = encryptor.wrap_output(Hashing::new(sealed))?;
    copy(&mut File::open(plain)?, |piece| writer.write_all(piece))?;
    let Hashing { inner, hasher } = writer.finish()?;
    inner.sync_all()?;
    Ok(hasher.finish())
}

/// Decrypts `sealed` into `plain`; the fingerprints are of the encrypted file and of what was in it.
pub(crate) fn unseal(
    sealed: &Path,
    plain: &mut File,
    identity: &Path,
) -> Result<[Fingerprint; 2], UnsealError> {
    let file = || sealed.to_owned();
    let read = |source| UnsealError::Read { file: file(), source };
    let decrypt =
        |source| UnsealError::Decrypt { file: file(), identity: identity.to_owned(), source };
    let identities = read_identities(identity)?;
    let mut source = Hashing::new(File::open(sealed).map_err(read)?);
    let hasher = {
        let decryptor = Decryptor::new_buffered(BufReader::new(&mut source)).map_err(decrypt)?;
        let mut reader = decryptor
            .decrypt(identities.iter().map(|identity| identity as &dyn age::Identity))
            .map_err(decrypt)?;
        let mut hasher = Hasher::default();
        let mut failed = None;
        let copied = copy(&mut reader, |piece| {
            hasher.update(piece);
            plain.write_all(piece).map_err(|error| {
                let kind = error.kind();
                failed = Some(error);
                kind.into()
            })
        });
        if let Some(source) = failed {
            return Err(UnsealError::Write { file: file(), source });
        }
        copied.map_err(read)?;
        hasher
    };
    Ok([source.hasher.finish(), hasher.finish()])
}

fn read_identities(identity: &Path) -> Result<Vec<x25519::Identity>, UnsealError> {
    let failed = |source| UnsealError::ReadIdentity { identity: identity.to_owned(), source };
    let file = File::open(identity).map_err(failed)?;
    let mut identities = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(file.take(IDENTITY_FILE_LIMIT)).lines()) {
        let text = text.map_err(failed)?;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        identities.push(
            text.parse()
                .map_err(|_| UnsealError::ParseIdentity { identity: identity.to_owned(), line })?,
        );
    }
    Ok(identities)
}

fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; 1 << 16];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            length => to(&piece[..length])?,
        }
    }
}

/// A file whose bytes are counted and hashed on their way.
struct Hashing {
    inner: File,
    hasher: Hasher,
}

impl Hashing {
    fn new(inner: File) -> Self {
        Self { inner, hasher: Hasher::default() }
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest;

    /// A new key, and the file with it.
    fn key(folder: &Path) -> (Recipient, PathBuf) {
        let identity = x25519::Identity::generate();
        let file = folder.join(format!("{}.key", identity.to_public()));
        // The text of a secret is shown to nobody but its file.
        let text = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
        std::fs::write(&file, format!("# created: today\n\n{text}\n")).unwrap();
        (Recipient(identity.to_public()), file)
    }

    fn sealed(folder: &Path, content: &[u8], recipients: &[Recipient]) -> (PathBuf, Fingerprint) {
        let (plain, file) = (folder.join("plain"), folder.join("sealed"));
        std::fs::write(&plain, content).unwrap();
        let fingerprint = seal(&plain, File::create(&file).unwrap(), recipients).unwrap();
        assert_eq!(fingerprint, digest::of_file(&file).unwrap());
        (file, fingerprint)
    }

    fn unsealed(folder: &Path, file: &Path, identity: &Path) -> Result<Vec<u8>, UnsealError> {
        let copy = folder.join("copy");
        let [stored, plain] = unseal(file, &mut File::create(&copy).unwrap(), identity)?;
        assert_eq!(stored, digest::of_file(file).unwrap());
        assert_eq!(plain, digest::of_file(&copy).unwrap());
        Ok(std::fs::read(copy).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn every_recipient_gets_back_every_byte(length in 0_usize..200_000, byte: u8) {
            let folder = tempfile::tempdir().unwrap();
            let keys = [key(folder.path()), key(folder.path())];
            let content: Vec<u8> = (0..length).map(|index| byte.wrapping_add((index / 7) as u8)).collect();
            let recipients = keys.each_ref().map(|(recipient, _)| recipient.clone());
            let (file, _) = sealed(folder.path(), &content, &recipients);
            prop_assert!(is_sealed(&file).unwrap());
            for (_, identity) in &keys {
                prop_assert_eq!(&unsealed(folder.path(), &file, identity).unwrap(), &content);
            }
        }

        #[test]
        fn no_changed_or_shortened_file_is_taken_for_the_backup(at: prop::sample::Index, bit in 0_u32..8, cut: bool) {
            let folder = tempfile::tempdir().unwrap();
            let (recipient, identity) = key(folder.path());
            let (file, _) = sealed(folder.path(), &[7; 70_000], &[recipient]);
            let mut bytes = std::fs::read(&file).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            std::fs::write(&file, bytes).unwrap();
            prop_assert!(unsealed(folder.path(), &file, &identity).is_err());
        }
    }

    #[test]
    fn others_cannot_read_it_and_no_message_has_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let (recipient, identity) = key(folder.path());
        let (_, other) = key(folder.path());
        let (file, _) = sealed(folder.path(), b"alice", &[recipient]);
        let error = unsealed(folder.path(), &file, &other).unwrap_err();
        assert!(matches!(error, UnsealError::Decrypt { source: DecryptError::NoMatchingKeys, .. }));
        let secret = std::fs::read_to_string(&identity).unwrap();
        let secret = secret.lines().last().unwrap();
        let error = secret.parse::<Recipient>().unwrap_err();
        assert_eq!(error.given, "AGE-SECRET-…");
        std::fs::write(&other, format!("#\nx{secret}\n")).unwrap();
        let error = unsealed(folder.path(), &file, &other).unwrap_err();
        assert!(matches!(error, UnsealError::ParseIdentity { line: 2, .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(secret));
    }
}
