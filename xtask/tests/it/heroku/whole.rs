//! The whole way with the real programs: an empty app, a second release, production, and what goes wrong in between.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Output},
};

use diesel::prelude::*;
use omnitool_database::{Mode, migration, open, schema::users};
use omnitool_heroku_emulator::FaultKind;
use omnitool_testing::fixture;

use super::{ON_HEROKU, PRODUCTION, REHEARSAL, STAGING, TOKEN, World};
use crate::project::{stderr, stdout};

const REHEARSE: [&str; 4] = ["rehearse", "production", "--platform", "heroku"];

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
        if release == "0002" {
            done(&world.project.xtask_with(&REHEARSE, &[world.rehearsal()]));
        }
        let output = done(&world.project.deploy_production(&ON_HEROKU));
        assert!(output.contains("passed staging in run"), "{output}");
        let health = health(&world, PRODUCTION);
        assert!(health.contains(&format!("\"release\":\"{release}\"")), "{health}");
    }
    // The second ones were preceded by a backup that Heroku keeps, and production's by that of its rehearsal.
    let captures = world.emulator.requests();
    let captures = captures.iter().filter(|text| {
        text.starts_with("POST /client/v11/databases/") && text.ends_with("/backups")
    });
    assert_eq!(captures.count(), 3);
}

#[test]
fn production_is_rehearsed_on_a_copy_of_its_newest_backup_which_is_gone_afterwards() {
    let world = World::with_real_programs();
    world.project.init_git();
    done(&world.project.deploy(&ON_HEROKU));
    let none = done(&world.project.xtask(&REHEARSE));
    assert!(none.contains("nothing to rehearse on"), "{none}");
    done(&world.project.deploy_production(&ON_HEROKU));
    let url = world.emulator.database_url("production-db").unwrap();
    let production = &mut open(&url.parse().unwrap(), Mode::Write).unwrap();
    fixture::user(production, "alice");

    let refused = world.project.deploy_production(&ON_HEROKU);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(
        text.contains("nobody has rehearsed the artifact ")
            && text.contains(
                "-> --no-require-rehearsal, or cargo xtask rehearse production --platform heroku\n"
            ),
        "{text}"
    );
    insta::assert_snapshot!(world.normal(&stderr(&world.project.xtask(&REHEARSE))), @r"
    error: production's database is on PostgreSQL, and OMNITOOL_REHEARSAL_DATABASE_URL names no database to rehearse in

    hint: set OMNITOOL_REHEARSAL_DATABASE_URL to a database on a PostgreSQL server of yours, such as postgres://me@localhost/omnitool_rehearsal: it is made, and dropped afterwards
    ");
    // What is no database of a rehearsal is never one.
    let refused = world.project.xtask_with(&REHEARSE, &[(REHEARSAL, url.as_str())]);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(text.contains("is no database of a rehearsal"), "{text}");
    let names = users::table.select(users::username);
    assert_eq!(names.load::<String>(production).unwrap(), ["alice"]);

    let output = world.project.xtask_with(&REHEARSE, &[world.rehearsal()]);
    let text = done(&output);
    for part in [
        "Rehearse release 0002 of production on a copy of its database",
        "s  the newest backup is b001, of 20",
        "s  Restored b001 of production, taken 20",
        "s  no pending migrations; nothing to change",
        "s  would add ",
        "s  added ",
        "What changes of who may use what\n  + CSV Converter: alice granted",
        "The rehearsal went well, in ",
        "report     .omnitool/production/rehearsals/",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let said = format!("{text}{}{}", stderr(&output), world.project.journal_of("production"));
    assert!(!said.contains("password-of-the-test-server") && !said.contains(TOKEN), "{said}");
    // Neither the copy nor the dump is there any more, and production was only read.
    assert!(!world.has_copy());
    let kept = world.project.root().join("data/backups/production/heroku");
    let mut kept: Vec<_> =
        fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["b001.json"]);
    assert_eq!(world.releases(PRODUCTION).len(), 3);

    // A newer backup is another database.
    let capture = || {
        let programs = world.project.root().join("programs");
        let mut command = Command::new(programs.join("backup-database"));
        command.current_dir(world.project.root()).envs(world.project.variables.clone());
        command.args(["--env", "production", "--platform", "heroku", "capture"]);
        assert!(command.output().unwrap().status.success());
    };
    capture();
    let refused = world.project.deploy_production(&ON_HEROKU);
    let text = stderr(&refused);
    assert!(text.contains("backup b002 is newer than b001, which rehearsal "), "{text}");
    assert!(text.contains("`cargo xtask rehearse production --platform heroku`"), "{text}");
    let named: Vec<&str> = REHEARSE.iter().copied().chain(["--backup", "b002"]).collect();
    done(&world.project.xtask_with(&named, &[world.rehearsal()]));
    let output = done(&world.project.deploy_production(&ON_HEROKU));
    assert!(output.contains("rehearsed on backup b002 by run "), "{output}");
}

#[test]
fn a_rehearsal_that_fails_leaves_no_copy_and_production_as_it_is() {
    let world = World::with_real_programs();
    world.project.init_git();
    done(&world.project.deploy(&ON_HEROKU));
    done(&world.project.deploy_production(&ON_HEROKU));
    let url = world.emulator.database_url("production-db").unwrap();
    let production = &mut open(&url.parse().unwrap(), Mode::Write).unwrap();
    // A tool with the route of another one, which the shipped definitions do not allow.
    fixture::tool(production, "Someone else's tool");
    diesel::sql_query("DROP VIEW effective_tool_access").execute(production).unwrap();
    let output = world.project.xtask_with(&REHEARSE, &[world.rehearsal()]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let text = stderr(&output);
    assert!(text.contains("the rehearsal stopped in the step "), "{text}");
    assert!(stdout(&output).contains("production was not touched"), "{}", stdout(&output));
    assert!(!world.has_copy());
    assert_eq!(world.releases(PRODUCTION).len(), 3);
    let refused = world.project.deploy_production(&ON_HEROKU);
    assert!(stderr(&refused).contains("nobody has rehearsed"), "{}", stderr(&refused));
}

#[test]
fn the_schema_goes_back_in_a_dyno_after_it_was_said_what_is_lost() {
    let world = World::with_real_programs();
    done(&world.project.deploy(&ON_HEROKU));
    let url = world.emulator.database_url("staging-db").unwrap();
    let staging = &mut open(&url.parse().unwrap(), Mode::Write).unwrap();
    fixture::user(staging, "alice");
    diesel::sql_query("UPDATE users SET phone_number = '+49 170 5550123'")
        .execute(staging)
        .unwrap();
    let applied = migration::status(staging).unwrap().applied;
    let phone = applied.iter().position(|version| version == "20261123000008").unwrap();
    let (applied, count) = (applied.len(), (applied.len() - phone).to_string());
    let newest = ["rollback", "staging", "--platform", "heroku", "--schema", "--migrations"];
    let programs = world.project.root().join("programs");
    let programs = ["--programs", programs.to_str().unwrap()];
    let revert = |count: &str, more: &[&str]| {
        world.project.xtask(&[&newest[..], &[count], &programs, more].concat())
    };
    let too_many = revert("99", &["--confirm", "ROLLBACK STAGING"]);
    assert_eq!(too_many.status.code(), Some(1));
    assert!(stdout(&too_many).contains("--schema: not possible: error: "), "{}", stdout(&too_many));

    let asked = revert(&count, &[]);
    assert_eq!(asked.status.code(), Some(1));
    let text = stdout(&asked);
    let undone = format!("--schema: the newest {count} migrations are undone");
    assert!(text.contains(&undone), "{text}");
    assert!(text.contains("  Will be lost: ") && text.contains("phone"), "{text}");
    assert!(stderr(&asked).contains(r#"pass --confirm "ROLLBACK STAGING""#), "{}", stderr(&asked));
    assert_eq!(migration::status(staging).unwrap().applied.len(), applied);

    // The console breaks: the log knows how it ended.
    world.fault(FaultKind::DropConsole, "", "", 1);
    let output = done(&revert(&count, &["--confirm", "ROLLBACK STAGING"]));
    assert!(output.contains(&format!("{count} migrations")), "{output}");
    assert_eq!(migration::status(staging).unwrap().applied.len(), phone);
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
