//! Slugs, builds, releases, promotions.

use std::{fs::File, net::TcpStream};

use omnitool_heroku::{HerokuError, NewRelease, ReleaseStatus, SourceVersion};
use omnitool_heroku_emulator::FaultKind;

use crate::world::{LIMIT, World};

#[test]
fn a_release_whose_answer_is_lost_is_made_once() {
    let world = World::new();
    world.fault(FaultKind::LoseAnswer, "POST", "/apps/demo/releases", 1);
    let release = world.release("cat hello");
    let release = world.heroku.wait_for_release("demo", &release.id, LIMIT).unwrap();
    assert_eq!(
        (release.version, &release.status, release.current),
        (2, &ReleaseStatus::Succeeded, true)
    );
    assert_eq!(world.heroku.releases("demo", 10).unwrap().len(), 2);
    let output = release.output_stream_url.unwrap();
    assert_eq!(world.heroku.output(&output).unwrap(), "hello");
    let dynos = world.heroku.wait_for_dynos("demo", 2, LIMIT, &|| false).unwrap();
    assert_eq!(dynos.len(), 1);
    assert_eq!(dynos[0].name, "web.1");
}

#[test]
fn a_release_that_is_refused_for_a_while_is_made_once() {
    let world = World::new();
    world.fault(FaultKind::Status(503), "POST", "/apps/demo/releases", 2);
    world.fault(FaultKind::Status(429), "POST", "/apps/demo/releases", 1);
    let release = world.release("true");
    world.heroku.wait_for_release("demo", &release.id, LIMIT).unwrap();
    assert_eq!(world.heroku.releases("demo", 10).unwrap().len(), 2);
}

#[test]
fn a_release_phase_that_fails_leaves_the_release_that_serves_and_says_why() {
    let world = World::new();
    let first = world.release("true");
    world.heroku.wait_for_release("demo", &first.id, LIMIT).unwrap();
    let second = world.release("echo out of cheese; exit 3");
    let error = world.heroku.wait_for_release("demo", &second.id, LIMIT).unwrap_err();
    assert!(error.to_string().contains("out of cheese"), "{error}");
    assert_eq!(world.heroku.current_release("demo").unwrap().unwrap().id, first.id);
}

#[test]
fn a_rollback_goes_to_the_release_that_is_named() {
    let world = World::new();
    let first = world.release("true");
    world.heroku.wait_for_release("demo", &first.id, LIMIT).unwrap();
    let bad = world.release("false");
    assert!(world.heroku.wait_for_release("demo", &bad.id, LIMIT).is_err());
    world.fault(FaultKind::LoseAnswer, "POST", "/apps/demo/releases", 1);
    let back = world.heroku.create_release("demo", NewRelease::RollbackTo(&first.id)).unwrap();
    assert_eq!(back.description, "Rollback to v2");
    world.heroku.wait_for_release("demo", &back.id, LIMIT).unwrap();
    assert_eq!(world.heroku.releases("demo", 10).unwrap().len(), 4);
}

#[test]
fn who_does_not_wait_any_longer_is_told_how_things_stand() {
    let world = World::new();
    let file = world.folder.path().join("slow");
    let release = world.release(&format!("if test -e {}; then sleep 60; fi", file.display()));
    world.heroku.wait_for_release("demo", &release.id, LIMIT).unwrap();
    let dynos = world.heroku.wait_for_dynos("demo", 9, LIMIT, &|| true).unwrap_err();
    assert!(
        matches!(&dynos, HerokuError::Stopped { last, .. } if last.ends_with(" run it")),
        "{dynos:?}"
    );

    world.emulator.add_app("production").unwrap();
    world.emulator.add_pipeline("tools", &[("demo", "staging"), ("production", "production")]);
    std::fs::write(&file, "").unwrap();
    let of = |app: &str| world.heroku.pipeline_coupling(app).unwrap().unwrap();
    let (source, target) = (of("demo"), of("production"));
    assert_eq!(world.heroku.pipeline_apps(&source.pipeline.id).unwrap().len(), 2);
    for fault in [None, Some(FaultKind::LoseAnswer)] {
        if let Some(fault) = fault {
            world.fault(fault, "POST", "/pipeline-promotions", 1);
        }
        let promoted = world
            .heroku
            .promote(&source.pipeline.id, &source.app.id, &target.app.id, LIMIT, &|| true)
            .unwrap_err();
        assert!(
            matches!(&promoted, HerokuError::Stopped { last, .. } if last == "pending"),
            "{promoted:?}"
        );
    }
}

#[test]
fn a_release_that_hangs_ends_with_the_deadline() {
    let world = World::new();
    let release = world.release("sleep 60");
    let error = world
        .heroku
        .wait_for_release("demo", &release.id, std::time::Duration::from_millis(200))
        .unwrap_err();
    assert!(
        matches!(error, HerokuError::Deadline { ref last, .. } if last == "pending"),
        "{error:?}"
    );
}

#[test]
fn a_build_makes_a_slug_and_a_release() {
    let world = World::new();
    let path = world.folder.path().join("source.tgz");
    let gz =
        flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    let procfile = "web: sleep 60\nrelease: true\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(procfile.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "Procfile", procfile.as_bytes()).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let build = || {
        let source = world.heroku.create_source()?;
        world.heroku.upload(&source.source_blob.put_url, &|| File::open(&path))?;
        let version = SourceVersion { version: "c0ffee", sha256: "00" };
        let build = world.heroku.create_build("demo", &source, version)?;
        world.heroku.wait_for_build("demo", &build.id, LIMIT)
    };
    world.fault(FaultKind::LoseAnswer, "POST", "/apps/demo/builds", 1);
    let built = build().unwrap();
    world.heroku.wait_for_release("demo", &built.release.unwrap().id, LIMIT).unwrap();
    assert_eq!(world.heroku.builds("demo").unwrap().len(), 1);
    world.fault(FaultKind::FailBuild, "", "", 1);
    let error = build().unwrap_err();
    assert!(error.to_string().contains("Push rejected"), "{error}");
}

#[test]
fn the_router_answers_in_maintenance_and_for_a_dyno() {
    let world = World::new();
    world.heroku.set_maintenance("demo", true).unwrap();
    let url = world.emulator.web_url("demo").unwrap();
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("H80"), "{answer}");
}
