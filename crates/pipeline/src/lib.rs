#![doc = include_str!("../README.md")]

mod answer;
mod artifact;
mod chain;
mod command;
mod event;
mod executor;
mod file;
mod gate;
mod github;
mod heroku;
mod history;
mod hook;
mod html;
mod journal;
mod local;
mod lock;
mod notify;
mod overview;
mod plan;
mod platform;
mod process;
mod program;
mod release;
mod report;
mod resume;
mod runner;
mod settings;
mod sinks;
mod site;
mod step;
mod variable;
mod watch;

pub use answer::{
    AccessChanges, AccessFact, AccessFactKind, CheckOutcome, CheckResult, Contradiction,
};
pub use artifact::{
    Artifact, ArtifactSource, FindArtifactError, Origin, PROGRAMS, PackArtifactError,
    REQUIRED_DATA, Revision, UnpackArtifactError, check_required_data, find_artifact,
    pack_artifact, unpack_artifact,
};
pub use command::CommandLine;
pub use event::{Event, Fact, RunOutcome, StepOutcome, Task};
pub use executor::{
    ActionError, Aftermath, DatabaseChange, Execute, Executor, Performed, TakeOverError,
};
pub use gate::{GateFacts, Objection, RehearsalRule, Staged};
pub use github::{annotations, masks, step_summary};
pub use heroku::{HerokuPlatform, HerokuPlatformError, HerokuRecovery};
pub use history::{History, RunRecord, RunState, StepRecord};
pub use hook::{FindHooksError, HOOKS_FOLDER, Hook, Moment, find_hooks};
pub use html::{WriteReportError, render_html, write_report};
pub use journal::{Journal, ReadJournalError, Record, Sink, WriteJournalError, read_journal};
pub use local::{App, AppError, AppSpec, LocalPlatform, LocalPlatformError, Recovery, RunningApp};
pub use lock::{AcquireLockError, DeployLock, Holder, Waiting};
pub use notify::{InvalidWebhookError, Message, Notifier, NotifyError, Occasion, Service, Webhook};
pub use overview::{Overview, StepOverview, StepState};
pub use plan::{
    DatabaseState, DeployOptions, Plan, ProductionOptions, RELEASES_KEPT, RehearsalOptions,
    Rehearsed, RollbackChoice,
};
pub use platform::{
    Activation, ConfigChange, HerokuVersions, Platform, PlatformError, Serving, Situation,
};
pub use process::RunCommandError;
pub use program::{Cause, Credential, ListedBackup, ProgramOutput, RunProgramError, run_program};
pub use release::{ParseReleaseIdError, ReleaseId};
pub use report::{NextStep, Standing, next_steps, standing};
pub use resume::{Continuation, ContinueRunError, KeptStep};
pub use runner::{RunError, RunFailure, RunInfo, RunReport, StepReport, run};
pub use settings::{HerokuWay, Settings, SkipStepError, SkippedStep, check_skippable};
pub use sinks::Sinks;
pub use site::{Home, Site};
pub use step::{
    Action, OnFailure, ParseStepIdError, Place, ProgramCall, Purpose, Step, StepId, Todo, When,
};
pub use variable::Variable;
pub use watch::{Stream, Watch};
