use diesel::prelude::*;
use omnitool_database::{Mode, OpenError, open};
use omnitool_environment::DatabaseUrl;
use omnitool_testing::{Dialect, TestDatabase};

fn refused(url: &DatabaseUrl, mode: Mode) -> OpenError {
    match open(url, mode) {
        Err(error) => error,
        Ok(_) => panic!("{url} must be refused"),
    }
}

#[test]
fn a_missing_file_is_made_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("a/b.db"));
    for mode in [Mode::Read, Mode::Write] {
        assert!(matches!(refused(&url, mode), OpenError::Missing { .. }));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    open(&url, Mode::Create).unwrap();
    open(&url, Mode::Write).unwrap();
}

#[test]
fn many_who_make_a_file_at_once_all_get_it() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("new.db"));
        std::thread::scope(|scope| {
            let opened: Vec<_> =
                (0..10).map(|_| scope.spawn(|| open(&url, Mode::Create).map(drop))).collect();
            for one in opened {
                one.join().unwrap().unwrap();
            }
        });
    }
}

#[cfg(unix)]
#[test]
fn a_new_file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let mode = std::fs::metadata(db.url().sqlite_path().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_folder_and_a_text_file_are_no_databases() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(folder.path());
    assert!(matches!(refused(&url, Mode::Write), OpenError::NotAFile { .. }));

    let file = folder.path().join("notes.db");
    std::fs::write(&file, "not a database, but longer than a header would be ".repeat(4)).unwrap();
    for mode in [Mode::Read, Mode::Write] {
        assert!(matches!(refused(&DatabaseUrl::sqlite(&file), mode), OpenError::Configure { .. }));
    }
}

#[test]
fn a_wrong_password_is_refused_without_showing_any() {
    let db = TestDatabase::empty(Dialect::Postgres);
    let right = "password-of-the-test-server";
    let url: DatabaseUrl = db.url().expose().replace(right, "wrong-password").parse().unwrap();
    let error = refused(&url, Mode::Write);
    let text = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
    assert!(text.contains("password authentication failed"), "{text}");
    assert!(!text.contains("wrong-password"), "{text}");
}

/// `.cargo/config.toml` says how SQLite is compiled; cargo reads it in any folder of the project.
#[test]
fn sqlite_has_no_locks_that_all_connections_share() {
    #[derive(QueryableByName)]
    struct CompileOption {
        #[diesel(sql_type = diesel::sql_types::Text)]
        compile_options: String,
    }
    let db = TestDatabase::empty(Dialect::Sqlite);
    let rows: Vec<CompileOption> =
        diesel::sql_query("PRAGMA compile_options").load(&mut db.connection()).unwrap();
    let has = |wanted: &str| rows.iter().any(|row| row.compile_options == wanted);
    assert!(has("DEFAULT_MEMSTATUS=0") && has("THREADSAFE=2"));
    assert!(!has("ENABLE_MEMORY_MANAGEMENT"));
}
