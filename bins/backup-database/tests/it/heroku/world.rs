//! Staging and production on an emulated Heroku, with real databases, and a project that knows them. Tests of other programs
//! use this file, too.

use std::{path::PathBuf, process::Command};

use omnitool_database::{AnyConnection, Dialect, Mode, migration, open, stamp};
use omnitool_environment::EnvironmentName;
use omnitool_heroku_emulator::{Emulator, Fault, FaultKind, Options};
use omnitool_testing::{CommandOutput, TestDatabase, TestProject};
use serde_json::Value;

pub(crate) const STAGING: &str = "omnitool-by-xdv-staging";
pub(crate) const PRODUCTION: &str = "omnitool-by-xdv";
const TOKEN: &str = "the-token-of-the-tests";

pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) project: TestProject,
    pub(crate) program: PathBuf,
    /// From which the emulator makes its databases, as somebody who may make some; it goes last.
    pub(crate) server: TestDatabase,
}

impl World {
    /// Both databases are on `plan`, migrated and stamped, and are the add-ons `staging-db` and `production-db`.
    pub(crate) fn new(program: impl Into<PathBuf>, plan: &str) -> Self {
        let server = TestDatabase::empty(Dialect::Postgres);
        let options = Options {
            token: TOKEN.to_owned(),
            postgres: Some(server.url().expose().parse().unwrap()),
            ..Options::default()
        };
        let world = Self {
            emulator: Emulator::start(options).unwrap(),
            project: TestProject::new(),
            program: program.into(),
            server,
        };
        world.project.write("ca.pem", world.emulator.authority());
        for (app, addon, environment) in [
            (STAGING, "staging-db", EnvironmentName::Staging),
            (PRODUCTION, "production-db", EnvironmentName::Production),
        ] {
            world.emulator.add_app(app).unwrap();
            world.emulator.add_database(app, addon, plan).unwrap();
            let mut conn = world.connect(addon);
            migration::migrate(&mut conn).unwrap();
            stamp::write(&mut conn, environment).unwrap();
        }
        world
    }

    pub(crate) fn connect(&self, addon: &str) -> AnyConnection {
        open(&self.emulator.database_url(addon).unwrap().parse().unwrap(), Mode::Write).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(&self.program);
        command
            .env("OMNITOOL_PLATFORM", "heroku")
            .env("HEROKU_API_KEY", TOKEN)
            .env("HEROKU_HOST", self.emulator.url().as_str())
            .env("HEROKU_CA_FILE", self.project.path().join("ca.pem"))
            .env("OMNITOOL_SCRATCH_DATABASE_URL", self.server.url().expose())
            .args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.project.output(self.command(arguments))
    }

    /// The document that the program answers with, whatever its exit code.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().chain(&["--format", "json"]).copied().collect();
        let output = self.run(&arguments);
        serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    pub(crate) fn fault(&self, kind: FaultKind, method: &str, path: &str, times: u32) {
        let method = (!method.is_empty()).then(|| method.to_owned());
        self.emulator.fault(Fault { kind, method, path: path.to_owned(), times });
    }

    /// How many requests so far were of this method to a path with this end.
    pub(crate) fn count(&self, method: &str, end: &str) -> usize {
        let requests = self.emulator.requests();
        requests
            .iter()
            .filter(|request| request.starts_with(method) && request.ends_with(end))
            .count()
    }
}
