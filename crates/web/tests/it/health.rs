use std::time::{Duration, Instant};

use omnitool_database::write_transaction;
use omnitool_testing::{Dialect, TestDatabase, on_both_databases};

use crate::running::{Running, user};

fn an_app_that_is_well_says_which_one_it_is(db: TestDatabase) {
    let app = Running::start(&db);
    let health = app.visitor().get("/health");
    assert_eq!(health.status, 200, "{}", health.body);
    assert_eq!(health.header("content-type"), Some("application/json"));
    assert_eq!(health.header("cache-control"), Some("no-store"));
    let mut health = health.json();
    let version = health["schema_version"].take();
    let newest = omnitool_database::migration::names(db.dialect()).unwrap().pop().unwrap();
    let newest = newest.split('_').next().unwrap().replace('-', "");
    assert_eq!(version, newest, "{version}");
    let expected = serde_json::json!({
        "status": "ok",
        "release": "0001",
        "schema_version": null,
        "database": "ok",
        "environment": "local",
        "server_errors": 0,
    });
    assert_eq!(health, expected);
}

on_both_databases!(an_app_that_is_well_says_which_one_it_is);

#[test]
fn a_database_that_fails_shows_in_health_at_once_and_never_why() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let app = Running::start(&db);
    let visitor = app.visitor();
    assert_eq!(visitor.get("/health").status, 200);
    let file = db.url().sqlite_path().unwrap();
    std::fs::remove_file(file).unwrap();

    let started = Instant::now();
    let health = visitor.get("/health");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(health.status, 503, "{}", health.body);
    let json = health.json();
    assert_eq!(
        (&json["status"], &json["database"]),
        (&"unavailable".into(), &"unavailable".into())
    );
    assert!(!health.body.contains("omnitool.db"), "{}", health.body);

    // Who has no session needs no database; everybody else gets a page that says so, and it is counted.
    assert_eq!(visitor.get("/").status, 200);
    let answer = visitor.get("/invoice_generator");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(answer.body.contains("Not available right now"), "{}", answer.body);
    assert_eq!(visitor.get("/health").json()["server_errors"], 1);
}

#[test]
fn who_reads_does_not_wait_for_changes_that_wait() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    user(&db, "alice");
    let app = Running::start(&db);
    let visitors: Vec<_> = (0..10).map(|_| app.log_in("alice")).collect();
    let token: Vec<String> =
        visitors.iter().map(|alice| alice.get("/account").form_token().to_owned()).collect();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads = write_transaction(&mut db.connection(), |_| {
            let threads: Vec<_> = visitors
                .iter()
                .zip(&token)
                .map(|(alice, token)| {
                    scope.spawn(|| alice.post("/logout", &[("form_token", token)]).status)
                })
                .collect();
            // Longer than /health would wait for a thread that is free.
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                assert_eq!(app.visitor().get("/health").status, 200);
                std::thread::sleep(Duration::from_millis(50));
            }
            diesel::QueryResult::Ok(threads)
        });
        threads.unwrap().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses, [303; 10]);
}

#[test]
fn a_database_that_was_replaced_is_served_at_once() {
    let (db, other) =
        (TestDatabase::migrated(Dialect::Sqlite), TestDatabase::migrated(Dialect::Sqlite));
    crate::running::user(&other, "alice");
    let app = Running::start(&db);
    assert_eq!(app.visitor().log_in("alice", crate::running::PASSWORD).status, 401);
    let file = db.url().sqlite_path().unwrap();
    for side in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{side}", file.display()));
    }
    std::fs::rename(other.url().sqlite_path().unwrap(), file).unwrap();
    app.log_in("alice");
}
