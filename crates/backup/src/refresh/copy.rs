//! The copy of production that becomes staging: nobody's database until it takes staging's place.

use std::path::{Path, PathBuf};

use omnitool_database::{AnyConnection, Mode, OpenError, open};
use omnitool_environment::{DatabaseKind, DatabaseUrl};

use super::store as refresh_store;
use crate::{
    Cause, CopyError, Progress, Store,
    store::{self, PostgresCopy},
};

/// What the file of a copy adds to the database's name: of SQLite the copy itself, of PostgreSQL the dump of the source.
const SOURCE: &str = ".refresh";
/// What the file adds that takes the database's place.
const RESULT: &str = ".refreshed";

/// A copy that no environment uses. It goes away with this value, whatever happens.
///
/// Nothing else can be masked: the only way to one of these is to make it, and opening it looks for the mark that was set
/// then, by a random number that is nowhere else.
#[derive(Debug)]
pub struct UnattachedCopy {
    url: DatabaseUrl,
    token: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Sqlite(TemporaryFile),
    /// A database of an add-on that was made for this and that nobody uses; it stays.
    AddOn,
    /// The database goes away with its value.
    Postgres {
        _database: Box<PostgresCopy>,
        folder: PathBuf,
        name: String,
    },
}

/// Why a database could not be copied beside another one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeCopyError {
    /// The source cannot be read.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The folder for the copy cannot be used.
    #[error("cannot write the copy {}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server did not take it.
    #[error("cannot make a copy on the server of {database}")]
    Server {
        /// The database that is refreshed, without its password.
        database: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The copy cannot be marked.
    #[error("cannot mark the copy")]
    Mark(#[from] diesel::result::Error),
    /// The copy cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no random number to mark it with.
    #[error("the system gives no random numbers to mark the copy with")]
    Random(#[source] getrandom::Error),
}

/// Why a copy cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenCopyError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Somebody has put another database in its place.
    #[error("{database} is not the copy that was made")]
    NotTheCopy {
        /// The database, without its password.
        database: String,
    },
}

impl UnattachedCopy {
    /// Copies the source as it is at one moment, while others go on using it, to beside `target`. Files are in `folder`.
    ///
    /// # Errors
    ///
    /// Fails where the source cannot be read or the copy cannot be written; nothing is left of it.
    pub fn make(
        source: &dyn Store,
        target: &DatabaseUrl,
        folder: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, MakeCopyError> {
        let name = file_name(target);
        let file = TemporaryFile::create(folder.join(format!("{name}{SOURCE}")))?;
        source.copy_to(file.path(), progress)?;
        let (url, place) = match target.kind() {
            DatabaseKind::Sqlite { .. } => (DatabaseUrl::sqlite(file.path()), Place::Sqlite(file)),
            _ => {
                let server =
                    |source| MakeCopyError::Server { database: target.to_string(), source };
                let database =
                    PostgresCopy::restore(target, file.path(), progress).map_err(server)?;
                // From here on, what is not masked is only on the server.
                drop(file);
                let folder = folder.to_owned();
                (
                    database.url().clone(),
                    Place::Postgres { _database: Box::new(database), folder, name },
                )
            }
        };
        Self::marked(url, place)
    }

    /// A database that was made on Heroku under a name of our own to become a copy, and that no app uses yet.
    pub(crate) fn adopt(url: &DatabaseUrl) -> Result<Self, MakeCopyError> {
        Self::marked(url.clone(), Place::AddOn)
    }

    fn marked(url: DatabaseUrl, place: Place) -> Result<Self, MakeCopyError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(MakeCopyError::Random)?;
        let token = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let copy = Self { url, token, place };
        refresh_store::mark(&mut open(&copy.url, Mode::Write)?, &copy.token)?;
        Ok(copy)
    }

    /// Where it is.
    #[must_use]
    pub const fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// A connection that may write, to this copy and to nothing else.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be opened or is not what was made.
    pub(crate) fn open(&self) -> Result<AnyConnection, OpenCopyError> {
        let mut conn = open(&self.url, Mode::Write)?;
        if refresh_store::is_marked(&mut conn, &self.token) {
            Ok(conn)
        } else {
            Err(OpenCopyError::NotTheCopy { database: self.url.to_string() })
        }
    }

    /// Takes the mark away: nothing can mask it any more, and it is a database like any other.
    pub(crate) fn unmark(&self) -> Result<(), MakeCopyError> {
        Ok(refresh_store::unmark(&mut open(&self.url, Mode::Write)?)?)
    }

    /// The copy as a file that can be restored.
    pub(crate) fn as_backup(
        &self,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BackupFile<'_>, MakeCopyError> {
        match &self.place {
            Place::Sqlite(file) => {
                refresh_store::close_log(&mut open(&self.url, Mode::Write)?)?;
                Ok(BackupFile::Copy(file.path()))
            }
            Place::AddOn => Err(MakeCopyError::Server {
                database: self.url.to_string(),
                source: "it is promoted where it is, and not restored".into(),
            }),
            Place::Postgres { folder, name, .. } => {
                let file = TemporaryFile::create(folder.join(format!("{name}{RESULT}")))?;
                let store = store::for_url(&self.url).map_err(|error| MakeCopyError::Server {
                    database: self.url.to_string(),
                    source: error.into(),
                })?;
                store.copy_to(file.path(), progress)?;
                Ok(BackupFile::Dump(file))
            }
        }
    }

    /// Removes what killed runs left for `target` in `folder` and on its server.
    pub(crate) fn remove_leftovers(
        target: &DatabaseUrl,
        folder: &Path,
    ) -> Result<(), MakeCopyError> {
        let name = file_name(target);
        for suffix in [SOURCE, RESULT] {
            let file = folder.join(format!("{name}{suffix}"));
            remove(&file).map_err(|source| MakeCopyError::File { file, source })?;
        }
        if target.sqlite_path().is_none() {
            PostgresCopy::drop_abandoned(target)
                .map_err(|source| MakeCopyError::Server { database: target.to_string(), source })?;
        }
        Ok(())
    }

    /// What killed runs left, by name.
    pub(crate) fn leftovers(
        target: &DatabaseUrl,
        folder: &Path,
    ) -> Result<Vec<String>, MakeCopyError> {
        let name = file_name(target);
        let mut found: Vec<String> = [SOURCE, RESULT]
            .into_iter()
            .map(|suffix| folder.join(format!("{name}{suffix}")))
            .filter(|file| file.exists())
            .map(|file| file.display().to_string())
            .collect();
        if target.sqlite_path().is_none() {
            let server = |source| MakeCopyError::Server { database: target.to_string(), source };
            found.extend(PostgresCopy::abandoned(target).map_err(server)?);
        }
        Ok(found)
    }
}

/// A file that can be restored, for as long as the copy lives.
#[derive(Debug)]
pub(crate) enum BackupFile<'a> {
    Copy(&'a Path),
    Dump(TemporaryFile),
}

impl BackupFile<'_> {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Copy(path) => path,
            Self::Dump(file) => file.path(),
        }
    }
}

/// A file of mode 0600 that is removed with this value.
#[derive(Debug)]
pub(crate) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn create(path: PathBuf) -> Result<Self, MakeCopyError> {
        let made = remove(&path).and_then(|()| {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&path)
        });
        match made {
            Ok(_) => Ok(Self(path)),
            Err(source) => Err(MakeCopyError::File { file: path, source }),
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(
                "cannot remove {}, which holds personal data: {error}",
                self.0.display()
            );
        }
    }
}

/// Removes a database file with what SQLite keeps beside it.
fn remove(file: &Path) -> std::io::Result<()> {
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What files of the database begin with.
pub(super) fn file_name(url: &DatabaseUrl) -> String {
    match url.kind() {
        DatabaseKind::Sqlite { path } => {
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        }
        DatabaseKind::Postgres { database, .. } => database
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
            .take(40)
            .collect(),
        _ => String::new(),
    }
}
