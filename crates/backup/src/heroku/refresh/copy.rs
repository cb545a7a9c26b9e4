//! Making the copy: by a follower, or by a transfer.

use omnitool_heroku::{DatabaseAddOn, TransferKind};
use serde_json::json;

use super::{Copying, HerokuCopy, HerokuRefreshCause, Run, Via, names};
use crate::{
    Step, for_url,
    heroku::{DATABASE_VARIABLE, HerokuBackupError, LIMIT, shown},
    refresh::{RefreshError, RefreshStep},
};

impl Run<'_, '_> {
    /// The copy: the one that an earlier run has made, or a new one that has all that production has.
    pub(super) fn make_copy(&mut self) -> Result<DatabaseAddOn, HerokuRefreshCause> {
        let copy = match self.copy().cloned() {
            Some(copy) => copy,
            None => {
                let replaces = self.heroku().database_of(self.app(), DATABASE_VARIABLE)?.name;
                let copy = names(self.app(), self.request.via, &replaces);
                // The names first: what was asked for under them is found again.
                self.journal.set_copy(copy.clone())?;
                copy
            }
        };
        let database = self.make_database(&copy)?;
        if self.journal.has_done(RefreshStep::Copy) {
            return Ok(database);
        }
        match copy.via {
            Via::Follower => self.catch_up(&copy, &database)?,
            Via::Transfer => self.transfer(&copy, &database)?,
        }
        self.check_source(&copy, &database)?;
        Ok(database)
    }

    fn make_database(&self, copy: &HerokuCopy) -> Result<DatabaseAddOn, HerokuRefreshCause> {
        let source = self.request.source;
        let config = match copy.via {
            Via::Follower => json!({ "follow": source.name }),
            Via::Transfer => json!({}),
        };
        let HerokuCopy { addon, attachment, .. } = copy;
        self.heroku().create_addon(self.app(), &self.plan.copy_plan, addon, attachment, &config)?;
        self.heroku().wait_for_addon(self.app(), addon, LIMIT)?;
        let database = self.heroku().database_of(self.app(), attachment)?;
        self.heroku().wait_for_database(&database, LIMIT)?;
        Ok(database)
    }

    /// Waits until the follower has all that production has, and cuts it off.
    fn catch_up(
        &mut self,
        copy: &HerokuCopy,
        database: &DatabaseAddOn,
    ) -> Result<(), HerokuRefreshCause> {
        if copy.copying == Copying::Making {
            self.heroku().wait_for_follower(database, self.request.patience)?;
            self.journal.change_copy(|copy| copy.copying = Copying::CaughtUp)?;
        }
        self.heroku().unfollow(database, LIMIT)?;
        Ok(())
    }

    /// Lets Heroku copy production's data, unless an earlier run has asked for it and it runs or is done.
    fn transfer(
        &mut self,
        copy: &HerokuCopy,
        database: &DatabaseAddOn,
    ) -> Result<(), HerokuRefreshCause> {
        let request = self.request;
        let heroku = request.backups.heroku();
        let transfers = heroku.transfers(&database.billing_app)?;
        let (from, to) = (request.databases.source.expose(), self.address_of(database)?);
        let earlier = match copy.copying {
            Copying::Asked { after } => transfers.iter().find(|transfer| {
                transfer.num > after
                    && transfer.kind() == TransferKind::Copy
                    && transfer.reads(from) == Some(true)
                    && transfer.writes(to.expose()) == Some(true)
                    && (transfer.is_success() || !transfer.is_finished())
            }),
            _ => None,
        };
        let mut see = shown(Step::Copy, &mut *self.hooks.progress);
        let copied = match earlier {
            Some(earlier) => {
                heroku.wait_for_transfer(&database.billing_app, earlier, LIMIT, &mut see)?
            }
            None => {
                let after = transfers.iter().map(|transfer| transfer.num).max().unwrap_or(0);
                self.journal.change_copy(|copy| copy.copying = Copying::Asked { after })?;
                heroku.copy(request.source, database, LIMIT, &mut see)?
            }
        };
        match copied.warnings {
            0 => Ok(()),
            warnings => {
                let problem = format!("was filled with {warnings} warnings");
                Err(HerokuRefreshCause::Copy { addon: copy.addon.clone(), problem })
            }
        }
    }

    /// What is masked must be production's, whatever the names say.
    fn check_source(
        &self,
        copy: &HerokuCopy,
        database: &DatabaseAddOn,
    ) -> Result<(), HerokuRefreshCause> {
        let url = self.address_of(database)?;
        let store = for_url(&url).map_err(HerokuBackupError::from)?;
        let live =
            store.live().map_err(|error| RefreshError::from(crate::CaptureError::from(error)))?;
        let wanted = self.request.databases.source_environment;
        match live.and_then(|live| live.stamp) {
            Some(stamp) if stamp == wanted => Ok(()),
            _ => Err(HerokuRefreshCause::Copy {
                addon: copy.addon.clone(),
                problem: format!("is not stamped `{wanted}`"),
            }),
        }
    }
}
