//! The whole way with the real programs, as a newcomer goes it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use omnitool_testing::{Dialect, TestDatabase};

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
    scratch: TestDatabase,
    project: Project,
}

impl OnPostgres {
    fn new() -> Self {
        let [staging, production, scratch] =
            [(); 3].map(|()| TestDatabase::empty(Dialect::Postgres));
        let project = Project::with_stand_ins();
        let mut environments = project.read("data/environments.toml");
        for (name, database) in [("staging", &staging), ("production", &production)] {
            let sqlite = format!("sqlite:.omnitool/{name}/omnitool.db");
            environments = environments.replace(&sqlite, database.url().expose());
        }
        project.write("data/environments.toml", &environments);
        project.init_git();
        let site = Self { _staging: staging, production, scratch, project };
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
    site.program("migrate-db", &["--down", "2", "--confirm", "REVERT 2 PRODUCTION"]);
    site.program("backup-database", &["capture"]);
    let scratch = [("OMNITOOL_REHEARSAL_DATABASE_URL", site.scratch.url().expose())];
    let refused = site.project.xtask(&["rehearse", "production"]);
    assert!(
        stderr(&refused).contains("names no empty database to rehearse in"),
        "{}",
        stderr(&refused)
    );
    let live = [("OMNITOOL_REHEARSAL_DATABASE_URL", site.production.url().expose())];
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

    // Production was only read, and may be deployed to now.
    let output = site.project.deploy_production(&[]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(
        text.contains("2 migrations applied") && text.contains("rehearsed on backup "),
        "{text}"
    );
}
