use diesel::{RunQueryDsl as _, connection::SimpleConnection as _};
use omnitool_database::migration::{
    self, MigrateError, Migration, Migrations, Options, check_current, ledger, migrate_with,
    revert_with, status, status_with,
};
use omnitool_testing::{TestDatabase, on_both_databases};

const A: Migration = Migration {
    name: "2026-01-01-000001_a",
    up: "CREATE TABLE a (id BIGINT PRIMARY KEY NOT NULL)",
    down: "DROP TABLE a",
    run_in_transaction: true,
};
const B: Migration = Migration {
    name: "2026-01-01-000002_b",
    up: "CREATE TABLE b (id BIGINT PRIMARY KEY NOT NULL)",
    down: "DROP TABLE b",
    run_in_transaction: true,
};
const C: Migration = Migration {
    name: "2026-01-01-000003_c",
    up: "CREATE TABLE c (id BIGINT PRIMARY KEY NOT NULL)",
    down: "DROP TABLE c",
    run_in_transaction: true,
};

fn migrations<const N: usize>(list: [Migration; N]) -> Migrations {
    Migrations::new(list.to_vec()).unwrap()
}

fn every_applied_migration_has_its_row(db: TestDatabase) {
    let mut conn = db.connection();
    let rows = ledger(&mut conn).unwrap();
    let embedded = Migrations::embedded(db.dialect()).unwrap();
    assert_eq!(rows.len(), embedded.iter().count());
    for (row, migration) in rows.iter().zip(embedded.iter()) {
        assert_eq!(row.version, migration.version());
        assert_eq!(row.name, migration.name);
        assert_eq!(row.up_sha256, migration.sha256());
        assert_eq!(row.applied_by, Options::default().applied_by);
        assert!(row.duration_ms.is_some(), "{row:?}");
        let age = chrono::Utc::now().naive_utc() - row.applied_at;
        assert!(age.num_minutes().abs() < 10, "{row:?}");
    }
}

fn migrations_from_before_the_ledger_get_rows_with_it(db: TestDatabase) {
    let db = TestDatabase::empty(db.dialect());
    let mut conn = db.connection();
    let embedded = Migrations::embedded(db.dialect()).unwrap();
    let before: Vec<_> =
        embedded.iter().take_while(|m| !m.name.contains("ledger")).copied().collect();
    let count = before.len();
    migrate_with(&mut conn, &Migrations::new(before).unwrap(), &Options::default()).unwrap();
    assert_eq!(ledger(&mut conn).unwrap(), []);

    migration::migrate(&mut conn).unwrap();
    let rows = ledger(&mut conn).unwrap();
    assert_eq!(rows.len(), embedded.iter().count());
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row.duration_ms.is_none(), number < count, "{row:?}");
        assert_eq!(row.applied_by == "before the ledger", number < count, "{row:?}");
    }
}

fn what_was_applied_by_hand_gets_its_row(db: TestDatabase) {
    let mut conn = db.connection();
    diesel::sql_query("DELETE FROM migration_ledger").execute(&mut conn).unwrap();
    assert_eq!(migration::migrate(&mut conn).unwrap(), Vec::<String>::new());
    assert_eq!(ledger(&mut conn).unwrap().len(), migration::names(db.dialect()).unwrap().len());
}

fn a_changed_migration_is_refused_until_it_is_accepted(db: TestDatabase) {
    let mut conn = db.connection();
    let name = migration::names(db.dialect()).unwrap().remove(1);
    diesel::sql_query(
        "UPDATE migration_ledger SET up_sha256 = replace(replace(up_sha256, '1', '2'), '3', '4') \
         WHERE version = '20261123000002'",
    )
    .execute(&mut conn)
    .unwrap();
    assert_eq!(status(&mut conn).unwrap().changed, std::slice::from_ref(&name));
    let error = migration::migrate(&mut conn).unwrap_err();
    assert_eq!(error.to_string(), format!("changed after being applied: {name}"));
    // The app goes on with a schema that nothing else is wrong with.
    check_current(&mut conn).unwrap();

    let embedded = Migrations::embedded(db.dialect()).unwrap();
    let accept =
        |version: &str| Options { accept_changed: vec![version.to_owned()], ..Options::default() };
    let other = migrate_with(&mut conn, &embedded, &accept("20261123000003"));
    assert!(matches!(other, Err(MigrateError::NotChanged { .. })), "{other:?}");
    migrate_with(&mut conn, &embedded, &accept("2026-11-23-000002")).unwrap();
    assert_eq!(status(&mut conn).unwrap().changed, Vec::<String>::new());
    migration::migrate(&mut conn).unwrap();
}

fn a_migration_older_than_an_applied_one_is_refused(db: TestDatabase) {
    let db = TestDatabase::empty(db.dialect());
    let mut conn = db.connection();
    let options = Options::default();
    migrate_with(&mut conn, &migrations([A, C]), &options).unwrap();
    let late = migrations([A, B, C]);
    assert_eq!(status_with(&mut conn, &late).unwrap().out_of_order, [B.name]);
    let error = migrate_with(&mut conn, &late, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("out of order: {} would run after 20260101000003", B.name)
    );
    assert!(conn.batch_execute("SELECT * FROM b").is_err());
    // Under a new version it is fine.
    let renamed = Migration { name: "2026-01-02-000001_b", ..B };
    migrate_with(&mut conn, &migrations([A, C, renamed]), &options).unwrap();
}

fn reverting_takes_the_row_along(db: TestDatabase) {
    let mut conn = db.connection();
    let embedded = Migrations::embedded(db.dialect()).unwrap();
    let more: Vec<_> =
        embedded.iter().copied().chain([Migration { name: "2999-01-01-000001_a", ..A }]).collect();
    let more = Migrations::new(more).unwrap();
    let count = embedded.iter().count();
    migrate_with(&mut conn, &more, &Options::default()).unwrap();
    assert_eq!(ledger(&mut conn).unwrap().len(), count + 1);
    revert_with(&mut conn, &more, 1, &Options::default()).unwrap();
    assert_eq!(ledger(&mut conn).unwrap().len(), count);
    check_current(&mut conn).unwrap();
}

on_both_databases!(
    every_applied_migration_has_its_row,
    migrations_from_before_the_ledger_get_rows_with_it,
    what_was_applied_by_hand_gets_its_row,
    a_changed_migration_is_refused_until_it_is_accepted,
    a_migration_older_than_an_applied_one_is_refused,
    reverting_takes_the_row_along,
);
