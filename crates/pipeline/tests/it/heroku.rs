//! The platform heroku, on an emulated Heroku with real processes and a real database.

mod faults;
mod others;

use std::{fs, time::Duration};

use omnitool_environment::{EnvironmentName, Url};
use omnitool_heroku::{Heroku, Pace, Settings};
use omnitool_heroku_emulator::{Emulator, Options};
use omnitool_testing::{Dialect, TestDatabase};
use serde::{Deserialize, Serialize};

use crate::{fake::Project, scene::Scene, suite::World};

pub(crate) const APP: &str = "demo";
pub(crate) const TOKEN: &str = "the-token-of-the-tests";
const PROCFILE: &str = "release: bin/migrate-db --tools data/tools.toml\nweb: bin/omnitool serve\n";

/// An account at an emulated Heroku.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Account {
    api: Url,
    /// What consoles and storage are to be trusted by, as PEM.
    authority: String,
}

impl Account {
    pub(crate) fn settings(&self) -> Settings {
        let pace = Pace { dyno_start: Duration::from_secs(5), ..Pace::quick() };
        let roots = self.authority.as_bytes().to_vec();
        Settings { roots, pace, ..Settings::at(&self.api, TOKEN.into()) }
    }
}

/// A project whose environment is an app of an emulator.
pub(crate) struct HerokuProject {
    pub(crate) emulator: Emulator,
    pub(crate) project: Project,
    /// From which the emulator makes its databases; it goes last.
    _server: TestDatabase,
}

impl HerokuProject {
    pub(crate) fn of(environment: EnvironmentName) -> Self {
        Self::with(Project::of(environment))
    }

    fn with(mut project: Project) -> Self {
        let server = TestDatabase::empty(Dialect::Postgres);
        let options = Options {
            token: TOKEN.to_owned(),
            postgres: Some(server.url().expose().parse().unwrap()),
            greeting_pause: Duration::ZERO,
            ..Options::default()
        };
        let emulator = Emulator::start(options).unwrap();
        emulator.add_app(APP).unwrap();
        emulator.add_database(APP, "main-db", "heroku-postgresql:essential-0").unwrap();
        project.scene.base_url = emulator.web_url(APP).unwrap().parse().unwrap();
        let authority = emulator.authority().to_owned();
        project.scene.heroku = Some(Account { api: emulator.url(), authority });
        fs::write(project.root().join("Procfile"), PROCFILE).unwrap();
        project.remember_with(
            "psql -X -q \"$DATABASE_URL\" -c 'CREATE TABLE IF NOT EXISTS made (id int)' >/dev/null 2>&1",
        );
        Self { emulator, project, _server: server }
    }

    pub(crate) fn client(&self) -> Heroku {
        Heroku::new(self.scene().heroku.as_ref().unwrap().settings()).unwrap()
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.project.root().join(file)).unwrap_or_default()
    }

    /// The app's releases, newest first: version, description without the artifact, status.
    pub(crate) fn releases(&self) -> Vec<String> {
        let releases = self.client().releases(APP, 100).unwrap();
        releases
            .into_iter()
            .map(|release| {
                // The artifact holds the paths of this project.
                let what = release.description.split('-').next().unwrap_or_default().to_owned();
                format!("v{} {what} {}", release.version, release.status)
            })
            .collect()
    }

    /// How often this was asked for.
    pub(crate) fn count(&self, request: &str) -> usize {
        self.emulator.requests().iter().filter(|found| *found == request).count()
    }
}

impl World for HerokuProject {
    fn new(environment: EnvironmentName) -> Self {
        Self::with(Project::for_others(environment))
    }

    fn scene(&self) -> &Scene {
        &self.project.scene
    }

    fn state(&self) -> String {
        let heroku = self.client();
        let releases = self.releases();
        let dynos: Vec<String> = heroku
            .dynos(APP)
            .unwrap()
            .into_iter()
            .map(|dyno| format!("{} {}", dyno.name, dyno.state))
            .collect();
        let backups = self.read("backups");
        let backups: Vec<&str> =
            backups.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        format!(
            "releases {releases:#?}\ndynos {dynos:?}\nslugs {}\nbackups {backups:?}\neffects {:?}\nconfig {:?}",
            self.count("POST /apps/demo/slugs"),
            self.read("effects").lines().collect::<Vec<_>>(),
            heroku.config_vars(APP).unwrap().keys().collect::<Vec<_>>(),
        )
    }
}
