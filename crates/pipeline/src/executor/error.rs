//! Why an action failed, and what to do next.

use omnitool_environment::Platform as PlatformName;

use crate::{
    Fact, FindArtifactError, PackArtifactError, PlatformError, ReleaseId, RunProgramError,
    process::RunCommandError, program::tail_text,
};

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// A command could not be run to its end.
    #[error(transparent)]
    Command(#[from] RunCommandError),
    /// A command ran and failed.
    #[error("`{command}` ended with {status}{}", tail_text(.tail))]
    CommandFailed {
        /// The command, without secrets.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines of its stderr.
        tail: Vec<String>,
    },
    /// A program failed.
    #[error(transparent)]
    Program(#[from] RunProgramError),
    /// There is no artifact.
    #[error(transparent)]
    Pack(#[from] PackArtifactError),
    /// The platform did not do what was asked.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The artifact that is to be used is not there, or is not what it was.
    #[error(transparent)]
    Find(#[from] FindArtifactError),
    /// A release was to be installed before the artifact was packed.
    #[error("no artifact was packed, so release {release} cannot be installed")]
    NoArtifact {
        /// The release.
        release: ReleaseId,
    },
    /// A program of the artifact was to be run before the artifact was found.
    #[error("{program} is to be run from the artifact, and no artifact is in use")]
    NoPrograms {
        /// The program.
        program: &'static str,
    },
    /// The newest backup was never rehearsed on.
    #[error(
        "backup {newest} is newer than {rehearsed}, which rehearsal {run} of this artifact was made on"
    )]
    NotRehearsed {
        /// The newest verified backup.
        newest: String,
        /// The one of the rehearsal.
        rehearsed: String,
        /// The rehearsal.
        run: String,
        /// Where production runs.
        platform: PlatformName,
    },
}

/// Why what an earlier run left cannot be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeOverError {
    /// Its artifact is needed, and not there any more.
    #[error(transparent)]
    Find(#[from] FindArtifactError),
    /// The platform cannot be looked at.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

impl ActionError {
    /// What the program that failed has found.
    pub(crate) fn facts(&self) -> &[Fact] {
        match self {
            Self::Program(RunProgramError::Failed { facts, .. }) => facts,
            _ => &[],
        }
    }

    /// What the program that failed says to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Program(RunProgramError::Failed { hint, .. }) => hint.as_deref(),
            Self::Platform(error) => error.hint(),
            Self::NotRehearsed { platform: PlatformName::Local, .. } => {
                Some("run `cargo xtask rehearse production` and deploy again; nothing was changed")
            }
            Self::NotRehearsed { platform: PlatformName::Heroku, .. } => Some(
                "run `cargo xtask rehearse production --platform heroku` and deploy again; nothing was changed",
            ),
            _ => None,
        }
    }
}
