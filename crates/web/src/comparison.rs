//! The access matrix beside an export file: what the database lacks, what it has against the file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use omnitool_database::AnyConnection;
use omnitool_environment::EnvironmentName;
use omnitool_tool_access::{
    Counts, Fact, FactKind, ImportPlan, ImportRequest, Replacement, default_file, plan_import,
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

/// Sums up the differences of one cell, where the database has a grant or an exclusion of the user, or neither.
pub(crate) fn verdict(
    differences: &[Difference],
    is_granted: bool,
    is_excluded: bool,
) -> Option<Verdict> {
    use Difference::{Extra, Missing};
    use FactKind::{Exclusion, Grant};
    let has = |difference| differences.contains(&difference);
    if (has(Missing(Exclusion)) && is_granted) || (has(Missing(Grant)) && is_excluded) {
        return Some(Verdict::Contradicting);
    }
    match differences.first()? {
        Missing(_) => Some(Verdict::Missing),
        Extra(_) => Some(Verdict::Extra),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_missing_extra_or_contradicting() {
        use Difference::{Extra, Missing};
        use FactKind::{Exclusion, Grant};
        assert_eq!(verdict(&[], true, false), None);
        assert_eq!(verdict(&[Missing(Grant)], false, false), Some(Verdict::Missing));
        assert_eq!(verdict(&[Extra(Grant)], true, false), Some(Verdict::Extra));
        assert_eq!(verdict(&[Extra(Exclusion)], false, true), Some(Verdict::Extra));
        let excluded_there = [Missing(Exclusion), Extra(Grant)];
        assert_eq!(verdict(&excluded_there, true, false), Some(Verdict::Contradicting));
        let granted_there = [Missing(Grant), Extra(Exclusion)];
        assert_eq!(verdict(&granted_there, false, true), Some(Verdict::Contradicting));
    }
}
