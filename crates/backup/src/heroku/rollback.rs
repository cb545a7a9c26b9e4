//! Putting a database on Heroku back to a backup.
//!
//! Heroku empties the live database and fills it again, so it is whole only before and after. Meanwhile the app is in
//! maintenance mode, and a file on this machine says how far it came: a repeat goes on there, and the backup of what was
//! there before is taken once.

mod run;

use std::{
    fmt,
    fs::{File, TryLockError},
    path::PathBuf,
};

use chrono::{DateTime, Utc};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_heroku::{HerokuError, Transfer};
use serde::{Deserialize, Serialize};

use self::run::Run;
use super::{HerokuBackupError, HerokuBackups, HerokuRecordError, Look, record::read_json};
use crate::{
    BackupId, Cause, Contents, Manifest, PlanRollbackError, Progress, RehearsalHooks, TableLoss,
    Target, Wanted,
    rollback::{check_live, check_ours, choose_from, losses, write_losses},
};

/// What a rollback on Heroku will do. Nothing has happened yet; the backup was looked at.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct HerokuRollbackPlan {
    /// The environment whose database is replaced.
    pub environment: EnvironmentName,
    /// Its app.
    pub app: String,
    /// The add-on with the database.
    pub database: String,
    /// What it is replaced by.
    pub target: Target,
    /// The tables with another number of rows, sorted by name; none where that is not known.
    pub losses: Option<Vec<TableLoss>>,
    /// Why it is not known what would be lost.
    pub losses_unknown: Option<String>,
    /// Whole minutes since the backup was taken: what was written in them is lost.
    pub minutes_since: Option<i64>,
    /// Processes that go on in maintenance mode, as `worker ×1`.
    pub go_on: Vec<String>,
    /// A rollback that did not come to its end; this one goes on where it stopped.
    pub interrupted: Option<HerokuRollback>,
    #[serde(skip)]
    backup: Manifest,
    #[serde(skip)]
    transfer: Transfer,
    #[serde(skip)]
    contents: Option<Contents>,
}

/// A rollback that runs, or did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HerokuRollback {
    /// The app.
    pub app: String,
    /// The add-on with the database.
    pub database: String,
    /// What it restores.
    pub target: BackupId,
    /// What it has done.
    pub stage: Stage,
    /// The backup of what was there before it.
    pub safety_backup: Option<BackupId>,
    /// Whether the app was in maintenance mode before it.
    pub was_in_maintenance: bool,
    /// What Heroku was asked to restore last.
    pub asked: Option<AskedRestore>,
}

/// A restore that Heroku was asked for, whether or not an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedRestore {
    /// The backup.
    pub backup: BackupId,
    /// The newest number before; the restore has a higher one.
    pub after: u64,
}

/// What a rollback has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The app may be in maintenance mode.
    Begun,
    /// What is there was backed up.
    Saved,
    /// Heroku was asked to restore: the database may hold a part of it.
    Restoring,
    /// The backup is restored, and was not checked.
    Restored,
}

/// What a rollback asks of its caller on the way.
pub struct HerokuRollbackHooks<'a> {
    /// Is told how far it has come.
    pub progress: &'a mut dyn FnMut(Progress),
    /// Looks at the restored database while the app is still in maintenance mode.
    pub check: &'a mut dyn FnMut(&DatabaseUrl) -> Result<(), String>,
}

/// A rollback that was done.
#[derive(Clone, Debug, Serialize)]
pub struct HerokuRolledBack {
    /// The backup that undoes it.
    pub safety_backup: Option<BackupId>,
    /// Whether the app is left in maintenance mode, as it was.
    pub in_maintenance: bool,
}

/// Why a rollback is not possible. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanHerokuRollbackError {
    /// The backup cannot be had or is no good.
    #[error(transparent)]
    Backup(#[from] HerokuBackupError),
    /// No backup can be chosen, or it is not ours.
    #[error(transparent)]
    Plan(#[from] PlanRollbackError),
    /// Heroku restores its own backups.
    #[error("on Heroku only Heroku's own backups are restored, not files")]
    File,
}

/// Why a rollback did not come to its end; [`stage`](Self::stage) says how things are.
#[derive(Debug, thiserror::Error)]
#[error("the rollback of {app} did not come to its end")]
pub struct HerokuRollbackError {
    /// The app.
    pub app: String,
    /// What it had done; none where it had done nothing, or where it took it back.
    pub stage: Option<Stage>,
    /// The backup of what was there before it.
    pub safety_backup: Option<BackupId>,
    /// Why.
    #[source]
    pub source: Box<HerokuRollbackCause>,
}

/// What went wrong in a rollback.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HerokuRollbackCause {
    /// Heroku refused, or gave no answer.
    #[error(transparent)]
    Heroku(#[from] HerokuError),
    /// The safety backup.
    #[error("what is there could not be backed up")]
    Safety(#[source] HerokuBackupError),
    /// How far it came cannot be written down.
    #[error(transparent)]
    Record(#[from] HerokuRecordError),
    /// Another one runs on this machine.
    #[error("another rollback is running (it has locked {file})")]
    Running {
        /// The lock.
        file: PathBuf,
    },
    /// The database cannot be reached from here.
    #[error("cannot reach the restored database")]
    Reach(#[source] Cause),
    /// The restored database is not what was backed up.
    #[error("what was restored is not what was backed up: {problem}")]
    Differs {
        /// What differs.
        problem: String,
    },
    /// The checks found something.
    #[error("the restored database fails its checks: {problem}")]
    Check {
        /// What they found.
        problem: String,
    },
}

impl HerokuRollbackPlan {
    /// Chooses the backup, looks at it, and compares it with the live database where that can be reached.
    ///
    /// # Errors
    ///
    /// Fails where there is no such backup, it is not good or not ours, or the live database is not `backups`' environment.
    pub fn new(
        backups: &HerokuBackups,
        wanted: &Wanted,
        look: Look<'_>,
        now: DateTime<Utc>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, PlanHerokuRollbackError> {
        let environment = backups.environment;
        let app = backups.heroku.app(&backups.app).map_err(HerokuBackupError::from)?;
        let interrupted = unfinished(backups, app.maintenance).map_err(HerokuBackupError::from)?;
        // First of all, before the safety backup could be taken for the latest one.
        let saved = interrupted.as_ref().and_then(|rollback| rollback.safety_backup);
        let (id, why) = match (wanted, saved) {
            (Wanted::File(_), _) => return Err(PlanHerokuRollbackError::File),
            (Wanted::Backup(id), _) => (*id, "it was named with --backup".to_owned()),
            (Wanted::BeforeLastRollback, Some(id)) => {
                (id, "what was there before the rollback that did not come to its end".to_owned())
            }
            (wanted, _) => {
                let place = std::path::Path::new(backups.app());
                let (backup, why) = choose_from(
                    backups.list()?,
                    wanted,
                    crate::System::Postgres,
                    environment,
                    place,
                )?;
                (backup.id, why)
            }
        };
        let (backup, transfer) = backups.find_both(id)?;
        let hooks = &mut RehearsalHooks { progress, check: &mut |_| Ok(()) };
        let seen = backups.look(&backup, look, hooks)?;
        let label = id.to_string();
        let schema_version = match &seen.contents {
            Some(contents) => check_ours(&label, contents)?,
            None => backup.schema_version.clone().unwrap_or_else(|| "not known".to_owned()),
        };
        let (losses, losses_unknown) = compare(backups, seen.contents.as_ref())?;
        let target = Target {
            label,
            file: PathBuf::from(&backup.file),
            why,
            size: backup.size,
            sha256: seen.sha256.clone(),
            encrypted_to: Vec::new(),
            kind: Some(backup.kind),
            created_at: Some(backup.created_at),
            release: backup.release.clone(),
            schema_version,
            pending_migrations: seen.contents.as_ref().map_or(0, |contents| contents.pending.len()),
            comes_from: None,
        };
        let formation = backups.heroku.formation(&backups.app).map_err(HerokuBackupError::from)?;
        let go_on = formation
            .iter()
            .filter(|process| !matches!(process.process_type.as_str(), "web" | "release"))
            .filter(|process| process.quantity > 0)
            .map(|process| format!("{} ×{}", process.process_type, process.quantity))
            .collect();
        Ok(Self {
            environment,
            app: backups.app.clone(),
            database: backups.database.name.clone(),
            target,
            losses,
            losses_unknown,
            minutes_since: Some((now - backup.created_at).num_minutes().max(0)),
            go_on,
            interrupted,
            backup,
            transfer,
            contents: seen.contents,
        })
    }

    /// Maintenance mode on, safety backup, restore, checks, maintenance mode as it was.
    ///
    /// # Errors
    ///
    /// Fails where any part of it does. Where nothing was restored yet, the app is as it was; else it stays in maintenance
    /// mode, and a repeat goes on from there.
    pub fn apply(
        &self,
        backups: &HerokuBackups,
        look: Look<'_>,
        hooks: &mut HerokuRollbackHooks<'_>,
    ) -> Result<HerokuRolledBack, HerokuRollbackError> {
        let begun = self.begin(backups);
        let (mut run, _lock) = begun.map_err(|source| HerokuRollbackError {
            app: self.app.clone(),
            stage: None,
            safety_backup: None,
            source: Box::new(source),
        })?;
        let result = run.restore(look, hooks);
        result.map_err(|source| {
            let HerokuRollback { stage, safety_backup, .. } = run.state;
            // Whoever is to look at it finds the app running.
            let stage = match stage < Stage::Restoring && run.give_up().is_ok() {
                true => None,
                false => Some(stage),
            };
            let source = Box::new(source);
            HerokuRollbackError { app: self.app.clone(), stage, safety_backup, source }
        })
    }

    /// Locks, and says in a file that a rollback has begun or goes on.
    fn begin<'a>(
        &'a self,
        backups: &'a HerokuBackups,
    ) -> Result<(Run<'a>, File), HerokuRollbackCause> {
        let file = backups.folder().join("rollback.lock");
        let failed = |source| HerokuRecordError::File { file: file.clone(), source };
        std::fs::create_dir_all(backups.folder()).map_err(failed)?;
        let lock = File::create(&file).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HerokuRollbackCause::Running { file }),
            Err(TryLockError::Error(error)) => return Err(failed(error).into()),
        }
        let target = self.backup.id;
        // Another run may have begun, or come to its end, since the plan was made.
        let is_in_maintenance = backups.heroku.app(&self.app)?.maintenance;
        let state = match unfinished(backups, is_in_maintenance)? {
            Some(earlier) if earlier.target == target => earlier,
            // What is there now may be a part of what that one restored: not worth a backup, and nothing to serve.
            Some(earlier) => {
                HerokuRollback { target, stage: earlier.stage.min(Stage::Restoring), ..earlier }
            }
            None => HerokuRollback {
                app: self.app.clone(),
                database: self.database.clone(),
                target,
                stage: Stage::Begun,
                safety_backup: None,
                was_in_maintenance: is_in_maintenance,
                asked: None,
            },
        };
        let run = Run { plan: self, backups, state };
        run.write()?;
        Ok((run, lock))
    }
}

fn file(backups: &HerokuBackups) -> PathBuf {
    backups.folder().join("rollback.json")
}

/// The rollback of this database that did not come to its end. One whose app serves again is none, whoever saw to that: what
/// the app wrote since is worth a backup of its own.
fn unfinished(
    backups: &HerokuBackups,
    is_in_maintenance: bool,
) -> Result<Option<HerokuRollback>, HerokuRecordError> {
    let found: Option<HerokuRollback> = read_json(&file(backups))?;
    Ok(found.filter(|rollback| {
        let is_of_this = rollback.app == backups.app && rollback.database == backups.database.name;
        is_of_this && is_in_maintenance
    }))
}

/// What would be lost, or why that is not known.
fn compare(
    backups: &HerokuBackups,
    contents: Option<&Contents>,
) -> Result<(Option<Vec<TableLoss>>, Option<String>), PlanRollbackError> {
    let live = match backups.live.live() {
        Ok(live) => live,
        Err(error) => return Ok((None, Some(format!("the database cannot be reached: {error}")))),
    };
    if let Some(live) = &live {
        check_live(live, backups.environment)?;
    }
    Ok(match (live, contents) {
        (_, None) => (None, Some("the backup was not downloaded".to_owned())),
        (None, Some(_)) => (Some(Vec::new()), None),
        (Some(live), Some(contents)) => (Some(losses(&live, contents)), None),
    })
}

impl fmt::Display for HerokuRollbackPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { environment, app, database, target, losses, losses_unknown, .. } = self;
        if let Some(interrupted) = &self.interrupted {
            writeln!(f, "{interrupted}")?;
        }
        write!(f, "Rollback of {environment} ({database} of {app} on Heroku) to {}", target.label)?;
        if let (Some(kind), Some(taken)) = (target.kind, target.created_at) {
            write!(f, " ({kind}, taken {})", taken.format("%Y-%m-%d %H:%M:%S UTC"))?;
        }
        writeln!(f, "\n  chosen:  {}", target.why)?;
        let how = match self.contents {
            Some(_) => "downloaded and read to its end",
            None => "as far as Heroku says",
        };
        writeln!(f, "  checked: {} bytes, {how}", target.size)?;
        writeln!(f, "  schema:  {}", target.schema())?;
        writeln!(f, "  release that fits: {}", target.fitting_release())?;
        writeln!(
            f,
            "Heroku empties the database before it fills it: the app is in maintenance mode meanwhile, and what is there now is \
             backed up first."
        )?;
        if !self.go_on.is_empty() {
            writeln!(
                f,
                "These go on in maintenance mode, scale them down first: {}",
                self.go_on.join(", ")
            )?;
        }
        if let Some(minutes) = self.minutes_since {
            writeln!(f, "Lost: all that was written in the {minutes} minutes since then.")?;
        }
        match (losses, losses_unknown) {
            (Some(losses), _) => write_losses(f, losses)?,
            (None, why) => {
                let why = why.as_deref().unwrap_or_default();
                writeln!(f, "  how many rows that is, nobody knows: {why}")?;
            }
        }
        writeln!(f, "Everybody will have to log in again.")
    }
}

impl fmt::Display for HerokuRollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, stage, safety_backup, .. } = self;
        write!(f, "A rollback to {target} did not come to its end: {}.", stage.as_str())?;
        match safety_backup {
            Some(id) => {
                write!(f, " What was there before is {id}; no second backup of it is taken.")
            }
            None => Ok(()),
        }
    }
}

impl Stage {
    /// How things are, for a person.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "nothing was changed",
            Self::Saved => "what is there was backed up, and nothing was changed",
            Self::Restoring => "the database may hold a part of the backup",
            Self::Restored => "the backup is restored, and was not found to be good",
        }
    }
}
