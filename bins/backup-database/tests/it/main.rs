//! The program as its users run it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod heroku;
mod postgres;

use std::path::PathBuf;

use omnitool_database::{Dialect, Mode, open};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::{CommandOutput, TestDatabase, TestProject, dump, fixture};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_backup-database");

struct Site {
    project: TestProject,
    db: TestDatabase,
}

impl Site {
    fn new() -> Self {
        Self::with(Dialect::Sqlite)
    }

    fn with(dialect: Dialect) -> Self {
        let db = TestDatabase::stamped(dialect, EnvironmentName::Staging);
        fixture::user(&mut db.connection(), "alice");
        Self { project: TestProject::new(), db }
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.project.run(PROGRAM, self.db.url(), arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().chain(&["--format", "json"]).copied().collect();
        serde_json::from_str(&self.run(&arguments).stdout).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.project.path().join("data/backups/staging")
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder())
            .map(|entries| {
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
            })
            .unwrap_or_default();
        names.sort_unstable();
        names
    }
}

/// `text` with what is another in each run written the same.
fn stable(text: &str) -> String {
    let mut stable = String::new();
    for word in text.split_inclusive([' ', '\n', '-', '(']) {
        let bare = word.trim_end_matches([' ', '\n', '-', '(']);
        let digits = bare.bytes().filter(u8::is_ascii_digit).count();
        let replacement = match bare.len() {
            64 => "[SHA-256]",
            16 if digits == 14 => "[TIME]",
            14 if digits == 14 => "[SCHEMA]",
            _ => bare,
        };
        stable += &word.replace(bare, replacement);
    }
    stable
}

#[test]
fn help_shows_the_commands_and_examples() {
    let project = TestProject::new();
    let mut command = project.command(PROGRAM);
    command.arg("--help");
    insta::assert_snapshot!(project.output(command).success(), @r"
    Take, list, check and remove backups of an environment's database

    Usage: backup-database [OPTIONS] <COMMAND>

    Commands:
      capture       Take a backup and check it
      list          Show all backups
      show          Show everything about one backup
      verify        Check a backup, or all of them, again
      restore-copy  On Heroku: restore a backup into a database of its own on a PostgreSQL server of
                    yours, to try something on it
      drop-copy     Drop the database that restore-copy has made
      pin           Keep a backup from being pruned
      unpin         Let a backup be pruned again
      prune         Remove old backups; only verified ones count, and the newest verified and pinned
                    ones stay
      help          Print this message or the help of the given subcommand(s)

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

          --folder <DIR>
              The folder with a folder of backups per environment
              
              [default: data/backups]

          --pg-bin <DIR>
              The folder with PostgreSQL's client programs [default: looked for on the PATH and in the
              usual places]
              
              [env: OMNITOOL_PG_BIN]

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

    A backup is a copy of the whole database at one moment, taken while the app goes on. It is opened
    and checked before it counts. Its manifest says what is in it. Backups hold personal data: only
    their owner can read them, and git ignores them.

    Examples:
      backup-database --env staging capture
      backup-database --env staging list
      backup-database --env staging verify b003
      backup-database --env production verify --deep
      backup-database --env production capture --encrypt-to age1…
      backup-database --env production verify --identity ~/.config/omnitool/backup.key
      backup-database --env production pin b003
      backup-database --env production prune --keep 10 --dry-run
      backup-database --env production prune --keep 10 --keep-daily 7 --keep-weekly 4 --keep-monthly 12
      HEROKU_API_KEY=… backup-database --env production --platform heroku capture

    To restore one: rollback-migration --env staging --backup b003

    Exit codes: 0 done, 1 failed or refused, or a backup is bad, 2 wrong usage
    ");
}

#[test]
fn capture_answers_with_the_id_as_the_pipeline_asks_for_it() {
    let site = Site::new();
    let folder = site.project.path().join("kept");
    // The order in which the pipeline writes the flags.
    let answer = site.json(&[
        "--folder",
        folder.to_str().unwrap(),
        "capture",
        "--kind",
        "before-deploy",
        "--release",
        "7",
        "--env",
        "staging",
    ]);
    assert_eq!(answer["id"], "b001");
    assert_eq!(answer["backup"]["kind"], "before-deploy");
    assert_eq!(answer["backup"]["release"], "7");
    let summary = answer["summary"].as_str().unwrap();
    assert!(summary.starts_with("Captured b001 of staging: "), "{summary}");
    let file = answer["file"].as_str().unwrap();
    assert!(file.starts_with("[ROOT]/kept/staging/b001-"), "{file}");
    let file = folder.join("staging").join(file.rsplit('/').next().unwrap());
    let copy = dump(&mut open(&DatabaseUrl::sqlite(&file), Mode::Immutable).unwrap());
    assert_eq!(copy, dump(&mut site.db.connection()));
}

#[test]
fn what_was_captured_is_listed_shown_checked_and_pinned() {
    let site = Site::new();
    let captured = site.run(&["capture", "--release", "v3"]).success();
    assert!(captured.starts_with("[SUCCESS] Captured b001 of staging: "), "{captured}");
    site.run(&["--env", "staging", "pin", "b1"]).success();
    let listed = site.run(&["list"]).success();
    assert!(
        listed.starts_with("1 backup of staging in data/backups/staging\nid    taken"),
        "{listed}"
    );
    assert!(listed.contains("  manual  ") && listed.trim_end().ends_with(" pinned"), "{listed}");
    let shown = site.run(&["show", "b001"]).success();
    assert!(shown.contains("\nrelease   v3\npinned    yes\n"), "{shown}");
    assert!(stable(&shown).contains("sha256    [SHA-256]\n"), "{shown}");
    assert!(shown.contains("\nrows      users: 1\n"), "{shown}");
    insta::assert_snapshot!(site.run(&["verify"]).success(), @r"
    b001  verified
    1 backup of staging verified, 0 bad
    ");
    insta::assert_snapshot!(site.run(&["unpin", "b001"]).success(), @"Unpinned b001 of staging: it is pruned when its time comes");
    assert_eq!(site.json(&["list"])["backups"][0]["pinned"], false);
}

#[test]
fn a_bad_backup_fails_the_check_and_no_longer_counts() {
    let site = Site::new();
    site.run(&["capture"]).success();
    site.run(&["capture"]).success();
    let file = site.json(&["show", "b002"])["file"].as_str().unwrap().to_owned();
    std::fs::write(site.project.path().join(file), "").unwrap();
    let output = site.run(&["verify"]);
    assert_eq!(output.code, Some(1));
    let (start, _) = output.stdout.split_once(" instead of ").unwrap();
    assert_eq!(
        start,
        "b001  verified\nb002  BAD: backup b002 is not the file that was captured: its length is 0"
    );
    assert!(output.stdout.ends_with("\n1 backup of staging verified, 1 bad\n"), "{output:?}");
    assert_eq!(site.json(&["verify"])["status"], "failed");
    assert_eq!(site.json(&["show", "b002"])["backup"]["verified"], Value::Null);
    // Only the good one counts, and nothing goes.
    insta::assert_snapshot!(site.run(&["prune", "--keep", "1"]).success(), @r"
    keep    b001 (the newest verified one)
    keep    b002 (does not count, and is recent)
    Removed 0 backups of staging; 2 backups left
    ");
}

#[test]
fn prune_shows_its_plan_and_then_does_it() {
    let site = Site::new();
    for _ in 0..4 {
        site.run(&["capture"]).success();
    }
    std::fs::write(site.folder().join("b009.partial"), "killed").unwrap();
    let before = site.files();
    insta::assert_snapshot!(site.run(&["prune", "--keep", "2", "--dry-run"]).success(), @r"
    remove  b001
    remove  b002
    remove  b009.partial (left by a capture that was killed)
    keep    b003 (one of the newest verified ones)
    keep    b004 (the newest verified one)
    Dry run: 2 backups and 1 file of killed captures of staging would be removed; nothing was
    ");
    assert_eq!(site.files(), before);
    insta::assert_snapshot!(site.run(&["prune", "--keep", "2"]).success(), @r"
    remove  b001
    remove  b002
    remove  b009.partial (left by a capture that was killed)
    keep    b003 (one of the newest verified ones)
    keep    b004 (the newest verified one)
    Removed 2 backups and 1 file of killed captures of staging; 2 backups left
    ");
    let again = site.json(&["prune", "--keep", "2"]);
    assert_eq!(again["summary"], "Removed 0 backups of staging; 2 backups left");
    assert_eq!(site.files().len(), 5);
    // Their numbers do not come back.
    assert_eq!(site.json(&["capture"])["id"], "b005");
}

/// Changes the manifest of `b001` and writes it back.
fn edit_manifest(site: &Site, id: &str, change: impl FnOnce(&mut Value)) {
    let file = site.folder().join(format!("{id}.json"));
    let mut manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(file, manifest.to_string()).unwrap();
}

#[test]
fn prune_keeps_the_newest_of_each_day_week_and_month() {
    let site = Site::new();
    // The first two are of one day, the third is of the week after, the fourth of the month after.
    let taken = [
        "2026-06-01T08:00:00Z",
        "2026-06-01T20:00:00Z",
        "2026-06-08T08:00:00Z",
        "2026-07-08T08:00:00Z",
    ];
    for (number, taken) in (1..).zip(taken) {
        site.run(&["capture"]).success();
        edit_manifest(&site, &format!("b{number:03}"), |manifest| {
            manifest["created_at"] = taken.into();
        });
    }
    let prune = |flags: &[&str]| {
        site.run(&[&["prune", "--dry-run", "--keep", "1"], flags].concat()).success()
    };
    insta::assert_snapshot!(prune(&["--keep-daily", "3"]), @r"
    remove  b001
    keep    b002 (the newest of its day)
    keep    b003 (the newest of its day)
    keep    b004 (the newest verified one)
    Dry run: 1 backup of staging would be removed; nothing was
    ");
    insta::assert_snapshot!(prune(&["--keep-weekly", "2", "--keep-monthly", "2"]), @r"
    remove  b001
    remove  b002
    keep    b003 (the newest of its week)
    keep    b004 (the newest verified one)
    Dry run: 2 backups of staging would be removed; nothing was
    ");
    site.run(&["prune", "--keep-daily", "-1"]).failure(2);
}

/// Whoever may write to a folder may remove what is in it, except root; a folder in the place of the file stops even that.
#[test]
fn what_cannot_be_removed_fails_the_run_and_the_rest_goes() {
    let site = Site::new();
    for _ in 0..3 {
        site.run(&["capture"]).success();
    }
    let first = site.json(&["show", "b001"])["backup"]["file"].as_str().unwrap().to_owned();
    let lock = std::fs::File::open(site.folder()).unwrap();
    lock.lock().unwrap();
    // Planned while the file is there, carried out when it is not.
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| site.run(&["prune", "--keep", "1"]));
        std::fs::remove_file(site.folder().join(&first)).unwrap();
        std::fs::create_dir(site.folder().join(&first)).unwrap();
        drop(lock);
        run.join().unwrap()
    });
    // Depending on who was first, b001 is broken in the plan or cannot be removed.
    assert!(run.stdout.contains("b001"), "{run:?}");
    assert!(!site.files().contains(&"b002.json".to_owned()), "{run:?}");
    if run.stdout.contains("FAILED  b001: ") {
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stdout.contains("1 could not be removed"), "{run:?}");
    }
}

#[test]
fn nothing_that_a_manifest_says_reaches_the_terminal_as_a_command() {
    let site = Site::new();
    site.run(&["capture"]).success();
    site.run(&["capture"]).success();
    let evil = "v1\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\nb009  verified";
    edit_manifest(&site, "b001", |manifest| manifest["release"] = evil.into());
    edit_manifest(&site, "b002", |manifest| manifest["format"] = evil.into());
    for arguments in [&["list"][..], &["show", "b001"], &["verify"], &["prune", "--keep", "1"]] {
        let output = site.run(arguments);
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!output.stdout.contains(control), "{output:?}");
    }
    let listed = site.run(&["list"]).success();
    assert!(listed.contains("v1\u{fffd}]0;owned"), "{listed}");
    // A release cannot make lines of its own.
    assert!(!listed.lines().any(|line| line.starts_with("b009")), "{listed}");
}

#[test]
fn an_encrypted_backup_is_listed_shown_and_checked_without_a_key() {
    let site = Site::new();
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    site.run(&["capture", "--encrypt-to", &recipient]).success();
    assert!(site.files().iter().any(|name| name.ends_with(".sqlite3.age")), "{:?}", site.files());
    let shown = site.run(&["show", "b001"]).success();
    assert!(shown.contains(&format!("\nencrypted {recipient}\n")), "{shown}");
    insta::assert_snapshot!(site.run(&["verify"]).success(), @r"
    b001  verified by its SHA-256 only: it is encrypted, and no --identity was named
    1 backup of staging verified, 0 bad
    ");
    assert_eq!(site.json(&["verify"])["backups"][0]["how"], "digest");
    let output = site.run(&["verify", "--identity", "missing.key"]);
    assert!(output.stdout.contains("cannot read the identity file missing.key"), "{output:?}");
    assert_eq!(output.code, Some(1));
    // It only could not be looked at.
    site.run(&["verify"]).success();

    // As a deployment does it; a variable that is set to nothing is as good as none.
    let capture = |recipients: &str| {
        let mut command = site.project.command(PROGRAM);
        command
            .env("DATABASE_URL", site.db.url().expose())
            .env("OMNITOOL_BACKUP_RECIPIENT", recipients)
            .args(["capture", "--format", "json"]);
        serde_json::from_str::<Value>(&site.project.output(command).stdout).unwrap()
    };
    assert_eq!(capture(&recipient)["backup"]["encrypted_to"][0], *recipient);
    assert_eq!(capture("")["backup"]["encrypted_to"], Value::Null);

    let stderr = site.run(&["capture", "--encrypt-to", "AGE-SECRET-KEY-1QQQ"]).failure(2);
    assert!(stderr.contains("`AGE-SECRET-…` is no age recipient"), "{stderr}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let site = Site::new();
    insta::assert_snapshot!(site.run(&["--env", "production", "capture"]).failure(1), @r"
    error: this database is stamped `staging`, but `production` was asked for

    hint: --env staging backs it up, or name another database
    ");
    insta::assert_snapshot!(site.run(&["show", "b004"]).failure(1), @r"
    error: there is no backup b004 of staging in data/backups/staging

    hint: see what there is: backup-database --env staging list
    ");
    site.run(&["show", "../b001"]).failure(2);
    site.run(&["prune", "--keep", "0"]).failure(2);
    site.run(&["capture", "--kind", "before-rollback"]).failure(2);
    // Nobody listens there.
    let postgres = "postgres://u:hunter2@localhost:1/d".parse().unwrap();
    let output =
        site.project.run(PROGRAM, &postgres, &["--env", "staging", "capture", "--format", "json"]);
    assert!(!output.stdout.contains("hunter2"), "{output:?}");
    let stderr = output.failure(1);
    assert!(!stderr.contains("hunter2"), "{stderr}");
    assert_eq!(site.files(), Vec::<String>::new());

    let missing = DatabaseUrl::sqlite(&site.project.path().join("none.db"));
    let stderr = site.project.run(PROGRAM, &missing, &["--env", "staging", "capture"]).failure(1);
    assert!(stderr.contains("there is no database file [ROOT]/none.db"), "{stderr}");
}

#[test]
fn a_damaged_database_gives_no_backup() {
    let site = Site::new();
    let file = site.db.url().sqlite_path().unwrap();
    let mut content = std::fs::read(file).unwrap();
    let length = content.len();
    content[length - 8192..].fill(0xff);
    std::fs::write(file, content).unwrap();
    let stderr = site.run(&["--env", "staging", "capture"]).failure(1);
    assert!(stderr.contains("malformed") || stderr.contains("failed its checks"), "{stderr}");
    assert!(site.files().iter().all(|name| name == "last-id"), "{:?}", site.files());
}

/// Files may grow to 80 blocks of 512 or 1024 bytes: less than a backup. The signal that comes with that is ignored.
#[test]
fn a_disk_without_room_leaves_no_half_backup() {
    let site = Site::new();
    let before = dump(&mut site.db.connection());
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
    assert_eq!(site.files(), ["last-id"]);
    assert_eq!(dump(&mut site.db.connection()), before);
    assert_eq!(site.json(&["capture"])["id"], "b002");
}

#[test]
fn a_folder_that_is_a_file_is_refused() {
    let site = Site::new();
    site.project.write("data/backups", "");
    let stderr = site.run(&["capture"]).failure(1);
    assert!(
        stderr.starts_with("error: cannot use the folder of the backups data/backups/staging\n"),
        "{stderr}"
    );
}
