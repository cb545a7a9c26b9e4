//! A run as its reports show it, made from its journal alone.

use chrono::{DateTime, Utc};
use omnitool_environment::{EnvironmentName, Platform as PlatformName};

use crate::{
    AccessChanges, CheckOutcome, CheckResult, Event, Fact, Record, ReleaseId, RunOutcome, StepId,
    StepOutcome, Task, command::quoted,
};

/// What a journal says about its run.
#[derive(Clone, Debug)]
#[must_use]
pub struct Overview<'a> {
    /// The run.
    pub run: &'a str,
    /// What it is for.
    pub task: Task,
    /// The run that it continues.
    pub continues: Option<&'a str>,
    /// Who ran it.
    pub user: &'a str,
    /// The environment.
    pub environment: EnvironmentName,
    /// The platform.
    pub platform: PlatformName,
    /// The release that it makes.
    pub release: ReleaseId,
    /// The release that served until then.
    pub replaces: Option<ReleaseId>,
    /// When it began, as the journal has it.
    pub started: &'a str,
    /// How it ended; nothing where it has not ended, or was killed.
    pub outcome: Option<&'a RunOutcome>,
    /// How long it took, in milliseconds; up to the last line of the journal where it has not ended.
    pub duration_ms: u64,
    /// All its steps, in order.
    pub steps: Vec<StepOverview<'a>>,
    /// The backup that was taken before anything changed.
    pub backup: Option<&'a str>,
    /// The SHA-256 of the artifact.
    pub artifact: Option<&'a str>,
    /// The commit that the artifact was packed from, and whether files differed from it.
    pub commit: Option<(&'a str, bool)>,
    /// The programs that changed the database, and what they said.
    pub database: Vec<(&'a str, &'a str)>,
}

/// What a journal says about a step.
#[derive(Clone, Debug)]
pub struct StepOverview<'a> {
    /// The step.
    pub id: StepId,
    /// How it stands.
    pub state: StepState,
    /// Why it was skipped, warned or failed.
    pub note: Option<&'a str>,
    /// When it began, in milliseconds after the run did; nothing where it did not begin.
    pub began_ms: Option<u64>,
    /// How long it took, in milliseconds; up to the last line of the journal where it has not ended.
    pub duration_ms: u64,
    /// What its actions said they did.
    pub evidence: &'a [String],
    /// What was checked.
    pub checks: Vec<&'a CheckResult>,
    /// What changed of who may use what.
    pub access: Vec<&'a AccessChanges>,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepState {
    /// It did what it should.
    Done,
    /// There is something worth a look.
    Warned,
    /// It did nothing, for a reason.
    Skipped,
    /// It failed.
    Failed,
    /// An earlier run did it.
    Kept,
    /// It began, and the journal ends before it did.
    Unfinished,
    /// The run did not get to it.
    NotReached,
}

impl StepState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Warned => "warned",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Kept => "kept",
            Self::Unfinished => "not finished",
            Self::NotReached => "not reached",
        }
    }
}

impl<'a> Overview<'a> {
    /// What `records`, a whole journal, say. Nothing where they do not begin as a journal does.
    #[must_use]
    pub fn new(records: &'a [Record]) -> Option<Self> {
        let first = records.first()?;
        let Event::RunStarted {
            run,
            user,
            environment,
            platform,
            release,
            replaces,
            steps,
            task,
            continues,
            ..
        } = &first.event
        else {
            return None;
        };
        let mut overview = Self {
            run,
            task: *task,
            continues: continues.as_ref().map(|continues| continues.run.as_str()),
            user,
            environment: *environment,
            platform: *platform,
            release: *release,
            replaces: *replaces,
            started: &first.at,
            outcome: None,
            duration_ms: 0,
            steps: steps.iter().map(|id| StepOverview::not_reached(*id)).collect(),
            backup: None,
            artifact: None,
            commit: None,
            database: Vec::new(),
        };
        // What an earlier run found counts as if this one had.
        for kept in continues.iter().flat_map(|continues| &continues.kept) {
            for fact in &kept.facts {
                overview.learn(kept.step, fact);
            }
        }
        for fact in continues.iter().flat_map(|continues| &continues.changed) {
            overview.learn(StepId::Release, fact);
        }
        let start = instant(&first.at);
        for record in records {
            let passed = milliseconds(start, instant(&record.at));
            overview.take(&record.event, passed);
        }
        Some(overview)
    }

    fn take(&mut self, event: &'a Event, passed_ms: u64) {
        self.duration_ms = self.duration_ms.max(passed_ms);
        match event {
            Event::StepStarted { step, .. } => {
                let step = self.step(*step);
                step.state = StepState::Unfinished;
                step.began_ms = Some(passed_ms);
            }
            Event::StepOutput { step, .. } => self.step(*step).still_runs(passed_ms),
            Event::Learned { step, fact } => {
                self.step(*step).still_runs(passed_ms);
                self.learn(*step, fact);
            }
            Event::StepEnded { step, outcome, duration_ms, evidence } => {
                let step = self.step(*step);
                (step.duration_ms, step.evidence) = (*duration_ms, evidence);
                let (state, note) = match outcome {
                    StepOutcome::Done => (StepState::Done, None),
                    StepOutcome::Warned { reason } => (StepState::Warned, Some(reason.as_str())),
                    StepOutcome::Skipped { reason } => (StepState::Skipped, Some(reason.as_str())),
                    StepOutcome::Failed { error } => (StepState::Failed, Some(error.as_str())),
                    StepOutcome::Kept { run } => (StepState::Kept, Some(run.as_str())),
                };
                (step.state, step.note) = (state, note);
            }
            Event::RunEnded { outcome, duration_ms } => {
                self.outcome = Some(outcome);
                self.duration_ms = *duration_ms;
            }
            _ => {}
        }
    }

    fn learn(&mut self, step: StepId, fact: &'a Fact) {
        match fact {
            Fact::Artifact { sha256, size: _, revision } => {
                self.artifact = Some(sha256);
                let commit = revision.as_ref();
                self.commit = commit.map(|revision| (&*revision.commit, revision.modified));
            }
            Fact::Backup { id } => self.backup = Some(id),
            Fact::DatabaseChanged { program, summary } => self.database.push((program, summary)),
            Fact::Checked { checks } => self.step(step).checks.extend(checks),
            Fact::AccessChanged { changes } => self.step(step).access.push(changes),
        }
    }

    /// The step, which a journal names at its start; one that it does not name is shown all the same.
    fn step(&mut self, id: StepId) -> &mut StepOverview<'a> {
        let at = self.steps.iter().position(|step| step.id == id).unwrap_or_else(|| {
            self.steps.push(StepOverview::not_reached(id));
            self.steps.len() - 1
        });
        &mut self.steps[at]
    }

    /// The step that stopped the run, and why.
    #[must_use]
    pub fn failure(&self) -> Option<(StepId, &'a str)> {
        match self.outcome? {
            RunOutcome::Failed { step, error } => Some((*step, error)),
            RunOutcome::Done | RunOutcome::Warned => None,
        }
    }

    /// Whether a release was made to serve, as far as the journal tells.
    #[must_use]
    pub fn released(&self) -> bool {
        let is_release = |step: &&StepOverview<'_>| step.id == StepId::Release;
        self.steps.iter().find(is_release).is_some_and(|step| step.state == StepState::Done)
    }

    /// Commands that lead back to what was before, each with what it does; as one types them in the project's root.
    #[must_use]
    pub fn ways_back(&self) -> Vec<(&'static str, String)> {
        let environment = self.environment;
        let began = |id| self.steps.iter().any(|step| step.id == id && step.began_ms.is_some());
        let went_back = self.steps.iter().any(|step| {
            step.id == StepId::Rollback && matches!(step.state, StepState::Done | StepState::Warned)
        });
        let mut ways = Vec::new();
        if self.task != Task::Deploy || went_back {
            return ways;
        }
        if self.replaces.is_some() && self.released() {
            ways.push((
                "make the release before it serve again",
                format!("cargo xtask rollback {environment} --code"),
            ));
        }
        if let Some(backup) = self.backup
            && (began(StepId::Release) || began(StepId::ImportAccess))
        {
            let backup = quoted(backup);
            let rollback = "cargo run --release --package rollback-migration --";
            ways.push((
                "show what restoring the backup would lose",
                format!("{rollback} --env {environment} --backup {backup} --dry-run"),
            ));
            ways.push((
                "restore the database from the backup",
                format!("{rollback} --env {environment} --backup {backup}"),
            ));
        }
        ways
    }

    /// How many checks ended how, such as `8 passed, 1 warned`; empty where there were none.
    #[must_use]
    pub fn checks(&self) -> String {
        let count = |outcome| {
            let checks = self.steps.iter().flat_map(|step| &step.checks);
            checks.filter(|check| check.outcome == outcome).count()
        };
        let parts = CheckOutcome::ALL.into_iter().filter_map(|outcome| match count(outcome) {
            0 => None,
            number => Some(format!("{number} {}", outcome.as_str())),
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

impl StepOverview<'_> {
    const fn not_reached(id: StepId) -> Self {
        Self {
            id,
            state: StepState::NotReached,
            note: None,
            began_ms: None,
            duration_ms: 0,
            evidence: &[],
            checks: Vec::new(),
            access: Vec::new(),
        }
    }

    fn still_runs(&mut self, passed_ms: u64) {
        let began = self.began_ms.unwrap_or(passed_ms);
        self.duration_ms = self.duration_ms.max(passed_ms.saturating_sub(began));
    }
}

/// A duration as people read it.
pub(crate) fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

/// `2026-11-24T03:35:49.123Z` as people read it. A text of another form is shown as it is.
pub(crate) fn point_in_time(at: &str) -> String {
    match instant(at) {
        Some(at) => at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => at.to_owned(),
    }
}

fn instant(at: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(at).ok().map(|at| at.to_utc())
}

/// The time between two lines of a journal; none where the clock was set back meanwhile.
fn milliseconds(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> u64 {
    let (Some(from), Some(to)) = (from, to) else { return 0 };
    u64::try_from((to - from).num_milliseconds()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_read_well() {
        let shown: Vec<String> = [0, 999, 1_000, 59_999, 61_000].map(duration).into();
        assert_eq!(shown, ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 1 s"]);
        assert_eq!(point_in_time("2026-11-24T03:35:49.123Z"), "2026-11-24 03:35:49 UTC");
        assert_eq!(point_in_time("soon"), "soon");
    }

    #[test]
    fn a_clock_that_was_set_back_is_no_negative_time() {
        let (late, early) = ("2026-11-24T03:35:49Z", "2026-11-24T03:35:48Z");
        assert_eq!(milliseconds(instant(late), instant(early)), 0);
        assert_eq!(milliseconds(instant(early), instant(late)), 1000);
    }
}
