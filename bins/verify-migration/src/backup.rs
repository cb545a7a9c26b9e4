//! Finds the backup that check 12 compares with.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use omnitool_backup::{
    BackupId, BrokenBackup, Catalog, CatalogError, DEFAULT_FOLDER, Kind, Manifest,
    ParseBackupIdError, ParseManifestError,
};
use omnitool_environment::EnvironmentName;
use omnitool_verification::LastBackup;

/// Why the last backup is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindBackupError {
    /// The folder cannot be read.
    #[error("cannot list the backups")]
    List(#[from] CatalogError),
    /// There are backups, and none of them is whole.
    #[error(
        "none of the backups can be used; the newest, {id}, is broken ({problem}): take a new one with `backup-database capture`"
    )]
    Broken { id: BackupId, problem: String },
    /// A manifest was named, and it is unclear whose it should be.
    #[error("name the environment with --env: the database has no stamp")]
    NoEnvironment,
    /// The manifest cannot be read.
    #[error("cannot read {}", .file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Its name is no backup's.
    #[error("{} is not named after a backup, as b001.json is", .file.display())]
    Name {
        file: PathBuf,
        #[source]
        source: ParseBackupIdError,
    },
    /// It is no manifest of this environment.
    #[error("cannot trust the manifest {}", .file.display())]
    Manifest {
        file: PathBuf,
        #[source]
        source: ParseManifestError,
    },
}

/// The backup whose manifest is `file`, else the newest verified one of `environment`, if any.
pub(crate) fn find(
    file: Option<&Path>,
    environment: Option<EnvironmentName>,
) -> Result<Option<LastBackup>, Box<dyn Error + Send + Sync>> {
    let manifest = match (file, environment) {
        (Some(_), None) => return Err(FindBackupError::NoEnvironment.into()),
        (None, None) => None,
        (Some(file), Some(environment)) => Some(read(file, environment)?),
        (None, Some(environment)) => newest(environment)?,
    };
    Ok(manifest.map(|Manifest { id, created_at, rows, .. }| LastBackup {
        id: id.to_string(),
        taken_at: created_at.format("%Y-%m-%d %H:%M UTC").to_string(),
        rows,
    }))
}

/// The newest one that counts: a safety copy is what a rollback wanted to get rid of, and what was backed up before a refresh
/// was replaced by it, with all that came before.
fn newest(environment: EnvironmentName) -> Result<Option<Manifest>, FindBackupError> {
    let listing = Catalog::new(Path::new(DEFAULT_FOLDER), environment).list()?;
    let refreshed = listing.backups.iter().rposition(|backup| backup.kind == Kind::BeforeRefresh);
    let since = refreshed.map_or(0, |index| index + 1);
    let mut backups = listing.backups.into_iter().skip(since).rev();
    let counts =
        |backup: &Manifest| backup.verified.is_some() && backup.kind != Kind::BeforeRollback;
    match (backups.find(counts), listing.broken.into_iter().next_back()) {
        // What was backed up is not known any more, which must not look as if nothing had been.
        (None, Some(BrokenBackup { id, problem })) if refreshed.is_none() => {
            Err(FindBackupError::Broken { id, problem })
        }
        (found, _) => Ok(found),
    }
}

fn read(file: &Path, environment: EnvironmentName) -> Result<Manifest, FindBackupError> {
    let owned = || file.to_owned();
    let text = std::fs::read_to_string(file)
        .map_err(|source| FindBackupError::Read { file: owned(), source })?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let id: BackupId =
        name.parse().map_err(|source| FindBackupError::Name { file: owned(), source })?;
    Manifest::parse(&text, id, environment)
        .map_err(|source| FindBackupError::Manifest { file: owned(), source })
}
