//! What a refresh on Heroku would do, and what earlier ones have left.

use std::{collections::BTreeMap, fmt};

use omnitool_heroku::{Heroku, HerokuError};
use serde::Serialize;

use super::{Copying, HerokuRefreshRequest, PlanHerokuRefreshError, Via, unfinished};
use crate::{
    heroku::{DATABASE_VARIABLE, HerokuBackupError},
    refresh::{RefreshPlan, RefreshRecord, RefreshStep},
};

/// What the name of a copy begins with until it is promoted, and after it.
pub(super) const COPY: &str = "REFRESH_";
/// What the name of a replaced database begins with.
pub(super) const KEPT: &str = "BEFORE_REFRESH_";

/// What a refresh on Heroku would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HerokuRefreshPlan {
    /// What is copied and masked.
    #[serde(flatten)]
    pub databases: RefreshPlan,
    /// The app whose database is copied.
    pub source_app: String,
    /// The app that is refreshed.
    pub target_app: String,
    /// How.
    pub via: Via,
    /// The plan of the new database.
    pub copy_plan: String,
    /// A run that did not come to its end; this one goes on where it stopped.
    pub interrupted: Option<RefreshRecord>,
    /// Databases of earlier refreshes that nobody uses any more, and that are paid for.
    pub old: Vec<Leftover>,
}

/// A database of a refresh that nobody uses any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// The add-on.
    pub addon: String,
    /// Its plan.
    pub plan: String,
    /// Its names in the app.
    pub attachments: Vec<String>,
    /// The command that removes it for good.
    pub destroy: String,
}

impl HerokuRefreshPlan {
    /// Compares both databases, the rules and the plans. Writes nothing.
    ///
    /// # Errors
    ///
    /// Fails where the refresh must not be, or cannot be: see [`RefreshPlan::new`], and a plan without followers.
    pub fn new(request: &HerokuRefreshRequest<'_>) -> Result<Self, PlanHerokuRefreshError> {
        let HerokuRefreshRequest { databases, backups, source_app, source, via, .. } = *request;
        let databases_plan = RefreshPlan::new(&databases)?;
        if via == Via::Follower && !source.has_followers {
            return Err(PlanHerokuRefreshError::NoFollowers {
                database: source.name.clone(),
                plan: source.plan.clone(),
            });
        }
        let target = backups.database();
        let copy_plan = match via {
            // A follower has a plan with followers; staging's, where it has such a one.
            Via::Follower if !target.has_followers => source.plan.clone(),
            _ => target.plan.clone(),
        };
        let interrupted = unfinished(databases.folder, backups.app())?;
        if let Some(record) = &interrupted {
            check_same(record, request, databases_plan.unmasked)?;
        }
        Ok(Self {
            databases: databases_plan,
            source_app: source_app.to_owned(),
            target_app: backups.app().to_owned(),
            via,
            copy_plan,
            interrupted,
            old: leftovers(backups.heroku(), backups.app()).map_err(HerokuBackupError::from)?,
        })
    }
}

/// Whether the unfinished run did what this one is to do.
fn check_same(
    record: &RefreshRecord,
    request: &HerokuRefreshRequest<'_>,
    unmasked: bool,
) -> Result<(), PlanHerokuRefreshError> {
    let Some(copy) = &record.heroku else { return Ok(()) };
    let problem = if record.unmasked != unmasked {
        "--unmasked"
    } else if copy.via != request.via {
        "--via"
    } else if record.source != request.databases.source.to_string() {
        "another source"
    } else {
        return Ok(());
    };
    Err(PlanHerokuRefreshError::Other { addon: copy.addon.clone(), problem })
}

/// The databases that refreshes of `app` have made or replaced, and that it does not use.
///
/// # Errors
///
/// Fails where Heroku does not answer.
pub fn leftovers(heroku: &Heroku, app: &str) -> Result<Vec<Leftover>, HerokuError> {
    let serving = heroku.database_of(app, DATABASE_VARIABLE)?.name;
    let mut found: BTreeMap<String, Leftover> = BTreeMap::new();
    for attachment in heroku.attachments(app)? {
        let addon = attachment.addon;
        if addon.name == serving || !addon.is_postgres() {
            continue;
        }
        let leftover = found.entry(addon.name.clone()).or_insert_with(|| Leftover {
            destroy: format!("heroku addons:destroy {} --app {app} --confirm {app}", addon.name),
            plan: addon.plan.and_then(|plan| plan.name).unwrap_or_default(),
            addon: addon.name,
            attachments: Vec::new(),
        });
        leftover.attachments.push(attachment.name);
    }
    let is_ours = |name: &String| name.starts_with(COPY) || name.starts_with(KEPT);
    found.retain(|_, leftover| leftover.attachments.iter().any(is_ours));
    Ok(found.into_values().collect())
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addon, plan, attachments, destroy } = self;
        write!(f, "{addon} ({plan}, {}): {destroy}", attachments.join(", "))
    }
}

impl fmt::Display for HerokuRefreshPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { databases, source_app, target_app, via, copy_plan, interrupted, old } = self;
        if let Some(copy) = interrupted.as_ref().and_then(|record| record.heroku.as_ref()) {
            writeln!(f, "A refresh that did not come to its end has made {}.", copy.addon)?;
            match copy.copying {
                Copying::Masking if !has_masked(interrupted.as_ref()) => {
                    writeln!(f, "It stopped while masking: that copy is removed, and made anew.")?;
                }
                _ => writeln!(f, "This one goes on with it.")?,
            }
        }
        write!(f, "{databases}")?;
        writeln!(f, "On Heroku:")?;
        let how = match via {
            Via::Follower => "a follower that is cut off when it has caught up",
            Via::Transfer => "a new database into which Heroku copies",
        };
        writeln!(f, "  from {source_app} to {target_app}, by {how} ({copy_plan})")?;
        writeln!(
            f,
            "  the new database is promoted after its checks; the one that it replaces stays, and is paid for until it is destroyed"
        )?;
        for leftover in old {
            writeln!(f, "  left by earlier refreshes: {leftover}")?;
        }
        Ok(())
    }
}

fn has_masked(record: Option<&RefreshRecord>) -> bool {
    record.is_some_and(|record| record.done.contains(&RefreshStep::Mask))
}
