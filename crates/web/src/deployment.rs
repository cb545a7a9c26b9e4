//! What the page of deployments shows. The program that serves reads it; this crate knows no journal and no backup.

use std::fmt;

/// Reads what happened to the environment. Called on a thread that may block.
pub trait Deployments: Send + Sync + fmt::Debug {
    /// The newest `limit` runs and backups.
    ///
    /// # Errors
    ///
    /// Fails with a sentence for admins where a folder cannot be read.
    fn read(&self, limit: usize) -> Result<Overview, String>;
}

/// What happened to the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Where the journals are looked for.
    pub journals: String,
    /// Runs, newest first; none where there is no folder of journals.
    pub runs: Option<Vec<Run>>,
    /// Where backups are looked for.
    pub backups_folder: String,
    /// Backups, newest first; none where there is no folder of backups.
    pub backups: Option<Vec<Backup>>,
}

/// One deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub id: String,
    /// When it began, as the journal says it.
    pub started_at: String,
    /// Who ran it.
    pub user: String,
    /// The release that it made.
    pub release: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in milliseconds, where it ended.
    pub duration_ms: Option<u64>,
    /// Its steps, in their order.
    pub steps: Vec<Step>,
    /// Why its journal, or the rest of it, cannot be read.
    pub problem: Option<String>,
}

/// A step of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Its stable name.
    pub id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in milliseconds, where it ended.
    pub duration_ms: Option<u64>,
    /// What it said that it did; for checks, what they found.
    pub evidence: Vec<String>,
}

/// How a run or a step ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It did not begin.
    #[default]
    NotBegun,
    /// It has not ended, or the machine stopped.
    Open,
    /// It did what it should.
    Done,
    /// It did, and there is something worth a look.
    Warned(String),
    /// It did nothing, for a reason.
    Skipped(String),
    /// It failed.
    Failed(String),
}

/// A backup of the environment's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// Its name.
    pub id: String,
    /// When it was taken.
    pub created_at: String,
    /// Why it was taken.
    pub kind: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it was found to be good, and when; or what is wrong with it.
    pub state: String,
    /// Whether it is never pruned.
    pub is_pinned: bool,
}

impl Outcome {
    /// One word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NotBegun => "not begun",
            Self::Open => "not ended",
            Self::Done => "done",
            Self::Warned(_) => "warned",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "failed",
        }
    }

    /// Why, where there is something to say.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Warned(reason) | Self::Skipped(reason) | Self::Failed(reason) => Some(reason),
            Self::NotBegun | Self::Open | Self::Done => None,
        }
    }
}
