use omnitool_database::{
    Dialect, Mode, migration,
    migration::{CheckSchemaError, MigrateError},
    open,
};
use omnitool_testing::{TestDatabase, on_both_databases};

use crate::schema::{Shape, shape};

#[test]
fn both_dialects_have_the_same_migrations() {
    let names = migration::names(Dialect::Sqlite).unwrap();
    assert_eq!(names, migration::names(Dialect::Postgres).unwrap());
    assert!(names.is_sorted());
}

fn status_of_an_empty_database_changes_nothing(db: TestDatabase) {
    let db = TestDatabase::empty(db.dialect());
    let mut conn = open(db.url(), Mode::Read).unwrap();
    let status = migration::status(&mut conn).unwrap();
    assert_eq!(status.applied, Vec::<String>::new());
    assert_eq!(status.pending, migration::names(db.dialect()).unwrap());
    assert!(matches!(migration::check_current(&mut conn), Err(CheckSchemaError::Pending { .. })));
    assert_eq!(shape(&mut conn), Shape::new());
}

fn a_second_run_applies_nothing(db: TestDatabase) {
    let mut conn = db.connection();
    assert_eq!(migration::migrate(&mut conn).unwrap(), Vec::<String>::new());
    let version = migration::check_current(&mut conn).unwrap();
    assert!(
        migration::names(db.dialect())
            .unwrap()
            .last()
            .unwrap()
            .replace('-', "")
            .starts_with(&version)
    );
}

fn every_migration_goes_up_down_and_up_again(db: TestDatabase) {
    let mut conn = db.connection();
    let full = shape(&mut conn);
    let names = migration::names(db.dialect()).unwrap();
    for count in 1..=names.len() {
        let reverted = migration::revert(&mut conn, count).unwrap();
        assert_eq!(reverted.len(), count);
        assert_eq!(migration::migrate(&mut conn).unwrap().len(), count);
        assert_eq!(shape(&mut conn), full, "after {count} down and up");
    }
    migration::revert(&mut conn, names.len()).unwrap();
    assert!(shape(&mut conn).keys().all(|table| table.starts_with("__diesel")));
}

fn a_database_of_a_newer_build_is_refused(db: TestDatabase) {
    use diesel::RunQueryDsl as _;
    let mut conn = db.connection();
    diesel::sql_query("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')")
        .execute(&mut conn)
        .unwrap();
    let before = shape(&mut conn);
    for result in [migration::migrate(&mut conn), migration::revert(&mut conn, 1)] {
        assert!(
            matches!(result, Err(MigrateError::Newer { versions }) if versions == ["29990101000000"])
        );
    }
    assert!(migration::check_current(&mut conn).is_err());
    assert_eq!(shape(&mut conn), before);
}

fn ten_at_once_apply_each_migration_once(db: TestDatabase) {
    let db = TestDatabase::empty(db.dialect());
    let applied: usize = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| migration::migrate(&mut db.connection()).unwrap().len()))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(applied, migration::names(db.dialect()).unwrap().len());
}

on_both_databases!(
    status_of_an_empty_database_changes_nothing,
    a_second_run_applies_nothing,
    every_migration_goes_up_down_and_up_again,
    a_database_of_a_newer_build_is_refused,
    ten_at_once_apply_each_migration_once,
);
