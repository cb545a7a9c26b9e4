//! Putting a backup back: choosing it, saying what that loses, doing it.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use serde::Serialize;

use crate::{
    BackupId, Catalog, CatalogError, Contents, InspectError, Interrupted, Kind, Left, Listing,
    Manifest, OldDatabase, Progress, ReadDatabaseError, RestoreError, RestoreHooks, RestoreRequest,
    Store, System, UnsealError, VerifyError, backup, digest, store::SESSION_TABLE,
};

/// Which backup somebody wants back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest verified one that is no safety copy (errata E8).
    Latest,
    /// The newest safety copy: what was there before the last rollback.
    BeforeLastRollback,
    /// This one.
    Backup(BackupId),
    /// A file, which may come from anywhere.
    File(PathBuf),
}

/// What a rollback will do. Nothing has happened yet; the backup is checked.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct RollbackPlan {
    /// The environment whose database is replaced.
    pub environment: EnvironmentName,
    /// What it is replaced by.
    pub target: Target,
    /// The tables with another number of rows, sorted by name.
    pub losses: Vec<TableLoss>,
    /// Whole minutes since the backup was taken, where that is known: what was written in them is lost.
    pub minutes_since: Option<i64>,
    /// Whether there is a database now. Where there is none, there is nothing to lose and no safety backup.
    pub database_exists: bool,
    /// What an earlier rollback left that was killed; this one cleans up.
    pub interrupted: Option<Interrupted>,
    /// The database with the backup's content that the last rollback kept: putting it back is a change of names.
    pub old_database: Option<OldDatabase>,
    #[serde(skip)]
    contents: Contents,
}

/// The backup that was chosen.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// Its id, or its path where it comes from elsewhere.
    pub label: String,
    /// Its file.
    pub file: PathBuf,
    /// Why this one.
    pub why: String,
    /// Bytes.
    pub size: u64,
    /// Hexadecimal SHA-256 of the file.
    pub sha256: String,
    /// Who can decrypt it; empty where it is not encrypted, or has no manifest. The safety backup is for the same, unless
    /// somebody else was named.
    pub encrypted_to: Vec<String>,
    /// Why it was taken, where it has a manifest.
    pub kind: Option<Kind>,
    /// When it was taken, where it has a manifest.
    pub created_at: Option<DateTime<Utc>>,
    /// The release that its manifest names.
    pub release: Option<String>,
    /// The newest migration in it.
    pub schema_version: String,
    /// How many of this build's migrations are not in it.
    pub pending_migrations: usize,
    /// The environment that it says it is, where that is another one; it is stamped anew.
    pub comes_from: Option<EnvironmentName>,
}

/// A table whose number of rows changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableLoss {
    /// The table.
    pub table: String,
    /// Rows now; none where the database has no such table.
    pub now: Option<u64>,
    /// Rows in the backup; none where it has no such table.
    pub then: Option<u64>,
}

/// A rollback that was done.
#[derive(Clone, Debug, Serialize)]
pub struct RolledBack {
    /// The backup that undoes it; none where there was nothing to save.
    pub safety_backup: Option<BackupId>,
}

/// Why a rollback is not possible. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanRollbackError {
    /// The catalog cannot be read, or has no such backup.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// No backup can be chosen.
    #[error("there is no verified backup of {environment} in {folder}{}", skipped_text(.passed_over))]
    NoBackup {
        /// Whose backups were looked at.
        environment: EnvironmentName,
        /// Where.
        folder: PathBuf,
        /// The backups that are there and were not chosen, with the reason.
        passed_over: Vec<String>,
    },
    /// No rollback has taken a safety copy.
    #[error(
        "there is no rollback of {environment} to undo: {folder} has no verified safety backup"
    )]
    NothingToUndo {
        /// Whose backups were looked at.
        environment: EnvironmentName,
        /// Where.
        folder: PathBuf,
    },
    /// The backup is not what its manifest says.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The file cannot be read.
    #[error("cannot read the backup")]
    Hash(#[source] io::Error),
    /// The file is encrypted and cannot be looked into.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// The file is no good backup.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// It is a good database and none of ours.
    #[error("the backup {label} is no omnitool database: it has no migrations")]
    Foreign {
        /// The backup.
        label: String,
    },
    /// It is a backup of another database system.
    #[error("the backup {label} is one of a {found} database, and the live database is {wanted}")]
    System {
        /// The backup.
        label: String,
        /// What it is a backup of.
        found: System,
        /// What the live database is.
        wanted: System,
    },
    /// It was made by a newer build.
    #[error("the backup {label} belongs to a newer build: this one does not know its migrations {}", .versions.join(", "))]
    Newer {
        /// The backup.
        label: String,
        /// The versions that this build does not know.
        versions: Vec<String>,
    },
    /// The live database cannot be read.
    #[error("cannot read the live database")]
    Live(#[source] ReadDatabaseError),
    /// The live database belongs to another environment.
    #[error("the live database is stamped `{stamped}`, but `{wanted}` was asked for")]
    Stamp {
        /// What the database is.
        stamped: EnvironmentName,
        /// What the caller named.
        wanted: EnvironmentName,
    },
    /// The live database belongs to another application.
    #[error("the live database is no omnitool database: it has tables and no migrations")]
    LiveForeign,
}

impl RollbackPlan {
    /// Chooses and checks the backup, and compares it with the live database. Writes nothing.
    ///
    /// # Errors
    ///
    /// Fails where there is no such backup, it is not good or not ours, or the live database is not `catalog`'s environment.
    pub fn new(
        catalog: &Catalog,
        store: &dyn Store,
        wanted: &Wanted,
        now: DateTime<Utc>,
    ) -> Result<Self, PlanRollbackError> {
        let environment = catalog.environment();
        // First of all, before the safety backup could be taken for the latest one.
        let (target, contents) = match wanted {
            Wanted::File(file) => from_file(catalog, file, store)?,
            _ => from_catalog(catalog, wanted, store)?,
        };
        let old_database = store
            .old_databases()
            .map_err(PlanRollbackError::Live)?
            .into_iter()
            .rfind(|old| old.safety_backup.is_some_and(|id| id.to_string() == target.label));
        let live = store.live().map_err(PlanRollbackError::Live)?;
        if let Some(live) = &live {
            check_live(live, environment)?;
        }
        let minutes_since = target.created_at.map(|taken| (now - taken).num_minutes().max(0));
        Ok(Self {
            environment,
            minutes_since,
            losses: live.as_ref().map(|live| losses(live, &contents)).unwrap_or_default(),
            database_exists: live.is_some(),
            interrupted: store.interrupted().map_err(PlanRollbackError::Live)?,
            old_database,
            target,
            contents,
        })
    }

    /// Lets `check` look at the staged backup, takes the safety backup and replaces the database's content.
    ///
    /// # Errors
    ///
    /// Fails where any part of it does; the database is then unchanged.
    pub fn apply(
        &self,
        catalog: &Catalog,
        store: &dyn Store,
        check: &mut dyn FnMut(&DatabaseUrl) -> Result<(), String>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<RolledBack, RestoreError> {
        let Target { label, file, sha256, encrypted_to, .. } = &self.target;
        let unsealed = catalog.unseal(file)?;
        let (file, sha256) = match &unsealed {
            None => (file.as_path(), sha256),
            Some(copy) if copy.stored.sha256 == *sha256 => (copy.file(), &copy.plain.sha256),
            Some(_) => return Err(RestoreError::Changed { label: label.clone() }),
        };
        let request = RestoreRequest {
            label,
            file,
            sha256,
            contents: &self.contents,
            environment: self.environment,
            old: self.old_database.as_ref(),
        };
        let catalog = &catalog.as_private_as(encrypted_to);
        let mut safety_backup = None;
        let mut safety = |progress: &mut dyn FnMut(Progress)| {
            if self.database_exists {
                let taken = backup::capture(catalog, store, Kind::BeforeRollback, None, progress)?;
                safety_backup = Some(taken.id);
            }
            Ok(safety_backup)
        };
        store.restore(&request, &mut RestoreHooks { progress, check, safety: &mut safety })?;
        Ok(RolledBack { safety_backup })
    }
}

fn from_catalog(
    catalog: &Catalog,
    wanted: &Wanted,
    store: &dyn Store,
) -> Result<(Target, Contents), PlanRollbackError> {
    let system = store.system();
    let (backup, why) = choose(catalog, wanted, system)?;
    if backup.system != system {
        let (label, found) = (backup.id.to_string(), backup.system);
        return Err(PlanRollbackError::System { label, found, wanted: system });
    }
    let contents = backup::check(catalog, store, &backup)?.contents;
    let label = backup.id.to_string();
    let schema_version = check_ours(&label, &contents)?;
    let file = catalog.file(&backup);
    let Manifest { kind, created_at, size, sha256, encrypted_to, release, .. } = backup;
    let target = Target {
        label,
        file,
        why,
        size,
        sha256,
        encrypted_to,
        kind: Some(kind),
        created_at: Some(created_at),
        release,
        schema_version,
        pending_migrations: contents.pending.len(),
        comes_from: None,
    };
    Ok((target, contents))
}

fn from_file(
    catalog: &Catalog,
    file: &Path,
    store: &dyn Store,
) -> Result<(Target, Contents), PlanRollbackError> {
    let environment = catalog.environment();
    // Folders, links and pipes are refused by the look into them.
    let is_file = std::fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_file());
    let (contents, digest::Fingerprint { size, sha256 }) =
        match if is_file { catalog.unseal(file)? } else { None } {
            Some(copy) => (store.inspect(copy.file())?, copy.stored.clone()),
            None => {
                let contents = store.inspect(file)?;
                (contents, digest::of_file(file).map_err(PlanRollbackError::Hash)?)
            }
        };
    let label = file.display().to_string();
    let schema_version = check_ours(&label, &contents)?;
    let target = Target {
        label,
        file: file.to_owned(),
        why: "it was named with --file".to_owned(),
        size,
        sha256,
        encrypted_to: Vec::new(),
        kind: None,
        created_at: None,
        release: None,
        schema_version,
        pending_migrations: contents.pending.len(),
        comes_from: contents.stamp.filter(|stamp| *stamp != environment),
    };
    Ok((target, contents))
}

fn choose(
    catalog: &Catalog,
    wanted: &Wanted,
    system: System,
) -> Result<(Manifest, String), PlanRollbackError> {
    match wanted {
        Wanted::Backup(id) => Ok((catalog.find(*id)?, "it was named with --backup".to_owned())),
        _ => choose_from(catalog.list()?, wanted, system, catalog.environment(), catalog.folder()),
    }
}

/// The newest of the backups in `listing`, which are in `place`, that is wanted.
pub(crate) fn choose_from(
    listing: Listing,
    wanted: &Wanted,
    system: System,
    environment: EnvironmentName,
    place: &Path,
) -> Result<(Manifest, String), PlanRollbackError> {
    let folder = place.to_owned();
    if *wanted != Wanted::BeforeLastRollback {
        return latest(listing, system).map_err(|passed_over| PlanRollbackError::NoBackup {
            environment,
            folder,
            passed_over,
        });
    }
    listing
        .backups
        .into_iter()
        .rfind(|backup| {
            let is_safety_copy = backup.kind == Kind::BeforeRollback;
            is_safety_copy && backup.verified.is_some() && backup.system == system
        })
        .map(|backup| (backup, "the newest verified safety backup of a rollback".to_owned()))
        .ok_or(PlanRollbackError::NothingToUndo { environment, folder })
}

/// The newest verified backup that is no safety copy, and why; or which were passed over.
fn latest(listing: Listing, system: System) -> Result<(Manifest, String), Vec<String>> {
    let Listing { backups, broken } = listing;
    let mut candidates: Vec<(BackupId, Result<Manifest, &str>)> = broken
        .into_iter()
        .map(|broken| (broken.id, Err("not usable")))
        .chain(backups.into_iter().map(|backup| {
            let reason = match (&backup.verified, backup.kind) {
                (_, Kind::BeforeRollback) => Err("a safety copy"),
                (None, _) => Err("not verified"),
                _ if backup.system != system => Err("one of another database system"),
                (Some(_), _) => Ok(()),
            };
            (backup.id, reason.map(|()| backup))
        }))
        .collect();
    candidates.sort_unstable_by_key(|(id, _)| *id);
    let mut skipped = Vec::new();
    for (id, candidate) in candidates.into_iter().rev() {
        match candidate {
            Ok(backup) => {
                let why = "the newest verified backup that is no safety copy".to_owned();
                return Ok((backup, why + &skipped_text(&skipped)));
            }
            Err(reason) => skipped.push(format!("{id} is {reason}")),
        }
    }
    Err(skipped)
}

fn skipped_text(skipped: &[String]) -> String {
    if skipped.is_empty() {
        String::new()
    } else {
        format!(" (passed over: {})", skipped.join(", "))
    }
}

/// The schema version of a backup that this build understands.
pub(crate) fn check_ours(label: &str, contents: &Contents) -> Result<String, PlanRollbackError> {
    let label = label.to_owned();
    if !contents.unknown.is_empty() {
        return Err(PlanRollbackError::Newer { label, versions: contents.unknown.clone() });
    }
    contents.schema_version.clone().ok_or(PlanRollbackError::Foreign { label })
}

pub(crate) fn check_live(
    live: &Contents,
    wanted: EnvironmentName,
) -> Result<(), PlanRollbackError> {
    match live.stamp {
        Some(stamped) if stamped != wanted => Err(PlanRollbackError::Stamp { stamped, wanted }),
        None if live.schema_version.is_none() => Err(PlanRollbackError::LiveForeign),
        _ => Ok(()),
    }
}

pub(crate) fn losses(live: &Contents, backup: &Contents) -> Vec<TableLoss> {
    let tables: BTreeSet<&String> = live.rows.keys().chain(backup.rows.keys()).collect();
    tables
        .into_iter()
        // Everybody is logged out in any case.
        .filter(|table| *table != SESSION_TABLE)
        .map(|table| TableLoss {
            table: table.clone(),
            now: live.rows.get(table).copied(),
            then: backup.rows.get(table).copied(),
        })
        .filter(|loss| loss.now != loss.then)
        .collect()
}

impl Target {
    /// Which release the restored schema fits.
    pub(crate) fn fitting_release(&self) -> String {
        match (&self.release, self.kind) {
            (Some(release), Some(Kind::BeforeDeploy)) => {
                format!("the one that served before {release} was deployed")
            }
            (Some(release), _) => format!("{release}, which served when it was taken"),
            (None, _) if self.pending_migrations == 0 => "this build's".to_owned(),
            (None, _) => "not recorded; one without this build's newest migrations".to_owned(),
        }
    }

    pub(crate) fn schema(&self) -> String {
        let version = &self.schema_version;
        match self.pending_migrations {
            0 => format!("{version}, the one of this build"),
            1 => format!("{version}; 1 migration of this build is not in it"),
            count => format!("{version}; {count} migrations of this build are not in it"),
        }
    }
}

impl fmt::Display for RollbackPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            environment,
            target,
            losses,
            minutes_since,
            database_exists,
            interrupted,
            old_database,
            contents: _,
        } = self;
        if let Some(interrupted) = interrupted {
            writeln!(f, "{interrupted}")?;
        }
        write!(f, "Rollback of {environment} to {}", target.label)?;
        match (target.kind, target.created_at) {
            (Some(kind), Some(taken)) => {
                writeln!(f, " ({kind}, taken {})", taken.format("%Y-%m-%d %H:%M:%S UTC"))?;
            }
            _ => writeln!(f)?,
        }
        writeln!(f, "  chosen:  {}", target.why)?;
        writeln!(f, "  checked: {} bytes, SHA-256, integrity, references, rows", target.size)?;
        if !target.encrypted_to.is_empty() {
            writeln!(f, "  encrypted, as the safety backup will be")?;
        }
        writeln!(f, "  schema:  {}", target.schema())?;
        writeln!(f, "  release that fits: {}", target.fitting_release())?;
        if let Some(from) = target.comes_from {
            writeln!(f, "  it comes from {from} and will be stamped {environment}")?;
        }
        if let Some(OldDatabase { name, .. }) = old_database {
            writeln!(f, "  the database with this content is still there as {name}")?;
        }
        if !database_exists {
            return writeln!(f, "Nothing is lost: there is no database now.");
        }
        match minutes_since {
            Some(minutes) => {
                writeln!(f, "Lost: all that was written in the {minutes} minutes since then.")?;
            }
            None => writeln!(
                f,
                "Lost: all that was written since it was taken; without a manifest nobody knows when that was."
            )?,
        }
        write_losses(f, losses)?;
        writeln!(f, "Everybody will have to log in again.")
    }
}

pub(crate) fn write_losses(f: &mut fmt::Formatter<'_>, losses: &[TableLoss]) -> fmt::Result {
    for TableLoss { table, now, then } in losses {
        let count = |rows: &Option<u64>| rows.map_or("absent".to_owned(), |n| n.to_string());
        writeln!(f, "  {table}: {} rows now, {} in the backup", count(now), count(then))?;
    }
    if losses.is_empty() {
        writeln!(f, "  no table has another number of rows")?;
    }
    Ok(())
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { restoring, safety_backup, left, leftovers } = self;
        f.write_str("An earlier rollback")?;
        if let Some(restoring) = restoring {
            write!(f, " to {restoring}")?;
        }
        f.write_str(match left {
            Left::Old => {
                " was killed before it changed anything: the database is the one from before it."
            }
            Left::New => {
                " was killed after it had replaced the database: what it restored is in place."
            }
        })?;
        if let (Left::New, Some(id)) = (left, safety_backup) {
            write!(f, " Its safety backup is {id}.")?;
        }
        if !leftovers.is_empty() {
            write!(f, " This one removes what it left: {}.", leftovers.join(", "))?;
        }
        Ok(())
    }
}
