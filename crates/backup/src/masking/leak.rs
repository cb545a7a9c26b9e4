//! Whether something of the source is still in a masked copy.

use std::collections::BTreeSet;

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

/// Real values that must not be in the copy any more. They are never shown.
pub(super) struct Samples(BTreeSet<String>);

impl Samples {
    /// Takes values of every column that `plan` masks or drops from the copy before it is masked.
    pub(super) fn take(
        conn: &mut AnyConnection,
        plan: &MaskingPlan,
        schema: &Schema,
    ) -> QueryResult<Self> {
        let mut values = BTreeSet::new();
        for (name, table) in &schema.tables {
            for column in &table.columns {
                let rule = plan.rule(name, &column.name);
                let is_dropped = plan.drops.contains(name);
                if !holds_text(column.kind) || (rule.is_none() && !is_dropped) {
                    continue;
                }
                store::sample(conn, name, &column.name, SAMPLES, |value| {
                    if is_meaningful(&value, rule) {
                        values.insert(value);
                    }
                })?;
            }
        }
        Ok(Self(values))
    }

    /// The columns of the masked copy in which one of the values is, as `table.column`.
    pub(super) fn find(
        &self,
        conn: &mut AnyConnection,
        schema: &Schema,
    ) -> Result<Vec<String>, SearchError> {
        let Self(values) = self;
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let search = AhoCorasick::builder().ascii_case_insensitive(true).build(values)?;
        let mut leaks = Vec::new();
        for (name, table) in &schema.tables {
            for column in table.columns.iter().filter(|column| holds_text(column.kind)) {
                let mut found = false;
                store::texts(conn, name, &column.name, |text| {
                    found = found || search.is_match(&text);
                })?;
                if found {
                    leaks.push(format!("{name}.{}", column.name));
                }
            }
        }
        Ok(leaks)
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
