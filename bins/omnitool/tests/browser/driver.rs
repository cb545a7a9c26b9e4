//! Chromium's driver in a process of its own.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use tempfile::TempDir;

/// Name the programs where they are not on the path.
const CHROMIUM_VARIABLE: &str = "OMNITOOL_TEST_CHROMIUM";
const DRIVER_VARIABLE: &str = "OMNITOOL_TEST_CHROMEDRIVER";

/// Keeps the driver while its own stdin is open: a pipe ends with its writer, also when that is killed. The browser
/// ends with the driver, since the two talk through a pipe, too; then nobody writes into the folder any more.
const SUPERVISOR: &str = r#"
"$1" --port=0 &
driver=$!
cat >/dev/null
kill "$driver" 2>/dev/null
wait "$driver"
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$2" 2>/dev/null && sleep 0.1 && [ ! -e "$2" ] && exit
    sleep 0.2
done
"#;

/// A driver that ends with this value, or with the process, and takes its browser and their files with it.
#[derive(Debug)]
pub(crate) struct Driver {
    supervisor: Child,
    _stdout: BufReader<ChildStdout>,
    chromium: PathBuf,
    folder: PathBuf,
    url: String,
}

impl Driver {
    /// Starts a driver on a free port.
    pub(crate) fn start() -> Self {
        let chromium = find(CHROMIUM_VARIABLE, &["chromium", "chromium-browser", "google-chrome"]);
        let driver = find(DRIVER_VARIABLE, &["chromedriver"]);
        let temporary: TempDir =
            tempfile::Builder::new().prefix("omnitool-chromium-").tempdir().unwrap();
        let mut supervisor = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "chromedriver-supervisor"])
            .args([&driver, temporary.path()])
            // Whatever the two think they have to keep goes into the folder.
            .env("HOME", temporary.path())
            .env("TMPDIR", temporary.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From here on the supervisor removes the folder.
        let folder = temporary.keep();
        let mut stdout = BufReader::new(supervisor.stdout.take().unwrap());
        let mut said = String::new();
        let port = loop {
            let start = said.len();
            assert_ne!(stdout.read_line(&mut said).unwrap(), 0, "no ChromeDriver:\n{said}");
            let line = said[start..].trim_end().trim_end_matches('.');
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.to_owned();
            }
        };
        let url = format!("http://127.0.0.1:{port}");
        Self { supervisor, _stdout: stdout, chromium, folder, url }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn chromium(&self) -> &Path {
        &self.chromium
    }

    /// What the browser may fill; it goes with the driver.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // It ends by itself now.
        let _ = self.supervisor.wait();
    }
}

/// The program that `variable` names, or the first on the path that has one of the `names`.
fn find(variable: &str, names: &[&str]) -> PathBuf {
    if let Some(program) = env::var_os(variable).filter(|program| !program.is_empty()) {
        return program.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = names.iter().find_map(|name| {
        env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
    });
    found.unwrap_or_else(|| {
        panic!(
            "no {} found; `cargo xtask test -p omnitool` installs it, or run `apt-get install chromium chromium-driver`, \
             or set {variable}",
            names[0]
        )
    })
}
