//! Finds a browser to test with, and what checks the pages that it shows.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use fs_err as fs;
use omnitool_cli::Failure;
use serde::Deserialize;

use super::debian;

/// Names the browser, its driver, and axe-core's script.
const CHROMIUM: &str = "OMNITOOL_TEST_CHROMIUM";
const DRIVER: &str = "OMNITOOL_TEST_CHROMEDRIVER";
const AXE: &str = "OMNITOOL_TEST_AXE";

/// What distributions call them.
const BROWSERS: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Where macOS keeps them.
const APPLICATIONS: [&str; 2] = [
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
/// Names the folder of the driver on GitHub's machines.
const DRIVER_FOLDER: &str = "CHROMEWEBDRIVER";

/// Says which axe-core, with its digest.
const LOCK: &str = "bins/omnitool/tests/browser/axe/package-lock.json";
const MANIFEST: &str = "bins/omnitool/tests/browser/axe/package.json";
/// Where npm puts it.
const SCRIPT: &str = "node_modules/axe-core/axe.min.js";

/// What the tests of pages need.
#[derive(Debug)]
pub(crate) struct Browser {
    chromium: PathBuf,
    driver: PathBuf,
    axe: PathBuf,
}

/// A program and the first number of its version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Versioned {
    program: PathBuf,
    major: u32,
}

impl Browser {
    /// Finds them, or installs Debian's Chromium and npm's axe-core.
    pub(crate) fn provide(root: &Path) -> Result<Self, Failure> {
        let (chromium, driver) = chromium()?;
        Ok(Self { chromium, driver, axe: axe(root)? })
    }

    /// Says to the tests where everything is.
    pub(crate) fn tell(&self, command: &mut Command) {
        let Self { chromium, driver, axe } = self;
        command.env(CHROMIUM, chromium).env(DRIVER, driver).env(AXE, axe);
    }
}

/// A file that a variable names.
fn named(variable: &str) -> Result<Option<PathBuf>, Failure> {
    let Some(value) = env::var_os(variable).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let file = PathBuf::from(value);
    if file.is_file() {
        return Ok(Some(file));
    }
    Err(Failure::refused(format!("{variable} names {}, which is no file", file.display())))
}

fn chromium() -> Result<(PathBuf, PathBuf), Failure> {
    if let Some(pair) = find()? {
        return Ok(pair);
    }
    let refused = |hint: &str| {
        Failure::refused("the tests need Chromium and a ChromeDriver of the same version, and they are not there")
            .hint(format!("{hint}, or set {CHROMIUM} and {DRIVER} to the programs"))
    };
    if !debian::is_here() {
        return Err(refused(if cfg!(target_os = "macos") {
            "run `brew install --cask google-chrome chromedriver`"
        } else {
            "install the packages `chromium` and `chromium-driver`, or `google-chrome` and `chromedriver`"
        }));
    }
    if !debian::install("Chromium with its ChromeDriver", &["chromium", "chromium-driver"])? {
        return Err(refused("run `sudo apt-get install -y chromium chromium-driver`"));
    }
    find()?.ok_or_else(|| {
        refused("Debian's packages were installed, but do not run; install Google Chrome and ChromeDriver")
    })
}

/// A browser and the driver made for it.
fn find() -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    let (browser, driver) = (named(CHROMIUM)?, named(DRIVER)?);
    if let (Some(browser), Some(driver)) = (&browser, &driver) {
        return Ok(Some((browser.clone(), driver.clone())));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let browsers = match browser {
        Some(browser) => vec![browser],
        None => [on_path(&path, &BROWSERS), APPLICATIONS.map(PathBuf::from).into()].concat(),
    };
    let drivers = match driver {
        Some(driver) => vec![driver],
        None => {
            let folder = env::var_os(DRIVER_FOLDER).unwrap_or_default();
            [on_path(&path, &["chromedriver"]), on_path(&folder, &["chromedriver"])].concat()
        }
    };
    let versioned = |programs: Vec<PathBuf>| programs.into_iter().filter_map(ask_version).collect();
    Ok(matching(versioned(browsers), &versioned(drivers)))
}

/// The programs of these names that are there, in the order of the names.
fn on_path(path: &OsStr, names: &[&str]) -> Vec<PathBuf> {
    let found = |name: &&str| {
        env::split_paths(path).map(|folder| folder.join(name)).find(|program| program.is_file())
    };
    names.iter().filter_map(found).collect()
}

fn ask_version(program: PathBuf) -> Option<Versioned> {
    if !program.is_file() {
        return None;
    }
    let output = Command::new(&program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let major = major(&String::from_utf8_lossy(&output.stdout))?;
    Some(Versioned { program, major })
}

/// 148 of `Chromium 148.0.7778.167 built on Debian`.
fn major(version: &str) -> Option<u32> {
    version.split_whitespace().find_map(|word| word.split_once('.')?.0.parse().ok())
}

/// A driver refuses a browser of another version.
fn matching(browsers: Vec<Versioned>, drivers: &[Versioned]) -> Option<(PathBuf, PathBuf)> {
    browsers.into_iter().find_map(|browser| {
        let driver = drivers.iter().find(|driver| driver.major == browser.major)?;
        Some((browser.program, driver.program.clone()))
    })
}

/// What npm wrote down about the packages.
#[derive(Deserialize)]
struct Lock {
    packages: std::collections::BTreeMap<String, LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    version: Option<String>,
}

/// axe-core's script, of the version that is pinned.
fn axe(root: &Path) -> Result<PathBuf, Failure> {
    if let Some(file) = named(AXE)? {
        return Ok(file);
    }
    let lock: Lock = serde_json::from_str(&fs::read_to_string(root.join(LOCK))?)
        .map_err(|error| Failure::failed(format!("cannot read {LOCK}: {error}")))?;
    let version = lock.packages.get("node_modules/axe-core").and_then(|axe| axe.version.as_ref());
    let version =
        version.ok_or_else(|| Failure::failed(format!("{LOCK} does not pin axe-core")))?;
    let tools = root.join(".omnitool/tools");
    let folder = tools.join(format!("axe-core-{version}"));
    let script = folder.join(SCRIPT);
    if !script.is_file() {
        install_axe(root, &tools, &folder, version)?;
    }
    Ok(script)
}

/// npm compares what it gets with the digest in the lock file.
fn install_axe(root: &Path, tools: &Path, folder: &Path, version: &str) -> Result<(), Failure> {
    let shown = "npm ci --ignore-scripts";
    omnitool_cli::print(&format!("axe-core {version} is not there, so this runs `{shown}`\n"))?;
    fs::create_dir_all(tools)?;
    // Another run may be doing the same; whatever has its last name is complete.
    let temporary = tempfile::Builder::new().prefix("axe-core-").tempdir_in(tools)?;
    for file in [LOCK, MANIFEST] {
        let name = Path::new(file).file_name().unwrap_or_default();
        fs::copy(root.join(file), temporary.path().join(name))?;
    }
    let hint =
        format!("install Node.js with npm (Debian's package `npm`), or set {AXE} to an axe.min.js");
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(temporary.path())
        .stdin(Stdio::null())
        .status()
        .map_err(|error| Failure::failed(format!("cannot run npm: {error}")).hint(&hint))?;
    if !status.success() {
        return Err(Failure::failed(format!("`{shown}` ended with {status}")).hint(hint));
    }
    match fs::rename(temporary.path(), folder) {
        Ok(()) => {
            let _ = temporary.keep();
            Ok(())
        }
        Err(_) if folder.join(SCRIPT).is_file() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versioned(program: &str, major: u32) -> Versioned {
        Versioned { program: program.into(), major }
    }

    #[test]
    fn versions_are_read_as_browsers_say_them() {
        assert_eq!(major("Chromium 148.0.7778.167 built on Debian GNU/Linux 12"), Some(148));
        assert_eq!(major("ChromeDriver 148.0.7778.167 (0a1b2c)\n"), Some(148));
        assert_eq!(major("Google Chrome 131.0.6778.85 "), Some(131));
        assert_eq!(major("Command '/usr/bin/chromium' requires the snap"), None);
    }

    #[test]
    fn a_driver_goes_with_the_browser_of_its_version() {
        let browsers = vec![versioned("chromium", 140), versioned("chrome", 148)];
        let pair = matching(browsers.clone(), &[versioned("driver", 148)]);
        assert_eq!(pair, Some(("chrome".into(), "driver".into())));
        assert_eq!(matching(browsers, &[versioned("driver", 139)]), None);
    }

    #[test]
    fn axe_core_is_pinned_with_a_digest() {
        let lock = include_str!("../../../bins/omnitool/tests/browser/axe/package-lock.json");
        let parsed: Lock = serde_json::from_str(lock).unwrap();
        assert!(parsed.packages["node_modules/axe-core"].version.is_some());
        assert!(lock.contains("\"integrity\": \"sha512-"));
    }
}
