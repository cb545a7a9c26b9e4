//! What becomes of a release that something goes wrong with. What can go wrong in any step is in the tests of `xtask`, which has the
//! real programs.

use std::{fs, time::Duration};

use chrono::Utc;
use omnitool_environment::EnvironmentName;
use omnitool_heroku_emulator::{Emulator, Fault, FaultKind};
use omnitool_pipeline::{
    Continuation, Event, Journal, Plan, RunInfo, RunReport, Settings, Sink, StepId,
    WriteJournalError, read_journal, standing,
};

use super::HerokuProject;
use crate::{
    scene::{Ran, info},
    suite::World as _,
};

/// Writes the journal, and lets something go wrong when a step begins.
struct Injecting<'a> {
    journal: Journal,
    emulator: &'a Emulator,
    fault: Option<(StepId, Fault)>,
}

impl Sink for Injecting<'_> {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        if let (Event::StepStarted { step, .. }, Some((wanted, fault))) = (event, &self.fault)
            && step == wanted
        {
            self.emulator.fault(fault.clone());
            self.fault = None;
        }
        self.journal.emit(event)
    }
}

fn perform_and_see(
    world: &HerokuProject,
    plan: &Plan,
    info: &RunInfo,
    fault: Option<(StepId, Fault)>,
) -> Ran {
    let journal = Journal::create(&world.scene().runs(), &info.run).unwrap();
    let mut sink = Injecting { journal, emulator: &world.emulator, fault };
    world.scene().run(plan, info, &mut sink, &|| false)
}

pub(super) fn perform(
    world: &HerokuProject,
    plan: &Plan,
    info: &RunInfo,
    fault: Option<(StepId, Fault)>,
) -> RunReport {
    perform_and_see(world, plan, info, fault).report
}

/// Where the database stands after a run.
fn database_after(plan: &Plan, ran: &Ran) -> String {
    let database = standing(plan, &ran.aftermath, ran.serving).swap_remove(0);
    assert_eq!(database.part, "database");
    database.state
}

pub(super) fn staging(world: &HerokuProject) -> Plan {
    world.scene().plan(&world.scene().look(), Settings::default())
}

/// The plan of a run that goes back by itself.
pub(super) fn returning(world: &HerokuProject) -> Plan {
    let settings = Settings { auto_rollback: true, ..Settings::default() };
    world.scene().plan(&world.scene().look(), settings)
}

/// An app that serves its first release.
pub(super) fn served() -> HerokuProject {
    let world = HerokuProject::of(EnvironmentName::Staging);
    let report = perform(&world, &staging(&world), &info("first"), None);
    assert!(report.failure.is_none(), "{report:?}");
    world
}

/// Continues the run `stopped` of `plan`.
fn resume(world: &HerokuProject, plan: &Plan, stopped: &str, run: &str) -> RunReport {
    let records = read_journal(&world.scene().runs().join(format!("{stopped}.jsonl"))).unwrap();
    let continues = Continuation::new(plan, &records, None, None, Utc::now()).unwrap();
    perform(world, plan, &RunInfo { continues: Some(continues), ..info(run) }, None)
}

/// As many attempts as the client makes, and more.
const ALWAYS: u32 = 50;

#[test]
fn a_release_phase_that_fails_leaves_the_old_release_and_can_be_tried_again() {
    let world = served();
    let plan = staging(&world);
    let fault =
        Fault { kind: FaultKind::FailReleasePhase, method: None, path: String::new(), times: 1 };
    let report = perform(&world, &plan, &info("run"), Some((StepId::Release, fault)));
    assert_eq!(report.failure.unwrap().step, StepId::Release);
    assert!(resume(&world, &plan, "run", "again").failure.is_none());
    assert_eq!(
        world.releases()[..2],
        ["v5 Deploy 0002 succeeded".to_owned(), "v4 Deploy 0002 failed".to_owned()]
    );
    // The slug is the one that was uploaded.
    assert_eq!(world.count("POST /apps/demo/slugs"), 2);

    world.project.migrate("echo out of cheese; exit 3");
    let plan = staging(&world);
    let report = perform(&world, &plan, &info("bad"), None);
    let failure = report.failure.unwrap();
    let text = failure.error.chain();
    insta::assert_snapshot!(
        text,
        @r"
    the release phase of release 0003 (v6) failed; v5 serves, as before:
    out of cheese
    "
    );
}

#[test]
fn an_app_that_does_not_come_up_is_replaced_by_the_one_that_served() {
    let world = served();
    let good = fs::read_to_string(world.project.root().join("programs/omnitool")).unwrap();
    world.project.program("omnitool", &world.project.omnitool("echo no cheese; exit 7"));
    let plan = staging(&world);
    let failure = perform(&world, &plan, &info("bad"), None).failure.unwrap();
    let text = failure.error.chain();
    assert!(
        text.starts_with("release 0002 (v4) does not serve; v3 serves, as before: web.1 of demo"),
        "{text}"
    );
    let look = world.scene().look();
    assert_eq!(look.serving, plan.replaces());
    assert_eq!(world.releases()[0], "v5 Rollback to v3 succeeded");
    // What is rolled back on purpose is nobody else's release.
    fs::write(world.project.root().join("programs/omnitool"), good).unwrap();
    let again = perform(&world, &staging(&world), &info("good"), None);
    assert!(again.failure.is_none(), "{again:?}");
}

#[test]
fn a_release_phase_without_an_end_is_given_up_when_somebody_interrupts() {
    let world = served();
    world.project.migrate("echo slowly; sleep 30");
    let plan = staging(&world);
    let journal = Journal::create(&world.scene().runs(), "slow").unwrap();
    let file = journal.path().to_owned();
    let mut sink = Injecting { journal, emulator: &world.emulator, fault: None };
    let slow = || fs::read_to_string(&file).is_ok_and(|text| text.contains("slowly"));
    let started = std::time::Instant::now();
    let report = world.scene().run(&plan, &info("slow"), &mut sink, &slow).report;
    assert!(started.elapsed() < Duration::from_secs(25));
    let failure = report.failure.unwrap();
    assert!(
        failure.error.chain().contains("v4 of demo goes on by itself"),
        "{}",
        failure.error.chain()
    );
}

#[test]
fn a_release_that_cannot_be_seen_any_more_may_have_migrated_the_database() {
    let world = served();
    let mut number = 0;
    for (kind, method, path, may_have) in [
        (FaultKind::Status(422), "POST", "/apps/demo/releases", false),
        (FaultKind::Status(503), "POST", "/apps/demo/releases", true),
        (FaultKind::Html, "GET", "/apps/demo/releases/", true),
        (FaultKind::Status(403), "GET", "/apps/demo/formation", true),
        (FaultKind::Html, "GET", "/apps/demo/dynos", true),
    ] {
        let case = format!("{kind:?} {method} {path}");
        let (method, path) = (Some(method.to_owned()), path.to_owned());
        let fault = Fault { kind, method, path, times: ALWAYS };
        number += 1;
        let name = format!("{number:04}");
        let plan = staging(&world);
        let ran = perform_and_see(&world, &plan, &info(&name), Some((StepId::Release, fault)));
        world.emulator.heal();
        let database = database_after(&plan, &ran);
        assert_eq!(ran.report.failure.unwrap().step, StepId::Release, "{case}");
        let wanted = if may_have {
            let release = plan.release();
            format!(
                "migrate-db: may have changed it, or still does: it is not known what became of release {release}"
            )
        } else {
            "not touched".to_owned()
        };
        assert_eq!(database, wanted, "{case}");
    }
    // Nothing serves, so it is not known to.
    world.client().scale(super::APP, "web", 0).unwrap();
    let plan = staging(&world);
    let ran = perform_and_see(&world, &plan, &info("none"), None);
    let database = database_after(&plan, &ran);
    let text = ran.report.failure.unwrap().error.chain();
    assert!(text.ends_with("the app demo runs no web dyno, so nothing can serve"), "{text}");
    assert!(database.starts_with("migrate-db: may have changed it"), "{database}");
}

/// Cannot see a release while its release phase waits, which goes on when the run is about to go back.
struct LettingGo<'a> {
    emulator: &'a Emulator,
    go: std::path::PathBuf,
}

impl Sink for LettingGo<'_> {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        match event {
            Event::StepStarted { step: StepId::Release, .. } => self.emulator.fault(Fault {
                kind: FaultKind::Html,
                method: Some("GET".to_owned()),
                path: "/apps/demo/releases/".to_owned(),
                times: 1,
            }),
            Event::StepStarted { step: StepId::Rollback, .. } => fs::write(&self.go, "").unwrap(),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn a_run_goes_back_only_when_its_release_phase_has_ended() {
    let world = served();
    let go = world.project.root().join("go");
    world.project.migrate(&format!("until [ -e {} ]; do sleep 0.1; done; sleep 1", go.display()));
    let restored =
        "echo '{\"summary\":\"restored b001\",\"plan\":{\"target\":{\"label\":\"b001\"}}}'";
    world.project.program("rollback-migration", restored);
    let plan = returning(&world);
    let mut sink = LettingGo { emulator: &world.emulator, go };
    let report = world.scene().run(&plan, &info("run"), &mut sink, &|| false).report;
    assert_eq!(report.failure.unwrap().step, StepId::Release);
    let rollback = report.steps.iter().find(|step| step.id == StepId::Rollback).unwrap();
    assert_eq!(
        rollback.evidence,
        ["release 0001 serves: v5 is v3 again, on web.1", "restored b001"],
        "{rollback:?}"
    );
    assert_eq!(
        world.releases()[..2],
        ["v5 Rollback to v3 succeeded".to_owned(), "v4 Deploy 0002 succeeded".to_owned()]
    );
}
