//! What holds on every platform, whatever happens to a run. A platform passes it by being a [`World`].

use std::{sync::Mutex, thread};

use omnitool_environment::EnvironmentName;
use omnitool_pipeline::{
    DatabaseState, Event, History, Settings, SkippedStep, StepId, read_journal,
};

use crate::{
    fake::alone,
    scene::{Death, Order, Scene},
};

/// An environment on some platform, with programs that remember what they did.
pub(crate) trait World: Sized {
    /// Nothing may be run there but in processes of their own.
    fn new(environment: EnvironmentName) -> Self;
    fn scene(&self) -> &Scene;
    /// All that a run changes, as text.
    fn state(&self) -> String;
}

/// How many worlds there are at a time. Their runs wait more than they compute.
const WORLDS: usize = 3;

/// The state after a run that nothing disturbs, and what happened in it.
fn undisturbed<W: World>(environment: EnvironmentName, before: Before) -> (String, Vec<Event>) {
    let world = ready::<W>(environment, before);
    Order::new(world.scene(), "run").carry_out();
    let records = read_journal(&world.scene().runs().join("run.jsonl")).unwrap();
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
        // Only what it leaves matters.
        let left_out = [StepId::ImportAccess, StepId::Verify, StepId::Smoke, StepId::PruneBackups];
        let skipped = left_out.map(|step| SkippedStep { step, reason: "quick".to_owned() });
        let settings = Settings { skipped: skipped.to_vec(), ..Settings::default() };
        Order { settings, ..Order::new(world.scene(), "first") }.carry_out();
        assert_eq!(world.scene().look().database, DatabaseState::Present);
    }
    world
}

/// Gives each of `cases` to `check`, several at a time.
fn for_each<T: Send>(cases: Vec<T>, check: impl Fn(T) + Sync) {
    let cases = Mutex::new(cases.into_iter());
    let next = || cases.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..WORLDS {
            scope.spawn(|| {
                while let Some(case) = next() {
                    check(case);
                }
            });
        }
    });
}

/// Wherever a run is killed, a second one completes it: the same state as after a run that nothing disturbed, and nothing
/// twice.
fn a_run_that_is_killed_anywhere_is_completed<W: World>(
    environment: EnvironmentName,
    before: Before,
) {
    let _alone = alone();
    let (expected, events) = undisturbed::<W>(environment, before);
    for_each(deaths(&events), |death| {
        let world = ready::<W>(environment, before);
        let scene = world.scene();
        Order::new(scene, "run").die(death);
        let history = || History::read(&scene.runs()).unwrap();
        if matches!(death, Death::After(number) if number == events.len()) {
            // Everything is done and written down.
            assert!(history().find("run").unwrap().went_through());
        } else {
            Order::continuing(scene, "again", "run").carry_out();
            assert!(history().find("again").unwrap().passed(), "{death:?}");
        }
        assert_eq!(world.state(), expected, "{death:?}");
    });
}

/// A run that continues another one may be killed, too.
fn a_run_that_is_killed_twice_is_completed<W: World>(environment: EnvironmentName) {
    let _alone = alone();
    let (expected, events) = undisturbed::<W>(environment, Before::OneRelease);
    let events = events.len();
    for_each(vec![(events / 3, 3), (events / 2, 5), (events * 2 / 3, 2)], |(first, second)| {
        let world = ready::<W>(environment, Before::OneRelease);
        let scene = world.scene();
        Order::new(scene, "run").die(Death::Before(first));
        Order::continuing(scene, "again", "run").die(Death::After(second));
        Order::continuing(scene, "once more", "again").carry_out();
        assert_eq!(world.state(), expected, "{first} {second}");
    });
}

/// Makes the tests of this suite for a world.
macro_rules! on_platform {
    ($platform:ident, $world:ty) => {
        mod $platform {
            use omnitool_environment::EnvironmentName;

            use super::*;

            #[test]
            fn a_first_staging_run_that_is_killed_anywhere_is_completed() {
                a_run_that_is_killed_anywhere_is_completed::<$world>(
                    EnvironmentName::Staging,
                    Before::Nothing,
                );
            }

            #[test]
            fn a_staging_run_that_is_killed_anywhere_is_completed() {
                a_run_that_is_killed_anywhere_is_completed::<$world>(
                    EnvironmentName::Staging,
                    Before::OneRelease,
                );
            }

            #[test]
            fn a_production_run_that_is_killed_anywhere_is_completed() {
                a_run_that_is_killed_anywhere_is_completed::<$world>(
                    EnvironmentName::Production,
                    Before::OneRelease,
                );
            }

            #[test]
            fn a_run_that_is_killed_twice_is_completed() {
                super::a_run_that_is_killed_twice_is_completed::<$world>(EnvironmentName::Staging);
                super::a_run_that_is_killed_twice_is_completed::<$world>(
                    EnvironmentName::Production,
                );
            }
        }
    };
}

on_platform!(local, crate::fake::Project);
on_platform!(heroku, crate::heroku::HerokuProject);
