#![doc = include_str!("../README.md")]

mod artifact;
mod command;
mod event;
mod executor;
mod file;
mod journal;
mod local;
mod lock;
mod plan;
mod platform;
mod process;
mod program;
mod release;
mod report;
mod runner;
mod step;
mod variable;
mod watch;

pub use artifact::{
    Artifact, ArtifactSource, Origin, PROGRAMS, PackArtifactError, REQUIRED_DATA, Revision,
    UnpackArtifactError, check_required_data, pack_artifact, unpack_artifact,
};
pub use command::CommandLine;
pub use event::{Event, RunOutcome, StepOutcome};
pub use executor::{ActionError, Aftermath, DatabaseChange, Execute, Executor, Performed};
pub use journal::{Journal, ReadJournalError, Record, Sink, WriteJournalError, read_journal};
pub use local::{App, AppError, AppSpec, LocalPlatform, LocalPlatformError, Recovery, RunningApp};
pub use lock::{AcquireLockError, DeployLock, Holder};
pub use plan::{DatabaseState, Plan, RELEASES_KEPT, Site, StagingOptions};
pub use platform::{ConfigChange, Platform, PlatformError, Situation};
pub use process::RunCommandError;
pub use program::{Cause, Credential, ProgramOutput, RunProgramError, run_program};
pub use release::{ParseReleaseIdError, ReleaseId};
pub use report::{NextStep, Standing, next_steps, standing};
pub use runner::{RunError, RunFailure, RunInfo, RunReport, StepReport, run};
pub use step::{Action, OnFailure, Place, ProgramCall, Purpose, Step, StepId, Todo, When};
pub use variable::Variable;
pub use watch::{Stream, Watch};
