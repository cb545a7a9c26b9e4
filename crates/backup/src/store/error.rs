//! What can go wrong with a database or a backup.

use std::{error::Error, io, path::PathBuf};

use omnitool_database::{OpenError, migration::MigrateError, stamp::ReadStampError};

use crate::{CaptureError, UnsealError};

/// What a database system or its programs say.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The URL does not say which database is to be backed up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL {url} names no database, so that it depends on who asks")]
pub struct UnsupportedDatabaseError {
    /// The database, without its password.
    pub url: String,
}

/// Why it is unclear which environment's backups are meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindEnvironmentError {
    /// There are no backups of such a database.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedDatabaseError),
    /// The database cannot be asked.
    #[error(transparent)]
    Read(#[from] ReadDatabaseError),
    /// The database does not say.
    #[error("this database has no environment stamp, and no environment was named")]
    Unstamped,
}

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadDatabaseError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A query failed.
    #[error("cannot read the database")]
    Query(#[from] diesel::result::Error),
    /// Its migrations cannot be read.
    #[error(transparent)]
    Schema(#[from] MigrateError),
    /// Its stamp cannot be read.
    #[error("cannot read the database's environment stamp")]
    Stamp(#[from] ReadStampError),
    /// What lies beside it cannot be read.
    #[error("cannot look for an interrupted restore")]
    Beside(#[source] io::Error),
    /// Its server cannot be asked about it.
    #[error("cannot ask the server of {database}")]
    Server {
        /// The database, without its password.
        database: String,
        /// Why.
        #[source]
        source: Cause,
    },
}

/// Why a database could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database system could not write the copy.
    #[error("cannot copy the database to {file}")]
    Copy {
        /// Where to.
        file: PathBuf,
        /// What the database says.
        #[source]
        source: Cause,
    },
}

/// Why a database that a restore had kept is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DropOldError {
    /// The server cannot be reached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The server refused.
    #[error("cannot drop the old database {name}")]
    Drop {
        /// The old database.
        name: String,
        /// What the database says.
        #[source]
        source: Cause,
    },
}

/// Why the database of a rehearsal is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DropCopyError {
    /// Its name does not say that it is one.
    #[error("{database} is no database of a rehearsal: the names of those begin with `{begins}`")]
    NotOne {
        /// The database, without its password.
        database: String,
        /// What the name must begin with.
        begins: &'static str,
    },
    /// The server cannot be reached, or refused.
    #[error("cannot drop {database}")]
    Drop {
        /// The database, without its password.
        database: String,
        /// What the server says.
        #[source]
        source: Cause,
    },
}

/// Why a file is no good backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It cannot be reached.
    #[error("cannot reach the backup {file}")]
    Reach {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a link, or something else.
    #[error("the backup {file} is {found}, not a file")]
    NotAFile {
        /// The path.
        file: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// It begins like no database.
    #[error("the backup {file} is {found}")]
    NotADatabase {
        /// The file.
        file: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// It was copied from under a running database and lacks what is in the log.
    #[error("the backup {file} is not whole: the newest changes are still in {log}")]
    HasLog {
        /// The file.
        file: PathBuf,
        /// The write-ahead log beside it.
        log: PathBuf,
    },
    /// It is a database and broken.
    #[error("the backup {file} is damaged: {problem}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What its checks found.
        problem: String,
    },
    /// The program that reads it cannot be run.
    #[error("cannot run what reads the backup {file}")]
    Program {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
    /// It cannot be read as a database.
    #[error("cannot read the backup {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the database says.
        #[source]
        source: ReadDatabaseError,
    },
}

/// Why a backup was not restored. The database is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Somebody else is at it.
    #[error("another rollback of {database} is running")]
    Running {
        /// The live database, without its password.
        database: String,
    },
    /// The backup could not be copied beside the live database.
    #[error("cannot copy the backup beside the live database {database}")]
    Stage {
        /// The live database, without its password.
        database: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server did not do its part.
    #[error("cannot restore beside the live database {database}")]
    Server {
        /// The live database, without its password.
        database: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The backup is not the one that was checked.
    #[error("the backup {label} was changed while it was being restored")]
    Changed {
        /// The backup.
        label: String,
    },
    /// The backup is encrypted and cannot be decrypted.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// The caller's checks found something in the staged copy.
    #[error("the backup {label} fails its checks: {problem}")]
    Unfit {
        /// The backup.
        label: String,
        /// What they found.
        problem: String,
    },
    /// The live database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The live database stayed busy.
    #[error("the live database was locked by another writer for {waited_seconds} s")]
    Locked {
        /// How long this one waited.
        waited_seconds: u64,
    },
    /// Only with a write-ahead log, the safety backup can be read while nobody else can write.
    #[error(
        "the live database {database} cannot use a write-ahead log: its journal mode stays `{journal}`"
    )]
    Journal {
        /// The live database.
        database: String,
        /// The journal mode that it has.
        journal: String,
    },
    /// There is no way back without it.
    #[error("cannot take the safety backup")]
    Safety(#[from] CaptureError),
    /// The database refused something.
    #[error("cannot replace the content of the live database")]
    Replace(#[source] Cause),
    /// The result was not what it should be, and was rolled back.
    #[error("the restored content is not what the backup holds: {problem}")]
    Check {
        /// What differs.
        problem: String,
    },
    /// The result cannot be looked at.
    #[error("cannot check the restored content")]
    Read(#[from] ReadDatabaseError),
}

impl From<diesel::result::Error> for RestoreError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Replace(error.into())
    }
}
