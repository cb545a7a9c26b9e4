//! What copying pages instead of rows could get wrong.

use diesel::{connection::SimpleConnection as _, prelude::*, sql_types::Text};
use omnitool_backup::{RestoreError, Step, Wanted};
use omnitool_database::{AnyConnection, Mode, migration, open, schema::users, stamp};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::fixture;

use crate::{Site, dump_file};

#[derive(QueryableByName)]
struct Shape {
    #[diesel(sql_type = Text)]
    shape: String,
}

/// Page size, auto-vacuum and encoding of a database, and its journal mode.
fn shape(conn: &mut AnyConnection) -> String {
    let query = "SELECT page_size || ' ' || auto_vacuum || ' ' || encoding || ' ' || journal_mode AS shape \
                 FROM pragma_page_size, pragma_auto_vacuum, pragma_encoding, pragma_journal_mode";
    diesel::sql_query(query).get_result::<Shape>(conn).unwrap().shape
}

fn apply(site: &Site, wanted: &Wanted) -> Result<(), RestoreError> {
    let plan = site.plan(wanted).unwrap();
    plan.apply(&site.catalog, &*site.store, &mut |_| Ok(()), &mut |_| ()).map(drop)
}

#[test]
fn a_backup_is_one_file_without_a_log() {
    let site = Site::new();
    let file = site.catalog.file(&site.capture());
    let url = DatabaseUrl::sqlite(&file);
    assert_eq!(shape(&mut open(&url, Mode::Read).unwrap()), "4096 0 UTF-8 delete");
    let folder = std::fs::read_dir(site.catalog.folder()).unwrap();
    let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [file.file_name().unwrap().to_str().unwrap(), "b001.json", "last-id"]);
}

#[test]
fn a_file_with_other_pages_is_fitted_to_the_live_database() {
    let site = Site::new();
    let file = site.elsewhere("other-pages.db");
    let mut conn = site.db.connection();
    let then = site.dump();
    conn.batch_execute(&format!("VACUUM INTO '{}'", file.display())).unwrap();
    let mut other = open(&DatabaseUrl::sqlite(&file), Mode::Write).unwrap();
    other
        .batch_execute(
            "PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; PRAGMA auto_vacuum = FULL; VACUUM",
        )
        .unwrap();
    assert_eq!(shape(&mut other), "1024 1 UTF-8 delete");
    drop(other);
    fixture::user(&mut conn, "bob");

    apply(&site, &Wanted::File(file)).unwrap();
    assert_eq!(site.dump(), then);
    assert_eq!(shape(&mut conn), "4096 0 UTF-8 wal");
    // A connection from before goes on writing.
    for number in 0..50 {
        fixture::user(&mut conn, &format!("user_{number}"));
    }
    conn.batch_execute("DELETE FROM users WHERE username LIKE 'user_%'").unwrap();
    let file = site.catalog.file(&site.capture());
    assert_eq!(dump_file(&file), site.dump());
}

#[test]
fn a_file_in_another_text_encoding_is_refused_and_the_live_database_stays() {
    let site = Site::new();
    let file = site.elsewhere("utf16.db");
    let mut raw = SqliteConnection::establish(&file.display().to_string()).unwrap();
    raw.batch_execute("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (x); DROP TABLE t").unwrap();
    drop(raw);
    let mut conn = open(&DatabaseUrl::sqlite(&file), Mode::Write).unwrap();
    migration::migrate(&mut conn).unwrap();
    stamp::write(&mut conn, EnvironmentName::Staging).unwrap();
    drop(conn);
    let before = site.dump();
    let error = apply(&site, &Wanted::File(file)).unwrap_err();
    assert!(error.to_string().contains("UTF-16le"), "{error:?}");
    assert_eq!(site.dump(), before);
    assert_eq!(site.beside(), ["omnitool.db"]);
}

#[test]
fn a_database_without_a_log_gets_one_and_is_restored() {
    let site = Site::new();
    let then = site.dump();
    site.capture();
    let mut conn = site.db.connection();
    fixture::user(&mut conn, "bob");
    conn.batch_execute("PRAGMA journal_mode = DELETE").unwrap();
    drop(conn);
    let now = site.dump();
    site.rollback(&Wanted::Latest);
    assert_eq!(site.dump(), then);
    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(site.dump(), now);
}

#[test]
fn the_caller_sees_the_staged_copy_before_anything_is_replaced() {
    let site = Site::new();
    let mut conn = site.db.connection();
    conn.batch_execute(
        "INSERT INTO user_session (token_sha256, user_id, expires_at) VALUES ('ab', 1, '2999-01-01 00:00:00')",
    )
    .unwrap();
    site.capture();
    fixture::user(&mut conn, "bob");
    let before = site.dump();
    let plan = site.plan(&Wanted::Latest).unwrap();
    let mut seen = 0;
    let mut check = |staged: &DatabaseUrl| {
        seen += 1;
        assert_eq!(site.dump(), before);
        let mut staged = open(staged, Mode::Write).unwrap();
        assert_eq!(stamp::read(&mut staged).unwrap(), Some(EnvironmentName::Staging));
        assert_eq!(users::table.count().get_result(&mut staged), Ok(1));
        let sessions = omnitool_database::schema::user_session::table.count();
        assert_eq!(sessions.get_result(&mut staged), Ok(0));
        Err("two tools are missing".to_owned())
    };
    let error =
        plan.apply(&site.catalog, &*site.store, &mut check, &mut |_| ()).unwrap_err().to_string();
    assert_eq!(error, "the backup b001 fails its checks: two tools are missing");
    assert_eq!(seen, 1);
    assert_eq!(site.dump(), before);
    assert_eq!(site.catalog.list().unwrap().backups.len(), 1, "no safety backup of no rollback");
    drop(conn);
    assert_eq!(site.beside(), ["omnitool.db"]);

    // Whoever looks at the copy may leave it with a log.
    let mut check = |staged: &DatabaseUrl| {
        let mut conn = open(staged, Mode::Write).unwrap();
        conn.batch_execute("UPDATE users SET email = 'seen@example.org'").unwrap();
        std::mem::forget(conn);
        Ok(())
    };
    plan.apply(&site.catalog, &*site.store, &mut check, &mut |_| ()).unwrap();
    assert!(site.dump().iter().any(|line| line.contains("seen@example.org")));
}

#[test]
fn progress_goes_up_to_the_whole_in_each_step() {
    let site = Site::new();
    let mut conn = site.db.connection();
    conn.batch_execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30000) \
         INSERT INTO users (username, password_hash) SELECT 'user_' || n, '!' FROM n",
    )
    .unwrap();
    site.capture();
    let mut told = Vec::new();
    let plan = site.plan(&Wanted::Latest).unwrap();
    plan.apply(&site.catalog, &*site.store, &mut |_| Ok(()), &mut |progress| told.push(progress))
        .unwrap();
    for step in [Step::Stage, Step::Copy, Step::Replace] {
        let of_step: Vec<_> = told.iter().filter(|progress| progress.step == step).collect();
        assert!(of_step.is_sorted_by_key(|progress| progress.done), "{of_step:?}");
        let last = of_step.last().unwrap();
        assert_eq!(Some(last.done), last.total, "{step:?}");
    }
    let mut steps: Vec<Step> = told.iter().map(|progress| progress.step).collect();
    steps.dedup();
    assert_eq!(steps, [Step::Stage, Step::Check, Step::Copy, Step::Check, Step::Replace]);
}
