//! What happens during a run, as it is written to the journal.

use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use serde::{Deserialize, Serialize};

use crate::{
    AccessChanges, CheckResult, Continuation, ReleaseId, Revision, Settings, Situation, StepId,
    Stream,
};

/// Something that happened during a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "there is one large event per run")]
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
        /// What the run is for.
        #[serde(default)]
        task: Task,
        /// What was found before it; not in version 1.
        #[serde(default)]
        situation: Option<Situation>,
        /// What its caller decided.
        #[serde(default)]
        settings: Settings,
        /// The commit that is checked out where it runs.
        #[serde(default)]
        revision: Option<Revision>,
        /// The machine that it runs on.
        #[serde(default)]
        host: Option<String>,
        /// What it takes over, where it continues another run. In this event, so that it is known as a whole or not at all.
        #[serde(default)]
        continues: Option<Continuation>,
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
    /// An action of the step found or did something that the rest of the run, or one that continues it, has to know.
    Learned {
        /// The step.
        step: StepId,
        /// What.
        fact: Fact,
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
    /// The version of the format that is written. Version 1 had no [`Event::Learned`], no kept steps, and in
    /// [`Event::RunStarted`] nothing after `steps`.
    pub const VERSION: u32 = 2;
}

/// What a run is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Task {
    /// A new release.
    #[default]
    Deploy,
    /// The way back.
    Rollback,
    /// A deployment on a copy of the database, which nobody sees.
    Rehearsal,
}

impl Task {
    /// The name as it stands in journals and lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Rehearsal => "rehearsal",
        }
    }
}

/// Something that a run found or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fact {
    /// The artifact that it releases.
    Artifact {
        /// The SHA-256 of the file, in hexadecimal digits.
        sha256: String,
        /// The size of the file in bytes.
        size: u64,
        /// What it was packed from.
        revision: Option<Revision>,
    },
    /// The backup that was taken before anything changed; in a rehearsal, the one that it is made from.
    Backup {
        /// Its id.
        id: String,
    },
    /// A program that changes the database was run.
    DatabaseChanged {
        /// The program.
        program: String,
        /// What it said that it did.
        summary: String,
    },
    /// A program checked something.
    Checked {
        /// The checks, in their order.
        checks: Vec<CheckResult>,
    },
    /// An import changed who may use what; one that only plans says what it would change.
    AccessChanged {
        /// The changes.
        changes: AccessChanges,
    },
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
    /// An earlier run did it, and its inputs are unchanged.
    Kept {
        /// That run.
        run: String,
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
