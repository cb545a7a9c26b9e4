use omnitool_testing::{Dialect, TestDatabase, on_both_databases};
use omnitool_web::{Front, Settings};

use crate::running::{Running, settings, user};

fn ready_means_that_the_database_answers_and_nothing_is_pending(db: TestDatabase) {
    let app = Running::start(&db);
    let ready = app.visitor().get("/ready");
    assert_eq!(ready.status, 200, "{}", ready.body);
    let expected = serde_json::json!({"status": "ready", "database": "ok", "schema": "current"});
    assert_eq!(ready.json(), expected);

    omnitool_database::migration::revert(&mut db.connection(), 1).unwrap();
    let behind = app.visitor().get("/ready");
    assert_eq!((behind.status, &behind.json()["schema"]), (503, &"behind".into()));
    assert_eq!(app.visitor().get("/health").status, 200, "it lives all the same");
}

on_both_databases!(ready_means_that_the_database_answers_and_nothing_is_pending);

#[test]
fn ready_says_so_where_the_database_is_gone_and_that_is_no_error_of_the_app() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let app = Running::start(&db);
    std::fs::remove_file(db.url().sqlite_path().unwrap()).unwrap();
    let gone = app.visitor().get("/ready");
    assert_eq!((gone.status, &gone.json()["database"]), (503, &"unavailable".into()));
    let metrics = app.visitor().get("/metrics");
    assert!(metrics.body.contains("omnitool_server_errors_total 0\n"), "{}", metrics.body);
}

#[test]
fn metrics_count_requests_and_logins_for_programs_on_this_machine() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    user(&db, "alice");
    let app = Running::start(&db);
    app.log_in("alice");
    assert_eq!(app.visitor().log_in("alice", "a wrong password").status, 401);
    let metrics = app.visitor().get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "omnitool_build_info{release=\"0001\"} 1\n",
        "omnitool_logins_total 1\n",
        "omnitool_failed_logins_total 1\n",
        "omnitool_requests_total{status=\"3xx\"} 1\n",
        "omnitool_request_seconds_bucket{le=\"+Inf\"} 4\n",
    ] {
        assert!(metrics.body.contains(line), "{line}{}", metrics.body);
    }
}

#[test]
fn behind_a_router_metrics_are_for_whoever_has_the_token() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let without = Running::behind(&db, Front::HerokuRouter);
    assert_eq!(without.visitor().get("/metrics").status, 404);
    let metrics_token = Some("a secret of the operator".to_owned().into());
    let front = Front::HerokuRouter;
    let app = Running::with(Settings { front, metrics_token, ..settings(&db) });
    let with = |token: &str| app.visitor().get_with("/metrics", &[("authorization", token)]).status;
    assert_eq!(with("Bearer a secret of the operator"), 200);
    for token in ["Bearer a secret", "a secret of the operator", "Bearer ", ""] {
        assert_eq!(with(token), 404, "{token}");
    }
}
