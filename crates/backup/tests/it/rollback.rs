use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_backup::{BackupId, Catalog, PlanRollbackError, RestoreError, Wanted};
use omnitool_database::{
    AnyConnection, Mode, migration, open,
    schema::{tool_access, user_session, users},
    stamp, write_transaction,
};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::{Dialect, TestDatabase, dump, fixture};
use proptest::prelude::*;

use crate::{Site, dump_file};

fn usernames(conn: &mut AnyConnection) -> BTreeSet<String> {
    users::table.select(users::username).load(conn).unwrap().into_iter().collect()
}

fn execute(conn: &mut AnyConnection, sql: &str) {
    conn.batch_execute(sql).unwrap();
}

#[test]
fn a_rollback_brings_back_every_row_and_can_be_undone() {
    let site = Site::new();
    let then = site.dump();
    site.capture();
    let mut conn = site.db.connection();
    let bob = fixture::user(&mut conn, "bob");
    fixture::exclude(&mut conn, bob, 1);
    execute(
        &mut conn,
        "DELETE FROM tool_access; UPDATE users SET email = 'a''b@example.org' WHERE id = 1",
    );
    let now = site.dump();
    assert_ne!(then, now);

    let safety = site.rollback(&Wanted::Latest).unwrap();
    assert_eq!(site.dump(), then);
    assert_eq!(dump_file(&site.catalog.file(&site.catalog.find(safety).unwrap())), now);

    site.rollback(&Wanted::Backup(safety)).unwrap();
    assert_eq!(site.dump(), now);
    // Undone again and again, with the newest safety backup each time.
    site.rollback(&Wanted::BeforeLastRollback).unwrap();
    assert_eq!(site.dump(), then);
    site.rollback(&Wanted::BeforeLastRollback).unwrap();
    assert_eq!(site.dump(), now);
    // The safety backups did not become the latest ones.
    assert_eq!(site.plan(&Wanted::Latest).unwrap().target.label, "b001");
}

#[test]
fn a_rollback_revives_no_session() {
    let site = Site::new();
    let mut conn = site.db.connection();
    let open_session = "INSERT INTO user_session (token_sha256, user_id, expires_at) \
                        VALUES ('ab', 1, '2999-01-01 00:00:00')";
    execute(&mut conn, open_session);
    site.capture();
    // Alice logs out.
    execute(&mut conn, "DELETE FROM user_session");
    let plan = site.plan(&Wanted::Latest).unwrap();
    assert_eq!(plan.losses, [], "sessions are no loss that the plan could avoid");
    site.rollback(&Wanted::Latest);
    let sessions = |conn: &mut AnyConnection| user_session::table.count().get_result(conn);
    assert_eq!(sessions(&mut conn), Ok(0));

    // Nor does undoing it: whoever was logged in before logs in again.
    execute(&mut conn, open_session);
    site.rollback(&Wanted::Latest);
    assert_eq!(sessions(&mut conn), Ok(0));
    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(sessions(&mut conn), Ok(0));
}

#[test]
fn an_open_connection_goes_on_with_the_restored_content() {
    let site = Site::new();
    site.capture();
    let mut app = site.db.connection();
    fixture::user(&mut app, "bob");
    let mut reader = site.db.connection();
    // A reader in the middle of its work.
    execute(&mut reader, "BEGIN; SELECT count(*) FROM users");

    site.rollback(&Wanted::Latest).unwrap();

    assert_eq!(usernames(&mut reader).len(), 2);
    execute(&mut reader, "COMMIT");
    assert_eq!(usernames(&mut reader), BTreeSet::from(["alice".to_owned()]));
    assert_eq!(usernames(&mut app), BTreeSet::from(["alice".to_owned()]));
    fixture::user(&mut app, "carol");
    assert_eq!(usernames(&mut site.db.connection()).len(), 2);
    drop((app, reader));
    assert_eq!(site.beside(), ["omnitool.db"]);
}

#[test]
fn nothing_that_was_ever_committed_is_lost_by_a_rollback_with_writers() {
    let site = Site::new();
    site.capture();
    let done = AtomicBool::new(false);
    let committed: BTreeSet<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (site, done) = (&site, &done);
                scope.spawn(move || {
                    let mut conn = site.db.connection();
                    let mut committed = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let name = format!("writer_{writer}_{}", committed.len());
                        write_transaction(&mut conn, |conn| {
                            fixture::user(conn, &name);
                            QueryResult::Ok(())
                        })
                        .unwrap();
                        committed.push(name);
                    }
                    committed
                })
            })
            .collect();
        for _ in 0..5 {
            site.rollback(&Wanted::Latest).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    // Each name is in what is there now, or in a safety backup that an undo would bring back.
    let mut found = usernames(&mut site.db.connection());
    for backup in site.catalog.list().unwrap().backups {
        let url = DatabaseUrl::sqlite(&site.catalog.file(&backup));
        found.extend(usernames(&mut open(&url, Mode::Immutable).unwrap()));
    }
    let lost: Vec<&String> = committed.difference(&found).collect();
    assert_eq!(lost, Vec::<&String>::new());
}

#[test]
fn a_database_that_is_gone_is_made_anew() {
    let site = Site::new();
    let then = site.dump();
    site.capture();
    let file = site.db.url().sqlite_path().unwrap();
    for name in site.beside() {
        std::fs::remove_file(file.with_file_name(name)).unwrap();
    }
    assert_eq!(site.rollback(&Wanted::Latest), None);
    assert_eq!(site.dump(), then);

    // Damaged beyond opening: the way that the refusal shows leads to the same.
    std::fs::write(file, vec![b'x'; 9000]).unwrap();
    let error = site.plan(&Wanted::Latest).unwrap_err();
    assert!(matches!(error, PlanRollbackError::Live(_)), "{error:?}");
    std::fs::rename(file, file.with_extension("damaged")).unwrap();
    site.rollback(&Wanted::Latest);
    assert_eq!(site.dump(), then);
}

#[test]
fn a_backup_from_before_a_migration_brings_back_its_schema() {
    let site = Site::new();
    let mut conn = site.db.connection();
    let all = migration::names(Dialect::Sqlite).unwrap();
    migration::revert(&mut conn, 2).unwrap();
    let then = site.dump();
    site.capture();
    migration::migrate(&mut conn).unwrap();

    let plan = site.plan(&Wanted::Latest).unwrap();
    assert_eq!(plan.target.pending_migrations, 2);
    plan.apply(&site.catalog, &*site.store, &mut |_| Ok(()), &mut |_| ()).unwrap();
    assert_eq!(site.dump(), then);
    let status = migration::status(&mut conn).unwrap();
    assert_eq!(status.pending, all[all.len() - 2..]);
    migration::migrate(&mut conn).unwrap();
}

#[test]
fn a_file_of_another_environment_is_stamped_anew() {
    let site = Site::new();
    let before = site.dump();
    let production = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    let mut conn = production.connection();
    fixture::user(&mut conn, "pat");
    let file = site.elsewhere("users_20260112.db");
    execute(&mut conn, &format!("VACUUM INTO '{}'", file.display()));

    let plan = site.plan(&Wanted::File(file)).unwrap();
    assert_eq!(plan.target.comes_from, Some(EnvironmentName::Production));
    plan.apply(&site.catalog, &*site.store, &mut |_| Ok(()), &mut |_| ()).unwrap();
    let mut conn = site.db.connection();
    assert_eq!(stamp::read(&mut conn).unwrap(), Some(EnvironmentName::Staging));
    assert_eq!(usernames(&mut conn), BTreeSet::from(["pat".to_owned()]));

    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(site.dump(), before);
}

#[test]
fn whatever_a_schema_has_is_restored() {
    let site = Site::new();
    let mut conn = site.db.connection();
    execute(
        &mut conn,
        "CREATE TABLE \"odd \"\"name\" (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, \
             b TEXT GENERATED ALWAYS AS (a || '!') STORED, c BLOB DEFAULT x'00ff'); \
         INSERT INTO \"odd \"\"name\" (a) VALUES ('one'), (NULL), ('three'); \
         DELETE FROM \"odd \"\"name\" WHERE id = 3; \
         CREATE UNIQUE INDEX odd_index ON \"odd \"\"name\" (a) WHERE a IS NOT NULL; \
         CREATE VIEW odd_view AS SELECT a FROM \"odd \"\"name\"; \
         CREATE TRIGGER odd_trigger INSTEAD OF INSERT ON odd_view BEGIN SELECT 1; END; \
         CREATE TRIGGER odd_counter AFTER INSERT ON \"odd \"\"name\" BEGIN \
             UPDATE users SET email = coalesce(email, '') || 'x'; END; \
         PRAGMA user_version = 7; ANALYZE;",
    );
    let then = site.dump();
    site.capture();
    execute(&mut conn, "DROP VIEW odd_view; DROP TABLE \"odd \"\"name\"; PRAGMA user_version = 9");
    site.rollback(&Wanted::Latest);
    assert_eq!(site.dump(), then);
    // The highest key ever given is known, too.
    execute(&mut conn, "INSERT INTO \"odd \"\"name\" (a) VALUES ('four')");
    let last = site.dump().into_iter().find(|line| line.contains("'four'")).unwrap();
    assert!(last.contains(": 4,'four'"), "{last}");
}

/// The error of a plan for `wanted`, after which nothing may have changed.
fn refusal(site: &Site, wanted: &Wanted) -> String {
    let before = site.dump();
    let error = site.plan(wanted).unwrap_err();
    assert_eq!(site.dump(), before);
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    let folder = site.folder.path().display().to_string();
    format!("{error}{}", source.unwrap_or_default()).replace(&folder, "[FOLDER]")
}

#[test]
fn bad_files_are_refused_and_the_live_database_stays() {
    let site = Site::new();
    let backup = site.catalog.file(&site.capture());
    let good = std::fs::read(&backup).unwrap();
    let write = |name: &str, content: &[u8]| {
        let file = site.elsewhere(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    let database = |name: &str, sql: &str| {
        let file = site.elsewhere(name);
        let mut conn = open(&DatabaseUrl::sqlite(&file), Mode::Create).unwrap();
        execute(&mut conn, sql);
        file
    };
    let changed = |name: &str, sql: &str| {
        let file = write(name, &good);
        execute(&mut open(&DatabaseUrl::sqlite(&file), Mode::Write).unwrap(), sql);
        file
    };
    std::fs::create_dir(site.elsewhere("folder")).unwrap();
    std::os::unix::fs::symlink(&backup, site.elsewhere("link")).unwrap();
    let mut corrupt = good.clone();
    corrupt[4096..4096 + 600].fill(0xff);
    let mut logged = write("logged", &good);
    write("logged-wal", b"not yet in the file");
    logged = std::fs::canonicalize(logged).unwrap();

    let files = [
        site.elsewhere("missing"),
        site.elsewhere("folder"),
        site.elsewhere("link"),
        write("empty", b""),
        write("text", b"SQLite is great, is it not?"),
        write("short", &good[..60]),
        logged,
        database("foreign", "CREATE TABLE notes (text)"),
        changed("newer", "INSERT INTO __diesel_schema_migrations VALUES ('29991231000001', '')"),
        changed("orphan", "PRAGMA foreign_keys = OFF; DELETE FROM users"),
        changed("virtual", "CREATE VIRTUAL TABLE odd USING fts5(text)"),
    ];
    let refusals: Vec<String> =
        files.iter().map(|file| refusal(&site, &Wanted::File(file.clone()))).collect();
    insta::assert_snapshot!(refusals.join("\n"), @r"
    cannot reach the backup [FOLDER]/missing: No such file or directory (os error 2)
    the backup [FOLDER]/folder is a folder, not a file
    the backup [FOLDER]/link is a symbolic link, not a file
    the backup [FOLDER]/empty is empty
    the backup [FOLDER]/text is no SQLite database
    cannot read the backup [FOLDER]/short: cannot use sqlite:[FOLDER]/short as a database
    the backup [FOLDER]/logged is not whole: the newest changes are still in [FOLDER]/logged-wal
    the backup [FOLDER]/foreign is no omnitool database: it has no migrations
    the backup [FOLDER]/newer belongs to a newer build: this one does not know its migrations 29991231000001
    the backup [FOLDER]/orphan is damaged: 1 rows of tool_access refer to missing rows of users
    the backup [FOLDER]/virtual is damaged: `odd` is a virtual table, which we never make
    ");
    for (name, content) in [("truncated", &good[..good.len() / 2]), ("corrupt", &corrupt[..])] {
        let text = refusal(&site, &Wanted::File(write(name, content)));
        assert!(text.contains(&format!("the backup [FOLDER]/{name}")), "{text}");
    }
}

#[test]
fn bad_backups_are_refused_and_the_live_database_stays() {
    let site = Site::new();
    insta::assert_snapshot!(refusal(&site, &Wanted::Latest), @"there is no verified backup of staging in [FOLDER]/staging");
    insta::assert_snapshot!(refusal(&site, &Wanted::BeforeLastRollback), @"there is no rollback of staging to undo: [FOLDER]/staging has no verified safety backup");
    insta::assert_snapshot!(refusal(&site, &Wanted::Backup(BackupId::new(7))), @"there is no backup b007 of staging in [FOLDER]/staging");

    let first = site.capture();
    let file = site.catalog.file(&first);
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() - 1]).unwrap();
    let length = good.len();
    assert_eq!(
        refusal(&site, &Wanted::Latest),
        format!(
            "backup b001 is not the file that was captured: its length is {} instead of {length}",
            length - 1
        )
    );
    // Once that is known, it is no candidate any more.
    site.verify(first.id).unwrap_err();
    insta::assert_snapshot!(refusal(&site, &Wanted::Latest), @"there is no verified backup of staging in [FOLDER]/staging (passed over: b001 is not verified)");

    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    let text = refusal(&site, &Wanted::Backup(first.id));
    assert!(text.starts_with("the file of backup b001 is missing or no file: [FOLDER]"), "{text}");

    let second = site.capture();
    let manifest = site.catalog.folder().join("b002.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace(&second.file, "../../b002-x.sqlite3")).unwrap();
    insta::assert_snapshot!(refusal(&site, &Wanted::Backup(second.id)), @"cannot trust the manifest [FOLDER]/staging/b002.json: its file is `../../b002-x.sqlite3`, which is no file of this backup");
}

#[test]
fn the_wrong_live_database_is_refused() {
    let site = Site::new();
    let id = site.capture().id;
    // Staging's backups with production's database.
    let production = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    let foreign = TestDatabase::empty(Dialect::Sqlite);
    execute(&mut foreign.connection(), "CREATE TABLE notes (text)");
    let refused = |db: &TestDatabase| {
        let store = omnitool_backup::for_url(db.url()).unwrap();
        let before = dump(&mut db.connection());
        let wanted = Wanted::Backup(id);
        let plan =
            omnitool_backup::RollbackPlan::new(&site.catalog, &*store, &wanted, chrono::Utc::now());
        assert_eq!(dump(&mut db.connection()), before);
        plan.unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(&production), @"the live database is stamped `production`, but `staging` was asked for");
    insta::assert_snapshot!(refused(&foreign), @"the live database is no omnitool database: it has tables and no migrations");
    // A backup of another environment is none of this catalog's.
    let other = Catalog::new(site.folder.path(), EnvironmentName::Production);
    std::fs::create_dir(other.folder()).unwrap();
    for name in ["b001.json".to_owned(), site.catalog.find(id).unwrap().file] {
        std::fs::copy(site.catalog.folder().join(&name), other.folder().join(&name)).unwrap();
    }
    let broken = other.list().unwrap().broken;
    assert!(broken[0].problem.contains("which is not the folder's"), "{broken:?}");
}

#[test]
fn a_backup_that_changes_after_it_was_checked_is_not_restored() {
    let site = Site::new();
    let file = site.catalog.file(&site.capture());
    fixture::user(&mut site.db.connection(), "bob");
    let plan = site.plan(&Wanted::Latest).unwrap();
    let before = site.dump();
    let mut content = std::fs::read(&file).unwrap();
    content[5000] ^= 1;
    std::fs::write(&file, content).unwrap();
    let error = plan.apply(&site.catalog, &*site.store, &mut |_| Ok(()), &mut |_| ()).unwrap_err();
    assert!(matches!(error, RestoreError::Changed { .. }), "{error:?}");
    assert_eq!(site.dump(), before);
    assert_eq!(site.beside(), ["omnitool.db"]);
}

#[test]
fn without_a_safety_backup_nothing_is_restored() {
    let site = Site::new();
    let backup = site.capture();
    let copy = site.elsewhere("copy.sqlite3");
    std::fs::copy(site.catalog.file(&backup), &copy).unwrap();
    fixture::user(&mut site.db.connection(), "bob");
    let before = site.dump();
    let plan = site.plan(&Wanted::File(copy)).unwrap();
    // A file where the folder should be.
    std::fs::remove_dir_all(site.catalog.folder()).unwrap();
    std::fs::write(site.catalog.folder(), "").unwrap();
    let error = plan.apply(&site.catalog, &*site.store, &mut |_| Ok(()), &mut |_| ()).unwrap_err();
    assert!(matches!(error, RestoreError::Safety(_)), "{error:?}");
    assert_eq!(site.dump(), before);
    assert_eq!(site.beside(), ["omnitool.db"]);
}

#[test]
fn two_rollbacks_at_once_do_not_mix() {
    let site = Site::new();
    let then = site.dump();
    site.capture();
    fixture::user(&mut site.db.connection(), "bob");
    let results: Vec<bool> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let store = omnitool_backup::for_url(site.db.url()).unwrap();
                    let now = chrono::Utc::now();
                    let plan = omnitool_backup::RollbackPlan::new(
                        &site.catalog,
                        &*store,
                        &Wanted::Latest,
                        now,
                    );
                    match plan.unwrap().apply(&site.catalog, &*store, &mut |_| Ok(()), &mut |_| ())
                    {
                        Ok(_) => true,
                        Err(RestoreError::Running { .. }) => false,
                        Err(error) => panic!("{error:?}"),
                    }
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(results.contains(&true));
    assert_eq!(site.dump(), then);
}

#[test]
fn a_writer_that_does_not_end_is_no_reason_to_force_anything() {
    let site = Site::new();
    site.capture();
    let plan = site.plan(&Wanted::Latest).unwrap();
    let mut writer = site.db.connection();
    execute(&mut writer, "BEGIN IMMEDIATE");
    fixture::user(&mut writer, "bob");
    let started = Instant::now();
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| {
            let store = omnitool_backup::for_url(site.db.url()).unwrap();
            plan.apply(&site.catalog, &*store, &mut |_| Ok(()), &mut |_| ())
                .unwrap()
                .safety_backup
                .unwrap()
        });
        // The restore has begun as soon as its record is there; it waits for the writer.
        let deadline = started + Duration::from_secs(20);
        while !site.beside().contains(&"omnitool.db.restoring".to_owned()) {
            assert!(Instant::now() < deadline, "the restore did not begin");
            std::thread::yield_now();
        }
        execute(&mut writer, "COMMIT");
        let safety = restore.join().unwrap();
        // What the writer committed in the last moment is in the safety backup.
        assert_eq!(site.catalog.find(safety).unwrap().rows["users"], 2);
    });
    assert_eq!(usernames(&mut writer).len(), 1);
}

fn change(conn: &mut AnyConnection, step: u8) {
    let number = i64::from(step % 7);
    match step % 4 {
        0 => {
            let name = format!("user_{number}");
            execute(
                conn,
                &format!(
                    "INSERT INTO users (username, password_hash) VALUES ('{name}', '!') ON CONFLICT DO NOTHING"
                ),
            );
        }
        1 => {
            diesel::delete(users::table.filter(users::id.eq(number))).execute(conn).unwrap();
        }
        2 => {
            diesel::update(users::table.filter(users::id.eq(number)))
                .set(users::email.eq(format!("{step}@example.org")))
                .execute(conn)
                .unwrap();
        }
        _ => {
            diesel::delete(tool_access::table).execute(conn).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn capture_change_rollback_undo(steps in prop::collection::vec(any::<u8>(), 0..20)) {
        let site = Site::new();
        let then = site.dump();
        site.capture();
        let mut conn = site.db.connection();
        for step in steps {
            change(&mut conn, step);
        }
        let now = site.dump();
        site.rollback(&Wanted::Latest);
        prop_assert_eq!(site.dump(), then);
        site.rollback(&Wanted::BeforeLastRollback);
        prop_assert_eq!(site.dump(), now);
    }
}
