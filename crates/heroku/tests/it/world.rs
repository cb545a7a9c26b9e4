//! An emulator with an app, and a client of it.

use std::{fs::File, io::Write as _, path::PathBuf, time::Duration};

use omnitool_heroku::{Heroku, NewRelease, Pace, Release, Settings};
use omnitool_heroku_emulator::{Emulator, Fault, FaultKind, Options};
use omnitool_testing::{Dialect, TestDatabase};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const TOKEN: &str = "the-token-of-the-tests";

pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) heroku: Heroku,
    pub(crate) folder: tempfile::TempDir,
    /// From which the emulator makes its databases; it goes last.
    maintenance: Option<TestDatabase>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// With the test server's PostgreSQL, and a database for `demo`.
    pub(crate) fn with_postgres() -> Self {
        let database = TestDatabase::empty(Dialect::Postgres);
        let mut world = Self::with(Some(database.url().expose().parse().unwrap()));
        world.emulator.add_database("demo", "main-db", "heroku-postgresql:standard-0").unwrap();
        world.maintenance = Some(database);
        world
    }

    fn with(postgres: Option<url::Url>) -> Self {
        let options = Options { token: TOKEN.to_owned(), postgres, ..Options::default() };
        let emulator = Emulator::start(options).unwrap();
        emulator.add_app("demo").unwrap();
        let heroku = client(&emulator, TOKEN);
        Self { emulator, heroku, folder: tempfile::tempdir().unwrap(), maintenance: None }
    }

    pub(crate) fn fault(&self, kind: FaultKind, method: &str, path: &str, times: u32) {
        let method = (!method.is_empty()).then(|| method.to_owned());
        self.emulator.fault(Fault { kind, method, path: path.to_owned(), times });
    }

    /// How many requests so far begin with `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.emulator.requests().iter().filter(|request| *request == text).count()
    }

    /// A packed slug whose file `app/hello` says `text`.
    pub(crate) fn pack(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("slug.tgz");
        let gz = flate2::write::GzEncoder::new(
            File::create(&path).unwrap(),
            flate2::Compression::fast(),
        );
        let mut tar = tar::Builder::new(gz);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "./app/hello", text.as_bytes()).unwrap();
        tar.into_inner().unwrap().finish().unwrap().flush().unwrap();
        path
    }

    /// Releases a slug with a release phase, and returns at once.
    pub(crate) fn release(&self, release_phase: &str) -> Release {
        let types = [("web", "sleep 60"), ("release", release_phase)];
        let slug = self.heroku.create_slug("demo", &types, "c0ffee", "00").unwrap();
        let file = self.pack("hello");
        self.heroku.upload(&slug.blob.as_ref().unwrap().url, &|| File::open(&file)).unwrap();
        let new = NewRelease::Slug { slug: &slug.id, description: "Deploy c0ffee" };
        self.heroku.create_release("demo", new).unwrap()
    }
}

pub(crate) fn client(emulator: &Emulator, token: &str) -> Heroku {
    client_with(emulator, token, Pace::quick())
}

/// A client that makes a call so often.
pub(crate) fn patient_client(emulator: &Emulator, attempts: u32) -> Heroku {
    client_with(emulator, TOKEN, Pace { attempts, ..Pace::quick() })
}

fn client_with(emulator: &Emulator, token: &str, pace: Pace) -> Heroku {
    let settings = Settings::at(&emulator.url(), token.into());
    let roots = emulator.authority().as_bytes().to_vec();
    Heroku::new(Settings { roots, pace, ..settings }).unwrap()
}
