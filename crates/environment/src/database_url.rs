//! Database URLs that never print their password.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

/// Where a database is: a SQLite file or a PostgreSQL server.
///
/// Accepted are `sqlite:PATH`, `sqlite://PATH`, a bare path that ends in `.db`, `.sqlite` or `.sqlite3`, and
/// `postgres://` or `postgresql://` URLs that name a host or, with `?host=/folder`, a unix socket.
///
/// `Debug` and `Display` show the URL without its password. [`DatabaseUrl::expose`] gives the real one.
#[derive(Clone)]
pub struct DatabaseUrl {
    kind: DatabaseKind,
    secret: SecretString,
    redacted: String,
}

/// Which database system a [`DatabaseUrl`] names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatabaseKind {
    /// A SQLite file.
    Sqlite {
        /// The file, as written; relative paths are relative to the working folder.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// Whether all traffic stays on this machine: a unix socket or a loopback address.
        stays_on_this_machine: bool,
        /// The host or socket folder, for messages.
        host: String,
        /// The database's name; empty where the URL leaves it to the server.
        database: String,
    },
}

/// A text that is no database URL. The text itself is not shown, since it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDatabaseUrlError {
    /// Nothing was given.
    #[error("the database URL is empty")]
    Empty,
    /// The URL's scheme is not one that we can open.
    #[error(
        "a database URL starts with `sqlite:`, `postgres://` or `postgresql://`, not `{scheme}`"
    )]
    UnknownScheme {
        /// The part before the first colon, or a placeholder where there is none.
        scheme: String,
    },
    /// The text after `sqlite:` names no file.
    #[error("the database URL `sqlite:` names no file")]
    NoFile,
    /// The URL cannot be parsed.
    #[error("the PostgreSQL URL is malformed: {reason}")]
    Malformed {
        /// What the URL parser says; it never quotes the URL.
        reason: String,
    },
    /// A character has another meaning to libpq than to the URL standard, or none: libpq would take a part of the password for
    /// the host, or print it.
    #[error(
        "the PostgreSQL URL has {found}: write what belongs to a user's name, a password or a parameter percent-encoded (`@` is `%40`, `%` is `%25`, `#` is `%23`, `&` is `%26`, `=` is `%3D`)"
    )]
    NotEncoded {
        /// What it is, without the text around it.
        found: &'static str,
    },
    /// The URL names no host, so where the traffic goes would depend on the environment.
    #[error(
        "the PostgreSQL URL names no host; write `postgres://user@HOST/name`, or `postgres:///name?host=/folder` for a unix socket"
    )]
    NoHost,
    /// `service=` reads a file that may replace the host.
    #[error(
        "the PostgreSQL URL has the parameter `service`, which hides where it connects to; write the host"
    )]
    Service,
}

impl DatabaseUrl {
    /// The URL of a SQLite file.
    #[must_use]
    pub fn sqlite(path: &Path) -> Self {
        let text = format!("sqlite:{}", path.display());
        Self {
            kind: DatabaseKind::Sqlite { path: path.to_owned() },
            redacted: text.clone(),
            secret: text.into(),
        }
    }

    /// Which database system this is.
    #[must_use]
    pub const fn kind(&self) -> &DatabaseKind {
        &self.kind
    }

    /// The SQLite file, where this is one.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        match &self.kind {
            DatabaseKind::Sqlite { path } => Some(path),
            DatabaseKind::Postgres { .. } => None,
        }
    }

    /// The URL with its password, for the code that opens the connection or starts a program that does.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// This URL with a relative SQLite path made relative to `folder` instead of the working folder.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match &self.kind {
            DatabaseKind::Sqlite { path } if path.is_relative() => Self::sqlite(&folder.join(path)),
            _ => self,
        }
    }

    fn parse_postgres(text: &str) -> Result<Self, ParseDatabaseUrlError> {
        if let Some(found) = not_encoded(text) {
            return Err(ParseDatabaseUrlError::NotEncoded { found });
        }
        let mut url = Url::parse(text)
            .map_err(|error| ParseDatabaseUrlError::Malformed { reason: error.to_string() })?;
        let mut hosts: Vec<String> = Vec::new();
        // libpq lets parameters override the authority, and `hostaddr` override both.
        for (key, value) in url.query_pairs() {
            match &*key {
                "service" => return Err(ParseDatabaseUrlError::Service),
                "host" | "hostaddr" => hosts.extend(value.split(',').map(ToOwned::to_owned)),
                _ => {}
            }
        }
        if let Some(host) = url.host_str().filter(|host| !host.is_empty()) {
            // The host of a scheme that the URL standard does not know stays percent-encoded; libpq decodes it.
            hosts.extend(percent_decode(host).split(',').map(ToOwned::to_owned));
        }
        hosts.retain(|host| !host.is_empty());
        let Some(host) = hosts.first().cloned() else {
            return Err(ParseDatabaseUrlError::NoHost);
        };
        let kind = DatabaseKind::Postgres {
            stays_on_this_machine: hosts.iter().all(|host| stays_on_this_machine(host)),
            host,
            database: percent_decode(url.path().trim_start_matches('/')),
        };
        Ok(Self { kind, redacted: redact(&mut url), secret: text.to_owned().into() })
    }
}

/// What in a PostgreSQL URL the URL standard and libpq read differently, or what libpq refuses by quoting it. libpq ends the
/// user's name and password at the first `@` before a `/`, the standard at the last one before a `/`, `?` or `#`.
fn not_encoded(text: &str) -> Option<&'static str> {
    if text.contains('#') {
        return Some("a `#`");
    }
    let is_escape = |rest: &str| {
        rest.get(..2)
            .is_some_and(|code| code != "00" && code.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if text.split('%').skip(1).any(|rest| !is_escape(rest)) {
        return Some("a `%` that encodes no character");
    }
    let (_, rest) = text.split_once("://")?;
    let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = base.split_once('/').map_or((base, None), |(a, p)| (a, Some(p)));
    let ends_early = path.is_none() && query.contains('@');
    if authority.matches('@').count() > 1
        || path.is_some_and(|path| path.contains('@'))
        || ends_early
    {
        return Some("an `@` that may be a part of the password");
    }
    let is_pair = |pair: &str| pair.matches('=').count() == 1;
    (!query.is_empty() && !query.split('&').all(is_pair))
        .then_some("a parameter that is not of the form `name=value`")
}

/// Whether a parameter's value is not for everybody's eyes. libpq knows them in lower case only, and people may not.
fn is_secret(parameter: &str) -> bool {
    parameter.to_ascii_lowercase().contains("password")
}

/// Replaces every password in `url`, wherever libpq accepts one.
fn redact(url: &mut Url) -> String {
    if url.password().is_some() {
        // Fails only for URLs without an authority, which have no password either.
        let _ = url.set_password(Some("***"));
    }
    if url.query_pairs().any(|(key, _)| is_secret(&key)) {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(key, value)| {
                let shown = if is_secret(&key) { "***" } else { &*value };
                (key.clone().into_owned(), shown.to_owned())
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.to_string()
}

fn percent_decode(text: &str) -> String {
    // The query decoder is the `url` crate's own; a plus sign is literal outside of queries.
    let escaped = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(escaped.as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

fn stays_on_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.starts_with('/')
        // libpq's abstract-namespace unix sockets.
        || host.starts_with('@')
        || host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FromStr for DatabaseUrl {
    type Err = ParseDatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseDatabaseUrlError::Empty);
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Self::parse_postgres(text);
        }
        if let Some(rest) = text.strip_prefix("sqlite:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() {
                return Err(ParseDatabaseUrlError::NoFile);
            }
            return Ok(Self::sqlite(Path::new(path)));
        }
        let is_file = [".db", ".sqlite", ".sqlite3"].iter().any(|ending| text.ends_with(ending));
        if is_file && !text.contains("://") {
            return Ok(Self::sqlite(Path::new(text)));
        }
        let scheme = match text.split_once(':') {
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
                format!("{scheme}:")
            }
            _ => "(no scheme)".to_owned(),
        };
        Err(ParseDatabaseUrlError::UnknownScheme { scheme })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl").field(&self.redacted).finish()
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn sqlite_is_written_three_ways() {
        for text in ["sqlite:a/b.db", "sqlite://a/b.db", "a/b.db"] {
            assert_eq!(parse(text).sqlite_path(), Some(Path::new("a/b.db")), "{text}");
        }
        assert_eq!(parse("sqlite:///a/b").sqlite_path(), Some(Path::new("/a/b")));
    }

    #[test]
    fn a_password_is_never_printed() {
        for text in [
            "postgres://u:hunter2@db.example.com/app",
            "postgres://u@db.example.com/app?password=hunter2&sslmode=require",
            "postgresql:///app?host=/run&user=u&password=hunter2",
            "postgres://u@db.example.com/app?sslkey=k&sslpassword=hunter2",
            "postgres://u@db.example.com/app?PASSWORD=hunter2",
            "postgres://u@db.example.com/app?p%61ssword=hunter2",
        ] {
            let url = parse(text);
            assert!(!format!("{url} {url:?}").contains("hunter2"), "{url}");
            assert_eq!(url.expose(), text);
        }
    }

    #[test]
    fn errors_never_quote_the_text() {
        for text in ["mysql://u:hunter2@h/d", "hunter2", "postgres://u:hunter2@h:99999999/d"] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_libpq_reads_otherwise_is_refused_without_a_quote() {
        for text in [
            "postgres://u:100%hunter2@127.0.0.1/d",
            "postgres://u:hunter2%00@127.0.0.1/d",
            "postgres://u:hunter2%4@127.0.0.1/d",
            "postgres://u:hunter2%",
            "postgres://u:x@hunter2@127.0.0.1/d",
            "postgres://u:x@192.0.2.1:5432,q@127.0.0.1/d",
            "postgres://u:1/hunter2@127.0.0.1/d",
            "postgres://u:1?hunter2@127.0.0.1/d",
            "postgres://127.0.0.1?application_name=hunter2@192.0.2.1",
            "postgres://u:1#hunter2@192.0.2.1/d",
            "postgres://u@127.0.0.1/d?password=x&hunter2",
            "postgres://u@127.0.0.1/d?password=hunter2=",
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(matches!(error, ParseDatabaseUrlError::NotEncoded { .. }), "{text}: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let encoded = "postgres://u:%40%25%23%2F@127.0.0.1/d%40e?host=@abstract&options=-c%20a%3Db";
        assert!(!parse(encoded).to_string().contains("%25"));
    }

    #[test]
    fn only_loopback_and_sockets_stay_on_this_machine() {
        for (text, expected) in [
            ("postgres://u@127.0.0.1:5433/d", true),
            ("postgres://u@[::1]/d", true),
            ("postgres://u@LOCALHOST/d", true),
            ("postgres:///d?host=/tmp/sock", true),
            ("postgres://%2Ftmp%2Fsock/d", true),
            ("postgres://u@db.example.com/d", false),
            ("postgres://u@localhost/d?hostaddr=10.0.0.1", false),
            ("postgres://u@localhost/d?host=db.example.com", false),
            ("postgres://u@localhost,db.example.com/d", false),
            ("postgres://u@localhost.example.com/d", false),
        ] {
            let DatabaseKind::Postgres { stays_on_this_machine, .. } = parse(text).kind else {
                panic!("{text} is PostgreSQL");
            };
            assert_eq!(stays_on_this_machine, expected, "{text}");
        }
    }

    #[test]
    fn a_postgres_url_must_say_where_it_connects_to() {
        assert_eq!(
            "postgres:///d".parse::<DatabaseUrl>().unwrap_err(),
            ParseDatabaseUrlError::NoHost
        );
        assert_eq!(
            "postgres://h/d?service=prod".parse::<DatabaseUrl>().unwrap_err(),
            ParseDatabaseUrlError::Service
        );
    }

    proptest! {
        #[test]
        fn no_password_survives_redaction(password in "[a-zA-Z0-9]{12,24}") {
            let url = parse(&format!("postgres://user:{password}@host/db?password={password}"));
            prop_assert!(!url.to_string().contains(&password));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<DatabaseUrl>();
            let _ = format!("postgres://{text}").parse::<DatabaseUrl>();
        }
    }
}
