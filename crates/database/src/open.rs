//! Opening connections.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, ConnectionError, PgConnection, SqliteConnection,
    connection::SimpleConnection as _,
};
use omnitool_environment::{DatabaseKind, DatabaseUrl, EnvironmentName};

use crate::{
    AnyConnection,
    migration::{self, CheckSchemaError},
    stamp::{self, CheckStampError},
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reading and writing; a SQLite file that does not exist is made, with its folders.
    Create,
    /// Reading and writing what exists.
    Write,
    /// Reading only; the database refuses anything else.
    Read,
    /// Reading a SQLite file that nobody writes, such as a backup: it takes no locks and makes no side files.
    Immutable,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file.
    #[error("there is no database file {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is something at the path that is no file.
    #[error("{path} is not a file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file cannot be looked at, or its folder cannot be made.
    #[error("cannot reach the database file {path}")]
    Reach {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection would carry everything in clear text over a network.
    #[error(
        "this build has no TLS and refuses the PostgreSQL host `{host}`: it could only connect in clear text"
    )]
    ClearText {
        /// The host that is not this machine.
        host: String,
    },
    /// The database refused or did not answer.
    #[error("cannot connect to {url}")]
    Connect {
        /// The URL without its password.
        url: String,
        /// What the database says.
        #[source]
        source: ConnectionError,
    },
    /// The file is no database, or the connection's settings were refused.
    #[error("cannot use {url} as a database")]
    Configure {
        /// The URL without its password.
        url: String,
        /// What the database says.
        #[source]
        source: diesel::result::Error,
    },
}

/// Why a program cannot work on a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its schema is not the one that this build works with.
    #[error(transparent)]
    Schema(#[from] CheckSchemaError),
    /// It belongs to another environment.
    #[error(transparent)]
    Stamp(#[from] CheckStampError),
}

/// Opens the database at `url` whose schema must be current and whose stamp must be `environment`, if one is given.
///
/// Returns the connection and the environment that the database's stamp says it is.
///
/// # Errors
///
/// Fails where the database cannot be opened, has pending or unknown migrations, has no stamp, or another one.
pub fn connect(
    url: &DatabaseUrl,
    environment: Option<EnvironmentName>,
    mode: Mode,
) -> Result<(AnyConnection, EnvironmentName), ConnectError> {
    let mut conn = open(url, mode)?;
    migration::check_current(&mut conn)?;
    let stamped = stamp::check(&mut conn, environment)?;
    Ok((conn, stamped))
}

/// Opens the database at `url`, without looking at its schema or stamp.
///
/// # Errors
///
/// Fails where the file is missing (except with [`Mode::Create`]) or the database cannot be reached, and where a build
/// without TLS is asked to connect over a network.
pub fn open(url: &DatabaseUrl, mode: Mode) -> Result<AnyConnection, OpenError> {
    match url.kind() {
        DatabaseKind::Sqlite { path } => open_sqlite(url, path, mode).map(AnyConnection::Sqlite),
        DatabaseKind::Postgres { stays_on_this_machine, host, .. } => {
            if !stays_on_this_machine && !cfg!(feature = "tls") {
                return Err(OpenError::ClearText { host: host.clone() });
            }
            open_postgres(url, *stays_on_this_machine, mode).map(AnyConnection::Postgres)
        }
        _ => unreachable!("DatabaseKind has two kinds"),
    }
}

fn open_sqlite(url: &DatabaseUrl, path: &Path, mode: Mode) -> Result<SqliteConnection, OpenError> {
    let reach = |source| OpenError::Reach { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(OpenError::NotAFile { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if mode != Mode::Create {
                return Err(OpenError::Missing { path: path.to_owned() });
            }
            create_private(path).map_err(reach)?;
        }
        Err(error) => return Err(reach(error)),
    }
    let mut conn = SqliteConnection::establish(&sqlite_uri(path, mode))
        .map_err(|source| OpenError::Connect { url: url.to_string(), source })?;
    // WAL lets readers go on while somebody writes; with it, NORMAL loses no committed transaction when a process dies.
    let settings = match mode {
        Mode::Create | Mode::Write => {
            "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
             PRAGMA foreign_keys = ON;"
        }
        Mode::Read | Mode::Immutable => {
            "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA query_only = ON;"
        }
    };
    configure(&mut conn, settings)
        .map_err(|source| OpenError::Configure { url: url.to_string(), source })?;
    Ok(conn)
}

/// Several programs that open a new file at once want to switch it to the write-ahead log, and SQLite lets all but one fail
/// without waiting, whatever the busy timeout says.
fn configure(conn: &mut SqliteConnection, settings: &str) -> diesel::QueryResult<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let configured = conn
            .batch_execute(settings)
            // The settings alone do not read the file; this does, and fails where it is no database.
            .and_then(|()| conn.batch_execute("SELECT count(*) FROM sqlite_schema"));
        match configured {
            Err(error)
                if error.to_string().contains("database is locked")
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// Makes the file with mode 0600, since it will hold personal data; SQLite gives its side files the same mode.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        // Somebody else made it a moment ago, which is as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// How SQLite is told to open `path`, for connections and for `ATTACH`.
#[must_use]
pub fn sqlite_uri(path: &Path, mode: Mode) -> String {
    let mut uri = String::from("file:");
    for character in path.to_string_lossy().chars() {
        match character {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            other => uri.push(other),
        }
    }
    // The file exists by now, so that a writer never makes an empty database by mistake.
    uri.push_str(match mode {
        Mode::Create | Mode::Write => "?mode=rw",
        Mode::Read => "?mode=ro",
        Mode::Immutable => "?mode=ro&immutable=1",
    });
    uri
}

fn open_postgres(
    url: &DatabaseUrl,
    stays_on_this_machine: bool,
    mode: Mode,
) -> Result<PgConnection, OpenError> {
    let mut conn = PgConnection::establish(&postgres_uri(url, stays_on_this_machine))
        .map_err(|source| OpenError::Connect { url: url.to_string(), source })?;
    // Compiling a query takes half a second where a table has no statistics yet, and running it a millisecond.
    let settings = match mode {
        Mode::Create | Mode::Write => "SET TIME ZONE 'UTC'; SET jit = off",
        Mode::Read | Mode::Immutable => {
            "SET TIME ZONE 'UTC'; SET jit = off; \
             SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
        }
    };
    conn.batch_execute(settings)
        .map_err(|source| OpenError::Configure { url: url.to_string(), source })?;
    Ok(conn)
}

/// The URL with defaults of ours where it says nothing.
fn postgres_uri(url: &DatabaseUrl, stays_on_this_machine: bool) -> String {
    // libpq's own default, `prefer`, falls back to clear text where a server (or somebody in between) offers no TLS.
    let sslmode = if stays_on_this_machine { "prefer" } else { "require" };
    // An empty `hostaddr` keeps libpq from taking PGHOSTADDR or a service file, which would lead the connection away
    // from the host that was checked.
    let defaults = [
        ("hostaddr", ""),
        ("connect_timeout", "10"),
        ("application_name", "omnitool"),
        ("sslmode", sslmode),
        // A server that is silent, as behind a router that forgot the connection, is noticed within half a minute, and not
        // after hours.
        ("keepalives_idle", "10"),
        ("keepalives_interval", "5"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "25000"),
    ];
    let mut uri = url.expose().to_owned();
    let query = uri.split_once('?').map_or("", |(_, query)| query).to_owned();
    for (key, value) in defaults {
        let given = query.split('&').any(|pair| pair.split('=').next() == Some(key));
        if !given {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(key);
            uri.push('=');
            uri.push_str(value);
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_added_only_where_the_url_says_nothing() {
        let url = "postgres://u@localhost/d?connect_timeout=3".parse().unwrap();
        assert_eq!(
            postgres_uri(&url, true),
            "postgres://u@localhost/d?connect_timeout=3&hostaddr=&application_name=omnitool&sslmode=prefer\
             &keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=25000"
        );
    }

    #[test]
    fn a_network_connection_is_encrypted_unless_the_url_says_otherwise() {
        let url = "postgres://u@db.example.com/d".parse().unwrap();
        assert!(postgres_uri(&url, false).contains("&sslmode=require&"));
        let url = "postgres://u@db.example.com/d?sslmode=verify-full".parse().unwrap();
        assert!(!postgres_uri(&url, false).contains("sslmode=require"));
    }

    #[test]
    fn a_path_with_special_characters_stays_one_path() {
        assert_eq!(sqlite_uri(Path::new("/a?b#c%d"), Mode::Read), "file:/a%3fb%23c%25d?mode=ro");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_tls_refuses_the_network() {
        let url = "postgres://u:hunter2@db.example.com/d".parse().unwrap();
        let Err(error) = open(&url, Mode::Write) else { panic!("must be refused") };
        assert_eq!(
            error.to_string(),
            "this build has no TLS and refuses the PostgreSQL host `db.example.com`: it could only connect in clear text"
        );
    }
}
