//! The program as its users run it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod heroku;
mod kill;
mod refresh;
mod refuse;

use std::path::PathBuf;

use diesel::{connection::SimpleConnection as _, prelude::*, sql_types::Text};
use omnitool_database::{AnyConnection, Mode, open, stamp};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{CommandOutput, Dialect, TestDatabase, TestProject, fixture};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sync-data-prod-to-staging");

/// What was decided in development: nobody else than alice may send invoices.
const ACCESS: &str = r#"{
  "format": "omnitool.tool-access",
  "version": 1,
  "environment": "local",
  "users": ["alice", "user_a"],
  "tools": {
    "Invoice Generator": {"everyone": false, "excluded": ["user_a"], "granted": []}
  }
}
"#;

const TOOLS: &str = r#"[[tool]]
name = "Invoice Generator"
description = "Invoices"
route = "/invoices"
is_default = false
is_active = true
"#;

/// Users with what must not be copied, and the number of sessions.
const PEOPLE: &str = "SELECT username || ' ' || coalesce(email, '-') || ' ' || password_hash || ' ' || coalesce(phone_number, '-') \
     || ' ' || (SELECT count(*) FROM user_session) AS line FROM users ORDER BY id";
const ACCESS_OF_PEOPLE: &str = "SELECT username || ': ' || name AS line FROM effective_tool_access AS e \
     JOIN users AS u ON u.id = e.user_id JOIN tools AS t ON t.id = e.tool_id ORDER BY 1";

/// A production with people, a staging with others, and a project.
pub(crate) struct Site {
    pub(crate) project: TestProject,
    pub(crate) production: TestDatabase,
    pub(crate) staging: TestDatabase,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// People with what must not leave production.
fn add_people(conn: &mut AnyConnection) {
    let alice = fixture::user(conn, "alice");
    let user_a = fixture::user(conn, "user_a");
    let tool = fixture::tool(conn, "Invoice Generator");
    fixture::grant(conn, alice, tool);
    fixture::grant(conn, user_a, tool);
    conn.batch_execute(
        "UPDATE users SET email = username || '.real@corp.example', phone_number = '+49 170 555' || id, \
             password_hash = '$argon2id$v=19$secret-of-' || username; \
         INSERT INTO user_session (token_sha256, user_id, expires_at) \
             SELECT 'session-token-of-' || username, id, '2030-01-01 00:00:00' FROM users",
    )
    .unwrap();
}

impl Site {
    pub(crate) fn new(dialect: Dialect) -> Self {
        let production = TestDatabase::stamped(dialect, EnvironmentName::Production);
        let mut conn = production.connection();
        add_people(&mut conn);
        let staging = TestDatabase::stamped(dialect, EnvironmentName::Staging);
        fixture::user(&mut staging.connection(), "tester");
        let project = TestProject::new();
        project.write("data/tools.toml", TOOLS);
        // The shipped ones speak of other tools.
        std::fs::remove_file(project.path().join("data/access_tests.toml")).unwrap();
        project.write("data/tool_access_exports/local_tool_access.json", ACCESS);
        Self { project, production, staging }
    }

    pub(crate) fn command(&self, flags: &[&str]) -> std::process::Command {
        let mut command = self.project.command(PROGRAM);
        command
            .env("SOURCE_DATABASE_URL", self.production.url().expose())
            .env("DATABASE_URL", self.staging.url().expose())
            .args(["--tools", "data/tools.toml"])
            .args(flags);
        command
    }

    pub(crate) fn run(&self, flags: &[&str]) -> CommandOutput {
        let output = self.project.output(self.command(flags));
        let said = format!("{}{}", output.stdout, output.stderr);
        for secret in ["password-of-the-test-server", "corp.example", "argon2id", "170 555"] {
            assert!(!said.contains(secret), "{said}");
        }
        output
    }

    /// Where the copy would be.
    pub(crate) fn state(&self) -> PathBuf {
        match self.staging.url().sqlite_path() {
            Some(path) => path.parent().unwrap().to_owned(),
            None => self.project.path().join(".omnitool/staging"),
        }
    }

    /// What of a copy is still there.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = std::fs::read_dir(self.state())
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".refresh") || name.contains(".restoring"))
            .collect();
        if self.staging.dialect() == Dialect::Postgres {
            let name = self.staging.url().to_string();
            let name = name.rsplit('/').next().unwrap();
            left.extend(lines(
                &mut self.staging.connection(),
                &format!(
                    "SELECT datname::text AS line FROM pg_database \
                     WHERE starts_with(datname, '{name}_refresh_') OR starts_with(datname, '{name}_restore_')"
                ),
            ));
        }
        left
    }

    /// Users with what must not be copied, and the number of sessions.
    pub(crate) fn people(&self) -> Vec<String> {
        lines(&mut self.staging.connection(), PEOPLE)
    }

    /// Who may use what.
    pub(crate) fn access(&self) -> Vec<String> {
        lines(&mut self.staging.connection(), ACCESS_OF_PEOPLE)
    }

    pub(crate) fn stamp(&self) -> Option<EnvironmentName> {
        stamp::read(&mut open(self.staging.url(), Mode::Read).unwrap()).unwrap()
    }
}

pub(crate) fn lines(conn: &mut AnyConnection, query: &str) -> Vec<String> {
    let lines: Vec<Line> = diesel::sql_query(query).load(conn).unwrap();
    lines.into_iter().map(|row| row.line).collect()
}

pub(crate) const TESTER: &str = "tester - ! - 0";

impl Drop for Site {
    fn drop(&mut self) {
        if self.staging.dialect() != Dialect::Postgres {
            return;
        }
        // What a restore keeps of the replaced database.
        let name = self.staging.url().to_string();
        let name = name.rsplit('/').next().unwrap().to_owned();
        let mut conn = self.production.connection();
        let kept = lines(
            &mut conn,
            &format!(
                "SELECT datname::text AS line FROM pg_database WHERE starts_with(datname, '{name}_')"
            ),
        );
        for database in kept {
            conn.batch_execute(&format!("DROP DATABASE \"{database}\" WITH (FORCE)")).unwrap();
        }
    }
}

/// Makes two tests of each function, one per database system.
#[macro_export]
macro_rules! on_both {
    ($($check:ident),+ $(,)?) => {
        $(mod $check {
            #[test]
            fn sqlite() {
                super::$check(&$crate::Site::new(omnitool_testing::Dialect::Sqlite));
            }

            #[test]
            fn postgres() {
                super::$check(&$crate::Site::new(omnitool_testing::Dialect::Postgres));
            }
        })+
    };
}
