//! A rollback that runs: from the safety backup to the checks.

use omnitool_database::{AnyConnection, Mode, open, stamp};
use omnitool_heroku::{HerokuError, Transfer, TransferKind};

use super::{
    AskedRestore, HerokuRollback, HerokuRollbackCause, HerokuRollbackHooks, HerokuRollbackPlan,
    HerokuRolledBack, Stage, file,
};
use crate::{
    Cause, Kind, Progress, Step,
    heroku::{
        DATABASE_VARIABLE, HerokuBackups, HerokuRecordError, LIMIT, Look, address,
        record::{remove, write_json},
        shown,
    },
    store::{SESSION_TABLE, STAMP_TABLE, end_sessions},
};

pub(super) struct Run<'a> {
    pub(super) plan: &'a HerokuRollbackPlan,
    pub(super) backups: &'a HerokuBackups,
    pub(super) state: HerokuRollback,
}

impl Run<'_> {
    pub(super) fn write(&self) -> Result<(), HerokuRecordError> {
        write_json(&file(self.backups), &self.state)
    }

    /// Nothing was restored: the app is put back as it was.
    pub(super) fn give_up(&self) -> Result<(), HerokuRollbackCause> {
        self.backups.heroku.set_maintenance(&self.state.app, self.state.was_in_maintenance)?;
        Ok(remove(&file(self.backups))?)
    }

    pub(super) fn restore(
        &mut self,
        look: Look<'_>,
        hooks: &mut HerokuRollbackHooks<'_>,
    ) -> Result<HerokuRolledBack, HerokuRollbackCause> {
        let heroku = &self.backups.heroku;
        heroku.set_maintenance(&self.state.app, true)?;
        if self.state.stage < Stage::Restored {
            self.wait_for_others(hooks.progress)?;
        }
        if self.state.stage == Stage::Begun {
            let safety = self.backups.capture(Kind::BeforeRollback, None, look, hooks.progress);
            self.state.safety_backup = Some(safety.map_err(HerokuRollbackCause::Safety)?.id);
            self.state.stage = Stage::Saved;
            self.write()?;
        }
        if self.state.stage < Stage::Restored {
            self.ask_to_restore(hooks.progress)?;
            self.state.stage = Stage::Restored;
            self.write()?;
        }
        (hooks.progress)(Progress { step: Step::Check, done: 0, total: None });
        if let Err(error) = self.check(hooks) {
            if matches!(error, HerokuRollbackCause::Differs { .. }) {
                // It will differ forever: a repeat is to restore once more.
                self.state.stage = Stage::Restoring;
                self.state.asked = None;
                self.write()?;
            }
            return Err(error);
        }
        // Nothing of what a dyno remembers of the old content is true any more.
        heroku.restart(&self.state.app)?;
        heroku.set_maintenance(&self.state.app, self.state.was_in_maintenance)?;
        remove(&file(self.backups))?;
        Ok(HerokuRolledBack {
            safety_backup: self.state.safety_backup,
            in_maintenance: self.state.was_in_maintenance,
        })
    }

    /// Restores, unless an earlier run has asked for it and it runs or is done.
    fn ask_to_restore(
        &mut self,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), HerokuRollbackCause> {
        let HerokuBackups { heroku, database, .. } = self.backups;
        let mut see = shown(Step::Replace, progress);
        let transfers = heroku.transfers(&database.billing_app)?;
        let earlier = transfers.iter().find(|transfer| {
            self.is_ours(transfer) && (transfer.is_success() || !transfer.is_finished())
        });
        if let Some(earlier) = earlier {
            warn(&heroku.wait_for_transfer(&database.billing_app, earlier, LIMIT, &mut see)?);
            return Ok(());
        }
        self.state.asked = Some(AskedRestore {
            backup: self.state.target,
            after: transfers.iter().map(|transfer| transfer.num).max().unwrap_or(0),
        });
        self.state.stage = Stage::Restoring;
        self.write()?;
        let address = self.plan.transfer.to_url.clone().ok_or_else(|| HerokuError::Unusable {
            what: self.plan.target.label.clone(),
            kind: "backup with an address",
        })?;
        warn(&heroku.restore(database, &address, LIMIT, &mut see)?);
        Ok(())
    }

    /// Whether it is the restore that this rollback, or the one that it goes on with, has asked for.
    fn is_ours(&self, transfer: &Transfer) -> bool {
        let is_restore = transfer.kind() == TransferKind::Restore;
        is_restore
            && transfer.writes(self.backups.url.expose()) == Some(true)
            && self.state.asked.is_some_and(|asked| {
                asked.backup == self.state.target && transfer.num > asked.after
            })
    }

    /// Waits until nothing else is being restored there, be it well or not: two restores at once would mix.
    fn wait_for_others(
        &self,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), HerokuRollbackCause> {
        let HerokuBackups { heroku, database, .. } = self.backups;
        let mut see = shown(Step::Replace, progress);
        for other in heroku.transfers(&database.billing_app)? {
            let is_restore = other.kind() == TransferKind::Restore
                && other.writes(self.backups.url.expose()) != Some(false);
            if !is_restore || other.is_finished() || self.is_ours(&other) {
                continue;
            }
            match heroku.wait_for_transfer(&database.billing_app, &other, LIMIT, &mut see) {
                Ok(_) | Err(HerokuError::Failed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn check(&self, hooks: &mut HerokuRollbackHooks<'_>) -> Result<(), HerokuRollbackCause> {
        let url = address(&self.backups.heroku, &self.state.app, DATABASE_VARIABLE)
            .map_err(|error| HerokuRollbackCause::Reach(error.into()))?;
        match open(&url, Mode::Write) {
            Ok(mut conn) => self.fit(&mut conn)?,
            // Where the app is, it can be reached; the caller's check is then all there is.
            Err(error) => tracing::warn!(
                "the database cannot be reached from here, so that nobody was logged out: {error}"
            ),
        }
        (hooks.check)(&url).map_err(|problem| HerokuRollbackCause::Check { problem })
    }

    /// Compares what was restored with what was backed up, and makes it the environment's own.
    fn fit(&self, conn: &mut AnyConnection) -> Result<(), HerokuRollbackCause> {
        let reach = |error: Cause| HerokuRollbackCause::Reach(error);
        if let Some(contents) = &self.plan.contents {
            let live = self.backups.live.live().map_err(|error| reach(error.into()))?;
            let problem = match live {
                None => Some("the database is empty".to_owned()),
                Some(mut live) => {
                    // A repeat finds everybody logged out, and the stamp of an old backup in place.
                    let mut rows = contents.rows.clone();
                    for rows in [&mut live.rows, &mut rows] {
                        rows.retain(|table, _| {
                            ![SESSION_TABLE, STAMP_TABLE].contains(&table.as_str())
                        });
                    }
                    live.difference(&rows)
                }
            };
            if let Some(problem) = problem {
                return Err(HerokuRollbackCause::Differs { problem });
            }
        }
        stamp::write(conn, self.plan.environment).map_err(|error| reach(error.into()))?;
        end_sessions(conn).map_err(|error| reach(error.into()))
    }
}

/// Errors that `pg_restore` ignored: whether something is missing, the comparison and the checks say.
fn warn(restored: &Transfer) {
    if restored.warnings > 0 {
        tracing::warn!("{} ended with {} warnings", restored.name(), restored.warnings);
    }
}
