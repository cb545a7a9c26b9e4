//! The other ways to Heroku: sources that it builds, and what staging runs.

use omnitool_heroku_emulator::FaultKind;
use omnitool_pipeline::PROGRAMS;
use omnitool_testing::write_program;

use super::{ON_HEROKU, PRODUCTION, STAGING, World};
use crate::project::{stderr, stdout};

fn count(world: &World, request: &str) -> usize {
    world.emulator.requests().iter().filter(|found| *found == request).count()
}

/// A world whose commit has the programs where a build would leave them: the emulator builds nothing.
fn built() -> World {
    let world = World::new();
    for program in PROGRAMS {
        let script = format!("programs/{program}");
        if !world.project.root().join(&script).is_file() {
            continue;
        }
        let script = world.project.read(&script);
        let script = script.strip_prefix("#!/bin/sh\n").unwrap();
        write_program(&world.project.root().join("target/release").join(program), script);
    }
    world.project.init_git();
    world
}

const BUILD: [&str; 3] = ["--platform", "heroku", "--build"];

#[test]
fn heroku_builds_the_sources_of_a_commit_once() {
    let world = built();
    world.fault(FaultKind::LoseAnswer, "POST", "/builds", 1);
    let first = world.project.deploy(&BUILD);
    assert_eq!(first.status.code(), Some(0), "{}{}", stdout(&first), stderr(&first));
    assert_eq!(count(&world, "POST /apps/staging-app/builds"), 1);
    assert_eq!(count(&world, "POST /apps/staging-app/slugs"), 0);
    assert_eq!(world.releases(STAGING)[2..], ["Deploy 0001 succeeded"]);

    world.fault(FaultKind::FailBuild, "", "", 1);
    let failed = world.project.deploy(&BUILD);
    assert_eq!(failed.status.code(), Some(1));
    let text = stderr(&failed);
    assert!(text.contains("Heroku could not build release 0002; nothing was released"), "{text}");
    assert!(text.contains("Push rejected, failed to compile app."), "{text}");
    // The way is the run's, not the command's.
    let resumed = world.project.deploy(&["--platform", "heroku", "--resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", stderr(&resumed));
    assert_eq!(count(&world, "POST /apps/staging-app/builds"), 3);
    assert_eq!(world.releases(STAGING)[3..], ["Deploy 0002 succeeded"]);

    world.fault(FaultKind::FailReleasePhase, "", "", 1);
    assert_eq!(world.project.deploy(&BUILD).status.code(), Some(1));
    assert_eq!(world.releases(STAGING)[4..], ["Deploy 0003 failed"]);
    // What was not committed is nothing that anybody could build.
    world.project.write("data/tools.toml", "changed");
    let refused = world.project.deploy(&BUILD);
    assert!(stderr(&refused).contains("there are changes that are not in a commit"));
}

#[test]
fn what_staging_runs_is_promoted_with_its_number() {
    let world = World::new();
    world.project.init_git();
    for _ in 0..2 {
        let output = world.project.deploy(&ON_HEROKU);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let promote = || world.project.deploy_production(&["--platform", "heroku", "--promote"]);
    let refused = promote();
    let text = stderr(&refused);
    assert!(text.contains("staging-app and production-app are in no common pipeline"), "{text}");
    world.emulator.add_pipeline("tools", &[(STAGING, "staging"), (PRODUCTION, "production")]);
    world.fault(FaultKind::LoseAnswer, "POST", "/pipeline-promotions", 1);
    world.fault(FaultKind::FailReleasePhase, "", "", 1);
    let failed = promote();
    assert_eq!(failed.status.code(), Some(1));
    let text = stderr(&failed);
    assert!(text.contains("the release phase of release 0002 (v3) failed"), "{text}");
    let resumed = world.project.deploy_production(&["--platform", "heroku", "--resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}{}", stdout(&resumed), stderr(&resumed));
    assert!(
        stdout(&resumed).contains("release 0002 serves as v4 on web.1"),
        "{}",
        stdout(&resumed)
    );
    assert_eq!(
        world.releases(PRODUCTION)[2..],
        ["Promote staging failed".to_owned(), "Promote staging succeeded".to_owned()]
    );
    assert_eq!(count(&world, "POST /apps/production-app/slugs"), 0);
    assert_eq!(count(&world, "POST /pipeline-promotions"), 2);
}

#[test]
fn what_heroku_has_built_can_only_be_promoted() {
    let world = built();
    world.emulator.add_pipeline("tools", &[(STAGING, "staging"), (PRODUCTION, "production")]);
    assert_eq!(world.project.deploy(&BUILD).status.code(), Some(0));
    let refused = world.project.deploy_production(&ON_HEROKU);
    assert!(stderr(&refused).contains("no staging run has passed"), "{}", stderr(&refused));
    let promoted = world.project.deploy_production(&["--platform", "heroku", "--promote"]);
    assert_eq!(promoted.status.code(), Some(0), "{}", stderr(&promoted));
}
