//! The whole way with the real programs, as a newcomer goes it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use omnitool_database::{Mode, open};
use omnitool_testing::{Dialect, TestDatabase};

use crate::heroku::{REHEARSAL, rehearsal_url};
use crate::project::{Project, stderr, stdout};

#[test]
fn two_deployments_with_the_real_programs() {
    let project = Project::with_real_programs();
    assert!(project.has_programs(), "run `cargo build --workspace --bins` first");
    let first = project.deploy(&[]);
    assert_eq!(first.status.code(), Some(0), "{}{}", stdout(&first), stderr(&first));
    let text = stdout(&first);
    assert!(text.contains("skip  backup"), "{text}");
    assert!(text.contains("Demo users"), "{text}");
    let health = health(&project);
    assert!(health.contains("\"release\":\"0001\""), "{health}");

    let second = project.deploy(&[]);
    assert_eq!(second.status.code(), Some(0), "{}{}", stdout(&second), stderr(&second));
    let text = stdout(&second);
    assert!(text.contains("done  backup"), "{text}");
    assert!(!text.contains("Demo users"), "{text}");
    // A second release over the first changes nothing in the database, and says so.
    for evidence in ["no pending migrations; nothing to change", "nothing to do: "] {
        assert!(text.contains(evidence), "{text}");
    }
    let health = self::health(&project);
    assert!(health.contains("\"release\":\"0002\""), "{health}");
}

/// The answer of `/health`, without the white space that JSON does not need.
fn health(project: &Project) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", project.port)).unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.replace([' ', '\n'], "")
}

/// Production as it is before a deployment with two migrations, and what has passed staging, on a real PostgreSQL server.
struct OnPostgres {
    _staging: TestDatabase,
    production: TestDatabase,
    project: Project,
}

impl OnPostgres {
    fn new() -> Self {
        let [staging, production] = [(); 2].map(|()| TestDatabase::empty(Dialect::Postgres));
        let project = Project::with_stand_ins();
        let mut environments = project.read("data/environments.toml");
        for (name, database) in [("staging", &staging), ("production", &production)] {
            let sqlite = format!("sqlite:.omnitool/{name}/omnitool.db");
            environments = environments.replace(&sqlite, database.url().expose());
        }
        project.write("data/environments.toml", &environments);
        project.init_git();
        let site = Self { _staging: staging, production, project };
        // A database on a server may hold anything, also the one that is empty.
        let first = ["--require-rehearsal=false"];
        for output in [site.project.deploy(&[]), site.project.deploy_production(&first)] {
            assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        }
        site
    }

    fn program(&self, name: &str, arguments: &[&str]) {
        let program = self.project.root().join("programs").join(name);
        let output = std::process::Command::new(program)
            .current_dir(self.project.root())
            .env("DATABASE_URL", self.production.url().expose())
            .args(["--env", "production"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    }
}

#[test]
fn a_rehearsal_on_postgres_says_what_each_statement_locks() {
    let site = OnPostgres::new();
    // From the one on that adds a column.
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/postgres");
    let newest = fs::read_dir(migrations)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.as_str() >= "2026-11-23-000008_add_users_phone_number")
        .count()
        .to_string();
    let confirm = format!("REVERT {newest} PRODUCTION");
    site.program("migrate-db", &["--down", &newest, "--confirm", &confirm]);
    site.program("backup-database", &["capture"]);
    let url = rehearsal_url(&site.production);
    let scratch = [(REHEARSAL, url.as_str())];
    let refused = site.project.xtask(&["rehearse", "production"]);
    assert!(stderr(&refused).contains("names no database to rehearse in"), "{}", stderr(&refused));
    let live = [(REHEARSAL, site.production.url().expose())];
    let refused = site.project.xtask_with(&["rehearse", "production"], &live);
    assert!(stderr(&refused).contains("names production's own database"), "{}", stderr(&refused));

    let output = site.project.xtask_with(&["rehearse", "production"], &scratch);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    let (_, locks) = text.split_once("What the migrations lock\n").expect(&text);
    let lock = locks.lines().next().unwrap();
    assert!(lock.starts_with("  AccessExclusiveLock on users, held for "), "{text}");
    assert!(lock.contains(" ms by: ALTER TABLE users ADD COLUMN phone_number"), "{text}");
    assert!(locks.contains("ShareRowExclusiveLock on users, held for "), "{text}");
    assert!(text.contains("The rehearsal went well"), "{text}");
    assert!(!text.contains("password-of-the-test-server"), "{text}");

    // The copy is gone; production was only read, and may be deployed to now.
    assert!(open(&url.parse().unwrap(), Mode::Write).is_err());
    let output = site.project.deploy_production(&[]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(
        text.contains(&format!("{newest} migrations applied"))
            && text.contains("rehearsed on backup "),
        "{text}"
    );
}
