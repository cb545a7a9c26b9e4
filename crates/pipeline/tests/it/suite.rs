//! What holds on every platform, whatever happens to a run. A platform passes it by being a [`World`].

use std::{fs, panic, path::PathBuf};

use chrono::Utc;
use omnitool_environment::EnvironmentName;
use omnitool_pipeline::{
    ArtifactSource, Continuation, DatabaseState, DeployOptions, Event, Executor, History, Journal,
    Plan, Platform, ProductionOptions, RunInfo, RunReport, Settings, Sink, Site, Situation,
    SkippedStep, StepId, WriteJournalError, pack_artifact, read_journal, run,
};

use crate::fake::info;

/// An environment on some platform, with programs that remember what they did.
pub(crate) trait World {
    fn new(environment: EnvironmentName) -> Self;
    fn site(&self) -> &Site;
    fn platform(&self) -> Box<dyn Platform>;
    fn source(&self) -> ArtifactSource;
    fn artifacts(&self) -> PathBuf;
    /// Where journals are.
    fn runs(&self) -> PathBuf;
    /// All that a run changes, as text.
    fn state(&self) -> String;
}

/// When a run dies, counted in events.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// When this event is written down.
    After(usize),
    /// When what it tells has happened, before it is written down.
    Before(usize),
}

/// Writes the journal, and lets the run die.
struct Dying {
    journal: Journal,
    death: Option<Death>,
    seen: usize,
}

/// The run died. It is thrown past everything that would tidy up in an orderly end.
struct Died;

impl Sink for Dying {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        self.seen += 1;
        if matches!(self.death, Some(Death::Before(number)) if number == self.seen) {
            panic::resume_unwind(Box::new(Died));
        }
        self.journal.emit(event)?;
        if matches!(self.death, Some(Death::After(number)) if number == self.seen) {
            panic::resume_unwind(Box::new(Died));
        }
        Ok(())
    }
}

fn plan<W: World>(world: &W, situation: &Situation) -> Plan {
    plan_with(world, situation, Settings::default())
}

fn plan_with<W: World>(world: &W, situation: &Situation, settings: Settings) -> Plan {
    let options = DeployOptions { settings, ..DeployOptions::default() };
    match world.site().environment {
        EnvironmentName::Production => {
            let artifact = pack_artifact(&world.source(), &world.artifacts()).unwrap();
            let gate = ProductionOptions {
                artifact: Some(artifact.sha256),
                found: vec!["approved".to_owned()],
                rehearsed: None,
            };
            Plan::production(world.site(), situation, options, gate)
        }
        _ => Plan::staging(world.site(), situation, options),
    }
}

/// Runs `plan`; nothing where it died.
fn perform<W: World>(
    world: &W,
    plan: &Plan,
    info: &RunInfo,
    death: Option<Death>,
) -> Option<RunReport> {
    let mut platform = world.platform();
    let mut executor =
        Executor::new(plan, &info.run, &mut *platform, world.source(), world.artifacts());
    if let Some(continuation) = &info.continues {
        executor.take_over(continuation).unwrap();
    }
    let journal = Journal::create(&world.runs(), &info.run).unwrap();
    let mut sink = Dying { journal, death, seen: 0 };
    let ran = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        run(plan, info, &mut executor, &mut sink, &|| false)
    }));
    match ran {
        Ok(report) => Some(report),
        Err(died) => {
            assert!(died.is::<Died>(), "the test itself failed");
            None
        }
    }
}

/// Continues the run `stopped`, or begins anew where it had not begun.
fn resume<W: World>(world: &W, stopped: &str, run: &str) -> RunReport {
    let file = world.runs().join(format!("{stopped}.jsonl"));
    let looked = world.platform().look().unwrap();
    if fs::metadata(&file).unwrap().len() == 0 {
        return perform(world, &plan(world, &looked), &info(run), None).unwrap();
    }
    let records = read_journal(&file).unwrap();
    let Event::RunStarted { situation: Some(situation), .. } = &records[0].event else {
        panic!("{records:?}");
    };
    let plan = plan(world, situation);
    let continues = Continuation::new(&plan, &records, None, None, Utc::now()).unwrap();
    let info = RunInfo { continues: Some(continues), ..info(run) };
    perform(world, &plan, &info, None).unwrap()
}

/// The state after a run that nothing disturbs, and what happened in it.
fn undisturbed<W: World>(environment: EnvironmentName, before: Before) -> (String, Vec<Event>) {
    let world = ready::<W>(environment, before);
    let plan = plan(&world, &world.platform().look().unwrap());
    let report = perform(&world, &plan, &info("run"), None);
    let failure = report.unwrap().failure;
    assert!(failure.is_none(), "{failure:?}");
    let records = read_journal(&world.runs().join("run.jsonl")).unwrap();
    (world.state(), records.into_iter().map(|record| record.event).collect())
}

/// All moments that differ: between two events nothing happens but after a step has begun.
fn deaths(events: &[Event]) -> Vec<Death> {
    let mut deaths = Vec::new();
    for (number, event) in (1..).zip(events) {
        deaths.push(Death::Before(number));
        if matches!(event, Event::StepStarted { .. } | Event::RunEnded { .. }) {
            deaths.push(Death::After(number));
        }
    }
    deaths
}

/// What there is before the run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before {
    Nothing,
    OneRelease,
}

fn ready<W: World>(environment: EnvironmentName, before: Before) -> W {
    let world = W::new(environment);
    if matches!(before, Before::OneRelease) {
        let looked = world.platform().look().unwrap();
        // Only what it leaves matters.
        let left_out = [StepId::ImportAccess, StepId::Verify, StepId::Smoke, StepId::PruneBackups];
        let skipped = left_out.map(|step| SkippedStep { step, reason: "quick".to_owned() });
        let settings = Settings { skipped: skipped.to_vec(), ..Settings::default() };
        let report = perform(&world, &plan_with(&world, &looked, settings), &info("first"), None);
        let failure = report.unwrap().failure;
        assert!(failure.is_none(), "{failure:?}");
        assert_eq!(world.platform().look().unwrap().database, DatabaseState::Present);
    }
    world
}

/// Wherever a run dies, a second one completes it: the same state as after a run that nothing disturbed, and nothing twice.
pub(crate) fn a_run_that_dies_anywhere_is_completed<W: World>(
    environment: EnvironmentName,
    before: Before,
) {
    let (expected, events) = undisturbed::<W>(environment, before);
    for death in deaths(&events) {
        let world = ready::<W>(environment, before);
        let plan = plan(&world, &world.platform().look().unwrap());
        let report = perform(&world, &plan, &info("run"), Some(death));
        assert!(report.is_none(), "{death:?}");
        if matches!(death, Death::After(number) if number == events.len()) {
            // Everything is done and written down.
            assert!(History::read(&world.runs()).unwrap().find("run").unwrap().went_through());
            continue;
        }
        let report = resume(&world, "run", "again");
        assert!(report.failure.is_none(), "{death:?}: {report:?}");
        assert_eq!(world.state(), expected, "{death:?}");
        let history = History::read(&world.runs()).unwrap();
        assert!(history.find("again").unwrap().passed(), "{death:?}");
    }
}

/// A run that continues another one may die, too.
pub(crate) fn a_run_that_dies_twice_is_completed<W: World>(environment: EnvironmentName) {
    let (expected, events) = undisturbed::<W>(environment, Before::OneRelease);
    let events = events.len();
    for (first, second) in [(events / 3, 3), (events / 2, 5), (events * 2 / 3, 2)] {
        let world = ready::<W>(environment, Before::OneRelease);
        let situation = world.platform().look().unwrap();
        let plan = plan(&world, &situation);
        perform(&world, &plan, &info("run"), Some(Death::Before(first)));
        let records = read_journal(&world.runs().join("run.jsonl")).unwrap();
        let continues = Continuation::new(&plan, &records, None, None, Utc::now()).unwrap();
        let again = RunInfo { continues: Some(continues), ..info("again") };
        perform(&world, &plan, &again, Some(Death::After(second)));
        let report = resume(&world, "again", "once more");
        assert!(report.failure.is_none(), "{report:?}");
        assert_eq!(world.state(), expected, "{first} {second}");
    }
}

/// Makes the tests of this suite for a world.
macro_rules! on_platform {
    ($platform:ident, $world:ty) => {
        mod $platform {
            use omnitool_environment::EnvironmentName;

            use super::*;

            #[test]
            fn a_first_staging_run_that_dies_anywhere_is_completed() {
                a_run_that_dies_anywhere_is_completed::<$world>(
                    EnvironmentName::Staging,
                    Before::Nothing,
                );
            }

            #[test]
            fn a_staging_run_that_dies_anywhere_is_completed() {
                a_run_that_dies_anywhere_is_completed::<$world>(
                    EnvironmentName::Staging,
                    Before::OneRelease,
                );
            }

            #[test]
            fn a_production_run_that_dies_anywhere_is_completed() {
                a_run_that_dies_anywhere_is_completed::<$world>(
                    EnvironmentName::Production,
                    Before::OneRelease,
                );
            }

            #[test]
            fn a_run_that_dies_twice_is_completed() {
                super::a_run_that_dies_twice_is_completed::<$world>(EnvironmentName::Staging);
                super::a_run_that_dies_twice_is_completed::<$world>(EnvironmentName::Production);
            }
        }
    };
}

on_platform!(local, crate::fake::Project);
on_platform!(heroku, crate::heroku::HerokuProject);
