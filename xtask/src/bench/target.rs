//! A filled database of either kind, with our programs and its own shell to measure on it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use omnitool_cli::Failure;
use omnitool_environment::Url;

use super::measure::{Row, Samples, run_once};

/// A filled database.
#[derive(Debug)]
pub(super) struct Target {
    kind: Kind,
    /// The database's own shell, where it is installed.
    shell: Option<PathBuf>,
    root: PathBuf,
    programs: PathBuf,
    folder: PathBuf,
}

#[derive(Debug)]
enum Kind {
    Sqlite(PathBuf),
    Postgres(Url),
}

const EXPORT: &str = "SELECT tools.name, users.username FROM tool_access \
     JOIN tools ON tools.id = tool_id JOIN users ON users.id = user_id ORDER BY 1, 2";
const TOOLS: &str = "SELECT name, description, route, is_default, is_active FROM tools";
const CHECKS: &str = "SELECT count(*) FROM users; SELECT count(*) FROM tools; \
     SELECT count(*) FROM tool_access; SELECT count(*) FROM tool_access_everyone; \
     SELECT count(*) FROM tool_access_exclusion; \
     SELECT count(*) FROM tool_access a LEFT JOIN tools t ON t.id = a.tool_id WHERE t.id IS NULL; \
     SELECT count(*) FROM tool_access a LEFT JOIN users u ON u.id = a.user_id WHERE u.id IS NULL; \
     SELECT count(*) FROM users u CROSS JOIN tools t WHERE t.is_default AND NOT EXISTS \
       (SELECT 1 FROM tool_access a WHERE a.user_id = u.id AND a.tool_id = t.id);";

impl Target {
    /// A SQLite file in `folder` and a database on the server of `with-postgres`.
    pub(super) fn both(root: &Path, programs: &Path, folder: &Path) -> Result<[Self; 2], Failure> {
        let server: Url = std::env::var(super::SERVER)?.parse()?;
        let psql = on_path("psql");
        let make = |kind, shell, name: &str| {
            let folder = folder.join(name);
            let (root, programs) = (root.to_owned(), programs.to_owned());
            std::fs::create_dir(&folder).map(|()| Self { kind, shell, root, programs, folder })
        };
        let sqlite = Kind::Sqlite(folder.join("bench.db"));
        Ok([
            make(sqlite, on_path("sqlite3"), "sqlite")?,
            make(Kind::Postgres(server), psql, "postgres")?,
        ])
    }

    pub(super) const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite(_) => "SQLite",
            Kind::Postgres(_) => "PostgreSQL",
        }
    }

    /// Fills the database and measures each program on it.
    pub(super) fn measure(&self, runs: usize, users: u32, tools: u32) -> Result<Vec<Row>, Failure> {
        self.prepare(users, tools)?;
        let raw = |sql: &'static str| {
            self.shell(sql).is_some().then(|| {
                Samples::of(runs, || {
                    self.shell(sql).ok_or_else(|| Failure::failed("the shell is gone"))
                })
            })
        };
        let jobs: [(&str, &[&str], Option<&'static str>); 4] = [
            ("sync-tools", &[], Some(TOOLS)),
            ("export-tool-access", &["--output", "export.json"], Some(EXPORT)),
            ("import-tool-access", &["--source", "export.json"], None),
            ("verify-migration", &[], Some(CHECKS)),
        ];
        jobs.into_iter()
            .map(|(program, flags, sql)| {
                let ours = Samples::of(runs, || Ok(self.program(program, flags)))?;
                Ok(Row::new(program, ours, sql.and_then(raw).transpose()?))
            })
            .collect()
    }

    pub(super) fn prepare(&self, users: u32, tools: u32) -> Result<(), Failure> {
        for command in [
            self.program("migrate-db", &[]),
            self.program("fill-database", &[&users.to_string(), &tools.to_string()]),
            // Verification warns where default tools are missing, and that is not what is measured.
            self.program("sync-tools", &["--assign-defaults"]),
        ] {
            run_once(command)?;
        }
        Ok(())
    }

    pub(super) fn program(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(name));
        let url = match &self.kind {
            Kind::Sqlite(file) => format!("sqlite:{}", file.display()),
            Kind::Postgres(url) => url.to_string(),
        };
        command
            .current_dir(&self.folder)
            .env("DATABASE_URL", url)
            .env("OMNITOOL_ENV", "local")
            .args(flags);
        command
    }

    /// The same work by the database's own shell; its password goes through the environment, not the process list.
    pub(super) fn shell(&self, sql: &str) -> Option<Command> {
        let mut command = Command::new(self.shell.as_ref()?);
        match &self.kind {
            Kind::Sqlite(file) => command.arg(file).arg(sql),
            Kind::Postgres(url) => command
                .env("PGHOST", url.host_str().unwrap_or_default())
                .env("PGPORT", url.port().unwrap_or(5432).to_string())
                .env("PGUSER", url.username())
                .env("PGPASSWORD", url.password().unwrap_or_default())
                .env("PGDATABASE", url.path().trim_start_matches('/'))
                .args(["--no-psqlrc", "--quiet", "--tuples-only", "--command", sql]),
        };
        command.current_dir(&self.root);
        Some(command)
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
