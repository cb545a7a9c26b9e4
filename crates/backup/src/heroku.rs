//! Backups on Heroku: its own, taken and kept there, with what it does not know about them in files beside.
//!
//! Heroku numbers backups, restores and copies in one list, so ids have gaps. It knows when each was taken and whether it
//! came to a good end; why it was taken, which release it belongs to, whether it is pinned and what is in it stands in
//! `data/backups/ENV/heroku` on the machine that took it (`docs/decisions/0010-backups-on-heroku.md`).

mod error;
mod record;
mod refresh;
mod rehearsal;
mod rollback;

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use chrono::{DateTime, SubsecRound as _, Utc};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_heroku::{DatabaseAddOn, Heroku, HerokuError, Settings, Transfer, TransferKind};

use self::record::{Problem, Record, Records};
pub use self::{
    error::HerokuBackupError,
    record::HerokuRecordError,
    refresh::{
        Anew, Copying, HerokuCopy, HerokuRefreshCause, HerokuRefreshError, HerokuRefreshPlan,
        HerokuRefreshRequest, HerokuRefreshed, Leftover, PlanHerokuRefreshError, Standing, Via,
        leftovers,
    },
    rehearsal::RestoreCopyError,
    rollback::{
        AskedRestore, HerokuRollback, HerokuRollbackCause, HerokuRollbackError,
        HerokuRollbackHooks, HerokuRollbackPlan, HerokuRolledBack, PlanHerokuRollbackError, Stage,
    },
};
use crate::{
    BackupId, BrokenBackup, Contents, Kept, Kind, Listing, Manifest, Method, Pin, Progress,
    PruneFailure, PrunePlan, Pruned, Reason, RehearsalHooks, RestoreRequest, Retention, Step,
    Store, StoreOptions, System, Verified,
    digest::{Fingerprint, Hasher},
    for_url_with,
    manifest::NewManifest,
};

/// How long a backup, a restore or a download may take.
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// The config var that names an app's database.
pub(crate) const DATABASE_VARIABLE: &str = "DATABASE_URL";

/// An app's database on Heroku and its backups.
pub struct HerokuBackups {
    heroku: Heroku,
    app: String,
    environment: EnvironmentName,
    database: DatabaseAddOn,
    url: DatabaseUrl,
    live: Box<dyn Store>,
    records: Records,
}

/// How closely a backup is looked at. Heroku's word that it came to a good end is asked for in any case.
#[derive(Clone, Copy)]
pub enum Look<'a> {
    /// No closer.
    Report,
    /// It is downloaded into a file that goes away again, and read to its end.
    Download,
    /// And restored into a scratch database on the server of this one.
    Scratch(&'a dyn Store),
}

impl Look<'_> {
    const fn method(self) -> Method {
        match self {
            Self::Report => Method::Reported,
            Self::Download => System::Postgres.method(),
            Self::Scratch(_) => System::Postgres.rehearsed(),
        }
    }
}

/// A backup that was looked at: what is in it where it was read, and its file as long as the value lives.
pub(crate) struct Seen {
    pub(crate) contents: Option<Contents>,
    pub(crate) sha256: String,
    pub(crate) how: Method,
    file: Option<tempfile::NamedTempFile>,
}

impl HerokuBackups {
    /// The backups of the database that `app`'s `DATABASE_URL` is the address of. Records are below `parent`.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app or it has no database.
    pub fn open(
        settings: Settings,
        app: &str,
        environment: EnvironmentName,
        parent: &Path,
        options: &StoreOptions,
    ) -> Result<Self, HerokuBackupError> {
        let heroku = Heroku::new(settings)?;
        let database = heroku.database_of(app, DATABASE_VARIABLE)?;
        let url = address(&heroku, app, DATABASE_VARIABLE)?;
        let live = for_url_with(&url, options)?;
        let records = Records::new(parent.join(environment.as_str()).join("heroku"));
        Ok(Self { heroku, app: app.to_owned(), environment, database, url, live, records })
    }

    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Whose backups these are.
    #[must_use]
    pub const fn environment(&self) -> EnvironmentName {
        self.environment
    }

    /// The add-on whose database it is.
    #[must_use]
    pub const fn database(&self) -> &DatabaseAddOn {
        &self.database
    }

    /// Where the records are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.records.folder()
    }

    /// The client.
    #[must_use]
    pub const fn heroku(&self) -> &Heroku {
        &self.heroku
    }

    fn transfers(&self) -> Result<Vec<Transfer>, HerokuError> {
        self.heroku.transfers(&self.database.billing_app)
    }

    /// All backups.
    ///
    /// # Errors
    ///
    /// Fails where Heroku does not answer or a record cannot be read.
    pub fn list(&self) -> Result<Listing, HerokuBackupError> {
        let transfers = self.transfers()?;
        let mut listing = Listing::default();
        for transfer in transfers.iter().rev().filter(|transfer| is_backup(transfer)) {
            let id = id_of(transfer);
            match problem(transfer) {
                None => listing.backups.push(self.record_of(transfer, &transfers)?.backup),
                Some(problem) => listing.broken.push(BrokenBackup { id, problem }),
            }
        }
        Ok(listing)
    }

    /// One backup.
    ///
    /// # Errors
    ///
    /// Fails where there is none, or Heroku says that it is no good.
    pub fn find(&self, id: BackupId) -> Result<Manifest, HerokuBackupError> {
        self.find_record(id).map(|(record, _)| record.backup)
    }

    /// One backup that nothing is known against.
    pub(crate) fn find_both(
        &self,
        id: BackupId,
    ) -> Result<(Manifest, Transfer), HerokuBackupError> {
        let (record, transfer) = self.find_record(id)?;
        match record.problem {
            None => Ok((record.backup, transfer)),
            Some(Problem { what, .. }) => Err(HerokuBackupError::Unfit { id, problem: what }),
        }
    }

    fn find_record(&self, id: BackupId) -> Result<(Record, Transfer), HerokuBackupError> {
        let transfers = self.transfers()?;
        let found = transfers.iter().find(|transfer| is_backup(transfer) && id_of(transfer) == id);
        let Some(transfer) = found else {
            return Err(HerokuBackupError::NotFound { id, app: self.app.clone() });
        };
        match problem(transfer) {
            None => Ok((self.record_of(transfer, &transfers)?, transfer.clone())),
            Some(problem) => Err(HerokuBackupError::Unfit { id, problem }),
        }
    }

    /// What is recorded about a good backup, else what follows from Heroku's list. The list is of all databases of an
    /// app: what was taken elsewhere counts only where it is known to be of this one.
    fn record_of(
        &self,
        transfer: &Transfer,
        all: &[Transfer],
    ) -> Result<Record, HerokuRecordError> {
        let id = id_of(transfer);
        let is_of_this = transfer.reads(self.url.expose()) == Some(true);
        if let Some(mut recorded) = self.records.find(id, transfer)? {
            recorded.backup.size = transfer.processed_bytes;
            if !recorded.taken_here && !is_of_this {
                recorded.backup.verified = None;
            }
            return Ok(recorded);
        }
        // Nobody takes a backup right before a restore but for safety.
        let next = all.iter().find(|next| next.num == transfer.num + 1);
        let is_safety_copy = next.is_some_and(|next| {
            next.kind() == TransferKind::Restore && next.writes(self.url.expose()) != Some(false)
        });
        let kind = if is_safety_copy { Kind::BeforeRollback } else { Kind::Manual };
        let mut backup = self.new_manifest(transfer, kind, None);
        let when = transfer.finished_at.as_deref().and_then(time).unwrap_or(backup.created_at);
        backup.verified = is_of_this.then_some(Verified { when, how: Method::Reported });
        Ok(Record::new(transfer, backup, false))
    }

    fn new_manifest(&self, transfer: &Transfer, kind: Kind, release: Option<&str>) -> Manifest {
        let id = id_of(transfer);
        let created_at = time(&transfer.created_at).unwrap_or_else(now);
        let mut manifest: Manifest = NewManifest {
            id,
            environment: self.environment,
            system: System::Postgres,
            file: format!("{id}.{}", System::Postgres.extension()),
            kind,
            created_at,
            size: transfer.processed_bytes,
            sha256: String::new(),
            encrypted_to: Vec::new(),
            schema_version: None,
            release: release.map(ToOwned::to_owned),
            rows: std::collections::BTreeMap::new(),
            verified: Verified { when: created_at, how: Method::Reported },
        }
        .into();
        manifest.verified = None;
        manifest
    }

    /// Takes a backup, and looks at it before it counts as one. An answer that is lost does not make two of them.
    ///
    /// # Errors
    ///
    /// Fails where Heroku does not take it, or it is no good. One that was begun is named.
    pub fn capture(
        &self,
        kind: Kind,
        release: Option<&str>,
        look: Look<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Manifest, HerokuBackupError> {
        let begun = self.heroku.begin_capture(&self.database)?;
        let mut record = Record::new(&begun, self.new_manifest(&begun, kind, release), true);
        let id = record.backup.id;
        // First of all: should this end here, it is known why it was taken.
        self.records.write(&record)?;
        let finish = || -> Result<Manifest, HerokuBackupError> {
            let taken = self.heroku.finish_capture(
                &self.database,
                &begun,
                LIMIT,
                &mut shown(Step::Copy, &mut *progress),
            )?;
            record.backup.size = taken.processed_bytes;
            let hooks = &mut RehearsalHooks { progress, check: &mut |_| Ok(()) };
            let seen = self.look(&record.backup, look, hooks);
            record.note(seen.as_ref());
            self.records.write(&record)?;
            seen.map(|_| record.backup)
        };
        finish().map_err(|source| HerokuBackupError::Begun { id, source: Box::new(source) })
    }

    /// Looks at a backup again and records what came out.
    ///
    /// # Errors
    ///
    /// Fails where it is not what it was, or no good: it then no longer counts as verified. One that only cannot be looked at
    /// keeps what is known about it, and so does one that a deeper look than this one found to be no good.
    pub fn verify(
        &self,
        id: BackupId,
        look: Look<'_>,
        hooks: &mut RehearsalHooks<'_>,
    ) -> Result<Manifest, HerokuBackupError> {
        let (mut record, _) = self.find_record(id)?;
        if let Some(problem) = record.problem_beyond(look.method()) {
            return Err(HerokuBackupError::Unfit { id, problem: problem.what.clone() });
        }
        let seen = self.look(&record.backup, look, hooks);
        record.note(seen.as_ref());
        self.records.write(&record)?;
        seen.map(|_| record.backup)
    }

    /// Looks at a backup that Heroku says is good.
    pub(crate) fn look(
        &self,
        backup: &Manifest,
        look: Look<'_>,
        hooks: &mut RehearsalHooks<'_>,
    ) -> Result<Seen, HerokuBackupError> {
        let id = backup.id;
        if matches!(look, Look::Report) {
            let sha256 = backup.sha256.clone();
            return Ok(Seen { contents: None, sha256, how: Method::Reported, file: None });
        }
        let (file, Fingerprint { sha256, .. }) = self.download(backup, hooks.progress)?;
        if !backup.sha256.is_empty() && backup.sha256 != sha256 {
            let expected = backup.sha256.clone();
            return Err(HerokuBackupError::Changed { id, found: sha256, expected });
        }
        (hooks.progress)(Progress { step: Step::Check, done: 0, total: None });
        let contents = self
            .live
            .inspect(file.path())
            .map_err(|source| HerokuBackupError::Inspect { id, source })?;
        if let Some(stamped) = contents.stamp.filter(|stamp| *stamp != self.environment) {
            return Err(HerokuBackupError::Stamp { id, stamped, wanted: self.environment });
        }
        if let Look::Scratch(server) = look {
            let request = RestoreRequest {
                label: &id.to_string(),
                file: file.path(),
                sha256: &sha256,
                contents: &contents,
                environment: self.environment,
                old: None,
            };
            server
                .rehearse(&request, hooks)
                .map_err(|source| HerokuBackupError::Rehearse { id, source: Box::new(source) })?;
        }
        Ok(Seen { contents: Some(contents), sha256, how: look.method(), file: Some(file) })
    }

    /// Downloads a backup into a file of mode 0600 that goes away with the value. What killed downloads left goes first.
    fn download(
        &self,
        backup: &Manifest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(tempfile::NamedTempFile, Fingerprint), HerokuBackupError> {
        let id = backup.id;
        let failed = |source| HerokuBackupError::File { id, source };
        for leftover in self.records.leftovers()? {
            self.records.remove_leftover(&leftover)?;
        }
        let mut file = self.records.new_download().map_err(failed)?;
        let mut to = Counted {
            file: file.as_file_mut(),
            hasher: Hasher::default(),
            done: 0,
            total: backup.size,
            progress,
        };
        self.heroku
            .download(&self.database.billing_app, id.number().into(), &mut to, LIMIT)
            .map_err(|source| HerokuBackupError::Download { id, source })?;
        let fingerprint = to.hasher.finish();
        Ok((file, fingerprint))
    }

    /// Pins or unpins a backup, on this machine.
    ///
    /// # Errors
    ///
    /// Fails where there is none or the record cannot be written.
    pub fn set_pin(&self, id: BackupId, pin: Pin) -> Result<Manifest, HerokuBackupError> {
        let (mut record, _) = self.find_record(id)?;
        record.backup.pinned = pin == Pin::Pinned;
        self.records.write(&record)?;
        Ok(record.backup)
    }

    /// Decides which backups go. Those that were not taken on this machine stay, since they may be pinned elsewhere; and
    /// no more are kept than Heroku keeps by itself, so that it is not Heroku that chooses.
    ///
    /// # Errors
    ///
    /// Fails where the backups cannot be listed.
    pub fn plan_prune(&self, retention: &Retention) -> Result<PrunePlan, HerokuBackupError> {
        let transfers = self.transfers()?;
        let newest = transfers.iter().find(|transfer| transfer.kind() == TransferKind::Backup);
        let most = newest.and_then(|newest| newest.num_keep).and_then(std::num::NonZeroUsize::new);
        let last = most.map_or(retention.last, |most| most.min(retention.last));
        let mut plan = PrunePlan::new(self.list()?, &Retention { last, ..*retention });
        let mut stays = Vec::new();
        for id in std::mem::take(&mut plan.remove) {
            let transfer = transfers.iter().find(|transfer| id_of(transfer) == id);
            let is_ours = match transfer {
                Some(transfer) => {
                    self.records.find(id, transfer)?.is_some_and(|record| record.taken_here)
                }
                None => false,
            };
            if is_ours { plan.remove.push(id) } else { stays.push(id) }
        }
        plan.keep.extend(stays.into_iter().map(|id| Kept { id, why: Reason::Unrecorded }));
        plan.keep.sort_by_key(|kept| kept.id);
        plan.leftovers = self.records.leftovers()?;
        Ok(plan)
    }

    /// Removes what the plan says and goes on where something cannot be removed.
    #[must_use]
    pub fn prune(&self, plan: &PrunePlan) -> Pruned {
        let mut pruned = Pruned::default();
        for &id in &plan.remove {
            let remove = || -> Result<(), HerokuBackupError> {
                self.heroku.delete_backup(&self.database.billing_app, id.number().into())?;
                Ok(self.records.remove(id)?)
            };
            match remove() {
                Ok(()) => pruned.removed.push(id),
                Err(error) => {
                    pruned
                        .failed
                        .push(PruneFailure { name: id.to_string(), error: Box::new(error).into() });
                }
            }
        }
        for name in &plan.leftovers {
            match self.records.remove_leftover(name) {
                Ok(()) => pruned.leftovers.push(name.clone()),
                Err(error) => {
                    let error = Box::new(HerokuBackupError::from(error)).into();
                    pruned.failed.push(PruneFailure { name: name.clone(), error });
                }
            }
        }
        pruned
    }
}

impl std::fmt::Debug for HerokuBackups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HerokuBackups").field("app", &self.app).finish_non_exhaustive()
    }
}

/// The address of a database, from the app's config.
///
/// # Errors
///
/// Fails where there is no such app or variable, or it is no address of a database.
pub fn address(
    heroku: &Heroku,
    app: &str,
    variable: &str,
) -> Result<DatabaseUrl, HerokuBackupError> {
    let config = heroku.config_vars(app)?;
    let app = app.to_owned();
    match config.get(variable) {
        None => Err(HerokuBackupError::NoDatabase { app }),
        Some(url) => {
            url.expose().parse().map_err(|source| HerokuBackupError::Address { app, source })
        }
    }
}

/// A file that counts what is written to it.
struct Counted<'a> {
    file: &'a mut std::fs::File,
    hasher: Hasher,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.done += written as u64;
        (self.progress)(Progress { step: Step::Stage, done: self.done, total: Some(self.total) });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Shows how far a transfer has come, as the progress of `step`.
fn shown(step: Step, progress: &mut dyn FnMut(Progress)) -> impl FnMut(&Transfer) {
    move |now: &Transfer| {
        progress(Progress { step, done: now.processed_bytes, total: now.source_bytes });
    }
}

fn is_backup(transfer: &Transfer) -> bool {
    matches!(transfer.kind(), TransferKind::Backup | TransferKind::ScheduledBackup)
}

/// What Heroku says against a backup.
fn problem(transfer: &Transfer) -> Option<String> {
    let problem = match transfer {
        _ if transfer.canceled_at.is_some() => "it was canceled".to_owned(),
        _ if !transfer.is_finished() => "it is still being taken".to_owned(),
        _ if !transfer.is_success() => "it failed".to_owned(),
        Transfer { warnings: 0, .. } => return None,
        Transfer { warnings, .. } => format!("it ended with {warnings} warnings"),
    };
    Some(problem)
}

fn id_of(transfer: &Transfer) -> BackupId {
    BackupId::new(u32::try_from(transfer.num).unwrap_or(u32::MAX))
}

/// Heroku's own way to write a time.
fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S %z").ok().map(|time| time.to_utc())
}

fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(0)
}
