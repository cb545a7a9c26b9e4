//! What can go wrong with a backup on Heroku.

use std::io;

use omnitool_environment::{EnvironmentName, ParseDatabaseUrlError};
use omnitool_heroku::HerokuError;

use super::{DATABASE_VARIABLE, HerokuRecordError};
use crate::{BackupId, InspectError, RestoreError, UnsupportedDatabaseError};

/// Why something about backups on Heroku was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HerokuBackupError {
    /// Heroku refused, or gave no answer.
    #[error(transparent)]
    Heroku(#[from] HerokuError),
    /// The app's config has no address of its database.
    #[error("the app {app} has no config var {DATABASE_VARIABLE}")]
    NoDatabase {
        /// The app.
        app: String,
    },
    /// The address is none of a database.
    #[error("cannot use the config var {DATABASE_VARIABLE} of {app}")]
    Address {
        /// The app.
        app: String,
        /// Why.
        #[source]
        source: ParseDatabaseUrlError,
    },
    /// The address names no database.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedDatabaseError),
    /// What is known about backups on this machine cannot be used.
    #[error(transparent)]
    Record(#[from] HerokuRecordError),
    /// There is no such backup.
    #[error("there is no backup {id} of the app {app}")]
    NotFound {
        /// The name.
        id: BackupId,
        /// The app.
        app: String,
    },
    /// Heroku says that it is none.
    #[error("the backup {id} cannot be used: {problem}")]
    Unfit {
        /// The backup.
        id: BackupId,
        /// What Heroku says.
        problem: String,
    },
    /// It was begun, and how it ended is not known.
    #[error("the backup {id} was begun, and it is not known to be good")]
    Begun {
        /// The backup.
        id: BackupId,
        /// Why it is not known.
        #[source]
        source: Box<Self>,
    },
    /// It could not be fetched to look at it.
    #[error("cannot download the backup {id}")]
    Download {
        /// The backup.
        id: BackupId,
        /// Why.
        #[source]
        source: HerokuError,
    },
    /// There is no place for it here.
    #[error("cannot write the backup {id} to a file of this machine")]
    File {
        /// The backup.
        id: BackupId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no good.
    #[error("the backup {id} failed its checks")]
    Inspect {
        /// The backup.
        id: BackupId,
        /// Why.
        #[source]
        source: InspectError,
    },
    /// It is one of another environment.
    #[error("the backup {id} is stamped `{stamped}`, but `{wanted}` was asked for")]
    Stamp {
        /// The backup.
        id: BackupId,
        /// What it is.
        stamped: EnvironmentName,
        /// What the caller named.
        wanted: EnvironmentName,
    },
    /// It is not what it was.
    #[error(
        "the backup {id} is not the one that was taken: its SHA-256 is {found} instead of {expected}"
    )]
    Changed {
        /// The backup.
        id: BackupId,
        /// What it is.
        found: String,
        /// What it was.
        expected: String,
    },
    /// It could not be restored where nobody looks.
    #[error("cannot restore backup {id} to look at it")]
    Rehearse {
        /// The backup.
        id: BackupId,
        /// Why.
        #[source]
        source: Box<RestoreError>,
    },
}

impl HerokuBackupError {
    /// Whether it says something of the backup, and not of what should have looked at it.
    pub(super) fn is_about_the_backup(&self) -> bool {
        match self {
            Self::Inspect { source, .. } => !matches!(source, InspectError::Program { .. }),
            Self::Rehearse { source, .. } => matches!(
                **source,
                RestoreError::Unfit { .. }
                    | RestoreError::Check { .. }
                    | RestoreError::Changed { .. }
            ),
            Self::Stamp { .. } | Self::Changed { .. } | Self::Unfit { .. } => true,
            _ => false,
        }
    }
}
