//! Where Heroku is, whom it trusts, and how patient the client is.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

/// What a client needs to know. It reads no environment and no file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Platform API. Its path is ignored.
    pub api: Url,
    /// The Data API, which knows databases and their backups.
    pub data: Url,
    /// The token; it is sent to these two and to nobody else.
    pub token: SecretString,
    /// Certificates of the only authorities that are trusted, as PEM; those that browsers trust where there are none.
    pub roots: Vec<u8>,
    /// How long it waits for what.
    pub pace: Pace,
}

impl Settings {
    /// The true Heroku.
    ///
    /// # Panics
    ///
    /// Never: the addresses are constants.
    #[must_use]
    pub fn heroku(token: SecretString) -> Self {
        let url = |text| Url::parse(text).expect("a constant that a test parses");
        Self {
            api: url("https://api.heroku.com"),
            data: url("https://api.data.heroku.com"),
            token,
            roots: Vec::new(),
            pace: Pace::default(),
        }
    }

    /// The two APIs at these addresses, trusting `roots`, else the authorities that browsers trust. A server on this
    /// machine is an emulator, with which nobody needs patience.
    #[must_use]
    pub fn of(api: Url, data: Url, token: SecretString, roots: Vec<u8>) -> Self {
        let is_here = api.host_str().is_some_and(|host| host == "localhost" || host == "127.0.0.1");
        let pace = if is_here { Pace::quick() } else { Pace::default() };
        Self { api, data, token, roots, pace }
    }

    /// Both APIs at one address, as an emulator has them.
    #[must_use]
    pub fn at(address: &Url, token: SecretString) -> Self {
        Self { api: address.clone(), data: address.clone(), ..Self::heroku(token) }
    }
}

/// How long the client waits for what. The defaults are Heroku's own client's, or slower.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often a call is made before it is given up.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each.
    pub first_pause: Duration,
    /// The pause after the first answer that says "too many requests" and not how long to wait; it doubles with each.
    pub rate_limit_pause: Duration,
    /// The longest that rate limits are waited for, in all.
    pub rate_limit_patience: Duration,
    /// The longest that one call may take, from the connection to the last byte.
    pub call_timeout: Duration,
    /// Between two looks at a backup, restore or copy.
    pub transfer_interval: Duration,
    /// Between two looks at a database that is made, or catches up.
    pub database_interval: Duration,
    /// Between two looks at a release, build, dyno or promotion.
    pub release_interval: Duration,
    /// How long a one-off dyno may take to come up.
    pub dyno_start: Duration,
    /// How long the size of a finished backup may stay unknown.
    pub settle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_pause: Duration::from_millis(500),
            rate_limit_pause: Duration::from_secs(30),
            rate_limit_patience: Duration::from_secs(15 * 60),
            call_timeout: Duration::from_secs(60),
            transfer_interval: Duration::from_secs(3),
            database_interval: Duration::from_secs(5),
            release_interval: Duration::from_secs(2),
            dyno_start: Duration::from_secs(5 * 60),
            settle: Duration::from_secs(15),
        }
    }
}

impl Pace {
    /// For a server on this machine that answers at once.
    #[must_use]
    pub fn quick() -> Self {
        let moment = Duration::from_millis(20);
        Self {
            first_pause: Duration::from_millis(5),
            rate_limit_pause: moment,
            rate_limit_patience: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            transfer_interval: moment,
            database_interval: moment,
            release_interval: moment,
            dyno_start: Duration::from_secs(10),
            settle: Duration::from_secs(1),
            ..Self::default()
        }
    }
}
