//! Two programs that want to change the schema at once.

use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use omnitool_database::{
    Dialect,
    migration::{self, LOCK_KEY, MigrateError, Migrations, Options, migrate_with},
};
use omnitool_testing::{TestDatabase, on_both_databases};

fn hold(db: &TestDatabase) -> String {
    match db.dialect() {
        Dialect::Sqlite => "BEGIN IMMEDIATE".to_owned(),
        Dialect::Postgres => {
            format!("SET application_name = 'the other one'; SELECT pg_advisory_lock({LOCK_KEY})")
        }
    }
}

fn whoever_waits_in_vain_says_for_whom(db: TestDatabase) {
    let mut other = db.connection();
    other.batch_execute(&hold(&db)).unwrap();
    let embedded = Migrations::embedded(db.dialect()).unwrap();
    let options = Options { lock_wait: Duration::from_millis(300), ..Options::default() };
    let mut conn = db.connection();
    let error = migrate_with(&mut conn, &embedded, &options).unwrap_err();
    assert!(matches!(error, MigrateError::Locked { .. }), "{error:?}");
    let text = error.to_string();
    match db.dialect() {
        Dialect::Sqlite => {
            assert!(text.ends_with("s: another program is writing to this file"), "{text}");
        }
        Dialect::Postgres => {
            assert!(
                text.contains("the other one, user omnitool, from 127.0.0.1, connected"),
                "{text}"
            );
        }
    }
    // The lock goes with its holder's connection, and the one that waited in vain can try again.
    drop(other);
    assert_eq!(migration::migrate(&mut conn).unwrap(), Vec::<String>::new());
}

on_both_databases!(whoever_waits_in_vain_says_for_whom);
