//! What other people do with an app, and what is refused before anything changes.

use std::{collections::BTreeMap, fs};

use omnitool_environment::EnvironmentName;
use omnitool_heroku_emulator::{Fault, FaultKind};
use omnitool_pipeline::{
    Event, HerokuWay, Place, Plan, RollbackChoice, Sink, StepId, StepOutcome, Stream, Watch,
    WriteJournalError, pack_artifact,
};

use super::{
    APP, HerokuProject,
    faults::{perform, returning, served, staging},
};
use crate::{
    fake::{Events, answer, eventually},
    scene::info,
    suite::World as _,
};

/// Somebody sets a variable when a step begins, or when it prints something.
struct Meddling<'a> {
    world: &'a HerokuProject,
    step: StepId,
    late: bool,
}

impl Sink for Meddling<'_> {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        let meddles = match event {
            Event::StepStarted { step, .. } => *step == self.step && !self.late,
            Event::StepOutput { step, .. } => *step == self.step && self.late,
            _ => false,
        };
        if meddles {
            let wanted = BTreeMap::from([("SOMETHING".to_owned(), Some("else".to_owned()))]);
            self.world.client().set_config_vars(APP, &wanted).unwrap();
        }
        Ok(())
    }
}

#[test]
fn a_release_of_somebody_else_stops_the_run_before_its_next_change() {
    for step in [StepId::Config, StepId::Release, StepId::ImportAccess] {
        let world = served();
        let plan = staging(&world);
        let mut sink = Meddling { world: &world, step, late: false };
        let ran = world.scene().run(&plan, &info("run"), &mut sink, &|| false);
        let failure = ran.report.failure.unwrap();
        assert_eq!(failure.step, step);
        let text = failure.error.chain();
        assert!(text.contains("(Set SOMETHING config vars) was made by somebody else"), "{text}");
        let imported = world.read("effects").contains("imported 0002");
        assert!(!imported, "{step}");
        // A new run begins from there.
        let again = perform(&world, &staging(&world), &info("again"), None);
        assert!(again.failure.is_none(), "{again:?}");
    }
}

#[test]
fn an_app_without_a_database_is_refused() {
    let world = HerokuProject::of(EnvironmentName::Staging);
    world.client().detach(APP, "DATABASE").unwrap();
    let error = world.scene().platform().look().unwrap_err();
    assert_eq!(error.to_string(), "the app demo has no PostgreSQL database attached as DATABASE");
    assert!(error.hint().unwrap().contains("addons:create"));
}

#[test]
fn an_artifact_without_a_procfile_is_no_slug() {
    let world = HerokuProject::of(EnvironmentName::Staging);
    fs::remove_file(world.project.root().join("Procfile")).unwrap();
    let report = perform(&world, &staging(&world), &info("run"), None);
    let text = report.failure.unwrap().error.chain();
    assert_eq!(text, "the artifact has no Procfile with the process types web and release");
    assert_eq!(world.count("POST /apps/demo/slugs"), 0);
}

#[test]
fn a_plan_says_what_happens_on_heroku() {
    let world = served();
    let root = world.project.root().to_string_lossy().into_owned();
    let url = world.scene().base_url.to_string();
    let text = staging(&world).to_string().replace(&root, "/project");
    let text = text.replace(&url, "URL/").replace(url.trim_end_matches('/'), "URL");
    insta::assert_snapshot!(text, @r"
    Deploy release 0002 to staging on the heroku platform, over release 0001
      address    URL/
      project    /project
      variables  OMNITOOL_ENV=staging OMNITOOL_RELEASE=0002

    tests          run all tests
                   skipped: not asked for with --tests
    build          build the programs and the release artifact
                   pack the programs and data/ into the release artifact
    backup         back up the database
                   $ backup-database --folder /project/data/backups capture --kind before-deploy --release 0002 --env staging --format json
    refresh        copy production's data
                   skipped: not asked for with --refresh-data
    config         set the variables
                   set the variables that differ
    release        migrate the database, then serve the new release
                   upload the artifact as the slug of release 0002
                   release the slug: the release phase runs migrate-db; then wait until all dynos run release 0002
                   remove releases older than the newest 5
    import-access  import who may use what
                   $ import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge --env staging --format json   (in release 0002)
    verify         check the database
                   $ verify-migration --expect-access data/tool_access_exports/local_tool_access.json --env staging --format json   (in release 0002)
    smoke          check the running app
                   $ smoke-tests --url URL --timeout 30 --expect-release 0002 --env staging --format json
    prune-backups  remove old backups (a failure is a warning)
                   $ backup-database --folder /project/data/backups prune --keep 10 --env staging --format json
    summary        sum up (always)
                   say what has changed, and how to go back
    ");
}

#[test]
fn the_code_goes_back_to_the_release_before_by_its_own_id() {
    let world = served();
    let second = perform(&world, &staging(&world), &info("second"), None);
    assert!(second.failure.is_none(), "{second:?}");
    // A release that failed is none to go back to, and none that counts as the one before.
    world.project.migrate("exit 3");
    assert!(perform(&world, &staging(&world), &info("third"), None).failure.is_some());

    let situation = world.scene().look();
    let previous = world.scene().platform().previous().unwrap().unwrap();
    assert_eq!(previous.to_string(), "0001");
    world.project.program("smoke-tests", &answer("6 of 6 passed"));
    let choice = RollbackChoice::Code { to: previous };
    let plan = Plan::rollback(&world.scene().site(), &situation, &choice, Place::Here, &[]);
    let report = world.scene().run(&plan, &info("back"), &mut Events::default(), &|| false).report;
    assert!(report.failure.is_none(), "{report:?}");
    let evidence = report.steps[0].evidence.join("; ");
    assert_eq!(evidence, "release 0001 serves: v6 is v3 again, on web.1");
    assert_eq!(world.scene().platform().look().unwrap().serving, Some(previous));
}

#[test]
fn a_failed_run_goes_back_by_itself_where_that_is_wanted() {
    let world = served();
    world
        .project
        .program("verify-migration", "echo '{\"summary\":\"1 of 8 checks failed\"}'; exit 1");
    let restored =
        "echo '{\"summary\":\"restored b001\",\"plan\":{\"target\":{\"label\":\"b001\"}}}'";
    world.project.program("rollback-migration", restored);
    let plan = returning(&world);
    let report = perform(&world, &plan, &info("run"), None);
    assert_eq!(report.failure.unwrap().step, StepId::Verify);
    let rollback = report.steps.iter().find(|step| step.id == StepId::Rollback).unwrap();
    assert_eq!(
        rollback.evidence,
        ["release 0001 serves: v5 is v3 again, on web.1", "restored b001"]
    );
}

#[test]
fn a_release_of_somebody_else_is_seen_also_where_it_comes_right_before_the_own_one() {
    let world = served();
    let artifact = pack_artifact(&world.scene().source(), &world.scene().artifacts()).unwrap();
    let mut platform = world.scene().platform();
    let plan = staging(&world);
    platform.begin(&plan.situation(), plan.release(), &[]);
    platform.install(plan.release(), &artifact, HerokuWay::Slug).unwrap();
    // While the last look before the release is under way.
    let looks = "GET /apps/demo/releases";
    let before = world.count(looks);
    world.emulator.fault(Fault {
        kind: FaultKind::Drip(1),
        method: Some("GET".to_owned()),
        path: "=/apps/demo/releases".to_owned(),
        times: 1,
    });
    let (emulator, client) = (&world.emulator, world.client());
    let error = std::thread::scope(|scope| {
        scope.spawn(move || {
            let seen = |text: &String| text == looks;
            eventually(|| emulator.requests().into_iter().filter(seen).count() > before);
            let wanted = BTreeMap::from([("SOMETHING".to_owned(), Some("else".to_owned()))]);
            client.set_config_vars(APP, &wanted).unwrap();
        });
        let mut ignore = |_: Stream, _: &str| {};
        let mut watch = Watch::new(&|| false, &mut ignore);
        platform.activate(plan.release(), &mut watch).unwrap_err()
    });
    assert!(error.may_have_migrated());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("(Set SOMETHING config vars) was made by somebody else"), "{source}");
}

#[test]
fn a_release_of_somebody_else_is_none_of_a_restore() {
    let world = served();
    let failing = "echo '{\"summary\":\"1 of 8 checks failed\"}'; exit 1";
    world.project.program("verify-migration", failing);
    let restored = "echo restoring >&2; echo '{\"summary\":\"restored b001\",\"plan\":{\"target\":{\"label\":\"b001\"}}}'";
    world.project.program("rollback-migration", restored);
    let plan = returning(&world);
    let mut sink = Meddling { world: &world, step: StepId::Rollback, late: true };
    let ran = world.scene().run(&plan, &info("run"), &mut sink, &|| false);
    let rollback = ran.report.steps.iter().find(|step| step.id == StepId::Rollback).unwrap();
    let StepOutcome::Failed { error } = &rollback.outcome else { panic!("{rollback:?}") };
    assert!(error.contains("(Set SOMETHING config vars) was made by somebody else"), "{error}");
    // What was restored is told all the same.
    let last = ran.aftermath.database.last().unwrap();
    assert_eq!(last.result, Ok("restored b001".to_owned()));
}
