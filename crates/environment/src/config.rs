//! `data/environments.toml`.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use url::Url;

use crate::{DatabaseUrl, EnvironmentName, FreezeWindow, Platform};

/// What `data/environments.toml` says: where each environment is, on each platform.
#[derive(Clone, Debug)]
pub struct Environments {
    file: PathBuf,
    local: LocalSite,
    staging: Platforms,
    production: Platforms,
}

/// An environment on this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSite {
    /// Its database. A relative SQLite path is relative to the working folder.
    pub database_url: DatabaseUrl,
    /// Where its app answers; the port is the one that the app listens on.
    pub base_url: Url,
}

/// An environment on Heroku.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HerokuApp {
    /// The app's name on Heroku.
    pub app: String,
    /// Where the app answers.
    pub base_url: Url,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Platforms {
    local: Option<LocalSite>,
    heroku: Option<HerokuApp>,
    #[serde(default)]
    freeze: Vec<FreezeWindow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    local: LocalSite,
    #[serde(default)]
    staging: Platforms,
    #[serde(default)]
    production: Platforms,
}

/// Why `data/environments.toml` could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadEnvironmentsError {
    /// The file cannot be read; the source names it.
    #[error("cannot read the environments file")]
    Read(#[source] io::Error),
    /// The file is not what is expected; the source gives line and column.
    #[error("cannot understand the environments file {file}")]
    Parse {
        /// The file.
        file: PathBuf,
        /// What is wrong and where.
        #[source]
        source: MalformedFileError,
    },
    /// A base URL that no app can answer at.
    #[error(
        "in {file}, the base_url of {environment} must start with http:// or https:// and name a host, not `{url}`"
    )]
    BaseUrl {
        /// The file.
        file: PathBuf,
        /// The environment and platform it belongs to.
        environment: String,
        /// The URL, without credentials.
        url: String,
    },
    /// A freeze window that ends before it begins.
    #[error("in {file}, a freeze of {environment} ends before it begins ({window})")]
    Freeze {
        /// The file.
        file: PathBuf,
        /// The environment.
        environment: EnvironmentName,
        /// The window.
        window: String,
    },
}

/// What is wrong in a file, and where. The file's text is not quoted, since somebody may have put a password into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedFileError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for MalformedFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, reason } = self;
        write!(f, "line {line}, column {column}: {reason}")
    }
}

impl std::error::Error for MalformedFileError {}

impl MalformedFileError {
    fn new(text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: without_value(error.message()),
        }
    }
}

/// `message` without the value that it quotes, as those about a value of the wrong type do.
fn without_value(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\"***\"{}", &message[..first], &message[last + 1..])
        }
        _ => message.to_owned(),
    }
}

/// `url` without credentials.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for URLs that can have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// The file has no section for what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} has no section [{environment}.{platform}]; add it, or choose another platform")]
pub struct EnvironmentLookupError {
    /// The file.
    pub file: PathBuf,
    /// The environment that was asked for.
    pub environment: EnvironmentName,
    /// The platform that was asked for.
    pub platform: Platform,
}

impl Environments {
    /// Where the file is, relative to a project's root.
    pub const DEFAULT_FILE: &str = "data/environments.toml";

    /// Reads and checks `file`.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, is malformed, or has unknown keys.
    pub fn load(file: &Path) -> Result<Self, LoadEnvironmentsError> {
        let text = fs_err::read_to_string(file).map_err(LoadEnvironmentsError::Read)?;
        Self::parse(&text, file)
    }

    /// Checks `text`; `file` is only named in errors.
    ///
    /// # Errors
    ///
    /// Fails where the text is malformed or has unknown keys.
    pub fn parse(text: &str, file: &Path) -> Result<Self, LoadEnvironmentsError> {
        let parsed: File = toml::from_str(text).map_err(|source| LoadEnvironmentsError::Parse {
            file: file.to_owned(),
            source: MalformedFileError::new(text, &source),
        })?;
        let File { local, staging, production } = parsed;
        let environments = Self { file: file.to_owned(), local, staging, production };
        for (environment, url) in environments.base_urls() {
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                return Err(LoadEnvironmentsError::BaseUrl {
                    file: file.to_owned(),
                    environment,
                    url: shown(url),
                });
            }
        }
        for environment in EnvironmentName::ALL {
            for window in environments.freeze_windows(environment) {
                if window.from >= window.until {
                    let (file, window) = (file.to_owned(), window.to_string());
                    return Err(LoadEnvironmentsError::Freeze { file, environment, window });
                }
            }
        }
        Ok(environments)
    }

    /// The times in which the environment is not deployed to, as the file has them.
    #[must_use]
    pub fn freeze_windows(&self, environment: EnvironmentName) -> &[FreezeWindow] {
        self.platforms(environment).map_or(&[], |platforms| &platforms.freeze)
    }

    fn base_urls(&self) -> Vec<(String, &Url)> {
        let mut urls = vec![("local".to_owned(), &self.local.base_url)];
        for (name, platforms) in [("staging", &self.staging), ("production", &self.production)] {
            let Platforms { local, heroku, freeze: _ } = platforms;
            urls.extend(local.as_ref().map(|site| (format!("{name}.local"), &site.base_url)));
            urls.extend(heroku.as_ref().map(|app| (format!("{name}.heroku"), &app.base_url)));
        }
        urls
    }

    fn platforms(&self, environment: EnvironmentName) -> Option<&Platforms> {
        match environment {
            EnvironmentName::Local => None,
            EnvironmentName::Staging => Some(&self.staging),
            EnvironmentName::Production => Some(&self.production),
        }
    }

    fn lookup_error(
        &self,
        environment: EnvironmentName,
        platform: Platform,
    ) -> EnvironmentLookupError {
        EnvironmentLookupError { file: self.file.clone(), environment, platform }
    }

    /// The environment on this machine.
    ///
    /// # Errors
    ///
    /// Fails where the file has no `[ENVIRONMENT.local]`.
    pub fn on_this_machine(
        &self,
        environment: EnvironmentName,
    ) -> Result<&LocalSite, EnvironmentLookupError> {
        match self.platforms(environment) {
            None => Ok(&self.local),
            Some(platforms) => platforms
                .local
                .as_ref()
                .ok_or_else(|| self.lookup_error(environment, Platform::Local)),
        }
    }

    /// The environment's app on Heroku.
    ///
    /// # Errors
    ///
    /// Fails where the file has no `[ENVIRONMENT.heroku]`; `local` never has one.
    pub fn on_heroku(
        &self,
        environment: EnvironmentName,
    ) -> Result<&HerokuApp, EnvironmentLookupError> {
        self.platforms(environment)
            .and_then(|platforms| platforms.heroku.as_ref())
            .ok_or_else(|| self.lookup_error(environment, Platform::Heroku))
    }

    /// Where the environment's app answers on `platform`.
    ///
    /// # Errors
    ///
    /// Fails where the file has no section for this environment and platform.
    pub fn base_url(
        &self,
        environment: EnvironmentName,
        platform: Platform,
    ) -> Result<&Url, EnvironmentLookupError> {
        match platform {
            Platform::Local => self.on_this_machine(environment).map(|site| &site.base_url),
            Platform::Heroku => self.on_heroku(environment).map(|app| &app.base_url),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const LOCAL: &str =
        "[local]\ndatabase_url = \"sqlite:x.db\"\nbase_url = \"http://127.0.0.1:5000\"\n";

    fn parse(text: &str) -> Result<Environments, LoadEnvironmentsError> {
        Environments::parse(text, Path::new("environments.toml"))
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let text = format!("{LOCAL}pasword = \"x\"\n");
        let error = parse(&text).unwrap_err();
        let source = error.source().unwrap().to_string();
        assert!(source.contains("line 4") && source.contains("pasword"), "{source}");
    }

    #[test]
    fn what_is_wrong_is_placed_and_never_quoted() {
        let malformed = |text: &str| {
            let error = parse(text).unwrap_err();
            error.source().map_or_else(|| error.to_string(), ToString::to_string)
        };
        let url = "postgres://u:hunter2@127.0.0.1/d";
        let texts = [
            format!("[local]\ndatabase_url = \"{url}\" x\n"),
            format!("[local]\n# ü\ndatabase_url = \"{}\"\n", url.replace("postgres", "mysql")),
            format!("local = \"{url}\"\n"),
            LOCAL.replace("http://127.0.0.1:5000", url),
            "[local".to_owned(),
        ];
        let all = texts.map(|text| malformed(&text)).join("\n");
        assert!(!all.contains("hunter2"), "{all}");
        insta::assert_snapshot!(all, @r#"
        line 2, column 51: unexpected key or value, expected newline, `#`
        line 3, column 16: a database URL starts with `sqlite:`, `postgres://` or `postgresql://`, not `mysql:`
        line 1, column 9: invalid type: string "***", expected struct LocalSite
        in environments.toml, the base_url of local must start with http:// or https:// and name a host, not `postgres://127.0.0.1/d`
        line 1, column 7: unclosed table, expected `]`
        "#);
    }

    #[test]
    fn freeze_windows_belong_to_their_environment() {
        let window = |from, until| {
            format!(
                "{LOCAL}[[production.freeze]]\nfrom = {from}\nuntil = {until}\nreason = \"x\"\n"
            )
        };
        let (early, late) = ("2026-12-24T12:00:00Z", "2027-01-02T00:00:00Z");
        let environments = parse(&window(early, late)).unwrap();
        assert_eq!(environments.freeze_windows(EnvironmentName::Production).len(), 1);
        assert!(environments.freeze_windows(EnvironmentName::Staging).is_empty());
        assert!(environments.freeze_windows(EnvironmentName::Local).is_empty());
        let error = parse(&window(late, early)).unwrap_err();
        assert!(error.to_string().contains("ends before it begins"), "{error}");
        let error = parse(&window("2026-12-24", late)).unwrap_err();
        let source = error.source().unwrap().to_string();
        assert!(source.contains("line 5") && source.contains("with an offset"), "{source}");
    }

    #[test]
    fn an_unknown_environment_is_refused() {
        let error = parse(&format!("{LOCAL}[qa]\n")).unwrap_err();
        assert!(error.source().unwrap().to_string().contains("unknown field `qa`"));
    }

    #[test]
    fn a_missing_section_is_named() {
        let environments = parse(LOCAL).unwrap();
        let error = environments.on_this_machine(EnvironmentName::Staging).unwrap_err();
        insta::assert_snapshot!(
            error,
            @"environments.toml has no section [staging.local]; add it, or choose another platform"
        );
        assert!(environments.on_heroku(EnvironmentName::Local).is_err());
    }

    #[test]
    fn a_base_url_must_be_http() {
        let error = parse(&LOCAL.replace("http://127.0.0.1:5000", "ftp://x")).unwrap_err();
        insta::assert_snapshot!(
            error,
            @"in environments.toml, the base_url of local must start with http:// or https:// and name a host, not `ftp://x/`"
        );
    }

    #[test]
    fn the_shipped_file_has_every_environment_on_every_platform() {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(Environments::DEFAULT_FILE);
        let environments = Environments::load(&file).unwrap();
        for environment in EnvironmentName::ALL {
            environments.on_this_machine(environment).unwrap();
        }
        let staging = environments.on_heroku(EnvironmentName::Staging).unwrap();
        assert_eq!(staging.app, "omnitool-by-xdv-staging");
        let production = environments.on_heroku(EnvironmentName::Production).unwrap();
        assert_eq!(production.app, "omnitool-by-xdv");
    }
}
