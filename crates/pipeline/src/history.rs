//! What the journals of an environment say about its runs, also about one that is running or died.

use std::{
    io,
    path::{Path, PathBuf},
};

use fs_err as fs;
use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use serde::Serialize;

use crate::{
    Event, Fact, ReadJournalError, Record, ReleaseId, Revision, RunOutcome, Settings, StepId,
    StepOutcome, Task, read_journal,
};

/// A run as its journal tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// The run.
    pub run: String,
    /// What it was for.
    pub task: Task,
    /// The environment.
    pub environment: EnvironmentName,
    /// The platform.
    pub platform: PlatformName,
    /// The release that it made or went back to.
    pub release: ReleaseId,
    /// The release that served before it.
    pub replaces: Option<ReleaseId>,
    /// Who ran it.
    pub user: String,
    /// On which machine, where the journal says so.
    pub host: Option<String>,
    /// When it began: UTC.
    pub started_at: String,
    /// When its last event was written: UTC.
    pub last_event_at: String,
    /// The commit that was checked out.
    pub revision: Option<Revision>,
    /// What its caller decided.
    pub settings: Settings,
    /// The run that it continued.
    pub continues: Option<String>,
    /// The SHA-256 of its artifact.
    pub artifact: Option<String>,
    /// The commit that its artifact was packed from.
    pub artifact_revision: Option<Revision>,
    /// The backup that it took or was made from.
    pub backup: Option<String>,
    /// Its steps, in order; those that it never came to have no outcome.
    pub steps: Vec<StepRecord>,
    /// How it ended; `None` where it is running or died.
    pub outcome: Option<RunOutcome>,
    /// How long it took, in milliseconds, where it ended.
    pub duration_ms: Option<u64>,
}

/// A step as the journal tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepRecord {
    /// The step.
    pub step: StepId,
    /// When it began: UTC.
    pub started_at: Option<String>,
    /// How it ended.
    pub outcome: Option<StepOutcome>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What its actions said they did.
    pub evidence: Vec<String>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunState {
    /// It went through.
    Done,
    /// It went through, and something was worth a look.
    Warned,
    /// It stopped.
    Failed,
    /// It holds the environment.
    Running,
    /// It ended without a word, as when its machine stopped.
    Died,
}

impl RunState {
    /// The name as it stands in lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Warned => "warned",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Died => "died",
        }
    }
}

/// The runs of a folder of journals.
#[derive(Debug, Default)]
pub struct History {
    /// The runs, oldest first.
    pub runs: Vec<RunRecord>,
    /// The journals that cannot be read, with the reason.
    pub unreadable: Vec<(PathBuf, ReadJournalError)>,
}

impl History {
    /// Reads all journals in `folder`; none where there is no such folder.
    ///
    /// # Errors
    ///
    /// Fails where the folder cannot be read. A journal that cannot be is kept apart.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut history = Self::default();
        for entry in entries {
            let file = entry?.path();
            if file.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            match read_journal(&file) {
                Ok(records) => history.runs.extend(RunRecord::from_records(&records)),
                // A run that died before its first event was whole has done nothing.
                Err(_) if fs::metadata(&file).is_ok_and(|metadata| metadata.len() == 0) => {}
                Err(error) => history.unreadable.push((file, error)),
            }
        }
        history.runs.sort_by(|one, other| {
            (&one.started_at, &one.run).cmp(&(&other.started_at, &other.run))
        });
        history.unreadable.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(history)
    }

    /// The run with this id.
    #[must_use]
    pub fn find(&self, run: &str) -> Option<&RunRecord> {
        self.runs.iter().find(|record| record.run == run)
    }
}

impl RunRecord {
    /// What the events of a journal say; `None` where they are not those of a journal.
    #[must_use]
    pub fn from_records(records: &[Record]) -> Option<Self> {
        let (first, rest) = records.split_first()?;
        let Event::RunStarted {
            format: _,
            version: _,
            run,
            user,
            environment,
            platform,
            release,
            replaces,
            steps,
            task,
            situation: _,
            settings,
            revision,
            host,
            continues,
        } = first.event.clone()
        else {
            return None;
        };
        let mut record = Self {
            run,
            task,
            environment,
            platform,
            release,
            replaces,
            user,
            host,
            started_at: first.at.clone(),
            last_event_at: first.at.clone(),
            revision,
            settings,
            continues: continues.as_ref().map(|before| before.run.clone()),
            artifact: None,
            artifact_revision: None,
            backup: None,
            steps: steps.into_iter().map(StepRecord::new).collect(),
            outcome: None,
            duration_ms: None,
        };
        for fact in continues.iter().flat_map(|before| &before.kept).flat_map(|kept| &kept.facts) {
            record.learn(fact);
        }
        for Record { at, event } in rest {
            record.last_event_at.clone_from(at);
            record.take(at, event);
        }
        Some(record)
    }

    fn take(&mut self, at: &str, event: &Event) {
        match event {
            Event::StepStarted { step, .. } => {
                if let Some(step) = self.step_mut(*step) {
                    step.started_at = Some(at.to_owned());
                }
            }
            Event::StepEnded { step, outcome, duration_ms, evidence } => {
                if let Some(step) = self.step_mut(*step) {
                    step.outcome = Some(outcome.clone());
                    step.duration_ms = Some(*duration_ms);
                    step.evidence.clone_from(evidence);
                }
            }
            Event::Learned { fact, .. } => self.learn(fact),
            Event::RunEnded { outcome, duration_ms } => {
                self.outcome = Some(outcome.clone());
                self.duration_ms = Some(*duration_ms);
            }
            Event::RunStarted { .. } | Event::StepOutput { .. } => {}
        }
    }

    fn step_mut(&mut self, id: StepId) -> Option<&mut StepRecord> {
        self.steps.iter_mut().find(|step| step.step == id)
    }

    fn learn(&mut self, fact: &Fact) {
        match fact {
            Fact::Artifact { sha256, size: _, revision } => {
                self.artifact = Some(sha256.clone());
                self.artifact_revision.clone_from(revision);
            }
            Fact::Backup { id } => self.backup = Some(id.clone()),
            Fact::DatabaseChanged { .. } | Fact::Checked { .. } | Fact::AccessChanged { .. } => {}
        }
    }

    /// Where the run is. `holder` is the run that holds its environment now.
    #[must_use]
    pub fn state(&self, holder: Option<&str>) -> RunState {
        match &self.outcome {
            Some(RunOutcome::Done) => RunState::Done,
            Some(RunOutcome::Warned) => RunState::Warned,
            Some(RunOutcome::Failed { .. }) => RunState::Failed,
            None if holder == Some(&self.run) => RunState::Running,
            None => RunState::Died,
        }
    }

    /// The step that is running, or that was when the run died.
    #[must_use]
    pub fn current_step(&self) -> Option<StepId> {
        let begun = self.steps.iter().rfind(|step| step.started_at.is_some())?;
        begun.outcome.is_none().then_some(begun.step)
    }

    /// Whether it went through.
    #[must_use]
    pub fn went_through(&self) -> bool {
        matches!(self.outcome, Some(RunOutcome::Done | RunOutcome::Warned))
    }

    /// Whether it is a deployment that went through with its checks: nothing that matters was left out.
    #[must_use]
    pub fn passed(&self) -> bool {
        let needed = [StepId::Release, StepId::ImportAccess, StepId::Verify, StepId::Smoke];
        let done = |id| {
            self.steps.iter().any(|step| {
                step.step == id
                    && matches!(
                        step.outcome,
                        Some(
                            StepOutcome::Done
                                | StepOutcome::Warned { .. }
                                | StepOutcome::Kept { .. }
                        )
                    )
            })
        };
        self.task == Task::Deploy && self.went_through() && needed.into_iter().all(done)
    }
}

impl StepRecord {
    fn new(step: StepId) -> Self {
        Self { step, started_at: None, outcome: None, duration_ms: None, evidence: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal as version 1 wrote it.
    const VERSION_1: &str = include_str!("../tests/golden/run-v1.jsonl");

    #[test]
    fn a_journal_of_version_1_is_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.jsonl"), VERSION_1).unwrap();
        // One that died at once, one that is none, and a file that has nothing to do with it.
        fs::write(folder.path().join("empty.jsonl"), "").unwrap();
        fs::write(folder.path().join("bad.jsonl"), "{}\n").unwrap();
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        let history = History::read(folder.path()).unwrap();
        assert_eq!(history.unreadable.len(), 1);
        let run = history.find("20260112-100000-42").unwrap();
        assert_eq!((run.task, run.artifact.as_ref()), (Task::Deploy, None));
        assert_eq!(run.state(Some("another")), RunState::Failed);
        assert!(!run.passed());
        let step = run.steps.iter().find(|step| step.step == StepId::Build).unwrap();
        assert_eq!(step.evidence, ["artifact 0123456789ab packed, 1.0 MB"]);
    }

    #[test]
    fn a_run_without_an_end_is_running_or_died() {
        let records: Vec<Record> =
            VERSION_1.lines().take(2).map(|line| serde_json::from_str(line).unwrap()).collect();
        let run = RunRecord::from_records(&records).unwrap();
        assert_eq!(run.state(Some(&run.run)), RunState::Running);
        assert_eq!(run.state(None), RunState::Died);
        assert_eq!(run.current_step(), Some(StepId::Build));
    }
}
