//! Taking, checking and marking backups.

use std::{collections::BTreeMap, io};

use chrono::{DateTime, SubsecRound as _, Utc};
use omnitool_environment::EnvironmentName;

use crate::{
    BackupId, Catalog, CatalogError, Contents, CopyError, InspectError, Kind, Manifest, Method,
    Progress, ReadDatabaseError, Recipient, RehearsalHooks, RestoreError, RestoreRequest, Step,
    Store, UnsealError, Verified, catalog::Unsealed, digest, manifest::NewManifest, seal,
};

/// Why a backup was not taken. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The database's stamp cannot be read.
    #[error(transparent)]
    Read(#[from] ReadDatabaseError),
    /// The database belongs to another environment.
    #[error("this database is stamped `{stamped}`, but `{wanted}` was asked for")]
    Stamp {
        /// What the database is.
        stamped: EnvironmentName,
        /// What the caller named.
        wanted: EnvironmentName,
    },
    /// The folder of the backups cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The database could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The copy is no good: so is the database.
    #[error("the copy failed its checks, so the database needs a look")]
    Verify(#[from] InspectError),
}

/// Why a backup is not what its manifest says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no such backup, or its manifest cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Its file cannot be read.
    #[error("cannot read backup {id}")]
    Hash {
        /// The backup.
        id: BackupId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its file is another one than was captured.
    #[error(
        "backup {id} is not the file that was captured: its {what} is {found} instead of {expected}"
    )]
    Changed {
        /// The backup.
        id: BackupId,
        /// What differs.
        what: &'static str,
        /// What it is.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// Its file is the one that was captured, and its manifest describes another one.
    #[error("the manifest of backup {id} does not describe its file: {problem}")]
    Manifest {
        /// The backup.
        id: BackupId,
        /// What differs.
        problem: String,
    },
    /// It is encrypted and cannot be looked into.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// Its file is no good.
    #[error(transparent)]
    Inspect(#[from] InspectError),
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

/// Whether a backup is kept from being pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// It stays until it is unpinned.
    Pinned,
    /// It goes when its time comes.
    Unpinned,
}

/// Takes a backup of `store` while others go on using it, and checks the copy before it counts as one.
///
/// # Errors
///
/// Fails where the database is another environment's, cannot be read, is damaged, or the folder cannot be written.
pub fn capture(
    catalog: &Catalog,
    store: &dyn Store,
    kind: Kind,
    release: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, CaptureError> {
    let wanted = catalog.environment();
    match store.stamp()? {
        Some(stamped) if stamped != wanted => return Err(CaptureError::Stamp { stamped, wanted }),
        _ => {}
    }
    let created_at = now();
    let mut reservation = catalog.reserve()?;
    let partial = reservation.partial();
    let counted = store.copy_to(&partial, progress)?;
    progress(Progress { step: Step::Check, done: 0, total: None });
    let contents = store.inspect(&partial)?;
    if let Some(problem) = counted.and_then(|counted| contents.difference(&counted)) {
        return Err(InspectError::Damaged { file: partial, problem }.into());
    }
    let fingerprint = reservation.finish()?;
    let id = reservation.id();
    let manifest: Manifest = NewManifest {
        id,
        environment: wanted,
        system: store.system(),
        file: file_name(id, created_at, store, catalog.recipients()),
        kind,
        created_at,
        size: fingerprint.size,
        sha256: fingerprint.sha256,
        encrypted_to: catalog.recipients().iter().map(ToString::to_string).collect(),
        schema_version: contents.schema_version,
        release: release.map(ToOwned::to_owned),
        rows: contents.rows,
        verified: Verified { when: now(), how: store.system().method() },
    }
    .into();
    reservation.publish(&manifest)?;
    Ok(manifest)
}

/// Checks a backup again, all of its bytes, and notes in its manifest what came out. With `rehearsal` one that is no database
/// itself is also restored where nobody else looks, on the server of `store`, and can be looked at there.
///
/// An encrypted one without an identity to look into it is only compared with what was captured; one that was found to be bad
/// is not good again by that.
///
/// # Errors
///
/// Fails where the backup is not what its manifest says; it then no longer counts as verified. One that only cannot be read
/// or restored now keeps what is known about it.
pub fn verify(
    catalog: &Catalog,
    store: &dyn Store,
    id: BackupId,
    rehearsal: Option<&mut RehearsalHooks<'_>>,
) -> Result<Manifest, VerifyError> {
    let backup = catalog.find(id)?;
    let result = match (check(catalog, store, &backup), rehearsal) {
        (Ok(checked), Some(hooks)) => rehearse(catalog, store, &backup, &checked, hooks),
        (Ok(_), None) => Ok(backup.system.method()),
        (Err(VerifyError::Unseal(UnsealError::NoIdentity { .. })), _)
            if backup.verified.is_some() =>
        {
            Ok(Method::Digest)
        }
        (Err(error), _) => Err(error),
    };
    let verified = match &result {
        Ok(how) => Some(Verified { when: now(), how: *how }),
        Err(error) if error.is_about_the_backup() => None,
        // It may be good; it only cannot be read or restored now.
        Err(_) => backup.verified,
    };
    let backup = catalog.update(id, |backup| backup.verified = verified)?;
    result.map(|_| backup)
}

/// Restores a good backup where nobody else looks, where its system needs that.
fn rehearse(
    catalog: &Catalog,
    store: &dyn Store,
    backup: &Manifest,
    Checked { contents, unsealed }: &Checked,
    hooks: &mut RehearsalHooks<'_>,
) -> Result<Method, VerifyError> {
    if store.system() != backup.system {
        return Ok(backup.system.method());
    }
    let (id, file) = (backup.id, catalog.file(backup));
    let (file, sha256) = match unsealed {
        Some(copy) => (copy.file(), &copy.plain.sha256),
        None => (file.as_path(), &backup.sha256),
    };
    let request = RestoreRequest {
        label: &id.to_string(),
        file,
        sha256,
        contents,
        environment: backup.environment,
        old: None,
    };
    match store.rehearse(&request, hooks) {
        Ok(()) => Ok(backup.system.rehearsed()),
        Err(source) => Err(VerifyError::Rehearse { id, source: Box::new(source) }),
    }
}

impl VerifyError {
    /// Whether it says something of the backup, and not of what should have looked at it.
    fn is_about_the_backup(&self) -> bool {
        match self {
            Self::Hash { .. } | Self::Unseal(_) | Self::Inspect(InspectError::Program { .. }) => {
                false
            }
            Self::Rehearse { source, .. } => matches!(
                **source,
                RestoreError::Unfit { .. }
                    | RestoreError::Check { .. }
                    | RestoreError::Changed { .. }
            ),
            _ => true,
        }
    }
}

/// Pins or unpins a backup.
///
/// # Errors
///
/// Fails where there is no such backup or its manifest cannot be written.
pub fn set_pin(catalog: &Catalog, id: BackupId, pin: Pin) -> Result<Manifest, CatalogError> {
    catalog.update(id, |backup| backup.pinned = pin == Pin::Pinned)
}

/// A backup that is what its manifest says.
pub(crate) struct Checked {
    pub(crate) contents: Contents,
    /// Where it is encrypted: the copy that was looked into.
    unsealed: Option<Unsealed>,
}

/// Compares a backup's file with its manifest, and looks into it.
pub(crate) fn check(
    catalog: &Catalog,
    store: &dyn Store,
    backup: &Manifest,
) -> Result<Checked, VerifyError> {
    let Manifest { id, size, sha256, schema_version, rows, environment, .. } = backup;
    let id = *id;
    let file = catalog.file(backup);
    let fingerprint = digest::of_file(&file).map_err(|source| VerifyError::Hash { id, source })?;
    let changed = |what, found: &dyn ToString, expected: &dyn ToString| {
        let (found, expected) = (found.to_string(), expected.to_string());
        Err(VerifyError::Changed { id, what, found, expected })
    };
    if fingerprint.size != *size {
        return changed("length", &fingerprint.size, size);
    }
    if fingerprint.sha256 != *sha256 {
        return changed("SHA-256", &fingerprint.sha256, sha256);
    }
    let unsealed = catalog.unseal(&file)?;
    let readable = unsealed.as_ref().map_or(file.as_path(), Unsealed::file);
    // A backup of another system can be looked at as well, with what is found in the usual places.
    let contents = if store.system() == backup.system {
        store.inspect(readable)?
    } else {
        backup.system.inspect(readable)?
    };
    match manifest_problem(&contents, schema_version.as_deref(), rows, *environment) {
        None => Ok(Checked { contents, unsealed }),
        Some(problem) => Err(VerifyError::Manifest { id, problem }),
    }
}

fn manifest_problem(
    contents: &Contents,
    schema_version: Option<&str>,
    rows: &BTreeMap<String, u64>,
    environment: EnvironmentName,
) -> Option<String> {
    if contents.schema_version.as_deref() != schema_version {
        let found = contents.schema_version.as_deref().unwrap_or("none");
        return Some(format!("its schema version is {found}"));
    }
    if let Some(stamp) = contents.stamp.filter(|stamp| *stamp != environment) {
        return Some(format!("it is stamped `{stamp}`"));
    }
    contents.difference(rows)
}

fn file_name(
    id: BackupId,
    created_at: DateTime<Utc>,
    store: &dyn Store,
    recipients: &[Recipient],
) -> String {
    let database: String = store
        .name()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .take(40)
        .collect();
    let mut extension = store.system().extension().to_owned();
    if !recipients.is_empty() {
        extension += ".";
        extension += seal::EXTENSION;
    }
    format!("{id}-{}-{database}.{extension}", created_at.format("%Y%m%dT%H%M%SZ"))
}

/// Manifests have whole seconds.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(0)
}
