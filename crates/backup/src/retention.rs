//! Which backups stay.

use std::{collections::BTreeSet, fmt, num::NonZeroUsize};

use chrono::{DateTime, Datelike as _, Utc};
use serde::Serialize;

use crate::{
    BackupId, Catalog, CatalogError, DropOldError, Kind, Listing, Manifest, OldDatabase,
    ReadDatabaseError, Store, catalog::BrokenBackup, heroku::HerokuBackupError,
};

/// How many backups are to stay. Only verified ones count, and safety copies of rollbacks do not.
///
/// A day begins at midnight UTC, a week on Monday. Days, weeks and months without a backup are not counted, so that an
/// environment that rests keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The newest ones.
    pub last: NonZeroUsize,
    /// The newest one of each of the last days that have one.
    pub daily: usize,
    /// The newest one of each of the last weeks that have one.
    pub weekly: usize,
    /// The newest one of each of the last months that have one.
    pub monthly: usize,
}

/// What pruning removes, and why the rest stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[must_use]
pub struct PrunePlan {
    /// Backups that go, oldest first.
    pub remove: Vec<BackupId>,
    /// Backups that stay, oldest first.
    pub keep: Vec<Kept>,
    /// Databases that rollbacks replaced and kept under other names; they go, since a verified safety backup has the same.
    pub old_databases: Vec<OldDatabase>,
    /// Files of captures that were killed; they go, too.
    pub leftovers: Vec<String>,
    /// Backups that somebody has to look at; they stay.
    pub broken: Vec<BrokenBackup>,
}

/// A backup that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The backup.
    pub id: BackupId,
    /// Why.
    pub why: Reason,
}

/// Why a backup stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Somebody pinned it.
    Pinned,
    /// It is the newest one that is known to be good.
    NewestVerified,
    /// It is one of the newest verified ones that count.
    Counted,
    /// It is the newest one of its day.
    Daily,
    /// It is the newest one of its week.
    Weekly,
    /// It is the newest one of its month.
    Monthly,
    /// It was taken elsewhere, so that nobody here knows whether it is pinned.
    Unrecorded,
    /// It does not count, and it is newer than the oldest of the newest ones that do.
    Recent,
}

/// What pruning did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The backups that are gone.
    pub removed: Vec<BackupId>,
    /// The old databases that are gone.
    pub dropped: Vec<String>,
    /// The files of killed captures that are gone.
    pub leftovers: Vec<String>,
    /// What should have gone and is still there.
    pub failed: Vec<PruneFailure>,
}

/// Something that could not be removed.
#[derive(Debug)]
pub struct PruneFailure {
    /// The backup, the database or the file.
    pub name: String,
    /// Why.
    pub error: RemoveError,
}

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// A backup or a file.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An old database.
    #[error(transparent)]
    Drop(#[from] DropOldError),
    /// A backup on Heroku.
    #[error(transparent)]
    Heroku(#[from] Box<HerokuBackupError>),
}

/// Why nobody knows what could be removed. Nothing was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanPruneError {
    /// The backups cannot be listed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The server cannot be asked for old databases.
    #[error("cannot look for databases that rollbacks kept")]
    OldDatabases(#[from] ReadDatabaseError),
}

impl PrunePlan {
    /// Decides which of the backups in `listing` go so that those of `retention` stay.
    ///
    /// Those that do not count go when they are older than the newest ones that do. The newest verified backup and pinned
    /// ones always stay.
    pub fn new(listing: Listing, retention: &Retention) -> Self {
        let Listing { backups, broken } = listing;
        let newest_verified =
            backups.iter().rev().find(|backup| backup.verified.is_some()).map(|backup| backup.id);
        let counted: Vec<&Manifest> =
            backups.iter().rev().filter(|backup| counts(backup)).collect();
        let last: Vec<BackupId> =
            counted.iter().take(retention.last.get()).map(|backup| backup.id).collect();
        // Fewer than wanted: nothing is old enough to go.
        let oldest = last.last().filter(|_| last.len() == retention.last.get()).copied();
        let days =
            newest_of_each(&counted, retention.daily, |taken| (taken.year(), taken.ordinal()));
        let weeks = newest_of_each(&counted, retention.weekly, |taken| {
            (taken.iso_week().year(), taken.iso_week().week())
        });
        let months =
            newest_of_each(&counted, retention.monthly, |taken| (taken.year(), taken.month()));
        let mut plan = Self { broken, ..Self::default() };
        for Manifest { id, pinned, .. } in &backups {
            let reasons = [
                (*pinned, Reason::Pinned),
                (Some(*id) == newest_verified, Reason::NewestVerified),
                (last.contains(id), Reason::Counted),
                (days.contains(id), Reason::Daily),
                (weeks.contains(id), Reason::Weekly),
                (months.contains(id), Reason::Monthly),
                (oldest.is_none_or(|oldest| *id > oldest), Reason::Recent),
            ];
            match reasons.into_iter().find(|(holds, _)| *holds) {
                Some((_, why)) => plan.keep.push(Kept { id: *id, why }),
                None => plan.remove.push(*id),
            }
        }
        plan
    }

    /// Plans for what `catalog` and the server of `store` hold now.
    ///
    /// # Errors
    ///
    /// Fails where the folder cannot be read or the server not be asked.
    pub fn load(
        catalog: &Catalog,
        store: &dyn Store,
        retention: &Retention,
    ) -> Result<Self, PlanPruneError> {
        // Leftovers first: what a capture publishes in between is then no leftover.
        let leftovers = catalog.leftovers()?;
        let listing = catalog.list()?;
        let old = store.old_databases()?;
        let old_databases = old.into_iter().filter(|old| is_saved(old, &listing)).collect();
        Ok(Self { leftovers, old_databases, ..Self::new(listing, retention) })
    }

    /// Whether there is nothing to remove.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { remove, keep: _, old_databases, leftovers, broken: _ } = self;
        remove.is_empty() && old_databases.is_empty() && leftovers.is_empty()
    }

    /// Removes what the plan says and goes on where something cannot be removed.
    #[must_use]
    pub fn apply(&self, catalog: &Catalog, store: &dyn Store) -> Pruned {
        let Self { remove, keep: _, old_databases, leftovers, broken: _ } = self;
        let mut pruned = Pruned::default();
        // First, while the safety backups are there that hold the same.
        for old in old_databases {
            match store.drop_old(old) {
                Ok(()) => pruned.dropped.push(old.name.clone()),
                Err(error) => pruned.fail(old.name.clone(), error),
            }
        }
        for &id in remove {
            match catalog.remove(id) {
                Ok(()) => pruned.removed.push(id),
                // Somebody else removed it, which is as good.
                Err(CatalogError::NotFound { .. }) => {}
                Err(error) => pruned.fail(id.to_string(), error),
            }
        }
        for name in leftovers {
            match catalog.remove_leftover(name) {
                Ok(()) => pruned.leftovers.push(name.clone()),
                Err(error) => pruned.fail(name.clone(), error),
            }
        }
        pruned
    }
}

impl Pruned {
    fn fail(&mut self, name: String, error: impl Into<RemoveError>) {
        self.failed.push(PruneFailure { name, error: error.into() });
    }
}

/// Whether a verified backup has what is in this database.
fn is_saved(old: &OldDatabase, listing: &Listing) -> bool {
    let saved = |backup: &&Manifest| Some(backup.id) == old.safety_backup;
    listing.backups.iter().find(saved).is_some_and(|backup| backup.verified.is_some())
}

/// Of backups, newest first: the newest of each of the first `count` spans of time.
fn newest_of_each<S: Ord>(
    backups: &[&Manifest],
    count: usize,
    span: impl Fn(DateTime<Utc>) -> S,
) -> BTreeSet<BackupId> {
    let mut seen = BTreeSet::new();
    let newest = backups.iter().filter(|backup| seen.insert(span(backup.created_at)));
    newest.take(count).map(|backup| backup.id).collect()
}

fn counts(backup: &Manifest) -> bool {
    backup.verified.is_some() && backup.kind != Kind::BeforeRollback
}

impl Reason {
    /// The text for a person.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::NewestVerified => "the newest verified one",
            Self::Counted => "one of the newest verified ones",
            Self::Daily => "the newest of its day",
            Self::Weekly => "the newest of its week",
            Self::Monthly => "the newest of its month",
            Self::Unrecorded => "taken elsewhere",
            Self::Recent => "does not count, and is recent",
        }
    }
}

impl fmt::Display for PrunePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { remove, keep, old_databases, leftovers, broken } = self;
        for id in remove {
            writeln!(f, "remove  {id}")?;
        }
        for OldDatabase { name, .. } in old_databases {
            writeln!(f, "drop    {name} (replaced by a rollback)")?;
        }
        for name in leftovers {
            writeln!(f, "remove  {name} (left by a capture that was killed)")?;
        }
        for Kept { id, why } in keep {
            writeln!(f, "keep    {id} ({})", why.as_str())?;
        }
        for BrokenBackup { id, problem } in broken {
            writeln!(f, "keep    {id} (look at it: {problem})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::tests::{changed, manifest};

    fn plan(backups: Vec<Manifest>, keep: usize) -> PrunePlan {
        let listing = Listing { backups, broken: Vec::new() };
        PrunePlan::new(listing, &retention(keep, [0; 3]))
    }

    fn retention(last: usize, [daily, weekly, monthly]: [usize; 3]) -> Retention {
        Retention { last: NonZeroUsize::new(last).unwrap(), daily, weekly, monthly }
    }

    fn safety_copy(number: u32) -> Manifest {
        changed(number, |backup| backup.kind = Kind::BeforeRollback)
    }

    fn bad(number: u32) -> Manifest {
        changed(number, |backup| backup.verified = None)
    }

    fn pinned(number: u32) -> Manifest {
        changed(number, |backup| backup.pinned = true)
    }

    #[test]
    fn copies_of_the_damage_do_not_push_out_the_good_ones() {
        let backups = vec![
            pinned(1),
            bad(2),
            safety_copy(3),
            manifest(4),
            bad(5),
            manifest(6),
            safety_copy(7),
            manifest(8),
            bad(9),
        ];
        insta::assert_snapshot!(plan(backups, 2), @r"
        remove  b002
        remove  b003
        remove  b004
        remove  b005
        keep    b001 (pinned)
        keep    b006 (one of the newest verified ones)
        keep    b007 (does not count, and is recent)
        keep    b008 (the newest verified one)
        keep    b009 (does not count, and is recent)
        ");
    }

    #[test]
    fn nothing_goes_while_there_are_fewer_than_wanted() {
        let backups = vec![bad(1), safety_copy(2), manifest(3)];
        assert!(plan(backups, 2).is_empty());
    }

    /// One backup every sixteen hours from Sunday, 27 December 2026, on.
    fn over_new_year(count: u32) -> Vec<Manifest> {
        let start = DateTime::from_timestamp(1_798_329_600, 0).unwrap();
        (0..count)
            .map(|number| {
                changed(number + 1, |backup| {
                    backup.created_at = start + TimeDelta::hours(i64::from(number) * 16);
                })
            })
            .collect()
    }

    #[test]
    fn the_newest_of_each_day_week_and_month_stays() {
        let backups = over_new_year(12);
        let taken = |id: &BackupId| {
            let backup = backups.iter().find(|backup| backup.id == *id).unwrap();
            backup.created_at.format("%a %m-%d %H h").to_string()
        };
        let listing = Listing { backups: backups.clone(), broken: Vec::new() };
        let plan = PrunePlan::new(listing, &retention(2, [4, 3, 2]));
        let lines: Vec<String> = plan
            .keep
            .iter()
            .map(|kept| format!("{}: {}", taken(&kept.id), kept.why.as_str()))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        Sun 12-27 16 h: the newest of its week
        Thu 12-31 16 h: the newest of its day
        Fri 01-01 08 h: the newest of its day
        Sat 01-02 16 h: one of the newest verified ones
        Sun 01-03 08 h: the newest verified one
        ");
    }

    fn any_backups() -> impl Strategy<Value = Vec<Manifest>> {
        // Hours between two backups: negative where somebody set the clock back.
        let shape = (any::<bool>(), any::<bool>(), any::<bool>(), -30_i64..400);
        prop::collection::vec(shape, 0..40).prop_map(|shapes| {
            let mut taken = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
            (1..)
                .zip(shapes)
                .map(|(number, (pinned, verified, safety, hours))| {
                    let mut backup = if safety { safety_copy(number) } else { manifest(number) };
                    taken += TimeDelta::hours(hours);
                    backup.created_at = taken;
                    backup.pinned = pinned;
                    backup.verified = backup.verified.filter(|_| verified);
                    backup
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_good_ones_stay(
            backups in any_backups(),
            last in 1_usize..12,
            spans in prop::array::uniform3(0_usize..6),
        ) {
            let listing = Listing { backups: backups.clone(), broken: Vec::new() };
            let retention = retention(last, spans);
            let PrunePlan { remove, keep, .. } = PrunePlan::new(listing, &retention);
            prop_assert_eq!(remove.len() + keep.len(), backups.len());
            let gone = |backup: &Manifest| remove.contains(&backup.id);
            prop_assert!(backups.iter().all(|backup| !(backup.pinned && gone(backup))));
            let newest = backups.iter().rev().find(|backup| backup.verified.is_some());
            prop_assert!(newest.is_none_or(|newest| !gone(newest)));
            let good: Vec<&Manifest> = backups.iter().rev().filter(|backup| counts(backup)).collect();
            prop_assert!(good.iter().take(last).all(|backup| !gone(backup)));
            // What does not count goes only when it is older than all of those.
            let oldest = good.iter().take(last).map(|backup| backup.id).min();
            prop_assert!(remove.iter().all(|id| oldest.is_some_and(|oldest| *id < oldest)));
            // Each of the newest days, weeks and months has its newest backup.
            let spans: [(usize, &str); 3] =
                [(spans[0], "%Y-%m-%d"), (spans[1], "%G-%V"), (spans[2], "%Y-%m")];
            for (count, format) in spans {
                let mut seen: Vec<String> = Vec::new();
                for backup in &good {
                    let span = backup.created_at.format(format).to_string();
                    if seen.len() < count && !seen.contains(&span) {
                        prop_assert!(!gone(backup), "{} of {}", backup.id, span);
                        seen.push(span);
                    }
                }
            }
        }

        #[test]
        fn pruning_again_removes_nothing_more(
            backups in any_backups(),
            last in 1_usize..12,
            spans in prop::array::uniform3(0_usize..6),
        ) {
            let retention = retention(last, spans);
            let listing = |backups| Listing { backups, broken: Vec::new() };
            let first = PrunePlan::new(listing(backups.clone()), &retention);
            let left = backups.into_iter().filter(|backup| !first.remove.contains(&backup.id)).collect();
            prop_assert_eq!(PrunePlan::new(listing(left), &retention).remove, []);
        }
    }
}
