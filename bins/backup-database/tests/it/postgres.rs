//! Databases on a real PostgreSQL server.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
};

use chrono::Utc;
use diesel::{connection::SimpleConnection as _, prelude::*, sql_types::Text};
use omnitool_backup::{Catalog, RollbackPlan, Wanted, for_url};
use omnitool_database::Dialect;
use omnitool_environment::EnvironmentName;
use omnitool_testing::fixture;

use crate::{PROGRAM, Site};

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

impl Site {
    /// The databases on the server that were made for this one.
    fn made_for_it(&self) -> Vec<String> {
        let query = "SELECT datname::text AS name FROM pg_database WHERE datname <> current_database() \
                     AND strpos(shobj_description(oid, 'pg_database'), current_database()) > 0";
        let names: Vec<Name> = diesel::sql_query(query).load(&mut self.db.connection()).unwrap();
        names.into_iter().map(|name| name.name).collect()
    }
}

#[test]
fn a_deep_check_restores_each_backup_where_nobody_looks() {
    let site = Site::with(Dialect::Postgres);
    let captured = site.run(&["capture"]).success();
    assert!(captured.starts_with("[SUCCESS] Captured b001 of staging: "), "{captured}");
    assert!(captured.contains(".pgdump\n"), "{captured}");
    insta::assert_snapshot!(site.run(&["verify"]).success(), @r"
    b001  verified
    1 backup of staging verified, 0 bad
    ");
    assert_eq!(site.json(&["show", "b001"])["backup"]["verified"]["how"], "read-dump");
    insta::assert_snapshot!(site.run(&["verify", "--deep"]).success(), @r"
    b001  verified by restoring it into a scratch database
    1 backup of staging verified, 0 bad
    ");
    assert_eq!(site.json(&["show", "b001"])["backup"]["verified"]["how"], "restored-dump");
    assert_eq!(site.made_for_it(), Vec::<String>::new());
}

#[test]
fn only_a_deep_check_finds_what_reading_does_not() {
    let site = Site::with(Dialect::Postgres);
    // A check that held when the row was written, and does not when a restore writes it again.
    let strict = "CREATE FUNCTION few() RETURNS bool LANGUAGE sql AS 'SELECT true'; \
                  CREATE TABLE limited (id int CHECK (few())); INSERT INTO limited VALUES (1); \
                  CREATE OR REPLACE FUNCTION few() RETURNS bool LANGUAGE sql AS 'SELECT false'";
    site.db.connection().batch_execute(strict).unwrap();
    site.run(&["capture"]).success();
    site.run(&["verify"]).success();
    let output = site.run(&["verify", "--deep"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.contains("b001  BAD: cannot restore backup b001"), "{output:?}");
    assert_eq!(site.made_for_it(), Vec::<String>::new());
    assert_eq!(site.json(&["show", "b001"])["backup"]["verified"], serde_json::Value::Null);
}

#[test]
fn an_encrypted_dump_is_checked_with_its_identity() {
    let site = Site::with(Dialect::Postgres);
    let key = age::x25519::Identity::generate();
    let secret = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
    site.project.write("backup.key", secret);
    site.run(&["capture", "--encrypt-to", &key.to_public().to_string()]).success();
    assert!(site.files().iter().any(|name| name.ends_with(".pgdump.age")), "{:?}", site.files());
    let said = site.run(&["verify", "--deep"]).success();
    assert!(said.contains("verified by its SHA-256 only"), "{said}");
    let said = site.run(&["verify", "--deep", "--identity", "backup.key"]).success();
    assert!(said.contains("verified by restoring it into a scratch database"), "{said}");
    // Nothing that was decrypted stays.
    assert!(site.files().iter().all(|name| !name.contains("plain")), "{:?}", site.files());
    assert_eq!(site.files().len(), 3, "{:?}", site.files());
}

#[test]
fn a_prune_drops_the_databases_that_rollbacks_kept() {
    let site = Site::with(Dialect::Postgres);
    site.run(&["capture"]).success();
    let store = for_url(site.db.url()).unwrap();
    let folder = site.project.path().join("data/backups");
    let catalog = Catalog::new(&folder, EnvironmentName::Staging);
    let plan = RollbackPlan::new(&catalog, &*store, &Wanted::Latest, Utc::now()).unwrap();
    let done = plan.apply(&catalog, &*store, &mut |_| Ok(()), &mut |_| ()).unwrap();
    assert_eq!(done.safety_backup.unwrap().to_string(), "b002");
    let kept = site.made_for_it();
    assert!(kept.len() == 1 && kept[0].ends_with("_before_b002"), "{kept:?}");

    let said = site.run(&["prune", "--dry-run"]).success();
    assert!(said.contains(&format!("drop    {} (replaced by a rollback)\n", kept[0])), "{said}");
    assert_eq!(site.made_for_it(), kept);
    let said = site.run(&["prune"]).success();
    assert!(
        said.ends_with("Removed 0 backups and 1 old database of staging; 2 backups left\n"),
        "{said}"
    );
    assert_eq!(site.made_for_it(), Vec::<String>::new());
}

/// Files may grow to 80 blocks of 512 or 1024 bytes: less than the dump. The signal that comes with that is ignored.
#[test]
fn a_disk_without_room_leaves_no_half_dump() {
    let site = Site::with(Dialect::Postgres);
    let noise =
        "CREATE TABLE noise AS SELECT md5(random()::text) AS text FROM generate_series(1, 20000)";
    site.db.connection().batch_execute(noise).unwrap();
    let mut command = site.project.command("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$0\" --env staging capture", PROGRAM])
        .env("DATABASE_URL", site.db.url().expose());
    let stderr = site.project.output(command).failure(1);
    assert!(
        stderr.contains("cannot copy the database to data/backups/staging/b001.partial"),
        "{stderr}"
    );
    assert!(stderr.contains("no backup was taken and nothing is left of it"), "{stderr}");
    assert!(!stderr.contains("password-of-the-test-server"), "{stderr}");
    assert_eq!(site.files(), ["last-id"]);
    // The live database still serves.
    fixture::user(&mut site.db.connection(), "bob");
    assert_eq!(site.json(&["capture"])["id"], "b002");
}

#[test]
fn without_the_client_programs_the_package_is_named() {
    let site = Site::with(Dialect::Postgres);
    let stderr = site.run(&["--pg-bin", "nowhere", "capture"]).failure(1);
    assert!(
        stderr.contains("pg_dump and pg_restore are not installed (looked in nowhere)"),
        "{stderr}"
    );
    assert!(stderr.contains("apt-get install postgresql-client-"), "{stderr}");
    assert_eq!(site.files(), ["last-id"]);
}

/// On both systems, as somebody who may not write there. For root nothing is forbidden, so root becomes somebody else.
#[test]
fn a_folder_that_may_not_be_written_gives_no_backup() {
    const NOBODY: u32 = 65534;
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        let site = Site::with(dialect);
        site.run(&["capture"]).success();
        let before = site.files();
        let program = site.project.path().join("backup-database");
        // By a process of its own: a test that starts another one meanwhile would keep the file open for writing, and it
        // could not be executed.
        let copied = std::process::Command::new("cp").arg(PROGRAM).arg(&program).status().unwrap();
        assert!(copied.success());
        let mode = |path: &std::path::Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let mut command = site.project.command(&program);
        command.env("DATABASE_URL", site.db.url().expose()).args(["--env", "staging", "capture"]);
        let is_root = chown(site.folder(), Some(NOBODY), Some(NOBODY)).is_ok();
        for folder in [site.project.path(), &site.project.path().join("data")] {
            mode(folder, 0o755);
        }
        mode(&site.project.path().join("data/backups"), 0o755);
        if let Some(file) = site.db.url().sqlite_path() {
            mode(file.parent().unwrap(), 0o777);
            mode(file, 0o666);
        }
        mode(&site.folder(), 0o555);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let stderr = site.project.output(command).failure(1);
        mode(&site.folder(), 0o700);
        assert!(stderr.contains("Permission denied"), "{stderr}");
        assert!(
            stderr.contains("is there room in data/backups/staging, and may it be written?"),
            "{stderr}"
        );
        assert_eq!(site.files(), before);
        assert_eq!(site.json(&["capture"])["id"], "b002");
    }
}
