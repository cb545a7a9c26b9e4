//! Random secrets that a browser keeps in a cookie.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// 256 random bits: the key to a session, or what a form of a visitor without one is tied to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token([u8; 32]);

impl Token {
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads the text of [`Token::expose`]; `None` where it is another text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2)?;
            // `from_str_radix` also takes a sign.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The text that goes into the cookie.
    pub(crate) fn expose(&self) -> String {
        hex(&self.0)
    }

    /// What the table of sessions holds instead of the token.
    pub(crate) fn sha256(&self) -> String {
        hex(&Sha256::digest(self.0))
    }

    /// What each form of the token's owner carries. It does not lead back to the token, and nobody else's page can
    /// know it.
    pub(crate) fn form_token(&self) -> String {
        hex(&Sha256::new_with_prefix(b"omnitool form\0").chain_update(self.0).finalize())
    }

    /// Whether `given` is this token's [`Token::form_token`], in a time that does not depend on where they differ.
    pub(crate) fn owns_form(&self, given: &str) -> bool {
        let expected = self.form_token();
        expected.len() == given.len()
            && expected.bytes().zip(given.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// `bytes` in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    // Every request writes some of these; formatting each byte takes twenty times as long.
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_cookie_and_is_never_the_same_twice() {
        let token = Token::generate().unwrap();
        assert_eq!(Token::parse(&token.expose()), Some(token.clone()));
        assert_ne!(Token::generate().unwrap(), token);
        assert_eq!(format!("{token:?}"), "Token(***)");
    }

    #[test]
    fn what_is_stored_and_what_forms_carry_does_not_lead_to_the_token() {
        let token = Token::generate().unwrap();
        let (cookie, stored, form) = (token.expose(), token.sha256(), token.form_token());
        assert!(cookie != stored && stored != form && cookie != form);
        assert!(token.owns_form(&form));
        assert!(!token.owns_form(&stored) && !token.owns_form("") && !token.owns_form(&form[1..]));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        for text in ["", "00", &"g".repeat(64), &"+1".repeat(32), &"ä".repeat(32), &"0".repeat(65)]
        {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }
}
