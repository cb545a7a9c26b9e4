//! Passwords and their hashes.

use std::cell::RefCell;

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::{self, Output, ParamsString, Salt, SaltString},
};
use secrecy::{ExposeSecret as _, SecretString};

mod werkzeug;

use werkzeug::WerkzeugHash;

/// The least number of characters in a password.
pub(crate) const MIN_LENGTH: usize = 12;
/// The greatest number of bytes; more would only be work for the server.
pub(crate) const MAX_BYTES: usize = 1024;

/// Argon2id with 19 MiB, two passes and one lane: what OWASP's Password Storage Cheat Sheet asks for at least. Hashes with
/// other parameters, or of another function, are replaced at the next login.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A hash that no password has, checked where there is no user, so that an answer takes as long as for one who exists.
const NOBODYS_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$b21uaXRvb2wgbm9ib2R5IQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A password that is good enough to be set. Its `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// A text that is no good password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPasswordError {
    /// It could be guessed.
    #[error("the password has {characters} characters, and needs at least {MIN_LENGTH}")]
    TooShort {
        /// How many it has.
        characters: usize,
    },
    /// It is no password that a person would use.
    #[error("the password is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// A password cannot be generated or hashed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashPasswordError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// The hash function failed.
    #[error("cannot hash the password")]
    Hash(#[source] password_hash::Error),
}

/// Whether a password is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// Right, and its hash should be replaced by one with the parameters of today.
    RightButOld,
    Wrong,
}

impl Password {
    /// Accepts `text` as a password.
    ///
    /// # Errors
    ///
    /// Fails where it is too short or absurdly long.
    pub fn new(text: SecretString) -> Result<Self, InvalidPasswordError> {
        let characters = text.expose_secret().chars().count();
        if characters < MIN_LENGTH {
            return Err(InvalidPasswordError::TooShort { characters });
        }
        if text.expose_secret().len() > MAX_BYTES {
            return Err(InvalidPasswordError::TooLong);
        }
        Ok(Self(text))
    }

    /// A random password of 100 bits that can be read out: `h7kq2-…`, without characters that look alike.
    ///
    /// # Errors
    ///
    /// Fails where the system gives no random numbers.
    pub fn generate() -> Result<Self, HashPasswordError> {
        // 32 characters, so that each random byte picks one evenly.
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut bytes = [0; 20];
        getrandom::fill(&mut bytes).map_err(HashPasswordError::Random)?;
        let mut text = String::new();
        for (at, byte) in bytes.iter().enumerate() {
            if at > 0 && at % 5 == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[usize::from(byte % 32)]));
        }
        Ok(Self(text.into()))
    }

    /// The password itself, to be shown once to the person who made it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Its Argon2id hash in PHC format, with the parameters that are recommended now. Takes tens of milliseconds.
    pub(crate) fn hash(&self) -> Result<String, HashPasswordError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(HashPasswordError::Random)?;
        encode(self.expose().as_bytes(), &salt).map_err(HashPasswordError::Hash)
    }
}

/// A text that was accepted as a password before, under whatever rules held then, to be hashed anew.
pub(crate) fn rehash(given: SecretString) -> Result<String, HashPasswordError> {
    Password(given).hash()
}

/// [`verify`] for a login that may be refused, where `old` is a hash of the Python system, if anybody has one. A refusal checks
/// a hash of either kind, whosever name it is: many at once wait for each other, and would tell by that whose is an old one.
pub(crate) fn verify_evenly(
    given: &SecretString,
    hash: Option<&str>,
    old: Option<&str>,
) -> Verdict {
    let verdict = verify(given, hash);
    if let Some(other) = other_kind(verdict, hash, old) {
        let _ = verify(given, Some(other));
    }
    verdict
}

/// What is checked beside `hash`, only for the time that it takes.
fn other_kind<'a>(verdict: Verdict, hash: Option<&str>, old: Option<&'a str>) -> Option<&'a str> {
    let is_old = hash.and_then(WerkzeugHash::parse).is_some();
    match (verdict, old) {
        (Verdict::Right | Verdict::RightButOld, _) | (_, None) => None,
        (Verdict::Wrong, Some(_)) if is_old => Some(NOBODYS_HASH),
        (Verdict::Wrong, Some(old)) => Some(old),
    }
}

/// Checks `given` against `hash`. Takes as long where there is no hash, or one that nobody understands.
pub(crate) fn verify(given: &SecretString, hash: Option<&str>) -> Verdict {
    let given = given.expose_secret().as_bytes();
    if let Some(old) = hash.and_then(WerkzeugHash::parse) {
        return if old.verify(given) { Verdict::RightButOld } else { Verdict::Wrong };
    }
    let stored = hash.and_then(|hash| PasswordHash::new(hash).ok());
    let stored = stored.filter(|hash| hash.hash.is_some() && hash.algorithm.as_str() == "argon2id");
    let known = stored.is_some();
    let Some(hash) = stored.or_else(|| PasswordHash::new(NOBODYS_HASH).ok()) else {
        return Verdict::Wrong;
    };
    let same = has_hash(given, &hash).unwrap_or(false);
    match (known && same, is_current(&hash)) {
        (true, true) => Verdict::Right,
        (true, false) => Verdict::RightButOld,
        (false, _) => Verdict::Wrong,
    }
}

thread_local! {
    /// What Argon2 works in, kept by each thread that hashes. Freed, it would make the allocator keep as much for every thread.
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// The Argon2id hash of `given`, of the length that `out` has.
fn argon2id(
    given: &[u8],
    salt: &[u8],
    params: Params,
    version: Version,
    out: &mut [u8],
) -> password_hash::Result<()> {
    let needed = params.block_count();
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
    MEMORY.with_borrow_mut(|memory| {
        if memory.len() < needed {
            memory.resize(needed, Block::default());
        }
        argon2.hash_password_into_with_memory(given, salt, out, &mut memory[..])?;
        Ok(())
    })
}

/// The hash of `given` with the parameters of today, in PHC format.
fn encode(given: &[u8], salt: &[u8]) -> password_hash::Result<String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    let text = ParamsString::try_from(&params)?;
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    argon2id(given, salt, params, Version::V0x13, &mut out)?;
    let salt = SaltString::encode_b64(salt)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: text,
        salt: Some(salt.as_salt()),
        hash: Some(Output::new(&out)?),
    };
    Ok(hash.to_string())
}

/// Whether `given` has this hash, with the hash's own parameters.
fn has_hash(given: &[u8], hash: &PasswordHash<'_>) -> password_hash::Result<bool> {
    let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else { return Ok(false) };
    let mut bytes = [0; Salt::MAX_LENGTH];
    let salt = salt.decode_b64(&mut bytes)?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from)?;
    let params = Params::try_from(hash)?;
    let found = Output::init_with(expected.len(), |out| {
        argon2id(given, salt, params.clone(), version, out)
    })?;
    // Compared in a time that does not depend on where they differ.
    Ok(found == expected)
}

fn is_current(hash: &PasswordHash<'_>) -> bool {
    let params = Params::try_from(hash);
    hash.version == Some(Version::V0x13.into())
        && params.is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES)
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use argon2::PasswordHasher as _;

    use super::*;

    #[test]
    fn only_the_right_password_is_right() {
        let password = Password::new("correct horse".to_owned().into()).unwrap();
        let hash = password.hash().unwrap();
        assert_ne!(hash, password.hash().unwrap(), "each hash has its own salt");
        assert_eq!(verify(&"correct horse".to_owned().into(), Some(&hash)), Verdict::Right);
        for wrong in ["", "Correct horse", "correct horse "] {
            assert_eq!(verify(&wrong.to_owned().into(), Some(&hash)), Verdict::Wrong);
        }
    }

    #[test]
    fn without_a_usable_hash_every_password_is_wrong() {
        for hash in
            [None, Some(""), Some("!"), Some("scrypt:32768:8:1$x$y"), Some("$argon2id$v=19")]
        {
            assert_eq!(verify(&"!".to_owned().into(), hash), Verdict::Wrong, "{hash:?}");
        }
    }

    #[test]
    fn a_refusal_checks_a_hash_of_either_kind_where_there_are_old_ones() {
        let (old, others) = (format!("scrypt:16:8:1$salt${}", "00".repeat(64)), NOBODYS_HASH);
        let beside = |hash, old| other_kind(Verdict::Wrong, hash, old);
        for hash in [None, Some("!"), Some(others)] {
            assert_eq!(beside(hash, Some(&*old)), Some(&*old), "{hash:?}");
            assert_eq!(beside(hash, None), None, "{hash:?}");
        }
        assert_eq!(beside(Some(&*old), Some(&*old)), Some(others));
        assert_eq!(other_kind(Verdict::Right, Some(others), Some(&*old)), None);

        // What is checked only for its time decides nothing.
        let right = Password::new("correct horse".to_owned().into()).unwrap().hash().unwrap();
        let given: SecretString = "correct horse".to_owned().into();
        assert_eq!(verify_evenly(&given, Some(&right), Some(&*old)), Verdict::Right);
        assert_eq!(verify_evenly(&given, Some(&*old), Some(&*right)), Verdict::Wrong);
        assert_eq!(verify_evenly(&given, None, Some(&*right)), Verdict::Wrong);
    }

    #[test]
    fn a_right_password_with_an_old_hash_is_to_be_hashed_anew() {
        let given: SecretString = "correct horse".to_owned().into();
        let weak = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(8 * 1024, 1, 1, None).unwrap(),
        );
        let salt = SaltString::encode_b64(b"sixteen bytes of").unwrap();
        let weak = weak.hash_password(b"correct horse", &salt).unwrap().to_string();
        assert_eq!(verify(&given, Some(&weak)), Verdict::RightButOld);
        assert_eq!(verify(&"wrong".to_owned().into(), Some(&weak)), Verdict::Wrong);
        let new = rehash(given.clone()).unwrap();
        assert_eq!(verify(&given, Some(&new)), Verdict::Right);
    }

    #[test]
    fn the_hash_for_nobody_costs_as_much_as_a_real_one() {
        let real = Password::generate().unwrap().hash().unwrap();
        let (real, nobody) =
            (PasswordHash::new(&real).unwrap(), PasswordHash::new(NOBODYS_HASH).unwrap());
        assert_eq!(real.algorithm, nobody.algorithm);
        assert_eq!(real.version, nobody.version);
        assert_eq!(real.params.to_string(), nobody.params.to_string());
        assert_eq!(real.hash.unwrap().len(), nobody.hash.unwrap().len());
        // What OWASP asks of Argon2id at least.
        assert_eq!(real.params.to_string(), "m=19456,t=2,p=1");
    }

    #[test]
    fn a_generated_password_is_good_and_new_each_time() {
        let passwords: BTreeSet<String> =
            (0..20).map(|_| Password::generate().unwrap().expose().to_owned()).collect();
        assert_eq!(passwords.len(), 20);
        for password in passwords {
            assert_eq!(password.len(), 23);
            Password::new(password.into()).unwrap();
        }
    }

    #[test]
    fn a_short_or_absurd_password_is_refused_without_showing_it() {
        let error = Password::new("hunter2".to_owned().into()).unwrap_err();
        assert_eq!(error, InvalidPasswordError::TooShort { characters: 7 });
        let error = Password::new("x".repeat(2000).into()).unwrap_err();
        assert_eq!(error, InvalidPasswordError::TooLong);
        let password = Password::new("correct horse".to_owned().into()).unwrap();
        assert!(!format!("{password:?}").contains("horse"));
    }
}
