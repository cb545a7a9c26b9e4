//! What is refused on PostgreSQL, and that nothing is lost by it.

use std::{error::Error, path::PathBuf};

use omnitool_backup::{
    Catalog, Kind, PlanRollbackError, RestoreError, StoreOptions, Wanted, capture, for_url,
    for_url_with,
};
use omnitool_database::{Dialect, Mode, open};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::{TestDatabase, fixture};

use crate::postgres::{Site, execute, fake_programs, load};

/// An error with its causes, without what is another in each run.
fn chain(site: &Site, error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    assert!(!text.contains("password-of-the-test-server"), "{text}");
    let folder = site.elsewhere("").display().to_string();
    text.replace(folder.trim_end_matches('/'), "[FOLDER]").replace(&site.name(), "[LIVE]")
}

fn refusal(site: &Site, wanted: &Wanted) -> String {
    let before = site.dump();
    let error = site.plan(wanted).unwrap_err();
    assert_eq!(site.dump(), before);
    chain(site, &error)
}

#[test]
fn bad_files_are_refused_and_the_live_database_stays() {
    let site = Site::new();
    let backup = site.catalog.file(&site.capture());
    let good = std::fs::read(&backup).unwrap();
    let write = |name: &str, content: &[u8]| -> PathBuf {
        let file = site.elsewhere(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    std::fs::create_dir(site.elsewhere("folder")).unwrap();
    std::os::unix::fs::symlink(&backup, site.elsewhere("link")).unwrap();
    let dumped = |name: &str, sql: &str| -> PathBuf {
        let db = TestDatabase::migrated(Dialect::Postgres);
        execute(&mut db.connection(), sql);
        let catalog = Catalog::new(&site.elsewhere(name), EnvironmentName::Local);
        let store = for_url(db.url()).unwrap();
        let backup = capture(&catalog, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
        let file = site.elsewhere(&format!("{name}.pgdump"));
        std::fs::copy(catalog.file(&backup), &file).unwrap();
        file
    };
    let sqlite = site.elsewhere("sqlite.db");
    drop(open(&DatabaseUrl::sqlite(&sqlite), Mode::Create).unwrap());
    let mut newer_format = good.clone();
    // The archive's version follows on its magic bytes.
    newer_format[6] = 99;
    let files = [
        site.elsewhere("missing"),
        site.elsewhere("folder"),
        site.elsewhere("link"),
        write("empty", b""),
        write("text", b"PostgreSQL is great, is it not?"),
        write("plain.sql", b"--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n"),
        sqlite,
        write("short", &good[..60]),
        write("version", &newer_format),
        dumped(
            "foreign",
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE notes (text text)",
        ),
        dumped("newer", "INSERT INTO __diesel_schema_migrations VALUES ('29991231000001')"),
    ];
    let refusals: Vec<String> =
        files.iter().map(|file| refusal(&site, &Wanted::File(file.clone()))).collect();
    insta::assert_snapshot!(refusals.join("\n"), @r"
    cannot reach the backup [FOLDER]/missing: No such file or directory (os error 2)
    the backup [FOLDER]/folder is a folder, not a file
    the backup [FOLDER]/link is a symbolic link, not a file
    the backup [FOLDER]/empty is empty
    the backup [FOLDER]/text is no PostgreSQL dump
    the backup [FOLDER]/plain.sql is a plain SQL script; only what pg_dump --format=custom makes can be restored
    the backup [FOLDER]/sqlite.db is a SQLite database, not a PostgreSQL dump
    the backup [FOLDER]/short is damaged: could not read from input file: end of file
    the backup [FOLDER]/version is damaged: unsupported version (1.99) in file header
    the backup [FOLDER]/foreign.pgdump is no omnitool database: it has no migrations
    the backup [FOLDER]/newer.pgdump belongs to a newer build: this one does not know its migrations 29991231000001
    ");
}

#[test]
fn a_truncated_or_damaged_dump_is_found_wherever_it_is_cut() {
    let site = Site::new();
    // Rows that do not compress, so that there are several blocks of them.
    execute(
        &mut site.db.connection(),
        "CREATE TABLE noise AS SELECT string_agg(md5(random()::text), '') AS text \
         FROM generate_series(1, 20000) AS n GROUP BY n % 100",
    );
    let backup = site.catalog.file(&site.capture());
    let good = std::fs::read(&backup).unwrap();
    let before = site.dump();
    for part in 1..10 {
        let file = site.elsewhere("truncated");
        std::fs::write(&file, &good[..good.len() * part / 10]).unwrap();
        let error = site.plan(&Wanted::File(file)).unwrap_err();
        assert!(matches!(error, PlanRollbackError::Inspect(_)), "{part}: {error:?}");
    }
    let mut damaged = good.clone();
    let middle = good.len() / 2;
    damaged[middle..middle + 300].fill(0xff);
    let file = site.elsewhere("damaged");
    std::fs::write(&file, damaged).unwrap();
    let text = refusal(&site, &Wanted::File(file));
    assert!(text.starts_with("the backup [FOLDER]/damaged is damaged: "), "{text}");
    assert_eq!((site.dump(), site.databases()), (before, vec!["[LIVE]".to_owned()]));
}

#[test]
fn a_dump_that_cannot_be_restored_leaves_everything_as_it_was() {
    let site = Site::new();
    // A check that holds for the rows now and no longer for those that a restore brings.
    execute(
        &mut site.db.connection(),
        "CREATE FUNCTION few() RETURNS bool LANGUAGE sql AS 'SELECT true'; \
         CREATE TABLE limited (id int CHECK (few())); INSERT INTO limited VALUES (1); \
         CREATE OR REPLACE FUNCTION few() RETURNS bool LANGUAGE sql AS 'SELECT false'",
    );
    let id = site.capture().id;
    let before = site.dump();
    let error = site.apply(&site.plan(&Wanted::Latest).unwrap()).unwrap_err();
    let text = chain(&site, &error);
    assert!(text.starts_with("the backup b001 fails its checks: pg_restore failed"), "{text}");
    assert!(text.contains("violates check constraint"), "{text}");
    assert_eq!((site.dump(), site.databases()), (before, vec!["[LIVE]".to_owned()]));
    assert_eq!(site.catalog.list().unwrap().backups.len(), 1);
    // Which is what a rehearsal is for.
    assert!(site.verify(id).is_err());
    assert_eq!(site.catalog.find(id).unwrap().verified, None);
    assert_eq!(site.databases(), ["[LIVE]"]);
}

#[test]
fn a_backup_that_changes_after_it_was_checked_is_not_restored() {
    let site = Site::new();
    let file = site.catalog.file(&site.capture());
    fixture::user(&mut site.db.connection(), "bob");
    let plan = site.plan(&Wanted::Latest).unwrap();
    let before = site.dump();
    let mut content = std::fs::read(&file).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&file, content).unwrap();
    let error = site.apply(&plan).unwrap_err();
    assert!(matches!(error, RestoreError::Changed { .. }), "{error:?}");
    assert_eq!((site.dump(), site.databases()), (before, vec!["[LIVE]".to_owned()]));
}

#[test]
fn without_a_safety_backup_nothing_is_restored() {
    let site = Site::new();
    let copy = site.elsewhere("copy.pgdump");
    std::fs::copy(site.catalog.file(&site.capture()), &copy).unwrap();
    fixture::user(&mut site.db.connection(), "bob");
    let before = site.dump();
    let plan = site.plan(&Wanted::File(copy)).unwrap();
    std::fs::remove_dir_all(site.catalog.folder()).unwrap();
    std::fs::write(site.catalog.folder(), "").unwrap();
    let error = site.apply(&plan).unwrap_err();
    assert!(matches!(error, RestoreError::Safety(_)), "{error:?}");
    assert_eq!((site.dump(), site.databases()), (before, vec!["[LIVE]".to_owned()]));
    // Nobody is kept out any more.
    fixture::user(&mut site.db.connection(), "carol");
}

#[test]
fn a_backup_of_the_other_system_is_refused_by_name() {
    let site = Site::new();
    site.capture();
    let sqlite = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Staging);
    let store = for_url(sqlite.url()).unwrap();
    let plan = |wanted: &Wanted| {
        omnitool_backup::RollbackPlan::new(&site.catalog, &*store, wanted, chrono::Utc::now())
            .unwrap_err()
            .to_string()
    };
    let id = site.catalog.list().unwrap().backups[0].id;
    insta::assert_snapshot!(plan(&Wanted::Backup(id)), @"the backup b001 is one of a PostgreSQL database, and the live database is SQLite");
    let other = capture(&site.catalog, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
    insta::assert_snapshot!(refusal(&site, &Wanted::Backup(other.id)), @"the backup b002 is one of a SQLite database, and the live database is PostgreSQL");
}

#[test]
fn programs_that_are_missing_or_older_than_the_server_are_refused_with_the_packages_name() {
    let site = Site::new();
    let tried = |programs: PathBuf| {
        let options = StoreOptions { programs: Some(programs), ..StoreOptions::default() };
        let store = for_url_with(site.db.url(), &options).unwrap();
        let error = capture(&site.catalog, &*store, Kind::Manual, None, &mut |_| ()).unwrap_err();
        let version =
            load(&mut site.server(), "SELECT current_setting('server_version_num') AS line");
        let major = &version[0][..2];
        chain(&site, &error)
            .replace(&format!("PostgreSQL {major}"), "PostgreSQL [NEW]")
            .replace(&format!("client-{major}"), "client-[NEW]")
    };
    let old = tried(fake_programs(&site.elsewhere(""), "9.6.24"));
    let missing = tried(site.elsewhere("nowhere"));
    insta::assert_snapshot!([old, missing].join("\n"), @r"
    cannot copy the database to [FOLDER]/staging/b001.partial: the server is PostgreSQL [NEW], which the pg_dump of PostgreSQL 9 cannot back up (looked in [FOLDER]/programs-9.6.24); install a newer one, on Debian: apt-get install postgresql-client-[NEW]
    cannot copy the database to [FOLDER]/staging/b002.partial: pg_dump and pg_restore are not installed (looked in [FOLDER]/nowhere); install them, on Debian: apt-get install postgresql-client-[NEW]
    ");
    assert!(site.catalog.list().unwrap().backups.is_empty());
}

#[test]
fn a_role_that_may_not_make_databases_is_told_the_command_that_lets_it() {
    let site = Site::new();
    site.capture();
    let role = format!("{}_weak", site.name());
    let mut server = site.server();
    execute(&mut server, &format!("CREATE ROLE {role} LOGIN PASSWORD 'weak'"));
    execute(
        &mut site.db.connection(),
        &format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"),
    );
    let url = site.db.url().expose().replacen(
        "omnitool:password-of-the-test-server",
        &format!("{role}:weak"),
        1,
    );
    let url: DatabaseUrl = url.parse().unwrap();
    let tried = || {
        let store = for_url(&url).unwrap();
        let plan = omnitool_backup::RollbackPlan::new(
            &site.catalog,
            &*store,
            &Wanted::Latest,
            chrono::Utc::now(),
        )
        .unwrap();
        let before = site.dump();
        let error = plan.apply(&site.catalog, &*store, &mut |_| Ok(()), &mut |_| ()).unwrap_err();
        assert_eq!((site.dump(), site.databases()), (before, vec!["[LIVE]".to_owned()]));
        let text = chain(&site, &error);
        text[text.rfind(": the role").unwrap()..].to_owned()
    };
    let without_createdb = tried();
    execute(&mut server, &format!("ALTER ROLE {role} CREATEDB"));
    let not_the_owner = tried();
    execute(&mut site.db.connection(), &format!("DROP OWNED BY {role}"));
    execute(&mut server, &format!("DROP ROLE {role}"));
    insta::assert_snapshot!([without_createdb, not_the_owner].join("\n"), @r#"
    : the role `[LIVE]_weak` may not create databases, which a restore needs; a superuser allows it with: ALTER ROLE "[LIVE]_weak" CREATEDB
    : the role `[LIVE]_weak` does not own the database `[LIVE]`; use the role `omnitool`, or a superuser allows it with: GRANT "omnitool" TO "[LIVE]_weak"
    "#);
}

#[test]
fn a_session_that_our_role_may_not_end_stops_the_restore_and_is_named() {
    let site = Site::new();
    let mut server = site.server();
    let role = format!("{}_owner", site.name());
    let database = format!("{}_owned", site.name());
    execute(&mut server, &format!("CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'weak'"));
    execute(&mut server, &format!("CREATE DATABASE {database} OWNER {role} TEMPLATE template0"));
    let url = site.db.url().expose().replacen(
        "omnitool:password-of-the-test-server",
        &format!("{role}:weak"),
        1,
    );
    let (base, _) = url.rsplit_once('/').unwrap();
    let url: DatabaseUrl = format!("{base}/{database}").parse().unwrap();
    let mut conn = open(&url, Mode::Write).unwrap();
    omnitool_database::migration::migrate(&mut conn).unwrap();
    omnitool_database::stamp::write(&mut conn, EnvironmentName::Local).unwrap();
    fixture::user(&mut conn, "alice");
    let catalog = Catalog::new(&site.elsewhere("owned"), EnvironmentName::Local);
    let store = for_url(&url).unwrap();
    capture(&catalog, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
    fixture::user(&mut conn, "bob");
    let before = omnitool_testing::dump(&mut conn);
    // A superuser's session, as a maintenance job has one.
    let mut superuser =
        open(&crate::postgres::with_database(site.db.url(), &database), Mode::Write).unwrap();
    let now = chrono::Utc::now();
    let plan = omnitool_backup::RollbackPlan::new(&catalog, &*store, &Wanted::Latest, now).unwrap();
    let error = plan.apply(&catalog, &*store, &mut |_| Ok(()), &mut |_| ()).unwrap_err();
    let text = chain(&site, &error);
    let expected = "sessions of other roles stay connected to the database `[LIVE]_owned`, and the role \
                    `[LIVE]_owner` may not end them: process ";
    assert!(text.contains(expected), "{text}");
    // It goes on, and so does everybody who connects now; what was begun is gone.
    assert!(diesel::RunQueryDsl::execute(diesel::sql_query("SELECT 1"), &mut superuser).is_ok());
    assert_eq!(omnitool_testing::dump(&mut open(&url, Mode::Write).unwrap()), before);
    let like = format!(
        "SELECT datname::text AS line FROM pg_database WHERE datname LIKE '{database}\\_%'"
    );
    assert_eq!(load(&mut server, &like), Vec::<String>::new());

    drop(superuser);
    plan.apply(&catalog, &*store, &mut |_| Ok(()), &mut |_| ()).unwrap();
    for old in store.old_databases().unwrap() {
        store.drop_old(&old).unwrap();
    }
    execute(&mut server, &format!("DROP DATABASE {database} WITH (FORCE)"));
    execute(&mut server, &format!("DROP ROLE {role}"));
}
