//! The closed sets of environments and platforms.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One of the three environments that an application moves through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentName {
    /// A developer's machine.
    Local,
    /// Where a release is tried before production.
    Staging,
    /// Where the users are.
    Production,
}

impl EnvironmentName {
    /// All environments, in the order that a release passes through them.
    pub const ALL: [Self; 3] = [Self::Local, Self::Staging, Self::Production];

    /// The name as it stands in flags, files and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown environment `{given}` (known: local, staging, production)")]
pub struct ParseEnvironmentNameError {
    /// What was given instead of a name.
    pub given: String,
}

impl FromStr for EnvironmentName {
    type Err = ParseEnvironmentNameError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == given)
            .ok_or_else(|| ParseEnvironmentNameError { given: given.to_owned() })
    }
}

/// What an environment runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// A folder of releases and a supervised process on this machine, with SQLite by default.
    #[default]
    Local,
    /// An app on Heroku, with Heroku Postgres.
    Heroku,
}

impl Platform {
    /// The name as it stands in flags and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Heroku => "heroku",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown platform `{given}` (known: local, heroku)")]
pub struct ParsePlatformError {
    /// What was given instead of a name.
    pub given: String,
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        [Self::Local, Self::Heroku]
            .into_iter()
            .find(|platform| platform.as_str() == given)
            .ok_or_else(|| ParsePlatformError { given: given.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_itself() {
        for name in EnvironmentName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
        }
        for platform in [Platform::Local, Platform::Heroku] {
            assert_eq!(platform.as_str().parse(), Ok(platform));
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = "prod".parse::<EnvironmentName>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown environment `prod` (known: local, staging, production)"
        );
        let error = "Local".parse::<EnvironmentName>().unwrap_err();
        assert_eq!(error.given, "Local");
    }
}
