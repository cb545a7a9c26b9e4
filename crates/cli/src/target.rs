//! Which environment and which database a program works on.

use std::{convert::Infallible, path::Path, str::FromStr};

use clap::Args;
use omnitool_environment::{
    DatabaseUrl, EnvironmentLookupError, EnvironmentName, Environments, LoadEnvironmentsError,
    ParseDatabaseUrlError,
};
use secrecy::{ExposeSecret as _, SecretString};

/// The flags that choose a database, before or after a subcommand.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// The environment: local, staging or production [default: the database's stamp, else local]
    #[arg(long, global = true, env = "OMNITOOL_ENV", value_name = "ENV")]
    pub env: Option<EnvironmentName>,

    /// The database [default: data/environments.toml]. Prefer the variable: flags show in process lists
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Unchecked>,
}

/// A URL that clap must not parse, since it would print a bad one with its password.
#[derive(Clone, Debug)]
struct Unchecked(SecretString);

impl FromStr for Unchecked {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned().into()))
    }
}

/// What a program works on.
#[derive(Clone, Debug)]
pub struct Target {
    /// The environment that the caller named, if any. Where there is none, the database's stamp counts (errata E1).
    pub environment: Option<EnvironmentName>,
    /// The database.
    pub database_url: DatabaseUrl,
}

/// Why it is unclear which database is meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveTargetError {
    /// `--database-url` or `DATABASE_URL` is no database URL.
    #[error("cannot use the database URL from --database-url or DATABASE_URL")]
    Url(#[source] ParseDatabaseUrlError),
    /// No URL was given, and the file that has them cannot be used.
    #[error(transparent)]
    Load(#[from] LoadEnvironmentsError),
    /// No URL was given, and the file has none for this environment.
    #[error(transparent)]
    Lookup(#[from] EnvironmentLookupError),
}

impl TargetArgs {
    /// Resolves the flags: `--database-url`, else `DATABASE_URL`, else `data/environments.toml` for the environment
    /// (`local` where none is named).
    ///
    /// # Errors
    ///
    /// Fails where the URL is malformed, or the file is needed and cannot be used.
    pub fn resolve(&self) -> Result<Target, ResolveTargetError> {
        let database_url = match &self.database_url {
            Some(Unchecked(text)) => {
                text.expose_secret().parse().map_err(ResolveTargetError::Url)?
            }
            None => {
                let environment = self.env.unwrap_or(EnvironmentName::Local);
                environments()?.on_this_machine(environment)?.database_url.clone()
            }
        };
        // Without a URL and without a name, the local environment was chosen; a stamp that differs is then an error.
        let environment = self.env.or(match self.database_url {
            Some(_) => None,
            None => Some(EnvironmentName::Local),
        });
        Ok(Target { environment, database_url })
    }
}

/// Loads `data/environments.toml` of the working folder.
///
/// # Errors
///
/// Fails where it cannot be read or understood.
pub fn environments() -> Result<Environments, LoadEnvironmentsError> {
    Environments::load(Path::new(Environments::DEFAULT_FILE))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        target: TargetArgs,
    }

    fn resolve(flags: &[&str]) -> Result<Target, ResolveTargetError> {
        let arguments = ["program"].iter().chain(flags);
        Program::try_parse_from(arguments).unwrap().target.resolve()
    }

    #[test]
    fn a_given_url_wins_and_leaves_the_environment_to_the_stamp() {
        let target = resolve(&["--database-url", "sqlite:x.db"]).unwrap();
        assert_eq!(target.database_url.to_string(), "sqlite:x.db");
        assert_eq!(target.environment, None);
    }

    #[test]
    fn a_malformed_url_is_refused_without_showing_it() {
        let error = resolve(&["--database-url", "mysql://u:hunter2@h/d"]).unwrap_err();
        let text = crate::Failure::from(error).render();
        assert!(text.contains("not `mysql:`") && !text.contains("hunter2"), "{text}");
    }
}
