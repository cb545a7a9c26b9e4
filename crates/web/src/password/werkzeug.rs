//! Hashes of the Python system, as Werkzeug writes them: `METHOD$SALT$HEX`. They are only ever checked.

use sha2::Sha256;

/// The greatest number of bytes that checking a hash may take; Werkzeug's own parameters take 32 MiB.
const MAX_MEMORY: u64 = 64 << 20;
/// The greatest number of rounds; Werkzeug's own are a million.
const MAX_ROUNDS: u32 = 4_000_000;
/// What Werkzeug took where a hash does not say how many rounds it has.
const DEFAULT_ROUNDS: u32 = 1_000_000;

/// A hash of the Python system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WerkzeugHash<'a> {
    method: Method,
    salt: &'a str,
    digest: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// `scrypt:N:r:p`, with 64 bytes.
    Scrypt { log_n: u8, r: u32, p: u32 },
    /// `pbkdf2:sha256:ROUNDS`, with 32 bytes.
    Pbkdf2Sha256 { rounds: u32 },
}

impl<'a> WerkzeugHash<'a> {
    /// Reads a hash; `None` where it is none of these, or one that would take absurdly long to check.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('$');
        let (method, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || salt.is_empty() {
            return None;
        }
        let method = Method::parse(method)?;
        let digest = unhex(digest)?;
        (digest.len() == method.length()).then_some(Self { method, salt, digest })
    }

    /// Whether `password` has this hash, in a time that does not depend on where they differ.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let mut found = vec![0; self.digest.len()];
        match self.method {
            Method::Scrypt { log_n, r, p } => {
                let computed = scrypt::Params::new(log_n, r, p).is_ok_and(|params| {
                    scrypt::scrypt(password, self.salt.as_bytes(), &params, &mut found).is_ok()
                });
                if !computed {
                    return false;
                }
            }
            Method::Pbkdf2Sha256 { rounds } => {
                let salt = self.salt.as_bytes();
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut found);
            }
        }
        found.iter().zip(&self.digest).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl Method {
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["scrypt", n, r, p] => {
                let (n, r, p): (u64, u32, u32) =
                    (n.parse().ok()?, r.parse().ok()?, p.parse().ok()?);
                let memory = n.checked_mul(128)?.checked_mul(r.into())?.checked_mul(p.into())?;
                if !n.is_power_of_two() || n < 2 || memory > MAX_MEMORY {
                    return None;
                }
                Some(Self::Scrypt { log_n: u8::try_from(n.ilog2()).ok()?, r, p })
            }
            ["pbkdf2", "sha256"] => Some(Self::Pbkdf2Sha256 { rounds: DEFAULT_ROUNDS }),
            ["pbkdf2", "sha256", rounds] => {
                let rounds = rounds.parse().ok().filter(|r| (1..=MAX_ROUNDS).contains(r))?;
                Some(Self::Pbkdf2Sha256 { rounds })
            }
            _ => None,
        }
    }

    const fn length(self) -> usize {
        match self {
            Self::Scrypt { .. } => 64,
            Self::Pbkdf2Sha256 { .. } => 32,
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with Python's hashlib as Werkzeug's `generate_password_hash` does.
    const SCRYPT: &str = "scrypt:32768:8:1$sBHvGpXmUxNjfSzQ$5901f24bc781f910899918d7920d2278c501a1f48f428194c5af7bcd3fb6fe627922544a131b76fb1ec7e0040fdb211f30cc2c325a1d2e4d48ba30c7d9799ab3";
    const PBKDF2: &str = "pbkdf2:sha256:260000$qYVw3jR0Zc5KtX2e$fded1953a63fc6a45836028cef9f2c6afb79496287f0c9fa21df2adac8cd03ca";

    #[test]
    fn hashes_that_python_made_are_understood() {
        for hash in [SCRYPT, PBKDF2] {
            let hash = WerkzeugHash::parse(hash).unwrap();
            assert!(hash.verify("correct horse ünïcode".as_bytes()));
            assert!(!hash.verify(b"correct horse"));
        }
    }

    #[test]
    fn what_is_no_such_hash_or_an_absurd_one_is_left_alone() {
        let digest = "ab".repeat(64);
        for text in [
            "",
            "!",
            "scrypt:32768:8:1$x$y",
            &format!("scrypt:32767:8:1$salt${digest}"),
            &format!("scrypt:1073741824:8:1$salt${digest}"),
            &format!("scrypt:18446744073709551615:8:1$salt${digest}"),
            &format!("scrypt:32768:8:1$${digest}"),
            &format!("scrypt:32768:8:1$salt${digest}$"),
            &format!("pbkdf2:sha256:0$salt${}", "ab".repeat(32)),
            &format!("pbkdf2:sha256:4294967295$salt${}", "ab".repeat(32)),
            &format!("pbkdf2:md5:1000$salt${}", "ab".repeat(16)),
            &format!("pbkdf2:sha256:1000$salt${}", "gg".repeat(32)),
        ] {
            assert_eq!(WerkzeugHash::parse(text), None, "{text}");
        }
    }
}
