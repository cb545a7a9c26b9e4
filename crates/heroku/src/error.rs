//! What can go wrong with a call, and whether it may have had an effect.

use std::{fmt, time::Duration};

/// A call by method and path. Paths name apps and numbers, never secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallName {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// The path without its query; `dump` or `blob` for addresses with signatures.
    pub path: String,
}

impl fmt::Display for CallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Why something was not done, or is not known to be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HerokuError {
    /// There was no answer.
    #[error("no answer from Heroku to {call} after {attempts} attempts")]
    NoAnswer {
        /// The call.
        call: CallName,
        /// How often it was made.
        attempts: u32,
        /// The last attempt's trouble.
        #[source]
        source: Box<ureq::Error>,
    },
    /// Heroku does not want to.
    #[error("Heroku refused {call}: {message} ({id}, status {status})")]
    Refused {
        /// The call.
        call: CallName,
        /// The HTTP status.
        status: u16,
        /// Heroku's name for the error, such as `not_found`.
        id: String,
        /// What it says to people.
        message: String,
    },
    /// Heroku answered with trouble of its own, each time.
    #[error("Heroku answered {call} with status {status} in {attempts} attempts: {body}")]
    Unavailable {
        /// The call.
        call: CallName,
        /// The HTTP status.
        status: u16,
        /// How often it was made.
        attempts: u32,
        /// How the last answer begins.
        body: String,
    },
    /// There were too many requests for too long.
    #[error("Heroku's rate limit for this account did not let {call} through for {} s", .waited.as_secs())]
    RateLimited {
        /// The call.
        call: CallName,
        /// How long was waited.
        waited: Duration,
    },
    /// The answer is no JSON, whatever it says it is.
    #[error("Heroku answered {call} with something that is no JSON: {begins}")]
    NotJson {
        /// The call.
        call: CallName,
        /// How the answer begins.
        begins: String,
    },
    /// The answer lacks something that is needed.
    #[error("Heroku's answer to {call} cannot be understood: {problem}")]
    Unexpected {
        /// The call.
        call: CallName,
        /// What is missing, or where; no values, since they may be secret.
        problem: String,
    },
    /// A creating call may have had an effect that cannot be found.
    #[error(
        "it is not known whether {call} had an effect: its answer was lost, and what it made cannot be found for certain"
    )]
    Doubtful {
        /// The call.
        call: CallName,
    },
    /// It took too long.
    #[error("{what} was not done after {} s; last seen: {last}", .waited.as_secs())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// Its last known state.
        last: String,
    },
    /// Nobody waits any longer; it goes on by itself.
    #[error("{what} was not waited for to the end; last seen: {last}")]
    Stopped {
        /// What was waited for.
        what: String,
        /// Its last known state.
        last: String,
    },
    /// Heroku did it, and it failed.
    #[error("{what} failed: {why}")]
    Failed {
        /// What.
        what: String,
        /// What is known about it.
        why: String,
    },
    /// A name or address that cannot be used.
    #[error("{what} is no usable {kind}")]
    Unusable {
        /// The text, where it may be shown.
        what: String,
        /// What it should have been.
        kind: &'static str,
    },
    /// The trusted certificates cannot be used.
    #[error("cannot use the given certificates")]
    Roots(#[source] Box<ureq::Error>),
    /// A connection to a dyno's console could not be made, or broke.
    #[error("the connection to the dyno failed")]
    Rendezvous(#[source] std::io::Error),
}

impl HerokuError {
    /// Whether Heroku says that there is no such thing.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether Heroku says that the name is taken, or the state does not allow it.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409 | 422, .. })
    }

    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { status: 401, .. } => {
                Some("the token is wrong or expired: make a new one and set it again")
            }
            Self::Refused { status: 402, .. } => {
                Some("the account has unpaid bills: settle them in Heroku's dashboard")
            }
            Self::Refused { status: 403, id, .. } if id == "two_factor" => Some(
                "the token needs a second factor: use a long-lived authorization (heroku authorizations:create)",
            ),
            Self::Refused { status: 403, .. } => Some(
                "the token's owner may not do this: ask for the app's deploy and operate permissions",
            ),
            Self::Refused { status: 404, .. } => {
                Some("check the app's name, and that the token's owner may see it")
            }
            Self::RateLimited { .. } => {
                Some("wait some minutes, or use a token of another account")
            }
            Self::NoAnswer { .. } | Self::Unavailable { .. } => {
                Some("see https://status.heroku.com, and run again")
            }
            Self::Doubtful { .. } => {
                Some("look in Heroku's dashboard whether it happened before running again")
            }
            _ => None,
        }
    }
}
