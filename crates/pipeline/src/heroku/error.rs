//! Why something was not done on Heroku, and how an app stands after that.

use std::fmt;

use omnitool_environment::EnvironmentName;
use omnitool_heroku::HerokuError;

use crate::{ReleaseId, UnpackArtifactError, program::tail_text};

/// Why Heroku did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HerokuPlatformError {
    /// The site is one of another platform.
    #[error("{environment} is on another platform, not on Heroku")]
    NotOnHeroku {
        /// The environment.
        environment: EnvironmentName,
    },
    /// Heroku refused, did not answer, or answered something else.
    #[error(transparent)]
    Api(HerokuError),
    /// The app has nothing to keep data in.
    #[error("the app {app} has no PostgreSQL database attached as DATABASE")]
    NoDatabase {
        /// The app.
        app: String,
        /// What Heroku says.
        #[source]
        source: Box<HerokuError>,
    },
    /// Somebody else made a release in the meantime.
    #[error("v{version} of {app} ({description}) was made by somebody else since this run began")]
    Foreign {
        /// The app.
        app: String,
        /// The release's version.
        version: u64,
        /// Its description.
        description: String,
    },
    /// Setting variables made a release whose release phase failed.
    #[error("the variables are set, but the release phase of v{version} failed{}", tail_text(.said))]
    ConfigFailed {
        /// The release's version.
        version: u64,
        /// The last lines that it printed.
        said: Vec<String>,
    },
    /// The release phase failed.
    #[error("the release phase of release {release} (v{version}) failed; {serving}{}", tail_text(.said))]
    ReleaseFailed {
        /// The release.
        release: ReleaseId,
        /// Its version.
        version: u64,
        /// What serves.
        serving: HerokuRecovery,
        /// The last lines that it printed.
        said: Vec<String>,
    },
    /// Heroku could not build the sources.
    #[error("Heroku could not build release {release}; nothing was released{}", tail_text(.said))]
    BuildFailed {
        /// The release.
        release: ReleaseId,
        /// The last lines that the build printed.
        said: Vec<String>,
    },
    /// The dynos of the release do not come up.
    #[error("release {release} (v{version}) does not serve; {recovery}")]
    NotServing {
        /// The release.
        release: ReleaseId,
        /// Its version.
        version: u64,
        /// What serves instead.
        recovery: HerokuRecovery,
        /// Why.
        #[source]
        source: Box<HerokuError>,
    },
    /// The release was asked for, and what became of it cannot be seen.
    #[error("it is not known what became of release {release}")]
    Unseen {
        /// The release.
        release: ReleaseId,
        /// Why.
        #[source]
        source: Box<Self>,
    },
    /// The number belongs to a release of another artifact.
    #[error("release {release} is there already, from another artifact ({found})")]
    OtherArtifact {
        /// The release.
        release: ReleaseId,
        /// The first digits of the SHA-256 of its artifact.
        found: String,
    },
    /// There is no such release that can serve.
    #[error("the app {app} has no release {release} that can serve")]
    NoRelease {
        /// The app.
        app: String,
        /// The release.
        release: ReleaseId,
    },
    /// A program was to run in a release that is not the one that serves.
    #[error(
        "programs run in the release that serves, which is {}, not {wanted}",
        .serving.map_or_else(|| "none".to_owned(), |serving| serving.to_string())
    )]
    OtherServes {
        /// The release.
        wanted: ReleaseId,
        /// The one that serves.
        serving: Option<ReleaseId>,
    },
    /// After a rollback the app would use another database than its own.
    #[error(
        "after the rollback DATABASE_URL of {app} is not the address of the database that is attached as DATABASE"
    )]
    DatabaseUrl {
        /// The app.
        app: String,
    },
    /// The web process has no dynos.
    #[error("the app {app} runs no web dyno, so nothing can serve")]
    NoWebDyno {
        /// The app.
        app: String,
    },
    /// Heroku can only build what is in a commit.
    #[error("there are changes that are not in a commit, so Heroku cannot be given the sources")]
    Uncommitted,
    /// What staging runs cannot go on.
    #[error("what staging runs cannot be promoted: {reason}")]
    NotPromotable {
        /// Why not.
        reason: String,
    },
    /// The artifact has no usable Procfile.
    #[error("the artifact has no Procfile with the process types web and release")]
    Procfile,
    /// The artifact is not what was packed, or cannot be read.
    #[error(transparent)]
    Unpack(#[from] UnpackArtifactError),
    /// A file on this machine cannot be read or written; the source names it.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// Somebody wanted to stop. Heroku goes on.
    #[error("interrupted; {what} goes on by itself")]
    Interrupted {
        /// What goes on.
        what: String,
    },
}

impl From<HerokuError> for HerokuPlatformError {
    fn from(error: HerokuError) -> Self {
        match error {
            HerokuError::Stopped { what, last: _ } => Self::Interrupted { what },
            error => Self::Api(error),
        }
    }
}

impl HerokuPlatformError {
    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Api(error) => error.hint(),
            Self::Unseen { source, .. } => source.hint(),
            Self::NoDatabase { .. } => {
                Some("add one: heroku addons:create heroku-postgresql:essential-0 -a APP")
            }
            Self::Foreign { .. } => Some(
                "look who it was and what it did (heroku releases -a APP); then deploy again, which begins from there",
            ),
            Self::DatabaseUrl { .. } => {
                Some("attach the right database: heroku pg:promote ADDON -a APP")
            }
            Self::NoWebDyno { .. } => Some("start one: heroku ps:scale web=1 -a APP"),
            Self::Uncommitted => Some("commit or put away the changes (git status)"),
            Self::NotPromotable { .. } => {
                Some("deploy to staging again, or leave out --promote to upload the artifact")
            }
            Self::Procfile => Some("commit a Procfile in the project's root, and deploy again"),
            Self::Interrupted { .. } => Some(
                "a deployment goes on from there with --resume, a rollback by the same command",
            ),
            _ => None,
        }
    }

    /// Whether the release phase may have changed the database.
    #[must_use]
    pub const fn may_have_migrated(&self) -> bool {
        matches!(self, Self::ReleaseFailed { .. } | Self::NotServing { .. }) || self.may_go_on()
    }

    /// Whether the release phase may still run.
    #[must_use]
    pub const fn may_go_on(&self) -> bool {
        matches!(self, Self::Unseen { .. } | Self::Interrupted { .. })
    }

    /// The same, said of `release`, which was asked for before this went wrong.
    pub(super) fn unseen(self, release: ReleaseId) -> Self {
        match self {
            // These say what became of it.
            Self::BuildFailed { .. }
            | Self::ReleaseFailed { .. }
            | Self::NotServing { .. }
            | Self::Interrupted { .. }
            | Self::Unseen { .. } => self,
            _ => Self::Unseen { release, source: Box::new(self) },
        }
    }

    /// As [`unseen`](Self::unseen), of the call that asks for it: one that Heroku refused did nothing.
    pub(super) fn unless_refused(self, release: ReleaseId) -> Self {
        match self {
            Self::Api(HerokuError::Refused { .. }) => self,
            _ => self.unseen(release),
        }
    }
}

/// What serves after a release did not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HerokuRecovery {
    /// Nothing had served before either.
    NothingServed,
    /// This version goes on serving, or serves again.
    Serves(u64),
    /// The version that served before could not be brought back.
    NotRestored {
        /// That version.
        version: u64,
        /// Why.
        error: String,
    },
}

impl fmt::Display for HerokuRecovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingServed => f.write_str("nothing served before it, so nothing serves now"),
            Self::Serves(version) => write!(f, "v{version} serves, as before"),
            Self::NotRestored { version, error } => {
                write!(
                    f,
                    "and v{version}, which served before, could not be brought back ({error})"
                )
            }
        }
    }
}
