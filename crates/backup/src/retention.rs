//! Which backups stay.

use std::{fmt, num::NonZeroUsize};

use serde::Serialize;

use crate::{BackupId, Catalog, CatalogError, Kind, Listing, Manifest, catalog::BrokenBackup};

/// What pruning removes, and why the rest stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[must_use]
pub struct PrunePlan {
    /// Backups that go, oldest first.
    pub remove: Vec<BackupId>,
    /// Backups that stay, oldest first.
    pub keep: Vec<Kept>,
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
    /// It does not count, and it is newer than the oldest one that does.
    Recent,
}

/// What pruning did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The backups that are gone.
    pub removed: Vec<BackupId>,
    /// The files of killed captures that are gone.
    pub leftovers: Vec<String>,
    /// What should have gone and is still there.
    pub failed: Vec<PruneFailure>,
}

/// Something that could not be removed.
#[derive(Debug)]
pub struct PruneFailure {
    /// The backup or the file.
    pub name: String,
    /// Why.
    pub error: CatalogError,
}

impl PrunePlan {
    /// Decides which of the backups in `listing` go so that the newest `keep` stay.
    ///
    /// Only verified backups count, and safety copies of rollbacks do not. Those that do not count go when they are older
    /// than all that count and stay. The newest verified backup and pinned ones always stay.
    pub fn new(listing: Listing, leftovers: Vec<String>, keep: NonZeroUsize) -> Self {
        let Listing { backups, broken } = listing;
        let newest_verified =
            backups.iter().rev().find(|backup| backup.verified.is_some()).map(|backup| backup.id);
        let counted: Vec<BackupId> = backups
            .iter()
            .rev()
            .filter(|backup| counts(backup))
            .take(keep.get())
            .map(|backup| backup.id)
            .collect();
        // Fewer than wanted: nothing is old enough to go.
        let oldest = counted.last().filter(|_| counted.len() == keep.get()).copied();
        let mut plan = Self { leftovers, broken, ..Self::default() };
        for Manifest { id, pinned, .. } in backups {
            let why = if pinned {
                Some(Reason::Pinned)
            } else if Some(id) == newest_verified {
                Some(Reason::NewestVerified)
            } else if counted.contains(&id) {
                Some(Reason::Counted)
            } else if oldest.is_none_or(|oldest| id > oldest) {
                Some(Reason::Recent)
            } else {
                None
            };
            match why {
                Some(why) => plan.keep.push(Kept { id, why }),
                None => plan.remove.push(id),
            }
        }
        plan
    }

    /// Plans for what `catalog` holds now.
    ///
    /// # Errors
    ///
    /// Fails where the folder cannot be read.
    pub fn load(catalog: &Catalog, keep: NonZeroUsize) -> Result<Self, CatalogError> {
        // Leftovers first: what a capture publishes in between is then no leftover.
        let leftovers = catalog.leftovers()?;
        Ok(Self::new(catalog.list()?, leftovers, keep))
    }

    /// Whether there is nothing to remove.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { remove, keep: _, leftovers, broken: _ } = self;
        remove.is_empty() && leftovers.is_empty()
    }

    /// Removes what the plan says and goes on where something cannot be removed.
    #[must_use]
    pub fn apply(&self, catalog: &Catalog) -> Pruned {
        let Self { remove, keep: _, leftovers, broken: _ } = self;
        let mut pruned = Pruned::default();
        for &id in remove {
            match catalog.remove(id) {
                Ok(()) => pruned.removed.push(id),
                // Somebody else removed it, which is as good.
                Err(CatalogError::NotFound { .. }) => {}
                Err(error) => pruned.failed.push(PruneFailure { name: id.to_string(), error }),
            }
        }
        for name in leftovers {
            match catalog.remove_leftover(name) {
                Ok(()) => pruned.leftovers.push(name.clone()),
                Err(error) => pruned.failed.push(PruneFailure { name: name.clone(), error }),
            }
        }
        pruned
    }
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
            Self::Recent => "does not count, and is recent",
        }
    }
}

impl fmt::Display for PrunePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { remove, keep, leftovers, broken } = self;
        for id in remove {
            writeln!(f, "remove  {id}")?;
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
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::tests::{changed, manifest};

    fn plan(backups: Vec<Manifest>, keep: usize) -> PrunePlan {
        let listing = Listing { backups, broken: Vec::new() };
        PrunePlan::new(listing, Vec::new(), NonZeroUsize::new(keep).unwrap())
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

    fn any_backups() -> impl Strategy<Value = Vec<Manifest>> {
        let shapes = prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..30);
        shapes.prop_map(|shapes| {
            (1..)
                .zip(shapes)
                .map(|(number, (pinned, verified, safety))| {
                    let mut backup = if safety { safety_copy(number) } else { manifest(number) };
                    backup.pinned = pinned;
                    backup.verified = backup.verified.filter(|_| verified);
                    backup
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_good_ones_stay(backups in any_backups(), keep in 1_usize..12) {
            let PrunePlan { remove, keep: kept, .. } = plan(backups.clone(), keep);
            prop_assert_eq!(remove.len() + kept.len(), backups.len());
            let removed: Vec<&Manifest> =
                backups.iter().filter(|backup| remove.contains(&backup.id)).collect();
            prop_assert!(removed.iter().all(|backup| !backup.pinned));
            let newest = backups.iter().rev().find(|backup| backup.verified.is_some());
            prop_assert!(newest.is_none_or(|newest| !remove.contains(&newest.id)));
            let good = backups.iter().filter(|backup| counts(backup)).count();
            let good_removed = removed.iter().filter(|backup| counts(backup)).count();
            prop_assert!(good - good_removed >= good.min(keep));
            // What goes is older than every one that counts and stays.
            let oldest = backups.iter().filter(|b| counts(b) && !b.pinned && !remove.contains(&b.id)).map(|b| b.id).min();
            prop_assert!(removed.iter().all(|b| oldest.is_none_or(|oldest| b.id < oldest)));
        }
    }
}
