//! Real databases behind the add-ons, through PostgreSQL's own client programs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use url::Url;

/// A server on which databases can be made.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    url: Url,
    programs: PathBuf,
}

impl Server {
    pub(crate) fn new(url: Url) -> Self {
        Self { url, programs: find_programs() }
    }

    /// The address of the database `name`.
    pub(crate) fn address(&self, name: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(name);
        url.into()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<Output, String> {
        let output = Command::new(self.programs.join(program))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run {program}: {error}"))?;
        if output.status.success() {
            Ok(output)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn sql(&self, url: &str, statement: &str) -> Result<String, String> {
        let output = self.run(
            "psql",
            &["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", statement, url],
        )?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub(crate) fn create(&self, name: &str) -> Result<(), String> {
        self.sql(self.url.as_str(), &format!("CREATE DATABASE {name}")).map(drop)
    }

    pub(crate) fn drop(&self, name: &str) -> Result<(), String> {
        self.sql(self.url.as_str(), &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .map(drop)
    }

    /// Removes everything that is in a database.
    pub(crate) fn empty(&self, url: &str) -> Result<(), String> {
        self.sql(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public").map(drop)
    }

    pub(crate) fn size(&self, url: &str) -> u64 {
        let size = self.sql(url, "SELECT pg_database_size(current_database())");
        size.ok().and_then(|size| size.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn tables(&self, url: &str) -> u64 {
        let count = self.sql(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
        count.ok().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn dump(&self, url: &str, file: &Path) -> Result<(), String> {
        let file = file.to_string_lossy();
        self.run(
            "pg_dump",
            &["--format=custom", "--no-owner", "--no-privileges", "--file", &file, url],
        )
        .map(drop)
    }

    /// Fills an emptied database with a dump.
    pub(crate) fn restore(&self, url: &str, file: &Path) -> Result<(), String> {
        self.empty(url)?;
        let file = file.to_string_lossy();
        let url = format!("--dbname={url}");
        self.run(
            "pg_restore",
            &[
                "--no-owner",
                "--no-privileges",
                "--clean",
                "--if-exists",
                "--exit-on-error",
                &url,
                &file,
            ],
        )
        .map(drop)
    }
}

/// The folder with the newest client programs; those on the search path where it is empty.
fn find_programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("pg_dump").is_file())
        .collect();
    versions.sort();
    versions.pop().map(|(_, folder)| folder).unwrap_or_default()
}
