//! Doing what a plan says.

use omnitool_database::{
    Mode,
    migration::{self, MigrateError},
    open, stamp,
};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use serde::Serialize;

use super::{
    MakeCopyError, OpenCopyError, PlanRefreshError, RefreshOutcome, RefreshPlan, RefreshRecord,
    RefreshRecordError, RefreshRequest, RefreshStep, UnattachedCopy, check_target, record::Journal,
};
use crate::{
    BackupId, CaptureError, Catalog, CatalogError, Cause, InspectError, Kind, Progress,
    RestoreError, RestoreHooks, RestoreRequest, Store, UnsupportedDatabaseError, backup, digest,
    for_url,
    masking::{MaskError, Masked, MaskingKey, MaskingKeyError, mask},
};

/// The masking key's file in the folder of a refresh.
pub(crate) const KEY: &str = "masking.key";
/// What errors of the restore call the copy.
const LABEL: &str = "the refreshed copy";

/// What a refresh asks of its caller on the way.
pub struct RefreshHooks<'a> {
    /// Is told which step begins.
    pub begin: &'a mut dyn FnMut(RefreshStep),
    /// Is told how far a long step has come.
    pub progress: &'a mut dyn FnMut(Progress),
    /// Whether somebody wants it to stop; asked between steps, up to the switch.
    pub is_stopped: &'a dyn Fn() -> bool,
    /// Makes the copy's tools as defined.
    pub sync_tools: &'a mut dyn FnMut(&DatabaseUrl) -> Result<(), Cause>,
    /// Merges the committed facts about who may use what into the copy.
    pub import_access: &'a mut dyn FnMut(&DatabaseUrl) -> Result<(), Cause>,
    /// Looks at the copy before the switch and at the database after it; says what is wrong.
    pub check: &'a mut dyn FnMut(&DatabaseUrl) -> Result<(), String>,
}

/// A refresh that put a copy in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refreshed {
    /// What was masked.
    pub masked: Masked,
    /// The migrations that the copy needed.
    pub migrated: Vec<String>,
    /// The backup of what was replaced; none where there was nothing.
    pub safety_backup: Option<BackupId>,
    /// What stays in the folder about it.
    pub record: RefreshRecord,
    /// What the checks found after the switch.
    pub problem: Option<String>,
}

/// Why nothing was refreshed. The target is as it was, and nothing is left of the copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// There are no copies of such a database.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedDatabaseError),
    /// The target is not what it was when the plan was made.
    #[error(transparent)]
    Target(#[from] PlanRefreshError),
    /// Another one runs, or its record cannot be written.
    #[error(transparent)]
    Record(#[from] RefreshRecordError),
    /// There is no masking key.
    #[error(transparent)]
    Key(#[from] MaskingKeyError),
    /// The target could not be backed up.
    #[error("cannot back up what would be replaced")]
    Backup(#[from] CaptureError),
    /// The folder of the backups cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The source could not be copied.
    #[error(transparent)]
    Copy(#[from] MakeCopyError),
    /// The copy cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenCopyError),
    /// The copy could not be masked, or personal data is still in it.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// The source's schema is not the one that the plan was made for.
    #[error("the source has changed since the plan was made")]
    Stale,
    /// The copy could not be stamped.
    #[error("cannot stamp the copy")]
    Stamp(#[source] diesel::result::Error),
    /// The copy could not be migrated.
    #[error("cannot migrate the copy")]
    Migrate(#[source] MigrateError),
    /// The caller could not do its part.
    #[error("cannot {}", .step.summary())]
    Step {
        /// The step.
        step: RefreshStep,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The copy is no good.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The copy cannot be read.
    #[error("cannot read the copy")]
    Hash(#[source] std::io::Error),
    /// The copy could not be put in place, or fails its checks.
    #[error(transparent)]
    Switch(#[from] RestoreError),
    /// Somebody wanted it to stop.
    #[error("stopped before `{}`", .step.as_str())]
    Stopped {
        /// The step that did not begin.
        step: RefreshStep,
    },
}

impl RefreshPlan {
    /// Copies, masks, fits the copy to its environment, has it checked, and puts it in the target's place.
    ///
    /// A refresh that was killed leaves the target as it was or refreshed; the next one removes what it left and begins anew.
    ///
    /// # Errors
    ///
    /// Fails where any part of it does; the target is then unchanged, and the copy is removed.
    pub fn apply(
        &self,
        request: &RefreshRequest<'_>,
        hooks: &mut RefreshHooks<'_>,
    ) -> Result<Refreshed, RefreshError> {
        let record = RefreshRecord::new(
            request.source.to_string(),
            self.unmasked,
            request.run_id.map(ToOwned::to_owned),
        );
        let journal = Journal::begin(request.folder, record)?;
        let target = for_url(request.target)?;
        let mut run = Run { plan: self, request, hooks, journal, target, safety_backup: None };
        match run.switch() {
            Ok((masked, migrated)) => run.verify(masked, migrated),
            Err(error) => {
                // The first error is the one to report.
                if let Err(record) = run.journal.end(RefreshOutcome::Failed) {
                    tracing::warn!("{record}");
                }
                Err(error)
            }
        }
    }
}

struct Run<'a, 'h> {
    plan: &'a RefreshPlan,
    request: &'a RefreshRequest<'a>,
    hooks: &'a mut RefreshHooks<'h>,
    journal: Journal,
    target: Box<dyn Store>,
    safety_backup: Option<BackupId>,
}

impl Run<'_, '_> {
    fn begin(&mut self, step: RefreshStep) -> Result<(), RefreshError> {
        if (self.hooks.is_stopped)() {
            return Err(RefreshError::Stopped { step });
        }
        (self.hooks.begin)(step);
        Ok(())
    }

    fn done(&mut self, step: RefreshStep) -> Result<(), RefreshError> {
        Ok(self.journal.done(step)?)
    }

    /// Everything up to the moment when the copy is in place.
    fn switch(&mut self) -> Result<(Masked, Vec<String>), RefreshError> {
        let RefreshRequest { source, target, folder, catalog, .. } = *self.request;
        check_target(self.request, &*self.target)?;
        UnattachedCopy::remove_leftovers(target, folder)?;

        self.begin(RefreshStep::Backup)?;
        let first_backup = match self.target.live().map_err(CaptureError::from)? {
            Some(_) => Some(capture(catalog, &*self.target, self.hooks.progress)?),
            None => None,
        };
        self.done(RefreshStep::Backup)?;

        self.begin(RefreshStep::Copy)?;
        let source = for_url(source)?;
        let copy = UnattachedCopy::make(&*source, target, folder, self.hooks.progress)?;
        self.done(RefreshStep::Copy)?;

        self.begin(RefreshStep::Mask)?;
        let key = MaskingKey::load_or_make(&folder.join(KEY))?;
        let masked = mask(&copy, self.request.masking, &key)?;
        if masked.plan != self.plan.masking {
            return Err(RefreshError::Stale);
        }
        copy.unmark()?;
        self.done(RefreshStep::Mask)?;

        let migrated = fit(&mut self.journal, self.hooks, catalog.environment(), copy.url())?;
        self.put_in_place(&copy, first_backup)?;
        Ok((masked, migrated))
    }

    /// Restores the copy over the target, as a rollback does with a backup.
    fn put_in_place(
        &mut self,
        copy: &UnattachedCopy,
        first_backup: Option<BackupId>,
    ) -> Result<(), RefreshError> {
        self.begin(RefreshStep::Switch)?;
        let catalog = self.request.catalog;
        let file = copy.as_backup(self.hooks.progress)?;
        let contents = self.target.system().inspect(file.path())?;
        let fingerprint = digest::of_file(file.path()).map_err(RefreshError::Hash)?;
        let request = RestoreRequest {
            label: LABEL,
            file: file.path(),
            sha256: &fingerprint.sha256,
            contents: &contents,
            environment: catalog.environment(),
            old: None,
        };
        let (target, safety_backup) = (&self.target, &mut self.safety_backup);
        // Again, now that nobody can write any more: people go on using the target while it is being copied.
        let mut safety = |progress: &mut dyn FnMut(Progress)| {
            if first_backup.is_some() {
                *safety_backup = Some(capture(catalog, &**target, progress)?);
            }
            Ok(*safety_backup)
        };
        let mut hooks = RestoreHooks {
            progress: self.hooks.progress,
            check: self.hooks.check,
            safety: &mut safety,
        };
        target.restore(&request, &mut hooks)?;
        if let (Some(first), Some(_)) = (first_backup, self.safety_backup) {
            // The later one holds all that the first one does.
            catalog.remove(first)?;
        }
        self.journal.safety_backup(self.safety_backup);
        self.done(RefreshStep::Switch)
    }

    /// Looks at what is in place now. There is no way back but a rollback.
    fn verify(mut self, masked: Masked, migrated: Vec<String>) -> Result<Refreshed, RefreshError> {
        (self.hooks.begin)(RefreshStep::Verify);
        let problem = (self.hooks.check)(self.request.target).err();
        let outcome = match problem {
            None => {
                self.journal.done(RefreshStep::Verify)?;
                RefreshOutcome::Done
            }
            Some(_) => RefreshOutcome::Unverified,
        };
        let record = self.journal.end(outcome)?;
        Ok(Refreshed { masked, migrated, safety_backup: self.safety_backup, record, problem })
    }
}

/// Makes the masked copy a database of its new environment and of this build, as far as that is not done.
pub(crate) fn fit(
    journal: &mut Journal,
    hooks: &mut RefreshHooks<'_>,
    environment: EnvironmentName,
    copy: &DatabaseUrl,
) -> Result<Vec<String>, RefreshError> {
    let mut migrated = Vec::new();
    for step in [
        RefreshStep::Stamp,
        RefreshStep::Migrate,
        RefreshStep::SyncTools,
        RefreshStep::ImportAccess,
    ] {
        if journal.has_done(step) {
            continue;
        }
        if (hooks.is_stopped)() {
            return Err(RefreshError::Stopped { step });
        }
        (hooks.begin)(step);
        let connect = || open(copy, Mode::Write).map_err(OpenCopyError::from);
        match step {
            RefreshStep::Stamp => {
                stamp::write(&mut connect()?, environment).map_err(RefreshError::Stamp)?;
            }
            RefreshStep::Migrate => {
                migrated = migration::migrate(&mut connect()?).map_err(RefreshError::Migrate)?;
            }
            RefreshStep::SyncTools => (hooks.sync_tools)(copy).map_err(failed(step))?,
            _ => (hooks.import_access)(copy).map_err(failed(step))?,
        }
        journal.done(step)?;
    }
    Ok(migrated)
}

fn capture(
    catalog: &Catalog,
    target: &dyn Store,
    progress: &mut dyn FnMut(Progress),
) -> Result<BackupId, CaptureError> {
    Ok(backup::capture(catalog, target, Kind::BeforeRefresh, None, progress)?.id)
}

fn failed(step: RefreshStep) -> impl FnOnce(Cause) -> RefreshError {
    move |source| RefreshError::Step { step, source }
}
