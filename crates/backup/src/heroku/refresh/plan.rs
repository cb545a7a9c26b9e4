//! What a refresh on Heroku would do, and what earlier ones have left.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, TimeDelta, Utc};
use omnitool_heroku::{Heroku, HerokuError};
use serde::Serialize;

use super::{Copying, HerokuCopy, HerokuRefreshRequest, PlanHerokuRefreshError, Via, unfinished};
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
    /// Why that run's copy is of no use; everything is then done anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anew: Option<Anew>,
    /// Databases of earlier refreshes that nobody uses any more, and that are paid for.
    pub old: Vec<Leftover>,
}

/// Why a refresh does not go on with the copy of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anew {
    /// Production's data and the backup of staging are of another day.
    Old,
    /// Somebody has given the app another database since.
    Replaced,
    /// It was masked by other rules than those of this run.
    Rules,
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
        let rules = databases_plan.masking.fingerprint();
        let anew = interrupted
            .as_ref()
            .and_then(|record| why_anew(record, Some(&rules), &target.name, Utc::now()));
        if let (Some(record), None) = (&interrupted, anew) {
            check_same(record, request, databases_plan.unmasked)?;
        }
        Ok(Self {
            databases: databases_plan,
            source_app: source_app.to_owned(),
            target_app: backups.app().to_owned(),
            via,
            copy_plan,
            interrupted,
            anew,
            old: leftovers(backups.heroku(), backups.app()).map_err(HerokuBackupError::from)?,
        })
    }
}

impl Anew {
    /// Why a repeat would not go on with the copy of an unfinished run, where the app uses `serving`, as far as can be told
    /// without the rules that it would mask by.
    #[must_use]
    pub fn of(record: &RefreshRecord, serving: &str) -> Option<Self> {
        why_anew(record, None, serving, Utc::now())
    }
}

/// Why the copy of an unfinished run must not be gone on with, where `rules` mask and the app uses `serving`.
fn why_anew(
    record: &RefreshRecord,
    rules: Option<&str>,
    serving: &str,
    now: DateTime<Utc>,
) -> Option<Anew> {
    let copy = record.heroku.as_ref()?;
    if now - record.started_at > TimeDelta::days(1) {
        Some(Anew::Old)
    } else if record.is_switching && serving != copy.addon && serving != copy.replaces {
        Some(Anew::Replaced)
    } else if rules.is_some() && has_masked(Some(record)) && copy.masked_by.as_deref() != rules {
        Some(Anew::Rules)
    } else {
        None
    }
}

/// The copy of an unfinished run as one that has to be removed; none where the app uses it.
pub(super) fn unusable(record: &RefreshRecord, serving: &str) -> Option<HerokuCopy> {
    let copy = record.heroku.clone().filter(|copy| copy.addon != serving)?;
    // Like one that was masked in part.
    Some(HerokuCopy { copying: Copying::Masking, ..copy })
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
        let Self { databases, source_app, target_app, via, copy_plan, interrupted, anew, old } =
            self;
        if let Some(copy) = interrupted.as_ref().and_then(|record| record.heroku.as_ref()) {
            writeln!(f, "A refresh that did not come to its end has made {}.", copy.addon)?;
            match (anew, copy.copying) {
                (Some(why), _) => writeln!(f, "{why}: everything is done anew.")?,
                (None, Copying::Masking) if !has_masked(interrupted.as_ref()) => {
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

impl fmt::Display for Anew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "It began more than a day ago",
            Self::Replaced => "Somebody has given the app another database since",
            Self::Rules => "It masked by other rules",
        })
    }
}

fn has_masked(record: Option<&RefreshRecord>) -> bool {
    record.is_some_and(|record| record.done.contains(&RefreshStep::Mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "the rules";

    fn unfinished() -> RefreshRecord {
        let mut record = RefreshRecord::new("postgres://source".to_owned(), false, None);
        record.heroku = Some(HerokuCopy {
            masked_by: Some(RULES.to_owned()),
            copying: Copying::Masking,
            ..super::super::names("staging", Via::Follower, "before")
        });
        record.done = vec![RefreshStep::Backup, RefreshStep::Copy, RefreshStep::Mask];
        record
    }

    fn addon(record: &RefreshRecord) -> String {
        record.heroku.as_ref().unwrap().addon.clone()
    }

    #[test]
    fn a_run_of_the_same_day_with_the_same_rules_is_gone_on_with() {
        let mut record = unfinished();
        let now = record.started_at + TimeDelta::hours(23);
        assert_eq!(why_anew(&record, Some(RULES), "before", now), None);
        // Before it switches, who is replaced may change.
        assert_eq!(why_anew(&record, Some(RULES), "other", now), None);
        record.is_switching = true;
        assert_eq!(why_anew(&record, Some(RULES), &addon(&record), now), None);
        assert_eq!(why_anew(&record, Some(RULES), "before", now), None);
    }

    #[test]
    fn a_copy_that_other_rules_masked_is_made_anew() {
        let mut record = unfinished();
        let now = record.started_at;
        assert_eq!(why_anew(&record, Some("stricter rules"), "before", now), Some(Anew::Rules));
        // One that is not masked yet will be by these.
        record.done.pop();
        assert_eq!(why_anew(&record, Some("stricter rules"), "before", now), None);
    }

    #[test]
    fn an_old_run_or_one_whose_app_uses_something_else_is_not_gone_on_with() {
        let mut record = unfinished();
        let late = record.started_at + TimeDelta::hours(25);
        assert_eq!(why_anew(&record, Some(RULES), "before", late), Some(Anew::Old));
        record.is_switching = true;
        let why = why_anew(&record, Some(RULES), "other", record.started_at);
        assert_eq!(why, Some(Anew::Replaced));
        assert_eq!(Anew::of(&record, "other"), why);
        assert_eq!(Anew::of(&record, "before"), None);
    }

    #[test]
    fn a_copy_that_serves_is_never_removed() {
        let record = unfinished();
        assert_eq!(unusable(&record, &addon(&record)), None);
        assert_eq!(unusable(&record, "before").unwrap().copying, Copying::Masking);
    }
}
