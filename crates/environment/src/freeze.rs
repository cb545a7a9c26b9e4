//! Times in which nothing is deployed.

use std::fmt;

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Deserializer, de};

/// A time in which an environment is not deployed to, from `data/environments.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeWindow {
    /// Its first moment.
    #[serde(deserialize_with = "with_offset")]
    pub from: DateTime<FixedOffset>,
    /// The first moment after it.
    #[serde(deserialize_with = "with_offset")]
    pub until: DateTime<FixedOffset>,
    /// Why.
    pub reason: String,
}

impl FreezeWindow {
    /// Whether `now` is in it.
    #[must_use]
    pub fn contains(&self, now: DateTime<Utc>) -> bool {
        self.from <= now && now < self.until
    }
}

impl fmt::Display for FreezeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until, reason } = self;
        write!(f, "frozen from {} until {}: {reason}", from.to_rfc3339(), until.to_rfc3339())
    }
}

/// A time without an offset would be another moment on each machine.
fn with_offset<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<DateTime<FixedOffset>, D::Error> {
    let text = toml::value::Datetime::deserialize(deserializer)?.to_string();
    DateTime::parse_from_rfc3339(&text).map_err(|_| {
        de::Error::custom("expected a date and a time with an offset, as in 2026-12-24T12:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FreezeWindow, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn a_window_holds_its_first_moment_and_not_its_last() {
        let window = parse(
            "from = 2026-12-24T12:00:00+01:00\nuntil = 2027-01-02T00:00:00Z\nreason = \"holidays\"",
        )
        .unwrap();
        let contains = |text: &str| window.contains(text.parse().unwrap());
        assert!(contains("2026-12-24T11:00:00Z") && contains("2027-01-01T23:59:59Z"));
        assert!(!contains("2026-12-24T10:59:59Z") && !contains("2027-01-02T00:00:00Z"));
        insta::assert_snapshot!(
            window,
            @"frozen from 2026-12-24T12:00:00+01:00 until 2027-01-02T00:00:00+00:00: holidays"
        );
    }

    #[test]
    fn a_time_that_is_another_one_elsewhere_is_refused() {
        for from in ["2026-12-24", "2026-12-24T12:00:00", "\"tomorrow\""] {
            let text =
                format!("from = {from}\nuntil = 2027-01-02T00:00:00Z\nreason = \"holidays\"");
            assert!(parse(&text).is_err(), "{from}");
        }
    }
}
