//! Connections that share the checks.

use diesel::connection::SimpleConnection as _;
use omnitool_testing::{Dialect, TestDatabase, on_both_databases};
use omnitool_verification::{
    AppAnswer, Depth, Expectations, LastBackup, Selection, Subject, verify_against,
};

use crate::setup::Setup;

#[test]
fn two_connections_to_postgres_share_the_checks() {
    let setup = Setup::clean(TestDatabase::migrated(Dialect::Postgres));
    let report = setup.verify_with_times(&Selection::all());
    assert_eq!(report.connections, Some(2));
    assert_eq!(
        report.checks.iter().map(|check| check.number).collect::<Vec<_>>(),
        (1..=12).collect::<Vec<_>>()
    );
    assert_eq!(report.without_times().connections, None);

    let setup = Setup::clean(TestDatabase::migrated(Dialect::Sqlite));
    assert_eq!(setup.verify_with_times(&Selection::all()).connections, Some(1));
}

#[test]
fn a_server_that_gives_one_connection_is_enough() {
    let mut setup = Setup::clean(TestDatabase::migrated(Dialect::Postgres));
    // Check 10 wants a connection of its own, too.
    let empty = r#"{"format": "omnitool.tool-access", "version": 1, "environment": "local", "users": [], "tools": {}}"#;
    setup.expected_access = Some(setup.write("access.json", empty));
    let url = setup.db.url().expose();
    let (server, name) = url.rsplit_once('/').unwrap();
    let role = format!("{name}_one");
    setup
        .conn()
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'one' CONNECTION LIMIT 1; GRANT pg_read_all_data TO {role}"
        ))
        .unwrap();
    let host = server.rsplit_once('@').unwrap().1;
    let url = format!("postgres://{role}:one@{host}/{name}").parse().unwrap();
    let subject = Subject {
        database_url: &url,
        environment: setup.environment,
        definitions: &setup.definitions,
        definitions_file: None,
        app: &|| Ok(AppAnswer::Works(String::new())),
        depth: Depth::ReadEverything,
    };
    let expected =
        Expectations { access_export: setup.expected_access.as_deref(), ..Expectations::default() };
    let report = verify_against(&subject, &expected, &Selection::all());
    setup.conn().batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
    assert_eq!(report.connections, Some(1));
    assert_eq!(report.summary, "12 checks: 12 passed", "{report:#?}");
}

/// The last check asks for the backup in the middle of the run; whoever changes the database then is not seen.
fn what_changes_meanwhile_is_not_seen(db: TestDatabase) {
    let setup = Setup::clean(db);
    let change = |_| {
        setup.conn().batch_execute("DELETE FROM users; DELETE FROM tools").unwrap();
        let rows = [("users".to_owned(), 1), ("tools".to_owned(), 2)];
        let (id, taken_at) = ("b007".to_owned(), "just now".to_owned());
        Ok(Some(LastBackup { id, taken_at, rows: rows.into() }))
    };
    let subject = Subject {
        database_url: setup.db.url(),
        environment: setup.environment,
        definitions: &setup.definitions,
        definitions_file: None,
        app: &|| Ok(AppAnswer::Works(String::new())),
        depth: Depth::ReadEverything,
    };
    let expected = Expectations { last_backup: &change, ..Expectations::default() };
    let report = verify_against(&subject, &expected, &Selection::all());
    assert_eq!(report.summary, "12 checks: 12 passed", "{report:#?}");
    assert_eq!(setup.verify().summary, "12 checks: 10 passed, 1 warning, 1 failed");
}

on_both_databases!(what_changes_meanwhile_is_not_seen);
