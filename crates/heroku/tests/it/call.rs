//! Calls: repeated where that does no harm, believed only when they can be.

use std::collections::BTreeMap;

use omnitool_heroku::{Heroku, HerokuError, Pace, Settings};
use omnitool_heroku_emulator::FaultKind;

use crate::world::{TOKEN, World, client};

#[test]
fn what_looks_is_repeated_until_it_is_answered() {
    let world = World::new();
    world.fault(FaultKind::Status(503), "GET", "/apps/demo", 2);
    world.fault(FaultKind::LoseAnswer, "GET", "/apps/demo", 1);
    world.fault(FaultKind::Status(429), "GET", "/apps/demo", 2);
    assert_eq!(world.heroku.app("demo").unwrap().name, "demo");
    assert_eq!(world.count("GET /apps/demo"), 6);
    assert_eq!(world.heroku.account().unwrap().email, "dev@example.com");
    assert!(world.heroku.rate_limits().unwrap().remaining < 4500);
}

#[test]
fn trouble_that_stays_is_an_error_that_names_the_call() {
    let world = World::new();
    world.fault(FaultKind::Status(503), "", "/apps/demo", 100);
    let error = world.heroku.app("demo").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Heroku answered GET /apps/demo with status 503 in 6 attempts: a JSON document"
    );
    assert!(error.hint().unwrap().contains("status.heroku.com"));
}

#[test]
fn html_is_not_believed_whatever_its_label_says() {
    let world = World::new();
    world.fault(FaultKind::Html, "GET", "/apps/demo", 1);
    let error = world.heroku.app("demo").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Heroku answered GET /apps/demo with something that is no JSON: <h1>Not Found</h1>"
    );
}

#[test]
fn an_answer_that_drips_is_read() {
    let world = World::new();
    world.fault(FaultKind::Drip(1), "GET", "/account", 1);
    assert_eq!(world.heroku.account().unwrap().email, "dev@example.com");
}

#[test]
fn a_wrong_token_stops_at_once_and_is_not_shown() {
    let world = World::new();
    let wrong = client(&world.emulator, "guessed-token");
    let error = wrong.app("demo").unwrap_err();
    assert!(matches!(error, HerokuError::Refused { status: 401, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("token"));
    assert_eq!(world.count("GET /apps/demo"), 1);
    assert!(!format!("{wrong:?}{error:?}{error}").contains("guessed-token"));
}

#[test]
fn an_app_that_is_not_there_is_told_apart() {
    let world = World::new();
    let error = world.heroku.app("nobody").unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(
        error.to_string(),
        "Heroku refused GET /apps/nobody: Couldn't find that app. (not_found, status 404)"
    );
}

#[test]
fn nobody_who_listens_is_an_error_after_all_attempts() {
    let address = "http://127.0.0.1:9".parse().unwrap();
    let settings = Settings { pace: Pace::quick(), ..Settings::at(&address, TOKEN.into()) };
    let error = Heroku::new(settings).unwrap().app("demo").unwrap_err();
    assert!(matches!(error, HerokuError::NoAnswer { attempts: 6, .. }), "{error:?}");
}

#[test]
fn config_vars_are_compared_first_and_never_shown() {
    let world = World::new();
    let wanted =
        |value: Option<&str>| BTreeMap::from([("SECRET".to_owned(), value.map(str::to_owned))]);
    assert_eq!(world.heroku.set_config_vars("demo", &wanted(Some("hunter2"))).unwrap(), ["SECRET"]);
    assert!(world.heroku.set_config_vars("demo", &wanted(Some("hunter2"))).unwrap().is_empty());
    assert_eq!(world.count("PATCH /apps/demo/config-vars"), 1);
    let vars = world.heroku.config_vars("demo").unwrap();
    assert_eq!(vars["SECRET"].expose(), "hunter2");
    assert_eq!(format!("{vars:?}"), r#"{"SECRET": ***}"#);
    assert_eq!(world.heroku.set_config_vars("demo", &wanted(None)).unwrap(), ["SECRET"]);
    assert!(world.heroku.config_vars("demo").unwrap().is_empty());
}

#[test]
fn maintenance_is_set_however_often_the_answer_is_lost() {
    let world = World::new();
    world.fault(FaultKind::LoseAnswer, "PATCH", "/apps/demo", 2);
    assert!(world.heroku.set_maintenance("demo", true).unwrap().maintenance);
    assert!(!world.heroku.set_maintenance("demo", false).unwrap().maintenance);
}

#[test]
fn releases_come_newest_first_and_only_as_many_as_asked_for() {
    let world = World::new();
    for number in 0..20 {
        let vars = BTreeMap::from([("N".to_owned(), Some(number.to_string()))]);
        world.heroku.set_config_vars("demo", &vars).unwrap();
    }
    let versions = |count| -> Vec<u64> {
        world
            .heroku
            .releases("demo", count)
            .unwrap()
            .iter()
            .map(|release| release.version)
            .collect()
    };
    assert_eq!(versions(3), [21, 20, 19]);
    assert_eq!(versions(200).len(), 21);
    assert_eq!(world.heroku.current_release("demo").unwrap().unwrap().version, 21);
}
