//! PostgreSQL databases on a real server.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use chrono::Utc;
use diesel::{connection::SimpleConnection as _, prelude::*, sql_types::Text};
use omnitool_backup::{
    BackupId, Catalog, Kind, Manifest, Method, PlanRollbackError, RehearsalHooks, RestoreError,
    RollbackPlan, RolledBack, Store, System, VerifyError, Wanted, capture, for_url, verify,
};
use omnitool_database::{
    AnyConnection, Dialect, Mode, migration, open,
    schema::{user_session, users},
    stamp, write_transaction,
};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::{TestDatabase, dump, fixture};
use tempfile::TempDir;

/// A database stamped `staging` with a user, a tool and a grant, and a folder for its backups.
pub(crate) struct Site {
    pub(crate) db: TestDatabase,
    pub(crate) store: Box<dyn Store>,
    pub(crate) catalog: Catalog,
    pub(crate) folder: TempDir,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

pub(crate) fn execute(conn: &mut AnyConnection, sql: &str) {
    conn.batch_execute(sql).unwrap();
}

pub(crate) fn load(conn: &mut AnyConnection, query: &str) -> Vec<String> {
    let lines: Vec<Line> = diesel::sql_query(query).load(conn).unwrap();
    lines.into_iter().map(|line| line.line).collect()
}

pub(crate) fn usernames(conn: &mut AnyConnection) -> BTreeSet<String> {
    users::table.select(users::username).load(conn).unwrap().into_iter().collect()
}

impl Site {
    pub(crate) fn new() -> Self {
        let db = TestDatabase::stamped(Dialect::Postgres, EnvironmentName::Staging);
        let mut conn = db.connection();
        let alice = fixture::user(&mut conn, "alice");
        let invoices = fixture::tool(&mut conn, "Invoice Generator");
        fixture::grant(&mut conn, alice, invoices);
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(folder.path(), EnvironmentName::Staging);
        Self { store: for_url(db.url()).unwrap(), db, catalog, folder }
    }

    pub(crate) fn capture(&self) -> Manifest {
        capture(&self.catalog, &*self.store, Kind::Manual, None, &mut |_| ()).unwrap()
    }

    pub(crate) fn verify(&self, id: BackupId) -> Result<Manifest, VerifyError> {
        let hooks = &mut RehearsalHooks { progress: &mut |_| (), check: &mut |_| Ok(()) };
        verify(&self.catalog, &*self.store, id, Some(hooks))
    }

    pub(crate) fn plan(&self, wanted: &Wanted) -> Result<RollbackPlan, PlanRollbackError> {
        RollbackPlan::new(&self.catalog, &*self.store, wanted, Utc::now())
    }

    pub(crate) fn apply(&self, plan: &RollbackPlan) -> Result<RolledBack, RestoreError> {
        plan.apply(&self.catalog, &*self.store, &mut |_| Ok(()), &mut |_| ())
    }

    pub(crate) fn rollback(&self, wanted: &Wanted) -> BackupId {
        self.apply(&self.plan(wanted).unwrap()).unwrap().safety_backup.unwrap()
    }

    pub(crate) fn dump(&self) -> Vec<String> {
        dump(&mut self.db.connection())
    }

    /// The databases on the server whose names begin with this one's.
    pub(crate) fn databases(&self) -> Vec<String> {
        let query = "SELECT datname::text AS line FROM pg_database WHERE starts_with(datname, current_database()) \
                     OR datname LIKE 'omnitool\\_scratch%' \
                     AND strpos(shobj_description(oid, 'pg_database'), current_database()) > 0 \
                     ORDER BY 1";
        let name = self.store.name();
        load(&mut self.db.connection(), query)
            .into_iter()
            .map(|found| found.replacen(&name, "[LIVE]", 1))
            .collect()
    }

    /// A file that is no part of the catalog.
    pub(crate) fn elsewhere(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A connection to the maintenance database of the same server.
    pub(crate) fn server(&self) -> AnyConnection {
        open(&with_database(self.db.url(), "postgres"), Mode::Write).unwrap()
    }

    /// The database's name as it stands in a statement.
    pub(crate) fn name(&self) -> String {
        self.store.name()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for old in self.store.old_databases().unwrap() {
            self.store.drop_old(&old).unwrap();
        }
    }
}

/// The URL with another database; the tests' server has a simple one.
pub(crate) fn with_database(url: &DatabaseUrl, name: &str) -> DatabaseUrl {
    let text = url.expose();
    let end = text.rfind('/').unwrap();
    format!("{}/{name}", &text[..end]).parse().unwrap()
}

#[test]
fn a_rollback_brings_back_every_row_and_can_be_undone() {
    let site = Site::new();
    let then = site.dump();
    let backup = site.capture();
    assert_eq!(backup.system, System::Postgres);
    assert_eq!((backup.rows["users"], backup.rows["tool_access"]), (1, 1));
    assert_eq!(backup.verified.unwrap().how, Method::ReadDump);
    let mut conn = site.db.connection();
    let bob = fixture::user(&mut conn, "bob");
    fixture::exclude(&mut conn, bob, 1);
    execute(
        &mut conn,
        "DELETE FROM tool_access; UPDATE users SET email = 'a''b@example.org' WHERE id = 1",
    );
    let now = site.dump();
    drop(conn);
    assert_ne!(then, now);

    let safety = site.rollback(&Wanted::Latest);
    assert_eq!(site.dump(), then);
    assert_eq!(site.databases(), ["[LIVE]", "[LIVE]_before_b002"]);
    // The old database comes back under its name, and the restored one takes its place.
    site.rollback(&Wanted::Backup(safety));
    assert_eq!(site.dump(), now);
    assert_eq!(site.databases(), ["[LIVE]", "[LIVE]_before_b003"]);
    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(site.dump(), then);
    // The safety backups did not become the latest ones.
    assert_eq!(site.plan(&Wanted::Latest).unwrap().target.label, "b001");

    // Without the old database, there is still the safety backup.
    for old in site.store.old_databases().unwrap() {
        site.store.drop_old(&old).unwrap();
    }
    assert_eq!(site.databases(), ["[LIVE]"]);
    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(site.dump(), now);
}

#[test]
fn a_backup_is_rehearsed_in_a_scratch_database_that_goes_away() {
    let site = Site::new();
    let id = site.capture().id;
    let before = site.dump();
    let mut seen = Vec::new();
    let hooks = &mut RehearsalHooks {
        progress: &mut |_| (),
        check: &mut |url| {
            let mut conn = open(url, Mode::Read).unwrap();
            seen.push((url.clone(), usernames(&mut conn)));
            Ok(())
        },
    };
    let backup = verify(&site.catalog, &*site.store, id, Some(hooks)).unwrap();
    assert_eq!(backup.verified.unwrap().how, Method::RestoredDump);
    let [(url, names)] = &seen[..] else { panic!("{seen:?}") };
    assert!(url.to_string().contains("omnitool_scratch_"), "{url}");
    assert_eq!(*names, BTreeSet::from(["alice".to_owned()]));
    assert!(open(url, Mode::Read).is_err(), "it is gone");
    assert_eq!((site.dump(), site.databases()), (before, vec!["[LIVE]".to_owned()]));

    let hooks = &mut RehearsalHooks {
        progress: &mut |_| (),
        check: &mut |_| Err("two users are one".to_owned()),
    };
    let error = verify(&site.catalog, &*site.store, id, Some(hooks)).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the backup b001 fails its checks: two users are one");
    assert_eq!(site.catalog.find(id).unwrap().verified, None);
    assert_eq!(site.databases(), ["[LIVE]"]);
}

#[test]
fn what_the_callers_checks_refuse_is_not_restored() {
    let site = Site::new();
    site.capture();
    fixture::user(&mut site.db.connection(), "bob");
    let before = site.dump();
    let plan = site.plan(&Wanted::Latest).unwrap();
    let error = plan
        .apply(&site.catalog, &*site.store, &mut |_| Err("no".to_owned()), &mut |_| ())
        .unwrap_err();
    assert!(matches!(error, RestoreError::Unfit { .. }), "{error:?}");
    assert_eq!((site.dump(), site.databases()), (before, vec!["[LIVE]".to_owned()]));
    assert_eq!(site.catalog.list().unwrap().backups.len(), 1, "no safety backup was needed");
}

#[test]
fn a_rollback_revives_no_session() {
    let site = Site::new();
    let open_session = "INSERT INTO user_session (token_sha256, user_id, expires_at) \
                        VALUES (repeat('a', 64), 1, '2999-01-01 00:00:00')";
    let sessions = || user_session::table.count().get_result(&mut site.db.connection());
    execute(&mut site.db.connection(), open_session);
    site.capture();
    execute(&mut site.db.connection(), "DELETE FROM user_session");
    site.rollback(&Wanted::Latest);
    assert_eq!(sessions(), Ok(0));
    execute(&mut site.db.connection(), open_session);
    site.rollback(&Wanted::Latest);
    assert_eq!(sessions(), Ok(0));
    // Nor does putting the old database back, which still had one.
    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(sessions(), Ok(0));
}

#[test]
fn what_belongs_to_the_name_stays_with_the_name() {
    let site = Site::new();
    let name = site.name();
    let reader = format!("{name}_reader");
    let mut server = site.server();
    execute(
        &mut server,
        &format!(
            "CREATE ROLE {reader}; COMMENT ON DATABASE {name} IS 'it''s \"ours\"'; \
             ALTER DATABASE {name} CONNECTION LIMIT 42; \
             REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; \
             GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {reader} WITH GRANT OPTION; \
             ALTER DATABASE {name} SET work_mem = '5MB'; \
             ALTER DATABASE {name} SET search_path = \"$user\", public, \"a \"\" b\"; \
             ALTER ROLE {reader} IN DATABASE {name} SET statement_timeout = '7s'"
        ),
    );
    let facts = || {
        load(
            &mut site.server(),
            &format!(
                "SELECT concat_ws(' | ', pg_get_userbyid(datdba), datconnlimit, datallowconn, datistemplate, encoding, \
                 datcollate, datctype, shobj_description(d.oid, 'pg_database'), \
                 (SELECT string_agg(acl::text, ' ' ORDER BY acl::text) FROM unnest(datacl) AS acl), \
                 (SELECT string_agg(concat_ws(' ', setrole, ARRAY(SELECT unnest(setconfig) ORDER BY 1)), ' / ' ORDER BY setrole) \
                  FROM pg_db_role_setting WHERE setdatabase = d.oid)) AS line \
                 FROM pg_database AS d WHERE datname = '{name}'"
            ),
        )
    };
    let grants = "SELECT relname || ' ' || coalesce(relacl::text, '') AS line FROM pg_class \
                  WHERE relname IN ('users', 'effective_tool_access') ORDER BY 1";
    execute(
        &mut site.db.connection(),
        &format!("GRANT SELECT ON effective_tool_access TO {reader}"),
    );
    let then = (facts(), load(&mut site.db.connection(), grants));
    assert!(then.0[0].contains("it's") && then.0[0].contains("work_mem=5MB"), "{then:?}");
    site.capture();
    fixture::user(&mut site.db.connection(), "bob");
    site.rollback(&Wanted::Latest);
    assert_eq!((facts(), load(&mut site.db.connection(), grants)), then);
    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!((facts(), load(&mut site.db.connection(), grants)), then);

    for old in site.store.old_databases().unwrap() {
        site.store.drop_old(&old).unwrap();
    }
    execute(
        &mut site.db.connection(),
        &format!("REVOKE ALL ON effective_tool_access FROM {reader}"),
    );
    let drop_role = format!(
        "REVOKE ALL ON DATABASE {name} FROM {reader}; ALTER ROLE {reader} IN DATABASE {name} RESET ALL; DROP ROLE {reader}"
    );
    execute(&mut server, &drop_role);
}

#[test]
fn nothing_that_was_ever_committed_is_lost_by_a_rollback_with_writers() {
    let site = Site::new();
    site.capture();
    let done = AtomicBool::new(false);
    let committed: BTreeSet<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (url, done) = (site.db.url(), &done);
                scope.spawn(move || {
                    let mut committed = Vec::new();
                    let mut number = 0;
                    while !done.load(Ordering::Relaxed) {
                        // As an app does: connect again when the connection was ended.
                        let Ok(mut conn) = open(url, Mode::Write) else { continue };
                        while !done.load(Ordering::Relaxed) {
                            number += 1;
                            let name = format!("writer_{writer}_{number}");
                            let written = write_transaction(&mut conn, |conn| {
                                diesel::insert_into(users::table)
                                    .values((
                                        users::username.eq(&name),
                                        users::password_hash.eq("!"),
                                    ))
                                    .execute(conn)
                            });
                            if written.is_err() {
                                break;
                            }
                            committed.push(name);
                        }
                    }
                    committed
                })
            })
            .collect();
        for _ in 0..4 {
            site.rollback(&Wanted::Latest);
        }
        done.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert!(committed.len() > 10, "{committed:?}");
    // Each row is in the live database or in the backup that was taken when its database was replaced.
    let mut found = usernames(&mut site.db.connection());
    let safety: Vec<BackupId> = site
        .catalog
        .list()
        .unwrap()
        .backups
        .iter()
        .filter(|backup| backup.kind == Kind::BeforeRollback)
        .map(|backup| backup.id)
        .collect();
    assert_eq!(safety.len(), 4);
    for id in safety {
        let hooks = &mut RehearsalHooks {
            progress: &mut |_| (),
            check: &mut |url| {
                found.extend(usernames(&mut open(url, Mode::Read).unwrap()));
                Ok(())
            },
        };
        verify(&site.catalog, &*site.store, id, Some(hooks)).unwrap();
    }
    let lost: Vec<&String> = committed.difference(&found).collect();
    assert_eq!(lost, Vec::<&String>::new());
}

#[test]
fn a_writer_is_waited_for_and_what_it_commits_is_in_the_safety_backup() {
    let site = Site::new();
    site.capture();
    let plan = site.plan(&Wanted::Latest).unwrap();
    let mut writer = site.db.connection();
    execute(&mut writer, "BEGIN");
    fixture::user(&mut writer, "bob");
    let deadline = Instant::now() + Duration::from_secs(20);
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| {
            let store = for_url(site.db.url()).unwrap();
            plan.apply(&site.catalog, &*store, &mut |_| Ok(()), &mut |_| ()).unwrap()
        });
        let waiting = "SELECT pid::text AS line FROM pg_locks WHERE NOT granted AND mode = 'ExclusiveLock' \
                       AND database = (SELECT oid FROM pg_database WHERE datname = '[NAME]')";
        let waiting = waiting.replace("[NAME]", &site.name());
        let mut server = site.server();
        while load(&mut server, &waiting).is_empty() {
            assert!(Instant::now() < deadline, "the restore did not wait");
            std::thread::yield_now();
        }
        execute(&mut writer, "COMMIT");
        let safety = restore.join().unwrap().safety_backup.unwrap();
        assert_eq!(site.catalog.find(safety).unwrap().rows["users"], 2);
    });
    // Its connection was ended, and a new one leads to the restored database.
    assert!(diesel::sql_query("SELECT 1").execute(&mut writer).is_err());
    assert_eq!(usernames(&mut site.db.connection()).len(), 1);
}

#[test]
fn a_backup_taken_while_somebody_writes_is_one_moment_of_it() {
    let site = Site::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = site.db.connection();
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                let user = fixture::user(&mut conn, &format!("user_{number}"));
                fixture::grant(&mut conn, user, 1);
            }
        });
        for _ in 0..3 {
            let backup = site.capture();
            // Each user is granted the tool a moment after being made.
            let (users, grants) = (backup.rows["users"], backup.rows["tool_access"]);
            assert!(users == grants || users == grants + 1, "{users} users, {grants} grants");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_database_that_is_gone_is_made_anew() {
    let site = Site::new();
    let then = site.dump();
    site.capture();
    execute(&mut site.server(), &format!("DROP DATABASE {} WITH (FORCE)", site.name()));
    let plan = site.plan(&Wanted::Latest).unwrap();
    assert!(!plan.database_exists);
    assert_eq!(site.apply(&plan).unwrap().safety_backup, None);
    assert_eq!(site.dump(), then);
    assert_eq!(site.databases(), ["[LIVE]"]);
}

#[test]
fn a_backup_from_before_a_migration_brings_back_its_schema() {
    let site = Site::new();
    let all = migration::names(Dialect::Postgres).unwrap();
    migration::revert(&mut site.db.connection(), 2).unwrap();
    let then = site.dump();
    site.capture();
    migration::migrate(&mut site.db.connection()).unwrap();
    let plan = site.plan(&Wanted::Latest).unwrap();
    assert_eq!(plan.target.pending_migrations, 2);
    site.apply(&plan).unwrap();
    assert_eq!(site.dump(), then);
    let status = migration::status(&mut site.db.connection()).unwrap();
    assert_eq!(status.pending, all[all.len() - 2..]);
}

#[test]
fn a_file_of_another_environment_is_stamped_anew_and_grants_nobody_anything() {
    let site = Site::new();
    let before = site.dump();
    let production = TestDatabase::stamped(Dialect::Postgres, EnvironmentName::Production);
    let stranger = format!("{}_stranger", site.name());
    let mut conn = production.connection();
    fixture::user(&mut conn, "pat");
    execute(
        &mut conn,
        &format!(
            "CREATE ROLE {stranger}; ALTER TABLE tools OWNER TO {stranger}; GRANT SELECT ON users TO {stranger}"
        ),
    );
    let elsewhere = Catalog::new(&site.elsewhere("other"), EnvironmentName::Production);
    let store = for_url(production.url()).unwrap();
    let backup = capture(&elsewhere, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
    let file = elsewhere.file(&backup);

    let plan = site.plan(&Wanted::File(file)).unwrap();
    assert_eq!(plan.target.comes_from, Some(EnvironmentName::Production));
    site.apply(&plan).unwrap();
    let mut conn = site.db.connection();
    assert_eq!(stamp::read(&mut conn).unwrap(), Some(EnvironmentName::Staging));
    assert_eq!(usernames(&mut conn), BTreeSet::from(["pat".to_owned()]));
    let strangers = format!(
        "SELECT relname::text AS line FROM pg_class WHERE pg_get_userbyid(relowner) = '{stranger}' \
         OR relacl::text LIKE '%{stranger}%'"
    );
    assert_eq!(load(&mut conn, &strangers), Vec::<String>::new());
    drop(conn);

    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(site.dump(), before);
    execute(
        &mut production.connection(),
        &format!(
            "REASSIGN OWNED BY {stranger} TO CURRENT_USER; DROP OWNED BY {stranger}; DROP ROLE {stranger}"
        ),
    );
}

#[test]
fn whatever_a_schema_has_is_restored() {
    let site = Site::new();
    execute(
        &mut site.db.connection(),
        "CREATE SCHEMA other; \
         CREATE TABLE other.\"odd \"\"name\" (id bigserial PRIMARY KEY, a text, b text GENERATED ALWAYS AS (a || '!') STORED, c bytea); \
         INSERT INTO other.\"odd \"\"name\" (a, c) VALUES (E'one\\n\\\\.\\tx', '\\x00ff'), (NULL, NULL), ('COPY public.users (id) FROM stdin;', NULL); \
         CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; \
         CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at); \
         CREATE TABLE parts_2026 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); \
         INSERT INTO parts VALUES (1, '2026-05-05'); \
         CREATE MATERIALIZED VIEW many AS SELECT count(*) FROM users",
    );
    let then = site.dump();
    let backup = site.capture();
    assert_eq!(backup.rows["other.odd \"name"], 3);
    assert_eq!((backup.rows["nothing"], backup.rows["parts_2026"]), (1, 1));
    execute(&mut site.db.connection(), "DROP SCHEMA other CASCADE; DROP TABLE parts, nothing");
    site.rollback(&Wanted::Latest);
    assert_eq!(site.dump(), then);
    // The highest key ever given is known, too.
    execute(&mut site.db.connection(), "INSERT INTO other.\"odd \"\"name\" (a) VALUES ('four')");
    let id = "SELECT id::text AS line FROM other.\"odd \"\"name\" WHERE a = 'four'";
    assert_eq!(load(&mut site.db.connection(), id), ["4"]);
}

#[test]
fn only_what_a_killed_run_left_is_removed() {
    let site = Site::new();
    site.capture();
    let name = site.name();
    let mut living = site.server();
    // The lock of somebody who still uses the database with this number.
    execute(&mut living, "SELECT pg_advisory_lock(1869442665, 17)");
    let record =
        |purpose| format!(r#"{{"omnitool":"{purpose}","database":"{name}","restoring":"b007"}}"#);
    let mut server = site.server();
    for (database, comment) in [
        ("omnitool_scratch_000000aa".to_owned(), record("scratch")),
        ("omnitool_scratch_00000011".to_owned(), record("scratch")),
        (format!("{name}_restore_000000bb"), record("restore")),
        (format!("{name}_restore_20260101"), "made by hand".to_owned()),
    ] {
        execute(&mut server, &format!("CREATE DATABASE {database} TEMPLATE template0"));
        execute(&mut server, &format!("COMMENT ON DATABASE {database} IS '{comment}'"));
    }
    let said = site.plan(&Wanted::Latest).unwrap().to_string();
    assert!(
        said.starts_with("An earlier rollback to b007 was killed before it changed anything"),
        "{said}"
    );

    site.rollback(&Wanted::Latest);
    let databases = site.databases();
    assert_eq!(
        databases,
        ["omnitool_scratch_00000011", "[LIVE]", "[LIVE]_before_b002", "[LIVE]_restore_20260101"]
            .map(ToOwned::to_owned)
    );
    assert_eq!(site.plan(&Wanted::Latest).unwrap().interrupted, None);
    drop(living);
    execute(&mut server, "DROP DATABASE omnitool_scratch_00000011");
    execute(&mut server, &format!("DROP DATABASE {name}_restore_20260101"));
}

#[test]
fn two_rollbacks_at_once_do_not_mix() {
    let site = Site::new();
    let then = site.dump();
    site.capture();
    fixture::user(&mut site.db.connection(), "bob");
    let plans: Vec<RollbackPlan> = (0..2).map(|_| site.plan(&Wanted::Latest).unwrap()).collect();
    let results: Vec<bool> = std::thread::scope(|scope| {
        let runs: Vec<_> = plans
            .iter()
            .map(|plan| {
                scope.spawn(|| match site.apply(plan) {
                    Ok(_) => true,
                    Err(RestoreError::Running { .. }) => false,
                    Err(error) => panic!("{error:?}"),
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(results.contains(&true));
    assert_eq!(site.dump(), then);
}

/// A folder with programs that say they are of another version, and are else those of this machine.
pub(crate) fn fake_programs(folder: &Path, version: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder.join(format!("programs-{version}"));
    std::fs::create_dir(&folder).unwrap();
    for name in ["pg_dump", "pg_restore"] {
        let file = folder.join(name);
        let script = format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n");
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}
