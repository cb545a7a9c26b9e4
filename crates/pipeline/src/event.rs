//! What happens during a run, as it is written to the journal.

use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use serde::{Deserialize, Serialize};

use crate::{ReleaseId, StepId, Stream};

/// Something that happened during a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Event {
    /// The first event of a journal.
    RunStarted {
        /// Always [`Event::FORMAT`].
        format: String,
        /// The version of the format; readers refuse newer ones.
        version: u32,
        /// The run.
        run: String,
        /// Who runs it.
        user: String,
        /// The environment.
        environment: EnvironmentName,
        /// The platform.
        platform: PlatformName,
        /// The release that it makes.
        release: ReleaseId,
        /// The release that serves until then.
        replaces: Option<ReleaseId>,
        /// The steps, in the order that they run.
        steps: Vec<StepId>,
    },
    /// A step began.
    StepStarted {
        /// The step.
        step: StepId,
        /// A hash of everything that decides what it does, except for the artifact and the database.
        inputs: String,
    },
    /// A program or command of the step printed a line.
    StepOutput {
        /// The step.
        step: StepId,
        /// Where the line was printed.
        stream: Stream,
        /// The line, without secrets.
        line: String,
    },
    /// A step ended.
    StepEnded {
        /// The step.
        step: StepId,
        /// How it ended.
        outcome: StepOutcome,
        /// How long it took, in milliseconds.
        duration_ms: u64,
        /// What its actions said they did.
        evidence: Vec<String>,
    },
    /// The last event of a journal, unless the machine stopped.
    RunEnded {
        /// How the run ended.
        outcome: RunOutcome,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
}

impl Event {
    /// The value of `format` in a journal's first event.
    pub const FORMAT: &str = "omnitool.run";
    /// The version of the format that is written.
    pub const VERSION: u32 = 1;
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum StepOutcome {
    /// It did what it should.
    Done,
    /// The run goes on, and there is something worth a look.
    Warned {
        /// What.
        reason: String,
    },
    /// It did nothing.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It failed, and the run stops.
    Failed {
        /// What failed, with its causes.
        error: String,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum RunOutcome {
    /// All steps are done or were skipped.
    Done,
    /// Some step warned.
    Warned,
    /// A step failed.
    Failed {
        /// The step.
        step: StepId,
        /// What failed, with its causes; `interrupted` where somebody stopped the run.
        error: String,
    },
}
