//! Which platform is meant, and how the account on Heroku is reached.

use std::{env, ffi::OsString, io, path::PathBuf};

use clap::Args;
use omnitool_environment::{EnvironmentName, HerokuApp, Platform, Url};
use secrecy::SecretString;

use crate::{Failure, environments};

/// The flag that chooses a platform, before or after a subcommand.
#[derive(Args, Clone, Copy, Debug)]
pub struct PlatformArgs {
    /// Where the environment runs: local or heroku. Heroku needs a token in `HEROKU_API_KEY`
    #[arg(
        long,
        global = true,
        env = "OMNITOOL_PLATFORM",
        value_name = "PLATFORM",
        default_value = "local"
    )]
    pub platform: Platform,
}

/// How the account on Heroku is reached, as the variables say it.
#[derive(Clone, Debug)]
pub struct HerokuAccount {
    /// The Platform API.
    pub api: Url,
    /// The Data API, which knows databases and their backups.
    pub data: Url,
    /// The token.
    pub token: SecretString,
    /// Certificates of the only authorities that are trusted, as PEM; empty where those that browsers trust are meant.
    pub roots: Vec<u8>,
}

/// An environment's app on Heroku, and how its account is reached.
#[derive(Clone, Debug)]
pub struct HerokuSite {
    /// The environment.
    pub environment: EnvironmentName,
    /// Its app.
    pub app: HerokuApp,
    /// The account.
    pub account: HerokuAccount,
}

/// Nobody said which environment is meant.
#[derive(Debug, thiserror::Error)]
#[error("the platform heroku needs to know which environment is meant")]
struct NoEnvironmentError;

impl HerokuSite {
    /// The environment that was named, with its app in `data/environments.toml` and the account of the variables.
    ///
    /// # Errors
    ///
    /// Fails where no environment was named, it has no app on Heroku, or the variables do not say how Heroku is reached.
    pub fn resolve(named: Option<EnvironmentName>) -> Result<Self, Failure> {
        // No database is there whose stamp could say it.
        let environment = named.ok_or_else(|| {
            Failure::usage(NoEnvironmentError).hint("add --env staging or --env production")
        })?;
        let app = environments()?.on_heroku(environment)?.clone();
        let account = HerokuAccount::from_environment().map_err(|error| {
            let hint = error.hint();
            Failure::refused(error).hint(hint)
        })?;
        Ok(Self { environment, app, account })
    }
}

/// The variables do not say how Heroku is reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadHerokuAccountError {
    /// There is no token.
    #[error("the platform heroku needs a token in {}, and there is none", HerokuAccount::TOKEN)]
    NoToken,
    /// A variable names no server that a token may be sent to. The value is not shown, since it may hold a password.
    #[error("{variable} names no usable server: {why}")]
    Host {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// The file with certificates cannot be read.
    #[error("cannot read {file}, which {} names", HerokuAccount::CA_FILE)]
    Roots {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ReadHerokuAccountError {
    /// What to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoToken => {
                "make one with `heroku authorizations:create`, and set HEROKU_API_KEY to it"
            }
            Self::Host { .. } => {
                "leave HEROKU_HOST and HEROKU_DATA_HOST unset to reach the true Heroku"
            }
            Self::Roots { .. } => {
                "leave HEROKU_CA_FILE unset to trust the authorities that browsers trust"
            }
        }
    }
}

impl HerokuAccount {
    /// The variable with the token.
    pub const TOKEN: &str = "HEROKU_API_KEY";
    /// The variable with the Platform API's address, as Heroku's own command line tool reads it.
    pub const HOST: &str = "HEROKU_HOST";
    /// The variable with the Data API's host name; its scheme and port are those of [`HOST`](Self::HOST).
    pub const DATA_HOST: &str = "HEROKU_DATA_HOST";
    /// The variable with the file of trusted certificates.
    pub const CA_FILE: &str = "HEROKU_CA_FILE";
    /// All of them, for whoever passes them on.
    pub const VARIABLES: [&str; 4] = [Self::TOKEN, Self::HOST, Self::DATA_HOST, Self::CA_FILE];

    /// Reads the variables.
    ///
    /// # Errors
    ///
    /// Fails where there is no token, and where one of the others cannot be used.
    pub fn from_environment() -> Result<Self, ReadHerokuAccountError> {
        Self::read(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn read(
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, ReadHerokuAccountError> {
        let text = |name| match variable(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => {
                Err(ReadHerokuAccountError::Host { variable: name, why: "it is no text" })
            }
        };
        let token = text(Self::TOKEN)?.ok_or(ReadHerokuAccountError::NoToken)?;
        let host = text(Self::HOST)?;
        let (api, mut data) = match host.as_deref() {
            None => (address("https://api.heroku.com")?, address("https://api.data.heroku.com")?),
            Some(url) if url.starts_with("http") => (address(url)?, address(url)?),
            Some(domain) => (
                address(&format!("https://api.{domain}"))?,
                address(&format!("https://api.data.{domain}"))?,
            ),
        };
        if let Some(name) = text(Self::DATA_HOST)? {
            let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
            if !is_name || data.set_host(Some(&name)).is_err() {
                return Err(ReadHerokuAccountError::Host {
                    variable: Self::DATA_HOST,
                    why: "it must be the name of a host, without scheme and port",
                });
            }
            check(Self::DATA_HOST, &data)?;
        }
        let roots = match variable(Self::CA_FILE).map(PathBuf::from) {
            None => Vec::new(),
            Some(file) => std::fs::read(&file)
                .map_err(|source| ReadHerokuAccountError::Roots { file, source })?,
        };
        Ok(Self { api, data, token: token.into(), roots })
    }
}

fn address(text: &str) -> Result<Url, ReadHerokuAccountError> {
    let url = Url::parse(text).map_err(|_| ReadHerokuAccountError::Host {
        variable: HerokuAccount::HOST,
        why: "it must be a URL, or the name of a domain",
    })?;
    check(HerokuAccount::HOST, &url)?;
    Ok(url)
}

/// A token goes unencrypted to this machine only.
fn check(variable: &'static str, url: &Url) -> Result<(), ReadHerokuAccountError> {
    let is_here = url.host_str().is_some_and(|host| host == "localhost" || host == "127.0.0.1");
    let why = match url.scheme() {
        "https" => None,
        "http" if is_here => None,
        "http" => Some("a token would go to another machine unencrypted: use https"),
        _ => Some("it must start with https://"),
    };
    let has_login = !url.username().is_empty() || url.password().is_some();
    let why = why.or(has_login.then_some("it must have no user and no password"));
    why.map_or(Ok(()), |why| Err(ReadHerokuAccountError::Host { variable, why }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HerokuAccount, ReadHerokuAccountError> {
        HerokuAccount::read(|name| {
            variables.iter().find(|found| found.0 == name).map(|found| found.1.into())
        })
    }

    fn hosts(variables: &[(&str, &str)]) -> String {
        match read(&[&[("HEROKU_API_KEY", "hunter2")], variables].concat()) {
            Ok(HerokuAccount { api, data, .. }) => format!("{api} {data}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_addresses_are_those_that_heroku_s_own_tool_would_call() {
        let cases: [&[(&str, &str)]; 5] = [
            &[],
            &[("HEROKU_HOST", "http://127.0.0.1:5050")],
            &[("HEROKU_HOST", "http://localhost:5050"), ("HEROKU_DATA_HOST", "127.0.0.1")],
            &[("HEROKU_HOST", "herokai.com")],
            &[("HEROKU_DATA_HOST", "postgres-api.heroku.com")],
        ];
        insta::assert_snapshot!(cases.map(hosts).join("\n"), @"
        https://api.heroku.com/ https://api.data.heroku.com/
        http://127.0.0.1:5050/ http://127.0.0.1:5050/
        http://localhost:5050/ http://127.0.0.1:5050/
        https://api.herokai.com/ https://api.data.herokai.com/
        https://api.heroku.com/ https://postgres-api.heroku.com/
        ");
    }

    #[test]
    fn a_token_is_not_sent_where_others_can_read_it() {
        let cases: [&[(&str, &str)]; 5] = [
            &[("HEROKU_HOST", "http://api.heroku.com")],
            &[("HEROKU_HOST", "http://127.0.0.1:5050"), ("HEROKU_DATA_HOST", "example.com")],
            &[("HEROKU_HOST", "https://user:hunter2@example.com")],
            &[("HEROKU_DATA_HOST", "example.com:80/x")],
            &[("HEROKU_HOST", "https://")],
        ];
        insta::assert_snapshot!(cases.map(hosts).join("\n"), @"
        HEROKU_HOST names no usable server: a token would go to another machine unencrypted: use https
        HEROKU_DATA_HOST names no usable server: a token would go to another machine unencrypted: use https
        HEROKU_HOST names no usable server: it must have no user and no password
        HEROKU_DATA_HOST names no usable server: it must be the name of a host, without scheme and port
        HEROKU_HOST names no usable server: it must be a URL, or the name of a domain
        ");
    }

    #[test]
    fn a_token_is_needed_and_never_shown() {
        insta::assert_snapshot!(
            read(&[]).unwrap_err(),
            @"the platform heroku needs a token in HEROKU_API_KEY, and there is none"
        );
        let account = read(&[("HEROKU_API_KEY", "hunter2")]).unwrap();
        assert!(!format!("{account:?}").contains("hunter2"));
    }

    #[test]
    fn certificates_that_cannot_be_read_are_not_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let file = file.to_str().unwrap();
        let variables = [("HEROKU_API_KEY", "hunter2"), ("HEROKU_CA_FILE", file)];
        assert!(matches!(read(&variables), Err(ReadHerokuAccountError::Roots { .. })));
        std::fs::write(file, "certificates").unwrap();
        assert_eq!(read(&variables).unwrap().roots, b"certificates");
    }
}
