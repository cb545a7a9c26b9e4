//! The program as its users run it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod checks;
mod heroku;
mod kill;
mod postgres;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use chrono::Utc;
use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_backup::{BackupId, Catalog, Kind, Manifest, capture, for_url};
use omnitool_database::{
    AnyConnection, Dialect,
    schema::{tool_access_everyone, tools},
};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{CommandOutput, TestDatabase, TestProject, dump, fixture};
use omnitool_tool_registry::Definitions;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-migration");

/// An app that finds nothing wrong.
const WORKS: &str = "echo '{\"summary\": \"4 checks: 4 passed\"}'";

/// A database that was backed up as `b001` and then got another user, and a release with an app that works.
struct Site {
    project: TestProject,
    db: TestDatabase,
    catalog: Catalog,
    /// What the backup holds.
    then: Vec<String>,
    /// What the database holds.
    now: Vec<String>,
}

impl Site {
    fn new(environment: EnvironmentName) -> Self {
        Self::filled(environment, 1)
    }

    fn filled(environment: EnvironmentName, users: usize) -> Self {
        Self::with(Dialect::Sqlite, environment, users)
    }

    fn with(dialect: Dialect, environment: EnvironmentName, users: usize) -> Self {
        let project = TestProject::new();
        let program = project.path().join("release/rollback-migration");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        // A hard link where the file system allows one: the program then looks for the app in this folder.
        fs::hard_link(PROGRAM, &program)
            .or_else(|_| fs::copy(PROGRAM, &program).map(drop))
            .unwrap();
        set_app(&project, WORKS);
        let db = TestDatabase::stamped(dialect, environment);
        let mut conn = db.connection();
        add_tools(&mut conn);
        omnitool_database::write_transaction(&mut conn, |conn| {
            for number in 0..users {
                fixture::user(conn, &format!("user_{number}"));
            }
            Ok::<(), diesel::result::Error>(())
        })
        .unwrap();
        let catalog = Catalog::new(&project.path().join("data/backups"), environment);
        let mut site = Self { then: dump(&mut conn), project, db, catalog, now: Vec::new() };
        site.capture(Kind::Manual, None);
        fixture::user(&mut conn, "bob");
        site.now = site.dump();
        site
    }

    fn capture(&self, kind: Kind, release: Option<&str>) -> Manifest {
        let store = for_url(self.db.url()).unwrap();
        capture(&self.catalog, &*store, kind, release, &mut |_| ()).unwrap()
    }

    fn program(&self) -> PathBuf {
        self.project.path().join("release/rollback-migration")
    }

    fn command(&self) -> Command {
        let mut command = self.project.command(self.program());
        command.env("DATABASE_URL", self.db.url().expose());
        command
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.project.run(self.program(), self.db.url(), arguments)
    }

    fn dump(&self) -> Vec<String> {
        dump(&mut self.db.connection())
    }

    fn backups(&self) -> usize {
        self.catalog.list().unwrap().backups.len()
    }
}

/// Makes the release's app a script.
fn set_app(project: &TestProject, script: &str) {
    let app = project.write("release/omnitool", format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(app, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Adds the tools that the checks look for, for everyone.
fn add_tools(conn: &mut AnyConnection) {
    for tool in Definitions::shipped().unwrap().tools() {
        let id: i64 = diesel::insert_into(tools::table)
            .values((
                tools::name.eq(&tool.name),
                tools::description.eq(&tool.description),
                tools::route.eq(&tool.route),
                tools::is_default.eq(tool.is_default),
                tools::is_active.eq(tool.is_active),
            ))
            .returning(tools::id)
            .get_result(conn)
            .unwrap();
        let everyone =
            (tool_access_everyone::tool_id.eq(id), tool_access_everyone::origin.eq("admin"));
        diesel::insert_into(tool_access_everyone::table).values(everyone).execute(conn).unwrap();
    }
}

/// Without what is another in each run.
fn stable(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        lines.push(match line.split_once(", taken ") {
            Some((start, _)) => format!("{start}, taken [TIME])"),
            None if line.starts_with("  checked: ") => {
                format!("  checked: [SIZE]{}", &line[line.find(" bytes").unwrap()..])
            }
            None if line.starts_with("  schema:  ") => {
                format!("  schema:  [VERSION]{}", &line[line.find([',', ';']).unwrap()..])
            }
            None => line.to_owned(),
        });
    }
    lines.join("\n")
}

#[test]
fn help_shows_the_flags_and_examples() {
    let project = TestProject::new();
    let mut command = project.command(PROGRAM);
    command.arg("--help");
    insta::assert_snapshot!(project.output(command).success(), @r#"
    Put an environment's database back to a backup

    Usage: rollback-migration [OPTIONS]

    Options:
          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]
              
              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists
              
              [env: DATABASE_URL]

          --platform <PLATFORM>
              Where the environment runs: local or heroku. Heroku needs a token in `HEROKU_API_KEY`
              
              [env: OMNITOOL_PLATFORM=]
              [default: local]

          --backup <ID>
              The backup [default: the newest verified one that is no safety backup of a rollback]

          --file <PATH>
              A backup file from elsewhere; one of another environment is stamped anew

          --undo
              Put back what was there before the last rollback

          --identity <FILE>
              The file with the age identity that decrypts the backup, where it is encrypted
              
              [env: OMNITOOL_BACKUP_IDENTITY=]

          --encrypt-to <AGE_RECIPIENT>
              Encrypt the safety backup to this age recipient; repeat it for several [default: as the
              backup is]
              
              [env: OMNITOOL_BACKUP_RECIPIENT=]

          --drop-old
              Drop the databases that earlier rollbacks kept under other names, and restore nothing

          --skip-checks <REASON>
              Restore without the checks of verify-migration, for this reason

          --no-download
              On Heroku: do not download backups to look into them; Heroku's word that they succeeded is
              then all that is known
              
              [env: OMNITOOL_NO_DOWNLOAD=]

          --dry-run
              Show what would be restored and lost, and change nothing

          --confirm <PHRASE>
              The confirmation that production asks for

          --folder <DIR>
              The folder with a folder of backups per environment
              
              [default: data/backups]

          --pg-bin <DIR>
              The folder with PostgreSQL's client programs [default: looked for on the PATH and in the
              usual places]
              
              [env: OMNITOOL_PG_BIN]

          --jobs <N>
              How many connections a restore into PostgreSQL uses at once [default: one per processor,
              up to 4]

          --format <FORMAT>
              How to print the result

              Possible values:
              - text: For people
              - json: For programs: one JSON document on stdout, failures included
              
              [default: text]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Before anything changes it shows which backup it chose and why, what would be lost, and which
    release fits. It runs the checks of verify-migration on a copy of the backup, and takes a safety
    backup of what is there. The content is replaced in one transaction: a running app goes on and sees
    the old content or the new one, and being killed at any moment leaves one of them, whole. On Heroku
    the database is emptied before it is filled: the app is in maintenance mode meanwhile, the safety
    backup comes first and the checks last, and a run that stopped goes on where it was.

    Examples:
      rollback-migration --env staging
      rollback-migration --env production --backup b123
      rollback-migration --env local --file data/backups/users_20260112.db
      rollback-migration --env production --backup b123 --dry-run
      rollback-migration --env staging --undo
      HEROKU_API_KEY=… rollback-migration --env production --platform heroku --dry-run

    Production asks to type ROLLBACK PRODUCTION; scripts pass --confirm "ROLLBACK PRODUCTION".

    Exit codes: 0 rolled back, 1 failed or refused, 2 wrong usage
    "#);
}

#[test]
fn a_dry_run_says_what_would_be_lost_and_changes_nothing() {
    let site = Site::new(EnvironmentName::Staging);
    let stdout = site.run(&["--env", "staging", "--dry-run"]).success();
    insta::assert_snapshot!(stable(&stdout), @r"
    Rollback of staging to b001 (manual, taken [TIME])
      chosen:  the newest verified backup that is no safety copy
      checked: [SIZE] bytes, SHA-256, integrity, references, rows
      schema:  [VERSION], the one of this build
      release that fits: this build's
    Lost: all that was written in the 0 minutes since then.
      users: 2 rows now, 1 in the backup
    Everybody will have to log in again.
    Dry run: staging would be rolled back to b001; nothing was changed
    ");
    assert_eq!(site.dump(), site.now);
    assert_eq!(site.backups(), 1);
}

#[test]
fn the_latest_backup_is_restored_and_the_printed_command_undoes_it() {
    let site = Site::new(EnvironmentName::Staging);
    let stdout = site.run(&["--env", "staging"]).success();
    let end = stdout.find("[SUCCESS]").unwrap();
    insta::assert_snapshot!(&stdout[end..], @r"
    [SUCCESS] Rolled back staging to b001, verified
    Safety backup: b002. To undo: rollback-migration --env staging --backup b002
    Check it: verify-migration --env staging
    ");
    assert_eq!(site.dump(), site.then);

    let undo = "rollback-migration --env staging --backup b002";
    assert!(stdout.contains(undo), "{stdout}");
    let arguments: Vec<&str> = undo.split(' ').skip(1).collect();
    site.run(&arguments).success();
    assert_eq!(site.dump(), site.now);

    // Once more: the safety backups did not become the latest ones.
    let stdout = site.run(&[]).success();
    assert!(
        stdout.contains("(passed over: b003 is a safety copy, b002 is a safety copy)"),
        "{stdout}"
    );
    assert_eq!(site.dump(), site.then);
    site.run(&["--undo"]).success();
    assert_eq!(site.dump(), site.now);
}

#[test]
fn production_asks_for_its_phrase_and_does_not_wait_where_nobody_can_type() {
    let site = Site::new(EnvironmentName::Production);
    let output = site.run(&["--env", "production", "--backup", "b001"]);
    // What would be lost was shown before the question.
    assert!(output.stdout.contains("Lost: all that was written"), "{output:?}");
    insta::assert_snapshot!(output.failure(1), @r#"
    error: this needs a confirmation and there is no terminal to type it on; pass --confirm "ROLLBACK PRODUCTION"

    hint: nothing was changed; --dry-run shows what a rollback would do
    "#);
    insta::assert_snapshot!(site.run(&["--confirm", "yes"]).failure(1), @r"
    error: the confirmation must be exactly `ROLLBACK PRODUCTION`

    hint: nothing was changed; --dry-run shows what a rollback would do
    ");
    assert_eq!((site.dump(), site.backups()), (site.now.clone(), 1));

    site.run(&["--env", "production", "--dry-run"]).success();
    site.run(&["--env", "production", "--confirm", "ROLLBACK PRODUCTION"]).success();
    assert_eq!(site.dump(), site.then);
}

#[test]
fn json_carries_the_plan_and_the_way_back() {
    let site = Site::new(EnvironmentName::Local);
    site.capture(Kind::BeforeDeploy, Some("v8"));
    let output = site.run(&["--backup", "b002", "--format", "json"]).success();
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["status"], "done");
    assert_eq!(report["summary"], "Rolled back local to b002, verified");
    assert_eq!(report["plan"]["target"]["release"], "v8");
    assert_eq!(report["safety_backup"], "b003");
    assert_eq!(report["undo"], "rollback-migration --env local --backup b003");
    assert_eq!(site.dump(), site.now);
}

#[test]
fn a_file_from_elsewhere_is_restored() {
    let site = Site::new(EnvironmentName::Local);
    let production = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    fixture::user(&mut production.connection(), "pat");
    add_tools(&mut production.connection());
    let elsewhere =
        Catalog::new(&site.project.path().join("elsewhere"), EnvironmentName::Production);
    let store = for_url(production.url()).unwrap();
    let backup = capture(&elsewhere, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
    let file = site.project.path().join("data/backups/users_20260112.db");
    std::fs::copy(elsewhere.file(&backup), &file).unwrap();

    let stdout =
        site.run(&["--env", "local", "--file", "data/backups/users_20260112.db"]).success();
    assert!(stdout.contains("  it comes from production and will be stamped local\n"), "{stdout}");
    assert!(site.dump().iter().any(|line| line.contains("'pat'")));
    // Still local: nothing else would work on it.
    site.run(&["--env", "production", "--undo"]).failure(1);
    site.run(&["--env", "local", "--undo"]).success();
    assert_eq!(site.dump(), site.now);
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_changes() {
    let site = Site::new(EnvironmentName::Staging);
    insta::assert_snapshot!(site.run(&["--env", "production"]).failure(1), @r"
    error: there is no verified backup of production in data/backups/production

    hint: nothing was changed; see what there is: backup-database --env production list
    ");
    insta::assert_snapshot!(site.run(&["--backup", "b123"]).failure(1), @r"
    error: there is no backup b123 of staging in data/backups/staging

    hint: nothing was changed; see what there is: backup-database --env staging list
    ");
    insta::assert_snapshot!(site.run(&["--undo"]).failure(1), @r"
    error: there is no rollback of staging to undo: data/backups/staging has no verified safety backup

    hint: nothing was changed; see what there is: backup-database --env staging list
    ");
    insta::assert_snapshot!(site.run(&["--file", "data/tools.toml"]).failure(1), @r"
    error: the backup data/tools.toml is no SQLite database

    hint: nothing was changed; choose another backup: backup-database --env staging list
    ");
    site.run(&["--backup", "b001", "--undo"]).failure(2);
    site.run(&["--backup", "latest"]).failure(2);
    // Nobody listens there.
    let postgres = "postgres://u:hunter2@localhost:1/d".parse().unwrap();
    let stderr = site.project.run(site.program(), &postgres, &["--env", "staging"]).failure(1);
    assert!(!stderr.contains("hunter2"), "{stderr}");
    assert_eq!((site.dump(), site.backups()), (site.now.clone(), 1));
}

#[test]
fn an_encrypted_backup_needs_its_identity() {
    let site = Site::new(EnvironmentName::Staging);
    let key = age::x25519::Identity::generate();
    let recipients = vec![key.to_public().to_string().parse().unwrap()];
    let keys = omnitool_backup::Keys { recipients, identity: None };
    let store = for_url(site.db.url()).unwrap();
    let catalog = site.catalog.clone().with_keys(keys);
    capture(&catalog, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
    fixture::user(&mut site.db.connection(), "carol");
    let before = site.dump();
    insta::assert_snapshot!(site.run(&["--backup", "b002"]).failure(1).replace(char::is_numeric, "0"), @r"
    error: the backup data/backups/staging/b000-00000000T000000Z-omnitool.sqlite0.age is encrypted, and no identity was named

    hint: nothing was changed; name the file with the age identity: --identity FILE
    ");
    assert_eq!(site.dump(), before);
    let secret = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
    site.project.write("backup.key", secret);
    let stdout = site.run(&["--backup", "b002", "--identity", "backup.key"]).success();
    assert!(stdout.contains("\n  encrypted, as the safety backup will be\n"), "{stdout}");
    assert_eq!(site.dump(), site.now);
    let safety = site.catalog.find(BackupId::new(3)).unwrap();
    assert!(safety.file.ends_with(".age"), "{}", safety.file);
}

#[test]
fn there_is_no_old_database_of_sqlite_to_drop() {
    let site = Site::new(EnvironmentName::Staging);
    let stdout = site.run(&["--drop-old"]).success();
    assert_eq!(stdout, "Dropped 0 old databases of staging\n");
    site.run(&["--drop-old", "--undo"]).failure(2);
}

#[test]
fn a_backup_of_a_newer_build_is_refused() {
    let site = Site::new(EnvironmentName::Staging);
    let file = site.catalog.file(&site.catalog.find(BackupId::new(1)).unwrap());
    let newer = site.project.path().join("newer.sqlite3");
    std::fs::copy(file, &newer).unwrap();
    let url = omnitool_environment::DatabaseUrl::sqlite(&newer);
    let mut conn = omnitool_database::open(&url, omnitool_database::Mode::Write).unwrap();
    diesel::connection::SimpleConnection::batch_execute(
        &mut conn,
        "INSERT INTO __diesel_schema_migrations VALUES ('29991231000001', '')",
    )
    .unwrap();
    drop(conn);
    insta::assert_snapshot!(site.run(&["--file", "newer.sqlite3"]).failure(1), @r"
    error: the backup newer.sqlite3 belongs to a newer build: this one does not know its migrations 29991231000001

    hint: nothing was changed; use the rollback-migration of the release that took it
    ");
    assert_eq!(site.dump(), site.now);
}

/// Files may grow to 80 blocks of 512 or 1024 bytes: less than a backup. The signal that comes with that is ignored.
#[test]
fn a_disk_without_room_leaves_the_live_database_as_it_was() {
    let site = Site::new(EnvironmentName::Staging);
    let before = site.dump();
    let mut command = site.project.command("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$0\" --env staging", PROGRAM])
        .env("DATABASE_URL", site.db.url().expose());
    let stderr = site.project.output(command).failure(1);
    assert!(stderr.contains("hint: the database is as it was"), "{stderr}");
    assert_eq!((site.dump(), site.backups()), (before, 1));
    site.run(&[]).success();
    assert_eq!(site.dump(), site.then);
}

/// Files may grow to the size of the database and not to that of its log with the same pages, so that there is room for the
/// staged copy and the safety backup, and none for the restored pages.
#[test]
fn a_disk_that_is_full_while_pages_are_replaced_leaves_the_live_database_as_it_was() {
    let site = Site::filled(EnvironmentName::Staging, 20_000);
    let file = site.db.url().sqlite_path().unwrap();
    site.db.connection().batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let bytes = fs::metadata(file).unwrap().len();
    assert!(bytes / 4096 > 300, "a log must be larger by much more than the margin: {bytes}");
    let script = format!(
        "trap '' XFSZ; [ -n \"$BASH_VERSION\" ] && unit=1024 || unit=512; \
         ulimit -f $(({bytes} / unit + 4)); exec \"$0\" --env staging"
    );
    let mut command = site.project.command("sh");
    command.args(["-c", &script]).arg(site.program());
    command.env("DATABASE_URL", site.db.url().expose());
    let stderr = site.project.output(command).failure(1);
    assert!(stderr.starts_with("error: cannot replace the content"), "{stderr}");
    assert!(stderr.contains("hint: the database is as it was"), "{stderr}");
    assert_eq!(site.dump(), site.now);
    // The safety backup of what did not happen is a backup like any other.
    assert_eq!(site.backups(), 2);
    site.run(&[]).success();
    assert_eq!(site.dump(), site.then);
}

#[test]
fn the_minutes_since_the_backup_are_counted() {
    let site = Site::new(EnvironmentName::Staging);
    let manifest = site.catalog.folder().join("b001.json");
    let taken = Utc::now() - chrono::TimeDelta::minutes(35);
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["created_at"] = Value::from(taken.to_rfc3339());
    std::fs::write(&manifest, value.to_string()).unwrap();
    let stdout = site.run(&["--dry-run"]).success();
    assert!(
        stdout.contains("Lost: all that was written in the 35 minutes since then.\n"),
        "{stdout}"
    );
}
