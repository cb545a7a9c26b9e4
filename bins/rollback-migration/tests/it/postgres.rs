//! Databases on a real PostgreSQL server.

use std::{fs, path::Path};

use diesel::connection::SimpleConnection as _;
use omnitool_backup::{BackupId, Kind};
use omnitool_database::{Dialect, Mode, migration, open, stamp};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::{PostgresServer, dump, fixture};

use crate::{PROGRAM, Site, add_tools};

fn site() -> Site {
    Site::with(Dialect::Postgres, EnvironmentName::Staging, 3)
}

#[test]
fn what_was_replaced_is_put_back_by_its_name_until_it_is_dropped() {
    let site = site();
    let stdout = site.run(&["--env", "staging"]).success();
    assert!(
        stdout.contains(
            "Safety backup: b002. To undo: rollback-migration --env staging --backup b002"
        ),
        "{stdout}"
    );
    assert_eq!(site.dump(), site.then);
    let kept = site.databases();
    assert!(kept.len() == 1 && kept[0].ends_with("_before_b002"), "{kept:?}");

    let stdout = site.run(&["--undo"]).success();
    let still_there = format!("  the database with this content is still there as {}\n", kept[0]);
    assert!(stdout.contains(&still_there), "{stdout}");
    assert_eq!(site.dump(), site.now);

    let kept = site.databases();
    let drop = format!("drop    {} (its safety backup is b003)\n", kept[0]);
    let said = site.run(&["--drop-old", "--dry-run"]).success();
    assert_eq!(
        said,
        format!("{drop}Dry run: 1 old database of staging would be dropped; none was\n")
    );
    assert_eq!(site.databases(), kept);
    let said = site.run(&["--drop-old"]).success();
    assert_eq!(said, format!("{drop}Dropped 1 old database of staging\n"));
    assert_eq!(site.databases(), Vec::<String>::new());
    // The backup is still there, so that is still a way back.
    site.run(&["--undo"]).success();
    assert_eq!(site.dump(), site.then);
    site.run(&["--drop-old"]).success();
}

#[test]
fn a_dry_run_says_which_release_fits_and_makes_no_database() {
    let site = site();
    migration::revert(&mut site.db.connection(), 1).unwrap();
    site.capture(Kind::BeforeDeploy, Some("v8"));
    migration::migrate(&mut site.db.connection()).unwrap();
    let now = site.dump();
    let stdout = site.run(&["--dry-run"]).success();
    for line in [
        "Rollback of staging to b002 (before-deploy, taken ",
        "; 1 migration of this build is not in it\n",
        "  release that fits: the one that served before v8 was deployed\n",
        "Lost: all that was written in the 0 minutes since then.\n",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    assert_eq!((site.dump(), site.databases(), site.backups()), (now, vec![], 2));
}

#[test]
fn an_encrypted_dump_needs_its_identity_and_so_does_its_safety_backup() {
    let site = site();
    let key = age::x25519::Identity::generate();
    let recipients = vec![key.to_public().to_string().parse().unwrap()];
    let keys = omnitool_backup::Keys { recipients, identity: None };
    let store = omnitool_backup::for_url(site.db.url()).unwrap();
    let catalog = site.catalog.clone().with_keys(keys);
    omnitool_backup::capture(&catalog, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
    fixture::user(&mut site.db.connection(), "carol");
    let before = site.dump();
    let stderr = site.run(&["--backup", "b002"]).failure(1);
    assert!(stderr.contains("is encrypted, and no identity was named"), "{stderr}");
    let secret = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
    site.project.write("backup.key", secret);
    site.run(&["--backup", "b002", "--identity", "backup.key"]).success();
    assert_eq!(site.dump(), site.now);
    let safety = site.catalog.find(BackupId::new(3)).unwrap();
    assert!(safety.file.ends_with(".pgdump.age"), "{}", safety.file);
    // Also by the backup, when the old database is gone.
    site.run(&["--drop-old"]).success();
    site.run(&["--undo", "--identity", "backup.key"]).success();
    assert_eq!(site.dump(), before);
    site.run(&["--drop-old"]).success();
}

/// A database of the same environment on a server whose files cannot grow beyond 24 MiB, with tools and a user.
fn on_a_small_disk() -> (PostgresServer, DatabaseUrl) {
    let server = PostgresServer::start_on_a_small_disk(24);
    let mut conn = open(server.url(), Mode::Write).unwrap();
    conn.batch_execute("CREATE DATABASE live").unwrap();
    let url: DatabaseUrl = server.url().expose().replace("/postgres", "/live").parse().unwrap();
    let mut conn = open(&url, Mode::Write).unwrap();
    migration::migrate(&mut conn).unwrap();
    stamp::write(&mut conn, EnvironmentName::Staging).unwrap();
    add_tools(&mut conn);
    fixture::user(&mut conn, "survivor");
    (server, url)
}

#[test]
fn a_server_whose_disk_fills_up_leaves_the_live_database_serving() {
    let site = site();
    // A table of some 32 MB, and few bytes in the dump.
    let much = "CREATE TABLE much AS SELECT n, repeat('x', 40) AS text FROM generate_series(1, 420000) AS n";
    site.db.connection().batch_execute(much).unwrap();
    let backup = site.capture(Kind::Manual, None);
    assert!(backup.size < 8 << 20, "{}", backup.size);
    let (_server, url) = on_a_small_disk();
    let mut live = open(&url, Mode::Write).unwrap();
    let before = dump(&mut live);
    let id = backup.id.to_string();
    let stderr =
        site.project.run(site.program(), &url, &["--env", "staging", "--backup", &id]).failure(1);
    assert!(stderr.contains("could not extend file"), "{stderr}");
    assert!(stderr.contains("hint: the database is as it was and serving"), "{stderr}");
    assert!(!stderr.contains("password-of-the-test-server"), "{stderr}");
    // The session of the app was never ended, and nothing is left.
    assert_eq!(dump(&mut live), before);
    fixture::user(&mut live, "bob");
    let left =
        "SELECT 1 FROM pg_database WHERE datname LIKE 'live\\_%' OR datname LIKE 'omnitool%'";
    assert_eq!(diesel::RunQueryDsl::execute(diesel::sql_query(left), &mut live), Ok(0));
    assert_eq!(site.backups(), 2, "no safety backup was needed");
}

/// On a machine without room for the safety backup nothing is restored.
#[test]
fn a_full_disk_here_leaves_the_live_database_serving() {
    let site = site();
    let noise =
        "CREATE TABLE noise AS SELECT md5(random()::text) AS text FROM generate_series(1, 20000)";
    site.db.connection().batch_execute(noise).unwrap();
    let before = site.dump();
    let mut command = site.project.command("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$0\" --env staging"])
        .arg(site.program())
        .env("DATABASE_URL", site.db.url().expose());
    let stderr = site.project.output(command).failure(1);
    assert!(stderr.contains("without a safety backup there would be no way back"), "{stderr}");
    assert_eq!((site.dump(), site.databases(), site.backups()), (before, vec![], 1));
    site.run(&[]).success();
    assert_eq!(site.dump(), site.then);
    site.run(&["--drop-old"]).success();
}

#[test]
fn without_the_client_programs_nothing_begins() {
    let site = site();
    let stderr = site.run(&["--pg-bin", "nowhere"]).failure(1);
    assert!(stderr.contains("apt-get install postgresql-client"), "{stderr}");
    assert_eq!((site.dump(), site.databases(), site.backups()), (site.now.clone(), vec![], 1));
}

#[test]
fn a_backup_that_may_not_be_read_is_named() {
    use std::os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    };
    const NOBODY: u32 = 65534;
    let site = site();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let program = site.project.path().join("nobodys");
    // By a process of its own: a test that starts another one meanwhile would keep the file open for writing, and it could not
    // be executed.
    let copied = std::process::Command::new("cp").arg(PROGRAM).arg(&program).status().unwrap();
    assert!(copied.success());
    for folder in ["", "data", "data/backups", "data/backups/staging"] {
        mode(&site.project.path().join(folder), 0o755);
    }
    mode(&site.catalog.folder().join("b001.json"), 0o644);
    let file = site.catalog.file(&site.catalog.find(BackupId::new(1)).unwrap());
    mode(&file, 0o000);
    let mut command = site.project.command(&program);
    command.env("DATABASE_URL", site.db.url().expose()).args(["--env", "staging"]);
    if fs::metadata(site.project.path()).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let stderr = site.project.output(command).failure(1);
    assert!(stderr.contains("b001") && stderr.contains("Permission denied"), "{stderr}");
    assert!(stderr.contains("hint: nothing was changed"), "{stderr}");
    assert_eq!((site.dump(), site.databases(), site.backups()), (site.now.clone(), vec![], 1));
}
