//! One-off dynos: the exit status for sure, or not at all.

use std::time::Duration;

use omnitool_heroku::{OneOff, RunOutcome};
use omnitool_heroku_emulator::FaultKind;
use serde_json::json;

use crate::world::{LIMIT, World};

fn ready() -> World {
    let world = World::new();
    let release = world.release("true");
    world.heroku.wait_for_release("demo", &release.id, LIMIT).unwrap();
    world
}

fn run(world: &World, script: &str) -> (RunOutcome, String) {
    let mut seen = Vec::new();
    let arguments = ["sh", "-c", script];
    let command = OneOff {
        arguments: &arguments,
        variables: &[("ODD", "a 'b' $c")],
        size: None,
        limit: LIMIT,
    };
    let outcome =
        world.heroku.run("demo", &command, &mut |bytes| seen.extend_from_slice(bytes)).unwrap();
    (outcome, String::from_utf8(seen).unwrap())
}

#[test]
fn output_and_status_come_however_the_console_sends_them() {
    let world = ready();
    for fault in [None, Some(FaultKind::SplitConsole), Some(FaultKind::CoalesceConsole)] {
        if let Some(fault) = fault {
            world.fault(fault, "", "", 1);
        }
        let (outcome, seen) = run(&world, "echo \"one $ODD\"; cat hello; exit 7");
        assert_eq!(outcome, RunOutcome::Exited(7));
        assert_eq!(seen, "one a 'b' $c\nhello");
    }
}

#[test]
fn a_console_that_closes_too_early_leaves_the_log_to_tell() {
    let world = ready();
    for status in [0, 7] {
        world.fault(FaultKind::DropConsole, "", "", 1);
        let (outcome, _) = run(&world, &format!("echo done; exit {status}"));
        assert_eq!(outcome, RunOutcome::Exited(status));
    }
}

#[test]
fn what_the_log_says_of_an_earlier_dyno_of_the_same_name_does_not_count() {
    let world = ready();
    let (outcome, _) = run(&world, "exit 3");
    assert_eq!(outcome, RunOutcome::Exited(3));
    let ended = loop {
        let log = world.heroku.log("demo", None, 100).unwrap();
        let is_end = |line: &String| line.contains("Process exited with status 3");
        if let Some(ended) = log.into_iter().find(is_end) {
            break ended;
        }
    };
    let name = ended.split_once("heroku[").unwrap().1.split_once(']').unwrap().0;
    let status = |created_at: &str| {
        let dyno = json!({ "id": "x", "name": name, "state": "down", "created_at": created_at });
        world.heroku.exit_status_in_log("demo", &serde_json::from_value(dyno).unwrap()).unwrap()
    };
    assert_eq!(status("2026-01-01T00:00:00Z"), Some(3));
    assert_eq!(status(&format!("{}Z", &ended[..19])), Some(3));
    for later in ["2999-01-01T00:00:00Z", "not a time", ""] {
        assert_eq!(status(later), None, "{later}");
    }
}

#[test]
fn a_dyno_whose_answer_is_lost_runs_once() {
    let world = ready();
    let file = world.folder.path().join("runs");
    world.fault(FaultKind::LoseAnswer, "POST", "/apps/demo/dynos", 1);
    let (outcome, _) = run(&world, &format!("echo run >> {}; sleep 0.5", file.display()));
    assert!(outcome.is_success(), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "run\n");
}

#[test]
fn a_dyno_that_is_killed_is_no_success() {
    let world = ready();
    world.fault(FaultKind::Kill(200), "", "", 1);
    let (outcome, seen) = run(&world, "echo begun; sleep 30");
    assert_eq!(outcome, RunOutcome::Exited(137));
    assert_eq!(seen.trim(), "begun");
}

#[test]
fn a_dyno_that_never_starts_is_unknown_and_stopped() {
    let world = ready();
    world.fault(FaultKind::NeverStart, "", "", 1);
    let command = OneOff {
        arguments: &["true"],
        variables: &[],
        size: None,
        limit: Duration::from_millis(700),
    };
    let outcome = world.heroku.run("demo", &command, &mut |_| {}).unwrap();
    assert!(
        matches!(&outcome, RunOutcome::Unknown { why, .. } if why.contains("was stopped")),
        "{outcome:?}"
    );
    assert!(world.heroku.dynos("demo").unwrap().iter().all(|dyno| dyno.process_type != "run"));
}

#[test]
fn arguments_reach_the_program_as_they_are() {
    let world = ready();
    let odd =
        ["printf", "%s|", "a b", "$HOME", "`id`", "'", "\"", "", "é\u{1f600}", "; exit 9", "*"];
    let command = OneOff { arguments: &odd, variables: &[], size: None, limit: LIMIT };
    let mut seen = Vec::new();
    let outcome =
        world.heroku.run("demo", &command, &mut |bytes| seen.extend_from_slice(bytes)).unwrap();
    assert!(outcome.is_success(), "{outcome:?}");
    assert_eq!(String::from_utf8(seen).unwrap(), "a b|$HOME|`id`|'|\"||é\u{1f600}|; exit 9|*|");
}
