//! The number of a release.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A release's number in its environment: `0001`, `0002`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ReleaseId(u32);

impl ReleaseId {
    /// The release that follows `newest`, or the first where there is none.
    #[must_use]
    pub const fn after(newest: Option<Self>) -> Self {
        match newest {
            Some(Self(number)) => Self(number.saturating_add(1)),
            None => Self(1),
        }
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

impl From<ReleaseId> for String {
    fn from(release: ReleaseId) -> Self {
        release.to_string()
    }
}

/// A text that is no release's number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no release (they look like 0001)")]
pub struct ParseReleaseIdError {
    /// What was given instead.
    pub given: String,
}

impl FromStr for ReleaseId {
    type Err = ParseReleaseIdError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let error = || ParseReleaseIdError { given: given.to_owned() };
        if given.len() < 4 || !given.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        match given.parse() {
            // One name per release: `00001` would be a second folder for release 1.
            Ok(number) if number > 0 && Self(number).to_string() == given => Ok(Self(number)),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = ParseReleaseIdError;

    fn try_from(given: String) -> Result<Self, Self::Error> {
        given.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_a_release() {
        for text in ["", "1", "0000", "00001", "+001", "000a", "current", "99999999999"] {
            assert!(text.parse::<ReleaseId>().is_err(), "{text}");
        }
        assert_eq!("0001".parse(), Ok(ReleaseId::after(None)));
    }

    proptest! {
        #[test]
        fn every_release_parses_back_and_is_followed_by_a_greater_one(number in 1..u32::MAX) {
            let release = ReleaseId(number);
            prop_assert_eq!(release.to_string().parse(), Ok(release));
            prop_assert!(ReleaseId::after(Some(release)) > release);
        }
    }
}
