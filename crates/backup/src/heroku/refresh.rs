//! Refreshing staging with production's data, both on Heroku.
//!
//! A new database is made for staging's app: a follower of production's that is cut off when it has caught up, or one
//! that Heroku copies production's into. It is masked, made staging's own and checked while nobody uses it, and then
//! takes the name `DATABASE`. The database that it replaces stays, and is named. A file on this machine says how far it
//! came and under which names, so that a repeat goes on there.

mod copy;
mod plan;

use std::{path::Path, time::Duration};

use chrono::Utc;
use omnitool_environment::DatabaseUrl;
use omnitool_heroku::{AddOnState, DatabaseAddOn, Heroku, HerokuError};
use serde::{Deserialize, Serialize};

pub use self::plan::{Anew, HerokuRefreshPlan, Leftover, leftovers};
use super::{DATABASE_VARIABLE, HerokuBackupError, HerokuBackups, LIMIT, Look, address};
use crate::{
    BackupId, Kind,
    masking::{Masked, MaskingKey, mask},
    refresh::{
        Journal, KEY, PlanRefreshError, RefreshError, RefreshHooks, RefreshOutcome, RefreshRecord,
        RefreshRecordError, RefreshRequest, RefreshState, RefreshStep, UnattachedCopy, fit,
    },
};

/// What [`RefreshRequest`] does not say of a refresh on Heroku.
#[derive(Clone, Copy)]
pub struct HerokuRefreshRequest<'a> {
    /// The databases, by the addresses in the apps' config.
    pub databases: RefreshRequest<'a>,
    /// Staging's database and its backups.
    pub backups: &'a HerokuBackups,
    /// The app whose database is copied.
    pub source_app: &'a str,
    /// The database that is copied.
    pub source: &'a DatabaseAddOn,
    /// How.
    pub via: Via,
    /// How closely the backup of staging is looked at.
    pub look: Look<'a>,
    /// How long a follower may take to catch up.
    pub patience: Duration,
}

/// How production's data comes into a database of staging's app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// By a follower, which the plans above Essential have.
    Follower,
    /// By a copy that Heroku makes, which reads production as a backup does.
    Transfer,
}

/// What a refresh on Heroku has made, so that a repeat finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HerokuCopy {
    /// The app that is refreshed.
    pub app: String,
    /// How the data comes there.
    pub via: Via,
    /// The new database.
    pub addon: String,
    /// Its name in the app until it is promoted.
    pub attachment: String,
    /// The name that the replaced database gets.
    pub kept_as: String,
    /// The database that it replaces.
    pub replaces: String,
    /// How far it came in between the steps.
    pub copying: Copying,
    /// The SHA-256 of what it was masked by, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked_by: Option<String>,
}

/// How far a copy came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copying {
    /// It is being made.
    Making,
    /// The transfer was asked for; its number is higher than this one.
    Asked {
        /// The newest number before.
        after: u64,
    },
    /// It has caught up, and is being cut off.
    CaughtUp,
    /// Masking has begun: what is in it is neither production's nor masked.
    Masking,
}

/// A refresh that put a copy in place.
#[derive(Clone, Debug, Serialize)]
pub struct HerokuRefreshed {
    /// What was masked; none where an earlier run has done it.
    pub masked: Option<Masked>,
    /// The migrations that the copy needed, as far as this run applied them.
    pub migrated: Vec<String>,
    /// The backup of what was replaced; none where there was nothing.
    pub safety_backup: Option<BackupId>,
    /// The database that serves now.
    pub database: String,
    /// The database that served before; it stays, and is paid for.
    pub replaced: String,
    /// What stays in the folder about it.
    pub record: RefreshRecord,
    /// What the checks found after the switch.
    pub problem: Option<String>,
    /// Databases of refreshes that nobody uses any more.
    pub leftovers: Vec<Leftover>,
}

/// Why a refresh is not possible. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanHerokuRefreshError {
    /// Heroku refused, or gave no answer.
    #[error(transparent)]
    Heroku(#[from] HerokuBackupError),
    /// The databases must not be copied into each other.
    #[error(transparent)]
    Plan(#[from] PlanRefreshError),
    /// What an earlier run did cannot be read.
    #[error(transparent)]
    Record(#[from] RefreshRecordError),
    /// The plan has no followers.
    #[error("the plan {plan} of {database} has no followers")]
    NoFollowers {
        /// The database.
        database: String,
        /// Its plan.
        plan: String,
    },
    /// An earlier run goes on otherwise.
    #[error("an unfinished refresh has made {addon} with other flags ({problem})")]
    Other {
        /// Its database.
        addon: String,
        /// What differs.
        problem: &'static str,
    },
}

/// Why a refresh did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("the refresh of {app} did not come to its end")]
pub struct HerokuRefreshError {
    /// The app.
    pub app: String,
    /// How staging stands.
    pub standing: Standing,
    /// Why.
    #[source]
    pub source: Box<HerokuRefreshCause>,
}

/// How staging stands after a refresh that did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As it was, and there is no copy.
    AsItWas,
    /// As it was, and there is a copy that a repeat goes on with.
    WithCopy {
        /// The copy.
        addon: String,
        /// Whether production's data are in it as they are.
        is_unmasked: bool,
    },
    /// It was asked to use the copy.
    Switching {
        /// The copy.
        addon: String,
        /// The name of what it used before.
        kept_as: String,
    },
}

/// What went wrong in a refresh.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HerokuRefreshCause {
    /// Something that every refresh does.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// Heroku refused, or gave no answer.
    #[error(transparent)]
    Heroku(#[from] HerokuError),
    /// A backup, or the address of a database.
    #[error(transparent)]
    Backup(#[from] HerokuBackupError),
    /// The copy is not the one that was asked for.
    #[error("the copy {addon} {problem}")]
    Copy {
        /// The copy.
        addon: String,
        /// What is wrong.
        problem: String,
    },
    /// The copy is no good for staging.
    #[error("the copy fails its checks: {problem}")]
    Check {
        /// What they found.
        problem: String,
    },
    /// The app does not use it.
    #[error("{DATABASE_VARIABLE} of {app} is not the address of {addon} after the promotion")]
    NotPromoted {
        /// The app.
        app: String,
        /// The copy.
        addon: String,
    },
}

impl From<RefreshRecordError> for HerokuRefreshCause {
    fn from(error: RefreshRecordError) -> Self {
        Self::Refresh(error.into())
    }
}

impl HerokuRefreshPlan {
    /// Makes the copy or goes on with an earlier one, masks it, fits it to staging, has it checked, and promotes it.
    ///
    /// # Errors
    ///
    /// Fails where any part of it does. Staging is then as it was, unless the error says otherwise.
    pub fn apply(
        &self,
        request: &HerokuRefreshRequest<'_>,
        hooks: &mut RefreshHooks<'_>,
    ) -> Result<HerokuRefreshed, HerokuRefreshError> {
        let failed = |standing, source: HerokuRefreshCause| HerokuRefreshError {
            app: request.backups.app().to_owned(),
            standing,
            source: Box::new(source),
        };
        let record = match (&self.interrupted, &self.anew) {
            (Some(record), None) => record.resumed(),
            (interrupted, _) => {
                let mut record = RefreshRecord::new(
                    request.databases.source.to_string(),
                    self.databases.unmasked,
                    request.databases.run_id.map(ToOwned::to_owned),
                );
                let serving = &request.backups.database().name;
                record.heroku =
                    interrupted.as_ref().and_then(|record| plan::unusable(record, serving));
                record
            }
        };
        let journal = Journal::begin(request.databases.folder, record)
            .map_err(|error| failed(Standing::AsItWas, error.into()))?;
        let mut run = Run { plan: self, request, hooks, journal };
        match run.switch() {
            Ok((masked, migrated)) => {
                let standing = run.standing();
                run.verify(masked, migrated).map_err(|error| failed(standing, error))
            }
            Err(error) => {
                let standing = run.standing();
                // The first error is the one to report.
                if let Err(record) = run.journal.end(RefreshOutcome::Failed) {
                    tracing::warn!("{record}");
                }
                Err(failed(standing, error))
            }
        }
    }
}

struct Run<'a, 'h> {
    plan: &'a HerokuRefreshPlan,
    request: &'a HerokuRefreshRequest<'a>,
    hooks: &'a mut RefreshHooks<'h>,
    journal: Journal,
}

impl Run<'_, '_> {
    fn heroku(&self) -> &Heroku {
        self.request.backups.heroku()
    }

    fn app(&self) -> &str {
        self.request.backups.app()
    }

    /// Whether a step is still to be done; it begins then.
    fn begin(&mut self, step: RefreshStep) -> Result<bool, RefreshError> {
        if self.journal.has_done(step) {
            return Ok(false);
        }
        if (self.hooks.is_stopped)() {
            return Err(RefreshError::Stopped { step });
        }
        (self.hooks.begin)(step);
        Ok(true)
    }

    fn done(&mut self, step: RefreshStep) -> Result<(), RefreshRecordError> {
        self.journal.done(step)
    }

    fn copy(&self) -> Option<&HerokuCopy> {
        self.journal.record().heroku.as_ref()
    }

    fn standing(&self) -> Standing {
        let Some(HerokuCopy { addon, kept_as, .. }) = self.copy() else {
            return Standing::AsItWas;
        };
        if self.journal.record().is_switching {
            return Standing::Switching { addon: addon.clone(), kept_as: kept_as.clone() };
        }
        let is_unmasked = !self.journal.has_done(RefreshStep::Mask);
        Standing::WithCopy { addon: addon.clone(), is_unmasked }
    }

    /// Everything up to the moment when staging uses the copy.
    fn switch(&mut self) -> Result<(Option<Masked>, Vec<String>), HerokuRefreshCause> {
        self.forget_what_is_no_use()?;
        if self.begin(RefreshStep::Backup)? {
            if self.plan.databases.target.is_some() {
                let backups = self.request.backups;
                let taken = backups.capture(
                    Kind::BeforeRefresh,
                    None,
                    self.request.look,
                    self.hooks.progress,
                )?;
                self.journal.safety_backup(Some(taken.id));
            }
            self.done(RefreshStep::Backup)?;
        }
        let copied = self.begin(RefreshStep::Copy)?;
        let database = self.make_copy()?;
        if copied {
            self.done(RefreshStep::Copy)?;
        }
        let url = self.address_of(&database)?;
        let masked = match self.begin(RefreshStep::Mask)? {
            true => Some(self.mask(&url)?),
            false => None,
        };
        let environment = self.request.backups.environment();
        let migrated = fit(&mut self.journal, self.hooks, environment, &url)?;
        if self.begin(RefreshStep::Switch)? {
            (self.hooks.check)(&url).map_err(|problem| HerokuRefreshCause::Check { problem })?;
            self.promote(&database, &url)?;
            self.done(RefreshStep::Switch)?;
        }
        Ok((masked, migrated))
    }

    /// What a killed run has masked in part cannot be told from what it has not, and a copy that somebody has removed is
    /// none: either is made anew.
    fn forget_what_is_no_use(&mut self) -> Result<(), HerokuRefreshCause> {
        let Some(copy) = self.copy().cloned() else { return Ok(()) };
        if copy.copying == Copying::Masking && !self.journal.has_done(RefreshStep::Mask) {
            return self.destroy(&copy);
        }
        let is_there = self.heroku().addons(self.app())?.iter().any(|addon| {
            let is_going =
                matches!(addon.state, Some(AddOnState::Deprovisioning | AddOnState::Deprovisioned));
            addon.name == copy.addon && !is_going
        });
        if !is_there && copy.copying != Copying::Making {
            self.journal.forget_copy()?;
        }
        Ok(())
    }

    fn destroy(&mut self, copy: &HerokuCopy) -> Result<(), HerokuRefreshCause> {
        let serving = self.heroku().database_of(self.app(), DATABASE_VARIABLE)?;
        if serving.name == copy.addon {
            let problem = "serves already, and is not removed".to_owned();
            return Err(HerokuRefreshCause::Copy { addon: copy.addon.clone(), problem });
        }
        self.heroku().destroy_addon(self.app(), &copy.addon, LIMIT)?;
        self.journal.forget_copy()?;
        Ok(())
    }

    fn mask(&mut self, url: &DatabaseUrl) -> Result<Masked, HerokuRefreshCause> {
        let masking = self.request.databases.masking;
        let key = MaskingKey::load_or_make(&self.request.databases.folder.join(KEY))
            .map_err(RefreshError::from)?;
        let copy = UnattachedCopy::adopt(url).map_err(RefreshError::from)?;
        let rules = self.plan.databases.masking.fingerprint();
        self.journal.change_copy(|copy| {
            copy.copying = Copying::Masking;
            copy.masked_by = Some(rules);
        })?;
        let masked = mask(&copy, masking, &key).map_err(RefreshError::from).and_then(|masked| {
            match masked.plan == self.plan.databases.masking {
                true => Ok(masked),
                false => Err(RefreshError::Stale),
            }
        });
        let masked = match masked {
            Ok(masked) => masked,
            Err(error) => {
                // Production's data do not stay where they have no business.
                if let Some(copy) = self.copy().cloned()
                    && let Err(left) = self.destroy(&copy)
                {
                    tracing::warn!("{} is still there: {left}", copy.addon);
                }
                return Err(error.into());
            }
        };
        copy.unmark().map_err(RefreshError::from)?;
        self.done(RefreshStep::Mask)?;
        Ok(masked)
    }

    fn address_of(&self, database: &DatabaseAddOn) -> Result<DatabaseUrl, HerokuBackupError> {
        address(self.heroku(), self.app(), &format!("{}_URL", database.attachment))
    }

    /// Lets the app use the copy, and waits until its release is there.
    fn promote(
        &mut self,
        database: &DatabaseAddOn,
        url: &DatabaseUrl,
    ) -> Result<(), HerokuRefreshCause> {
        let (addon, app) = (database.name.clone(), self.app().to_owned());
        // Promoting one that still follows would leave the app unable to write.
        if self.heroku().database(database)?.following.is_some() {
            let problem = "still follows".to_owned();
            return Err(HerokuRefreshCause::Copy { addon, problem });
        }
        self.heroku().wait_for_database(database, LIMIT)?;
        let Some(copy) = self.copy().cloned() else { return Ok(()) };
        // Since an earlier run has made the copy, the app may have been given another database.
        let serving = self.heroku().database_of(&app, DATABASE_VARIABLE)?.name;
        let replaces = if serving == addon { copy.replaces } else { serving };
        // Without a name, the replaced one would be hard to find.
        if replaces != addon {
            self.heroku().attach(&app, &replaces, &copy.kept_as)?;
        }
        self.journal.change_copy(|copy| copy.replaces = replaces)?;
        self.journal.switching()?;
        self.heroku().attach(&app, &addon, "DATABASE")?;
        if let Some(release) = self.heroku().newest_release(&app)? {
            self.heroku().wait_for_release(&app, &release.id, LIMIT)?;
        }
        let serves = address(self.heroku(), &app, DATABASE_VARIABLE)?;
        if serves.expose() != url.expose() {
            return Err(HerokuRefreshCause::NotPromoted { app, addon });
        }
        Ok(())
    }

    /// Looks at what is in place now.
    fn verify(
        mut self,
        masked: Option<Masked>,
        migrated: Vec<String>,
    ) -> Result<HerokuRefreshed, HerokuRefreshCause> {
        (self.hooks.begin)(RefreshStep::Verify);
        let url = address(self.heroku(), self.app(), DATABASE_VARIABLE)?;
        let problem = (self.hooks.check)(&url).err();
        let outcome = match problem {
            None => {
                self.done(RefreshStep::Verify)?;
                RefreshOutcome::Done
            }
            Some(_) => RefreshOutcome::Unverified,
        };
        let leftovers = leftovers(self.heroku(), self.app())?;
        let (database, replaced) = match self.copy() {
            Some(copy) => (copy.addon.clone(), copy.replaces.clone()),
            None => Default::default(),
        };
        let record = self.journal.end(outcome)?;
        Ok(HerokuRefreshed {
            masked,
            migrated,
            safety_backup: record.safety_backup,
            database,
            replaced,
            record,
            problem,
            leftovers,
        })
    }
}

/// The run that a repeat goes on with.
fn unfinished(folder: &Path, app: &str) -> Result<Option<RefreshRecord>, RefreshRecordError> {
    let record = match RefreshState::read(folder)? {
        RefreshState::Killed { record } => record,
        RefreshState::Ended { record } if record.outcome == Some(RefreshOutcome::Failed) => record,
        _ => return Ok(None),
    };
    let is_of_app = record.heroku.as_ref().is_some_and(|copy| copy.app == app);
    Ok(Some(record).filter(|_| is_of_app))
}

/// Names of our own, by which a repeat finds what it has asked for.
fn names(app: &str, via: Via, replaces: &str) -> HerokuCopy {
    let moment = Utc::now().format("%Y%m%d%H%M%S");
    HerokuCopy {
        app: app.to_owned(),
        via,
        addon: format!("{app}-refresh-{moment}"),
        attachment: format!("{}{moment}", plan::COPY),
        kept_as: format!("{}{moment}", plan::KEPT),
        replaces: replaces.to_owned(),
        copying: Copying::Making,
        masked_by: None,
    }
}
