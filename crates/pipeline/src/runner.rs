//! Runs a plan, step by step.

use std::time::{Duration, Instant};

use crate::{
    Action, ActionError, Continuation, Event, Execute, Fact, OnFailure, Performed, Plan, Revision,
    RunOutcome, Sink, Step, StepId, StepOutcome, Todo, Watch, When, WriteJournalError,
    chain::chain,
};

/// What a run is known by.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// The run's id; the journal is named after it.
    pub run: String,
    /// Who runs it.
    pub user: String,
    /// The machine that it runs on.
    pub host: Option<String>,
    /// The commit that is checked out there.
    pub revision: Option<Revision>,
    /// What it takes over from a run that stopped.
    pub continues: Option<Continuation>,
}

/// How a run went.
#[derive(Debug)]
#[must_use]
pub struct RunReport {
    /// The steps that began or were skipped, in order.
    pub steps: Vec<StepReport>,
    /// Why the run stopped, unless it went through.
    pub failure: Option<RunFailure>,
    /// How long it took.
    pub duration: Duration,
}

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// The step.
    pub id: StepId,
    /// How it ended.
    pub outcome: StepOutcome,
    /// How long it took.
    pub duration: Duration,
    /// What its actions said they did.
    pub evidence: Vec<String>,
}

/// Why a run stopped.
#[derive(Debug)]
pub struct RunFailure {
    /// The step that it stopped in.
    pub step: StepId,
    /// Why.
    pub error: RunError,
}

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Somebody wanted it to stop. What was running has ended.
    #[error("interrupted")]
    Interrupted(#[source] Option<Box<ActionError>>),
    /// An action failed.
    #[error(transparent)]
    Action(Box<ActionError>),
    /// What happened could not be written down.
    #[error(transparent)]
    Journal(#[from] WriteJournalError),
}

impl RunError {
    /// The error with all its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// Runs the steps of `plan` in order. Every event goes to `sink` before the run goes on.
///
/// After a failure only the steps that always run are run. `interrupted` is asked between actions and while they wait.
pub fn run(
    plan: &Plan,
    info: &RunInfo,
    executor: &mut dyn Execute,
    sink: &mut dyn Sink,
    interrupted: &dyn Fn() -> bool,
) -> RunReport {
    let started = Instant::now();
    let mut runner = Runner { plan, executor, sink, interrupted };
    let mut steps: Vec<StepReport> = Vec::new();
    let mut failure: Option<RunFailure> = None;
    let first = plan.steps().first().map_or(StepId::Summary, |step| step.id);
    if let Err(error) = runner.start(info) {
        failure = Some(RunFailure { step: first, error: error.into() });
        // Nothing has happened, so there is nothing that must run whatever happened.
        return RunReport { steps, failure, duration: started.elapsed() };
    }
    for step in plan.steps() {
        if failure.is_some() && step.when == When::AllWell {
            continue;
        }
        let kept = info.continues.as_ref().and_then(|continues| continues.find(step.id));
        let skipped = if step.when == When::Failed { no_way_back(failure.as_ref()) } else { None };
        let (report, error) = match (kept, skipped) {
            (Some(kept), _) => {
                let outcome = StepOutcome::Kept { run: kept.run.clone() };
                runner.end(step.id, outcome, Duration::ZERO, kept.evidence.clone())
            }
            (None, Some(reason)) => {
                let outcome = StepOutcome::Skipped { reason: reason.to_owned() };
                runner.end(step.id, outcome, Duration::ZERO, Vec::new())
            }
            (None, None) => runner.step(step),
        };
        steps.push(report);
        if let (Some(error), None) = (error, &failure) {
            failure = Some(RunFailure { step: step.id, error });
        }
    }
    let duration = started.elapsed();
    let outcome = outcome(&steps, failure.as_ref());
    if let Err(error) = runner.sink.emit(&Event::RunEnded { outcome, duration_ms: ms(duration) })
        && failure.is_none()
    {
        failure = Some(RunFailure { step: StepId::Summary, error: error.into() });
    }
    RunReport { steps, failure, duration }
}

struct Runner<'a> {
    plan: &'a Plan,
    executor: &'a mut dyn Execute,
    sink: &'a mut dyn Sink,
    interrupted: &'a dyn Fn() -> bool,
}

impl Runner<'_> {
    fn start(&mut self, info: &RunInfo) -> Result<(), WriteJournalError> {
        let RunInfo { run, user, host, revision, continues } = info.clone();
        self.sink.emit(&Event::RunStarted {
            format: Event::FORMAT.to_owned(),
            version: Event::VERSION,
            run,
            user,
            environment: self.plan.site().environment,
            platform: self.plan.platform(),
            release: self.plan.release(),
            replaces: self.plan.replaces(),
            steps: self.plan.steps().iter().map(|step| step.id).collect(),
            task: self.plan.task(),
            situation: Some(self.plan.situation()),
            settings: self.plan.settings().clone(),
            revision,
            host,
            continues,
        })
    }

    /// Runs one step. The error is why the run must stop.
    fn step(&mut self, step: &Step) -> (StepReport, Option<RunError>) {
        let started = Instant::now();
        let mut evidence = Vec::new();
        let mut warnings = Vec::new();
        let mut error = None;
        let outcome = match &step.todo {
            Todo::Skip(reason) => StepOutcome::Skipped { reason: reason.clone() },
            Todo::Run(actions) => match self.actions(step, actions, &mut evidence, &mut warnings) {
                Ok(()) if warnings.is_empty() => StepOutcome::Done,
                Ok(()) => StepOutcome::Warned { reason: warnings.join("\n") },
                Err(failed @ RunError::Action(_)) if step.on_failure == OnFailure::Warn => {
                    StepOutcome::Warned { reason: failed.chain() }
                }
                Err(failed) => {
                    let outcome = StepOutcome::Failed { error: failed.chain() };
                    error = Some(failed);
                    outcome
                }
            },
        };
        let (report, unwritten) = self.end(step.id, outcome, started.elapsed(), evidence);
        (report, error.or(unwritten))
    }

    fn end(
        &mut self,
        id: StepId,
        outcome: StepOutcome,
        duration: Duration,
        evidence: Vec<String>,
    ) -> (StepReport, Option<RunError>) {
        let report = StepReport { id, outcome, duration, evidence };
        let StepReport { id, outcome, duration, evidence } = report.clone();
        let event = Event::StepEnded { step: id, outcome, duration_ms: ms(duration), evidence };
        let unwritten = self.sink.emit(&event).err().map(RunError::from);
        (report, unwritten)
    }

    fn actions(
        &mut self,
        step: &Step,
        actions: &[Action],
        evidence: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<(), RunError> {
        let inputs = self.plan.fingerprint(step);
        self.sink.emit(&Event::StepStarted { step: step.id, inputs })?;
        for action in actions {
            if (self.interrupted)() && step.when == When::AllWell {
                return Err(RunError::Interrupted(None));
            }
            let performed = match self.action(step.id, action) {
                Err(RunError::Action(error)) => {
                    for fact in error.facts().to_vec() {
                        self.learn(step.id, fact)?;
                    }
                    return Err(RunError::Action(error));
                }
                other => other?,
            };
            let Performed { evidence: said, warnings: warned, facts } = performed;
            evidence.push(said);
            warnings.extend(warned);
            for fact in facts {
                self.learn(step.id, fact)?;
            }
        }
        Ok(())
    }

    fn learn(&mut self, step: StepId, fact: Fact) -> Result<(), WriteJournalError> {
        self.sink.emit(&Event::Learned { step, fact })
    }

    fn action(&mut self, step: StepId, action: &Action) -> Result<Performed, RunError> {
        let Self { plan: _, executor, sink, interrupted } = self;
        let mut unwritten = None;
        let mut take = |stream, line: &str| {
            let event = Event::StepOutput { step, stream, line: line.to_owned() };
            if let Err(error) = sink.emit(&event) {
                unwritten.get_or_insert(error);
            }
        };
        let result = executor.perform(action, &mut Watch::new(*interrupted, &mut take));
        match (result, unwritten) {
            (Err(error), _) if interrupted() => Err(RunError::Interrupted(Some(Box::new(error)))),
            (Err(error), _) => Err(RunError::Action(Box::new(error))),
            (Ok(_), Some(error)) => Err(error.into()),
            (Ok(performed), None) => Ok(performed),
        }
    }
}

/// Why the way back is not taken, where it is not.
fn no_way_back(failure: Option<&RunFailure>) -> Option<&'static str> {
    match failure {
        None => Some("nothing failed"),
        // What would go back could not go on, either.
        Some(RunFailure { error: RunError::Interrupted(_), .. }) => Some("the run was interrupted"),
        Some(RunFailure { error: RunError::Journal(_), .. }) => {
            Some("nobody could tell what it did")
        }
        Some(_) => None,
    }
}

fn outcome(steps: &[StepReport], failure: Option<&RunFailure>) -> RunOutcome {
    match failure {
        Some(RunFailure { step, error }) => {
            RunOutcome::Failed { step: *step, error: error.chain() }
        }
        None if steps.iter().any(|step| matches!(step.outcome, StepOutcome::Warned { .. })) => {
            RunOutcome::Warned
        }
        None => RunOutcome::Done,
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
