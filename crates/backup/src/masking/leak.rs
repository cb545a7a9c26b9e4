//! Whether something of the source is still in a masked copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aho_corasick::AhoCorasick;
use diesel::QueryResult;
use omnitool_database::AnyConnection;

use super::{
    plan::MaskingPlan,
    rules::Rule,
    schema::{Kind, Schema},
    store,
};

/// About how many values of each masked column are searched for.
const SAMPLES: u32 = 1_000;
/// Shorter texts are found in others by chance.
const SHORTEST: usize = 8;
/// An address or a number is one also where it is shorter than other texts may be.
const SHORTEST_CONTACT: usize = 6;

/// Real values that must not be in the copy any more, and the columns that they are from. They are never shown.
pub(super) struct Samples(BTreeMap<String, String>);

/// A column of the masked copy with a value that should be gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// Where it was found, as `table.column`.
    pub found_in: String,
    /// The masked column that it is from, as `table.column`.
    pub comes_from: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found_in, comes_from } = self;
        write!(f, "{found_in} (from {comes_from})")
    }
}

impl Samples {
    /// Takes values of every column that `plan` masks or drops from the copy before it is masked.
    pub(super) fn take(
        conn: &mut AnyConnection,
        plan: &MaskingPlan,
        schema: &Schema,
    ) -> QueryResult<Self> {
        let mut values = BTreeMap::new();
        for (name, table) in &schema.tables {
            for column in &table.columns {
                let rule = plan.rule(name, &column.name);
                let is_dropped = plan.drops.contains(name);
                if !holds_text(column.kind) || (rule.is_none() && !is_dropped) {
                    continue;
                }
                store::sample(conn, name, &column.name, SAMPLES, |value| {
                    if is_meaningful(&value, rule) {
                        values.insert(value, format!("{name}.{}", column.name));
                    }
                })?;
            }
        }
        Ok(Self(values))
    }

    /// Where in the masked copy one of the values still is.
    pub(super) fn find(
        &self,
        conn: &mut AnyConnection,
        schema: &Schema,
    ) -> Result<Vec<Leak>, SearchError> {
        let Self(values) = self;
        let origins: Vec<&String> = values.values().collect();
        let search = AhoCorasick::builder().ascii_case_insensitive(true).build(values.keys())?;
        let mut leaks = BTreeSet::new();
        for (name, table) in &schema.tables {
            for column in table.columns.iter().filter(|column| holds_text(column.kind)) {
                let found_in = format!("{name}.{}", column.name);
                store::texts(conn, name, &column.name, |text| {
                    if let Some(found) = search.find(&text) {
                        let comes_from = origins[found.pattern().as_usize()].clone();
                        leaks.insert(Leak { found_in: found_in.clone(), comes_from });
                    }
                })?;
            }
        }
        Ok(leaks.into_iter().collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Why the copy could not be searched.
#[derive(Debug, thiserror::Error)]
pub(super) enum SearchError {
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    #[error(transparent)]
    Build(#[from] aho_corasick::BuildError),
}

const fn holds_text(kind: Kind) -> bool {
    match kind {
        Kind::Text | Kind::Composite => true,
        Kind::Integer | Kind::Other => false,
    }
}

fn is_meaningful(value: &str, rule: Option<&Rule>) -> bool {
    let shortest = match rule {
        Some(Rule::Email | Rule::Phone) => SHORTEST_CONTACT,
        // What was that text already is no leak.
        Some(Rule::Fixed(text)) if text == value => return false,
        _ => SHORTEST,
    };
    value.trim().chars().count() >= shortest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_not_searched_for() {
        assert!(is_meaningful("a@b.de", Some(&Rule::Email)));
        assert!(!is_meaningful("reason", Some(&Rule::Hash)));
        assert!(!is_meaningful(
            "(reason not copied)",
            Some(&Rule::Fixed("(reason not copied)".into()))
        ));
        assert!(is_meaningful(
            "has left the company",
            Some(&Rule::Fixed("(reason not copied)".into()))
        ));
        assert!(!is_meaningful("!       ", None));
    }
}
