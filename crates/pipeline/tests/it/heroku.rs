//! The platform heroku, on an emulated Heroku with real processes and a real database.

mod faults;
mod others;

use std::{fs, path::PathBuf, time::Duration};

use omnitool_environment::EnvironmentName;
use omnitool_heroku::{Heroku, Pace, Settings};
use omnitool_heroku_emulator::{Emulator, Options};
use omnitool_pipeline::{ArtifactSource, HerokuPlatform, Home, Platform, Site, Variable};
use omnitool_testing::{Dialect, TestDatabase};

use crate::{fake::Project, suite::World};

const APP: &str = "demo";
const TOKEN: &str = "the-token-of-the-tests";
const PROCFILE: &str = "release: bin/migrate-db --tools data/tools.toml\nweb: bin/omnitool serve\n";

/// A project whose environment is an app of an emulator.
pub(crate) struct HerokuProject {
    pub(crate) emulator: Emulator,
    pub(crate) project: Project,
    /// From which the emulator makes its databases; it goes last.
    _server: TestDatabase,
}

impl HerokuProject {
    pub(crate) fn of(environment: EnvironmentName) -> Self {
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
        let mut project = Project::of(environment);
        project.site.base_url = emulator.web_url(APP).unwrap().parse().unwrap();
        project.site.home = Home::Heroku {
            app: APP.to_owned(),
            staging: None,
            access: vec![Variable::secret("HEROKU_API_KEY", TOKEN)],
        };
        fs::write(project.root().join("Procfile"), PROCFILE).unwrap();
        project.remember_with(
            "psql -X -q \"$DATABASE_URL\" -c 'CREATE TABLE IF NOT EXISTS made (id int)' >/dev/null 2>&1",
        );
        Self { emulator, project, _server: server }
    }

    fn settings(&self) -> Settings {
        let roots = self.emulator.authority().as_bytes().to_vec();
        let settings = Settings::at(&self.emulator.url(), TOKEN.into());
        let pace = Pace { dyno_start: Duration::from_secs(2), ..Pace::quick() };
        Settings { roots, pace, ..settings }
    }

    pub(crate) fn client(&self) -> Heroku {
        Heroku::new(self.settings()).unwrap()
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
        Self::of(environment)
    }

    fn site(&self) -> &Site {
        &self.project.site
    }

    fn platform(&self) -> Box<dyn Platform> {
        let folder = self.project.environment();
        fs::create_dir_all(&folder).unwrap();
        Box::new(HerokuPlatform::new(self.site(), self.settings(), folder).unwrap())
    }

    fn source(&self) -> ArtifactSource {
        self.project.source()
    }

    fn artifacts(&self) -> PathBuf {
        self.project.artifacts()
    }

    fn runs(&self) -> PathBuf {
        self.project.runs()
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
