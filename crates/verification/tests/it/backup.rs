//! Check 12.

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::{Dialect, schema::users};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_verification::{LastBackup, Outcome};

use crate::setup::Setup;

fn backup(rows: &[(&str, u64)]) -> LastBackup {
    LastBackup {
        id: "b007".to_owned(),
        taken_at: "2026-11-24 03:00 UTC".to_owned(),
        rows: rows.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect(),
    }
}

fn without_a_backup_there_is_nothing_to_compare_with(db: TestDatabase) {
    let setup = Setup::clean(db);
    let report = setup.verify();
    assert_eq!(report.checks[11].outcome, Outcome::Passed);
    assert_eq!(report.checks[11].message, "no backup to compare with");
}

fn a_table_that_lost_too_much_fails(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    let mut conn = setup.conn();
    for number in 0..9 {
        let user = fixture::user(&mut conn, &format!("user_{number}"));
        fixture::grant(&mut conn, user, setup.email);
    }
    // Sessions and the ledger come and go.
    let rows = [("users", 10), ("tools", 2), ("user_session", 5), ("migration_ledger", 50)];
    setup.last_backup = Ok(Some(backup(&rows)));
    let report = setup.verify();
    assert_eq!(report.summary, "12 checks: 12 passed");
    assert_eq!(
        report.checks[11].message,
        "2 tables with at most 10 % less rows than backup b007 of 2026-11-24 03:00 UTC"
    );
    // One of ten is exactly what may be lost.
    diesel::delete(users::table.filter(users::username.eq("user_0"))).execute(&mut conn).unwrap();
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
    diesel::delete(users::table.filter(users::username.eq("user_1"))).execute(&mut conn).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("rows-since-backup", Outcome::Failed), @r"
        1 table lost more than 10 % of its rows since backup b007 of 2026-11-24 03:00 UTC
        Critical: 1 table lost more than 10 % of its rows since backup b007 of 2026-11-24 03:00 UTC
        - users: 10 rows then, 8 now (20 % lost)
        repair: rollback-migration --backup b007 --env local; where the rows were removed on purpose, take a new backup: backup-database capture --env local
        ");
    }
    setup.max_loss_percent = 20;
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
}

fn a_table_that_is_gone_is_a_warning(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    setup.last_backup = Ok(Some(backup(&[("old\"; DROP TABLE users", 3), ("users", 1)])));
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("rows-since-backup", Outcome::Warned), @r#"
        1 table of backup b007 gone
        Warning: 1 table of backup b007 gone
        - old"; DROP TABLE users: 3 rows
        repair: nothing, where a migration dropped it (check 2 compares the schema); else: rollback-migration --backup b007 --env local
        "#);
    }
}

fn a_manifest_that_cannot_be_read_could_not_run(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    setup.last_backup = Err("it is malformed");
    insta::allow_duplicates! {
        insta::assert_snapshot!(
            setup.only_trouble("rows-since-backup", Outcome::CouldNotRun),
            @"cannot read the last backup's manifest: it is malformed"
        );
    }
}

fn tables_are_found_whatever_their_name_and_schema(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    let (make, name) = match setup.db.dialect() {
        Dialect::Sqlite => ("CREATE TABLE \"a \"\" b\" (id BIGINT)", "a \" b"),
        Dialect::Postgres => {
            ("CREATE SCHEMA other; CREATE TABLE other.\"a \"\" b\" (id BIGINT)", "other.a \" b")
        }
    };
    setup.conn().batch_execute(make).unwrap();
    setup.last_backup = Ok(Some(backup(&[(name, 3)])));
    let report = setup.verify_only(&["rows-since-backup"]);
    let rows = &report.checks[0].findings[0].rows;
    assert_eq!(rows, &[format!("{name}: 3 rows then, 0 now (100 % lost)")]);
}

on_both_databases!(
    tables_are_found_whatever_their_name_and_schema,
    without_a_backup_there_is_nothing_to_compare_with,
    a_table_that_lost_too_much_fails,
    a_table_that_is_gone_is_a_warning,
    a_manifest_that_cannot_be_read_could_not_run,
);
