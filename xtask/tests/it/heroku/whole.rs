//! The whole way with the real programs: an empty app, a second release, production, and what goes wrong in between.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Output,
};

use omnitool_heroku_emulator::FaultKind;

use super::{ON_HEROKU, PRODUCTION, STAGING, World};
use crate::project::{stderr, stdout};

/// The answer of `/health`, without the white space that JSON does not need.
fn health(world: &World, app: &str) -> String {
    let address = world.emulator.web_url(app).unwrap();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.replace([' ', '\n'], "")
}

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

#[test]
fn an_empty_app_gets_two_releases_and_production_gets_what_passed() {
    let world = World::with_real_programs();
    world.project.init_git();
    let first = done(&world.project.deploy(&ON_HEROKU));
    assert!(first.contains("skip  backup"), "{first}");
    assert!(first.contains("migrations applied"), "{first}");
    assert!(
        health(&world, STAGING).contains("\"release\":\"0001\""),
        "{}",
        health(&world, STAGING)
    );

    let second = done(&world.project.deploy(&ON_HEROKU));
    assert!(second.contains("done  backup"), "{second}");
    // A second release over the first changes nothing in the database, and says so.
    for evidence in ["No pending migrations", "nothing to do: "] {
        assert!(second.contains(evidence), "{second}");
    }
    assert!(
        health(&world, STAGING).contains("\"release\":\"0002\""),
        "{}",
        health(&world, STAGING)
    );

    for release in ["0001", "0002"] {
        let output = done(&world.project.deploy_production(&ON_HEROKU));
        assert!(output.contains("passed staging in run"), "{output}");
        let health = health(&world, PRODUCTION);
        assert!(health.contains(&format!("\"release\":\"{release}\"")), "{health}");
    }
    // The second one was preceded by a backup that Heroku keeps.
    let captures = world.emulator.requests();
    let captures = captures.iter().filter(|text| {
        text.starts_with("POST /client/v11/databases/") && text.ends_with("/backups")
    });
    assert_eq!(captures.count(), 2);
}

#[test]
fn staging_gets_production_s_data_on_the_way() {
    let world = World::with_real_programs();
    world.project.init_git();
    done(&world.project.deploy(&ON_HEROKU));
    done(&world.project.deploy_production(&ON_HEROKU));
    let output = done(&world.project.deploy(&["--platform", "heroku", "--refresh-data"]));
    assert!(output.contains("done  refresh"), "{output}");
    // The promotion of the copy is the run's own, and no reason to stop.
    let releases = world.releases(STAGING);
    assert!(releases.iter().any(|text| text.starts_with("Attach DATABASE")), "{releases:?}");
    assert_eq!(releases.last().unwrap(), "Deploy 0002 succeeded");
}

#[test]
fn a_backup_that_fails_stops_the_run_before_anything_changes() {
    let world = World::with_real_programs();
    done(&world.project.deploy(&ON_HEROKU));
    for kind in [FaultKind::FailTransfer, FaultKind::WarnTransfer] {
        let before = world.releases(STAGING);
        world.fault(kind.clone(), "", "", 1);
        let output = world.project.deploy(&ON_HEROKU);
        assert_eq!(output.status.code(), Some(1), "{kind:?}: {}", stdout(&output));
        let text = stderr(&output);
        assert!(text.starts_with("error: the deployment stopped in the step backup"), "{text}");
        assert_eq!(world.releases(STAGING), before, "{kind:?}");
        world.emulator.heal();
        done(&world.project.deploy(&["--platform", "heroku", "--resume"]));
    }
}
