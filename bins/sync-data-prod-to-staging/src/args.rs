//! The flags.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Parser;
use omnitool_backup::{Catalog, DEFAULT_FOLDER, Keys, heroku::Via};
use omnitool_cli::{Failure, Format, PlatformArgs, Program, TargetArgs, environments};
use omnitool_environment::{DatabaseUrl, EnvironmentName};

const EXAMPLES: &str = "\
Production is copied as it is at one moment, and nobody there waits for it. The copy is masked as data/masking.toml says, \
stamped, migrated, gets this build's tools and the committed tool access, and is checked; then it takes staging's place. \
Until that moment staging is untouched, and what it was is in a backup. Nobody can log in with a password of production's: \
make a user with `omnitool create-user`.

Examples:
  sync-data-prod-to-staging --dry-run
  sync-data-prod-to-staging
  sync-data-prod-to-staging --check-status
  SOURCE_DATABASE_URL=postgres://… DATABASE_URL=postgres://… sync-data-prod-to-staging
  HEROKU_API_KEY=… sync-data-prod-to-staging --platform heroku

Exit codes: 0 refreshed, 1 failed or refused and staging is as it was (or fails its checks), 2 wrong usage";

/// Refresh staging with production's data, masked
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// `--env` is staging unless it says otherwise
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    pub(crate) platform: PlatformArgs,

    /// On Heroku: by a follower, or by a transfer for plans that have no followers
    #[arg(long, value_name = "WAY", default_value = "follower", value_parser = crate::heroku::parse_via)]
    pub(crate) via: Via,

    /// On Heroku: how long the follower may take to catch up; a repeat goes on waiting
    #[arg(long, value_name = "SECONDS", default_value = "3600")]
    pub(crate) patience: u64,

    /// On Heroku: do not download the backup of staging to look into it
    #[arg(long, env = "OMNITOOL_NO_DOWNLOAD")]
    pub(crate) no_download: bool,

    /// The database to copy [default: production in data/environments.toml]. Prefer the variable: flags show in process lists
    #[arg(long, env = "SOURCE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    source_url: Option<Unchecked>,

    /// What the database to copy must be stamped as
    #[arg(long, value_name = "ENV", default_value_t = EnvironmentName::Production)]
    pub(crate) source_env: EnvironmentName,

    /// Show what would be copied, masked and replaced, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Show whether a refresh runs, was killed, or how the last one ended
    #[arg(long, conflicts_with_all = ["dry_run", "unmasked"])]
    pub(crate) check_status: bool,

    /// What becomes of each column [default: data/masking.toml as it was when this program was built]
    #[arg(long, value_name = "FILE", conflicts_with = "unmasked")]
    pub(crate) masking: Option<PathBuf>,

    /// Copy personal data as it is; credentials and sessions go in any case. Needs --confirm, and is recorded
    #[arg(long)]
    pub(crate) unmasked: bool,

    /// Confirm --unmasked
    #[arg(long, requires = "unmasked")]
    pub(crate) confirm: bool,

    /// The tools' definitions [default: data/tools.toml as it was when this program was built]
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,

    /// The committed tool access that is merged into the copy
    #[arg(
        long,
        value_name = "FILE",
        default_value = "data/tool_access_exports/local_tool_access.json"
    )]
    pub(crate) access: PathBuf,

    /// The folder with a folder of backups per environment
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    pub(crate) folder: PathBuf,

    /// Encrypt the backups of staging to this age recipient (age1…); repeat it for several
    #[arg(
        long,
        value_name = "AGE_RECIPIENT",
        env = "OMNITOOL_BACKUP_RECIPIENT",
        value_delimiter = ','
    )]
    encrypt_to: Vec<String>,

    /// Where the copy and the record of the run are [default: beside a SQLite database, else .omnitool/ENV; of Heroku beside the
    /// records of its backups]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// The deployment's run, for the record
    #[arg(long, env = "OMNITOOL_RUN_ID", value_name = "ID")]
    pub(crate) run_id: Option<String>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// A URL that clap must not parse, since it would print a bad one with its password.
#[derive(Clone)]
struct Unchecked(String);

impl FromStr for Unchecked {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// Which databases are meant.
pub(crate) struct Sites {
    pub(crate) environment: EnvironmentName,
    pub(crate) source: DatabaseUrl,
    pub(crate) target: DatabaseUrl,
    pub(crate) state: PathBuf,
}

/// Why it is unclear which databases are meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SitesError {
    #[error("only staging is refreshed, and `{asked}` was asked for")]
    NotStaging { asked: EnvironmentName },
    #[error("cannot use the database URL from --source-url or SOURCE_DATABASE_URL")]
    Source(#[source] omnitool_environment::ParseDatabaseUrlError),
}

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }
}

impl Args {
    /// Staging's backups. A variable that is set to nothing names no recipient.
    pub(crate) fn catalog(&self, environment: EnvironmentName) -> Result<Catalog, Failure> {
        let given = self.encrypt_to.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        let recipients = given.map(str::parse).collect::<Result<_, _>>().map_err(Failure::usage)?;
        Ok(Catalog::new(&self.folder, environment).with_keys(Keys { recipients, identity: None }))
    }

    /// Whether backups are to be encrypted.
    pub(crate) fn encrypts(&self) -> bool {
        self.encrypt_to.iter().any(|recipient| !recipient.trim().is_empty())
    }

    /// Staging, unless something else was asked for.
    pub(crate) fn environment(&self) -> Result<EnvironmentName, Failure> {
        match self.target.env.unwrap_or(EnvironmentName::Staging) {
            EnvironmentName::Staging => Ok(EnvironmentName::Staging),
            asked => Err(Failure::refused(SitesError::NotStaging { asked })
                .hint("leave --env and OMNITOOL_ENV out, or make it staging")),
        }
    }

    pub(crate) fn sites(&self) -> Result<Sites, Failure> {
        let environment = self.environment()?;
        let mut target = self.target.clone();
        target.env = Some(environment);
        let target = target.resolve()?.database_url;
        let source = match &self.source_url {
            Some(Unchecked(text)) => text.parse().map_err(SitesError::Source)?,
            None => {
                environments()?.on_this_machine(EnvironmentName::Production)?.database_url.clone()
            }
        };
        let state = self.state.clone().unwrap_or_else(|| state_folder(&target, environment));
        Ok(Sites { environment, source, target, state })
    }
}

/// Beside a SQLite database, where the copy has to be on the same disk; of PostgreSQL, where the local platform keeps its files.
fn state_folder(target: &DatabaseUrl, environment: EnvironmentName) -> PathBuf {
    match target.sqlite_path().map(Path::parent) {
        Some(Some(folder)) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) => PathBuf::from("."),
        None => Path::new(".omnitool").join(environment.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_state_is_beside_a_file_and_else_in_the_project() {
        let folder = |url: &str| state_folder(&url.parse().unwrap(), EnvironmentName::Staging);
        assert_eq!(folder("sqlite:a/b.db"), Path::new("a"));
        assert_eq!(folder("b.db"), Path::new("."));
        assert_eq!(folder("postgres://u@localhost/d"), Path::new(".omnitool/staging"));
    }
}
