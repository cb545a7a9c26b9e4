//! Finds a PostgreSQL server to test with.

use std::{
    env,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use fs_err as fs;
use omnitool_cli::Failure;

use crate::test::debian;

/// Names a server that runs already.
const SERVER_URL: &str = "OMNITOOL_TEST_POSTGRES_URL";
/// Where Homebrew puts what it does not link.
const HOMEBREW: [&str; 2] = ["/opt/homebrew/opt", "/usr/local/opt"];

/// The server that tests run against.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// It runs already; the variable says where.
    Running,
    /// Its programs are in this folder.
    Programs(PathBuf),
}

/// Finds a server, or installs Debian's where that is possible without a password.
pub(crate) fn provide() -> Result<Server, Failure> {
    if env::var_os(SERVER_URL).is_some_and(|url| !url.is_empty()) {
        return Ok(Server::Running);
    }
    if let Some(folder) = find() {
        return Ok(Server::Programs(folder));
    }
    let refused = |hint: &str| {
        Failure::refused("the tests need PostgreSQL's server programs, and there are none").hint(
            format!("{hint}, or set {SERVER_URL} to a server whose user may create databases"),
        )
    };
    if !debian::is_here() {
        return Err(refused(if cfg!(target_os = "macos") {
            "run `brew install postgresql@17`"
        } else {
            "install the package `postgresql` or `postgresql-server`"
        }));
    }
    if !debian::install("PostgreSQL server", &["postgresql"])? {
        return Err(refused("run `sudo apt-get install -y postgresql`"));
    }
    find().map(Server::Programs).ok_or_else(|| {
        Failure::failed("Debian's postgresql was installed, but has no server programs")
    })
}

/// The folder of the server's programs, wherever they are usually put.
pub(crate) fn find() -> Option<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&on_path)
        .chain(said_by_pg_config())
        .chain(versions(Path::new("/usr/lib/postgresql"), ""))
        .chain(HOMEBREW.iter().flat_map(|folder| versions(Path::new(folder), "postgresql@")))
        .find(|folder| has_server(folder))
}

fn has_server(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

fn said_by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .stderr(if std::io::stderr().is_terminal() { Stdio::inherit() } else { Stdio::null() })
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim()))
}

/// `FOLDER/PREFIX17/bin` and its like, newest first.
fn versions(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_and_others_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["postgresql@9", "postgresql@17", "postgresql", "redis@7"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let expected = [17, 9].map(|n| folder.path().join(format!("postgresql@{n}/bin")));
        assert_eq!(versions(folder.path(), "postgresql@"), expected);
        assert!(versions(&folder.path().join("nowhere"), "").is_empty());
    }

    #[test]
    fn a_folder_with_clients_only_is_no_server() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("postgres"), "").unwrap();
        assert!(!has_server(folder.path()));
        fs::write(folder.path().join("initdb"), "").unwrap();
        assert!(has_server(folder.path()));
    }
}
