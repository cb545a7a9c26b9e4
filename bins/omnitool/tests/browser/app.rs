//! The app in a process of its own, with the programs that work on its database.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Stdio},
};

use diesel::prelude::*;
use omnitool_database::schema::{tools, users};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{CommandOutput, Dialect, TestDatabase, TestProject, fixture};

use crate::{PASSWORD, program};

/// An environment: its database, its files and its app.
pub(crate) struct App {
    pub(crate) project: TestProject,
    pub(crate) db: TestDatabase,
    environment: EnvironmentName,
    serving: Option<Serving>,
}

struct Serving {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    url: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl App {
    /// An environment with the shipped tools and these users, the first of whom is an admin. Nothing serves yet.
    pub(crate) fn prepare(dialect: Dialect, environment: EnvironmentName, users: &[&str]) -> Self {
        Self::prepare_with(&[], dialect, environment, users)
    }

    /// A local environment from before `tool` was defined.
    pub(crate) fn prepare_without(tool: &str, dialect: Dialect, users: &[&str]) -> Self {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/tools.toml");
        let shipped = std::fs::read_to_string(data).unwrap();
        let (start, rest) = shipped.split_once(&format!("[[tool]]\nname = \"{tool}\"")).unwrap();
        let (_, end) = rest.split_once("\n\n").unwrap();
        let before = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(before.path(), format!("{start}{end}")).unwrap();
        let tools = ["--tools", before.path().to_str().unwrap()];
        Self::prepare_with(&tools, dialect, EnvironmentName::Local, users)
    }

    fn prepare_with(
        migration: &[&str],
        dialect: Dialect,
        environment: EnvironmentName,
        users: &[&str],
    ) -> Self {
        let (project, db) = (TestProject::new(), TestDatabase::empty(dialect));
        let app = Self { project, db, environment, serving: None };
        app.run("migrate-db", migration).success();
        for (number, user) in users.iter().enumerate() {
            app.create_user(user, number == 0);
        }
        // As data/access_tests.toml wants it of every admin.
        app.grant(users[0], "User Management");
        app
    }

    /// The same, and it serves.
    pub(crate) fn start(users: &[&str]) -> Self {
        let mut app = Self::prepare(Dialect::Sqlite, EnvironmentName::Local, users);
        app.serve();
        app
    }

    /// Runs one of our programs on the environment.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> CommandOutput {
        let mut command = self.project.command(program(name));
        command.env("DATABASE_URL", self.db.url().expose());
        command.args(["--env", self.environment.as_str()]).args(arguments);
        self.project.output(command)
    }

    fn create_user(&self, user: &str, is_admin: bool) {
        let mut command = self.project.command(env!("CARGO_BIN_EXE_omnitool"));
        command.env("DATABASE_URL", self.db.url().expose());
        command.args(["create-user", user, "--password-stdin"]);
        command.args(is_admin.then_some("--admin"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn grant(&self, user: &str, tool: &str) {
        let conn = &mut self.db.connection();
        let user = users::table.filter(users::username.eq(user)).select(users::id);
        let tool = tools::table.filter(tools::name.eq(tool)).select(tools::id);
        let (user, tool) = (user.first(conn).unwrap(), tool.first(conn).unwrap());
        fixture::grant(conn, user, tool);
    }

    /// Starts the app on a free port.
    pub(crate) fn serve(&mut self) {
        let mut command = self.project.command(env!("CARGO_BIN_EXE_omnitool"));
        command.env("DATABASE_URL", self.db.url().expose()).env("RUST_LOG", "warn");
        command.args(["serve", "--listen", "127.0.0.1:0", "--release", "0007"]);
        command.args(["--env", self.environment.as_str()]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ").unwrap().to_owned();
        self.serving = Some(Serving { child, _stdout: stdout, url });
    }

    pub(crate) fn url(&self) -> &str {
        &self.serving.as_ref().unwrap().url
    }
}
