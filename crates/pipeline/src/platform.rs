//! What a run needs of the platform that it deploys to.

use serde::{Deserialize, Serialize};

use crate::{
    Artifact, DatabaseState, LocalPlatformError, ProgramCall, ProgramOutput, ReleaseId,
    RunProgramError, Variable, Watch,
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
}

/// Where releases run.
pub trait Platform {
    /// Looks at the platform without changing anything.
    ///
    /// # Errors
    ///
    /// Fails where a run could not succeed, such as with a port that another program uses.
    fn look(&self) -> Result<Situation, PlatformError>;

    /// Sets those of `variables` that differ, and says which.
    ///
    /// # Errors
    ///
    /// Fails where they cannot be kept; none has changed then.
    fn set_config(&mut self, variables: &[Variable]) -> Result<ConfigChange, PlatformError>;

    /// Puts `artifact` on the platform as `release`, which does not serve yet.
    ///
    /// # Errors
    ///
    /// Fails where the release cannot be made whole; it is not there then.
    fn install(&mut self, release: ReleaseId, artifact: &Artifact) -> Result<(), PlatformError>;

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
    ) -> Result<String, PlatformError>;

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

    /// The release whose app is running, as far as can be told.
    fn serving(&self) -> Option<ReleaseId>;
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
}
