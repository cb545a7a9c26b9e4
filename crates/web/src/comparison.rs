//! The access matrix beside an export file: what the database lacks, what it has against the file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use omnitool_database::AnyConnection;
use omnitool_environment::EnvironmentName;
use omnitool_tool_access::{
    Counts, Fact, FactKind, FileLayout, ImportPlan, ImportRequest, Replacement, default_file,
    plan_import,
};
use omnitool_tool_registry::{Definitions, Deprecation};

use crate::error::chain;

/// A fact that the database and the file do not agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The file has it and the database has not; an import would add it.
    Missing(FactKind),
    /// The database has it and the file, which speaks for it, has not.
    Extra(FactKind),
}

/// How the database differs from an export file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) file: PathBuf,
    /// The environment that the file says it comes from.
    pub(crate) source: Option<String>,
    /// Facts that an import would add.
    pub(crate) missing: Counts,
    /// Facts that the database has against the file.
    pub(crate) extra: u64,
    /// Users of the file whom the database does not have.
    pub(crate) unknown_users: u64,
    /// Whether the file is a flat list of an older system, which has no exclusions.
    is_flat: bool,
    /// By tool and user; no user is everyone.
    differences: HashMap<(String, Option<String>), Vec<Difference>>,
}

/// The file that an environment's export is committed as, in the folder of such files.
pub(crate) fn file_of(folder: &Path, environment: EnvironmentName) -> PathBuf {
    let default = default_file(environment);
    default.file_name().map_or_else(|| folder.to_owned(), |name| folder.join(name))
}

impl Comparison {
    /// Compares the database, of `environment`, with `file` for these users. The plan of a merge says how: what it adds is
    /// missing, and what it calls contradictions is against the file.
    ///
    /// Fails with a sentence for the page.
    pub(crate) fn read(
        conn: &mut AnyConnection,
        environment: EnvironmentName,
        definitions: Option<&Definitions>,
        file: &Path,
        users: &[String],
    ) -> Result<Self, String> {
        let replacement = |name: &str| {
            definitions?.deprecated().get(name).map(|deprecation| match deprecation {
                Deprecation::RenamedTo(new) => Replacement::RenamedTo(new.clone()),
                Deprecation::Deleted => Replacement::Deleted,
            })
        };
        let base = ImportRequest { replacement: &replacement, ..ImportRequest::merge(file) };
        let mut plan = |request: &ImportRequest<'_>| {
            plan_import(conn, environment, request).map_err(|error| chain(&error))
        };
        let whole = plan(&base)?;
        let mut comparison = Self {
            file: file.to_owned(),
            source: whole.source_environment.clone(),
            missing: whole.added,
            extra: whole.contradiction_count,
            unknown_users: whole.unknown_user_count,
            is_flat: whole.layout == FileLayout::Flat,
            differences: HashMap::new(),
        };
        if is_complete(&whole) {
            comparison.note(whole);
            return Ok(comparison);
        }
        // There is more than a plan lists: the users of this page by themselves, and what is for everyone.
        let wildcards = plan(&ImportRequest { only_kind: Some(FactKind::Wildcard), ..base })?;
        comparison.note(wildcards);
        let base = ImportRequest { replacement: &replacement, ..ImportRequest::merge(file) };
        // A plan without names would be about everybody.
        if !users.is_empty() {
            let window = plan(&ImportRequest { only_users: users, ..base })?;
            comparison.note(window);
        }
        Ok(comparison)
    }

    fn note(&mut self, plan: ImportPlan) {
        let mut add = |fact: Fact, difference| {
            let Fact { tool, user, fact: _ } = fact;
            self.differences.entry((tool, user)).or_default().push(difference);
        };
        for fact in plan.additions {
            let kind = fact.fact;
            add(fact, Difference::Missing(kind));
        }
        for contradiction in plan.contradictions {
            let kind = contradiction.fact.fact;
            add(contradiction.fact, Difference::Extra(kind));
        }
    }

    /// What differs about this user and tool; no user is everyone.
    pub(crate) fn of(&self, tool: &str, user: Option<&str>) -> &[Difference] {
        let key = (tool.to_owned(), user.map(ToOwned::to_owned));
        self.differences.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Sums up what differs about this user and tool, about whom the database has the facts `here`.
    pub(crate) fn verdict(&self, tool: &str, user: &str, here: Facts) -> Option<Verdict> {
        use Difference::{Extra, Missing};
        let (of_user, of_everyone) = (self.of(tool, Some(user)), self.of(tool, None));
        let first = of_user.first()?;
        // What the file is silent about is there as it is here: an import leaves it alone.
        let in_file = |differences: &[Difference], kind, is_here: bool| {
            differences.contains(&Missing(kind)) || is_here && !differences.contains(&Extra(kind))
        };
        let there = Facts {
            is_granted: in_file(of_user, FactKind::Grant, here.is_granted),
            is_for_everyone: in_file(of_everyone, FactKind::Wildcard, here.is_for_everyone),
            is_excluded: !self.is_flat && in_file(of_user, FactKind::Exclusion, here.is_excluded),
        };
        if here.let_in() && there.is_excluded || there.let_in() && here.is_excluded {
            return Some(Verdict::Contradicting);
        }
        Some(match first {
            Missing(_) => Verdict::Missing,
            Extra(_) => Verdict::Extra,
        })
    }

    pub(crate) const fn is_same(&self) -> bool {
        self.missing.total() == 0 && self.extra == 0
    }
}

/// Whether the plan lists all that it counts.
fn is_complete(plan: &ImportPlan) -> bool {
    plan.additions.len() as u64 == plan.added.total()
        && plan.contradictions.len() as u64 == plan.contradiction_count
}

/// How a cell of the matrix stands to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The file has a fact that is not here.
    Missing,
    /// Here is a fact that the file does not have.
    Extra,
    /// One lets the user in and the other shuts the user out.
    Contradicting,
}

/// What the database has about a user and a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) is_granted: bool,
    pub(crate) is_for_everyone: bool,
    pub(crate) is_excluded: bool,
}

impl Facts {
    const fn let_in(self) -> bool {
        (self.is_granted || self.is_for_everyone) && !self.is_excluded
    }
}

#[cfg(test)]
mod tests {
    use Difference::{Extra, Missing};
    use FactKind::{Exclusion, Grant, Wildcard};

    use super::*;

    const NOTHING: Facts = Facts { is_granted: false, is_for_everyone: false, is_excluded: false };
    const GRANTED: Facts = Facts { is_granted: true, ..NOTHING };
    const EVERYONE: Facts = Facts { is_for_everyone: true, ..NOTHING };
    const EXCLUDED: Facts = Facts { is_excluded: true, ..NOTHING };

    /// The verdict about a user where these are the differences about the user and about everyone.
    fn verdict(of_user: &[Difference], of_everyone: &[Difference], here: Facts) -> Option<Verdict> {
        let (tool, user) = ("Mail".to_owned(), Some("bob".to_owned()));
        let differences = [((tool.clone(), user), of_user), ((tool, None), of_everyone)];
        let differences = differences.map(|(key, found)| (key, found.to_vec())).into();
        Comparison { differences, ..Comparison::default() }.verdict("Mail", "bob", here)
    }

    #[test]
    fn a_cell_is_missing_or_extra() {
        assert_eq!(verdict(&[], &[], GRANTED), None);
        assert_eq!(verdict(&[Missing(Grant)], &[], NOTHING), Some(Verdict::Missing));
        assert_eq!(verdict(&[Extra(Grant)], &[], GRANTED), Some(Verdict::Extra));
        assert_eq!(verdict(&[Extra(Exclusion)], &[], EXCLUDED), Some(Verdict::Extra));
    }

    #[test]
    fn where_one_lets_in_whom_the_other_shuts_out_a_cell_is_contradicting() {
        let excluded = |facts| Facts { is_excluded: true, ..facts };
        for (of_user, of_everyone, here) in [
            // The file excludes.
            (&[Missing(Exclusion), Extra(Grant)][..], &[][..], GRANTED),
            (&[Missing(Exclusion)], &[], GRANTED),
            (&[Missing(Exclusion)], &[Extra(Wildcard)], EVERYONE),
            // Here the user is excluded, whom the file grants the tool,
            (&[Missing(Grant), Extra(Exclusion)], &[], EXCLUDED),
            (&[Extra(Exclusion)], &[], excluded(GRANTED)),
            // or who is one of everyone there.
            (&[Extra(Exclusion)], &[], excluded(EVERYONE)),
            (&[Extra(Exclusion)], &[Missing(Wildcard)], EXCLUDED),
            (
                &[Extra(Grant), Extra(Exclusion)],
                &[],
                excluded(Facts { is_granted: true, ..EVERYONE }),
            ),
        ] {
            let found = verdict(of_user, of_everyone, here);
            assert_eq!(found, Some(Verdict::Contradicting), "{of_user:?} {of_everyone:?} {here:?}");
        }
    }

    #[test]
    fn where_neither_lets_in_or_neither_shuts_out_a_cell_is_not_contradicting() {
        let excluded = |facts| Facts { is_excluded: true, ..facts };
        for (of_user, of_everyone, here, expected) in [
            (&[Extra(Grant), Extra(Exclusion)][..], &[][..], excluded(GRANTED), Verdict::Extra),
            (&[Extra(Exclusion)], &[Extra(Wildcard)], excluded(EVERYONE), Verdict::Extra),
            // Excluded in both.
            (&[Missing(Grant)], &[], EXCLUDED, Verdict::Missing),
            (&[Missing(Exclusion)], &[Missing(Wildcard)], NOTHING, Verdict::Missing),
            (&[Missing(Grant), Missing(Exclusion)], &[], NOTHING, Verdict::Missing),
        ] {
            let found = verdict(of_user, of_everyone, here);
            assert_eq!(found, Some(expected), "{of_user:?} {of_everyone:?} {here:?}");
        }
    }

    #[test]
    fn a_list_without_exclusions_lets_in_whom_it_grants_a_tool() {
        let key = ("Mail".to_owned(), Some("bob".to_owned()));
        let differences = HashMap::from([(key, vec![Missing(Grant)])]);
        let list = Comparison { differences, is_flat: true, ..Comparison::default() };
        assert_eq!(list.verdict("Mail", "bob", EXCLUDED), Some(Verdict::Contradicting));
        assert_eq!(list.verdict("Mail", "carol", EXCLUDED), None);
    }
}
