//! What a run needs of the platform that it deploys to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Artifact, DatabaseState, HerokuPlatformError, HerokuWay, LocalPlatformError, ProgramCall,
    ProgramOutput, ReleaseId, RunProgramError, Variable, Watch,
};

/// What was found on a platform before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Situation {
    /// The release whose app is running.
    pub serving: Option<ReleaseId>,
    /// The newest release, whether it serves or not.
    pub newest: Option<ReleaseId>,
    /// Whether there is a database.
    pub database: DatabaseState,
    /// How Heroku counts the releases, where others can make some, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heroku: Option<HerokuVersions>,
}

/// How Heroku counts an app's releases: every change of its code and of its config vars is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HerokuVersions {
    /// The newest version.
    pub newest: u64,
    /// The version that dynos run, where it has code.
    pub serving: Option<u64>,
}

/// Where releases run.
pub trait Platform {
    /// Looks at the platform without changing anything.
    ///
    /// # Errors
    ///
    /// Fails where a run could not succeed, such as with a port that another program uses.
    fn look(&self) -> Result<Situation, PlatformError>;

    /// Tells it what was found before the run that makes `release` and sets `variables`, or before the one that it
    /// continues: what somebody else changes after that has to stop the run.
    fn begin(&mut self, _situation: &Situation, _release: ReleaseId, _variables: &[Variable]) {}

    /// Takes how the platform's databases are now for what the run has made of them, after something that this trait does
    /// not know of.
    ///
    /// # Errors
    ///
    /// Fails where the platform cannot be looked at, and where somebody else has changed something.
    fn accept(&mut self) -> Result<(), PlatformError> {
        Ok(())
    }

    /// Sets those of `variables` that differ, and says which.
    ///
    /// # Errors
    ///
    /// Fails where they cannot be kept.
    fn set_config(
        &mut self,
        variables: &[Variable],
        watch: &mut Watch<'_>,
    ) -> Result<ConfigChange, PlatformError>;

    /// Puts `artifact` on the platform as `release`, which does not serve yet, and says how. Only Heroku has several ways.
    ///
    /// # Errors
    ///
    /// Fails where the release cannot be made whole; it is not there then.
    fn install(
        &mut self,
        release: ReleaseId,
        artifact: &Artifact,
        way: HerokuWay,
    ) -> Result<String, PlatformError>;

    /// Runs a program of `release`.
    ///
    /// # Errors
    ///
    /// Fails where the program does.
    fn run_program(
        &mut self,
        release: ReleaseId,
        call: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<ProgramOutput, RunProgramError>;

    /// Makes `release` the one that serves, and says how.
    ///
    /// # Errors
    ///
    /// Fails where the release's app does not come up; what served before serves again then.
    fn activate(
        &mut self,
        release: ReleaseId,
        watch: &mut Watch<'_>,
    ) -> Result<Activation, PlatformError>;

    /// Waits until nothing that was begun there can come to serve, or change the database, by itself any more.
    ///
    /// # Errors
    ///
    /// Fails where that cannot be seen, and where somebody wants to stop.
    fn settle(&mut self, _watch: &mut Watch<'_>) -> Result<(), PlatformError> {
        Ok(())
    }

    /// Removes the releases older than the newest `keep`, but neither the one that serves nor the one before it.
    ///
    /// # Errors
    ///
    /// Fails where a release cannot be removed.
    fn remove_old_releases(&mut self, keep: usize) -> Result<Vec<ReleaseId>, PlatformError>;

    /// The release that served before the current one, where it is still there.
    ///
    /// # Errors
    ///
    /// Fails where the platform cannot say.
    fn previous(&self) -> Result<Option<ReleaseId>, PlatformError>;

    /// The release whose app is running.
    fn serving(&self) -> Serving;
}

/// What runs, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// The app of this release.
    Release(ReleaseId),
    /// No app of any release.
    Nothing,
    /// That could not be seen.
    Unknown,
}

impl From<Option<ReleaseId>> for Serving {
    fn from(release: Option<ReleaseId>) -> Self {
        release.map_or(Self::Nothing, Self::Release)
    }
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(release) => write!(f, "release {release} serves"),
            Self::Nothing => f.write_str("nothing serves"),
            Self::Unknown => f.write_str("what serves could not be seen"),
        }
    }
}

/// How a release became the one that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// It, line by line.
    pub evidence: String,
    /// What the platform's own run of `migrate-db` said, where it has one.
    pub migrated: Option<String>,
}

impl From<String> for Activation {
    fn from(evidence: String) -> Self {
        Self { evidence, migrated: None }
    }
}

/// Which variables had to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The names of those that differed.
    pub set: Vec<String>,
    /// How many were as they should be.
    pub unchanged: usize,
}

/// Why a platform did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The local platform's reason.
    #[error(transparent)]
    Local(#[from] LocalPlatformError),
    /// Heroku's reason.
    #[error(transparent)]
    Heroku(#[from] Box<HerokuPlatformError>),
}

impl From<HerokuPlatformError> for PlatformError {
    fn from(error: HerokuPlatformError) -> Self {
        Box::new(error).into()
    }
}

impl PlatformError {
    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Local(_) => None,
            Self::Heroku(error) => error.hint(),
        }
    }

    /// Whether the platform's own run of `migrate-db` may have changed the database.
    #[must_use]
    pub fn may_have_migrated(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Heroku(error) => error.may_have_migrated(),
        }
    }

    /// Whether that run may still go on.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Heroku(error) => error.may_go_on(),
        }
    }
}
