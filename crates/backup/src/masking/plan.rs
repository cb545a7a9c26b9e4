//! From rules and a schema to statements, without touching a database.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
};

use omnitool_database::Dialect;
use serde::Serialize;

use super::{
    rules::{MaskingRules, Rule},
    schema::{Column, Kind, Schema, Table},
    sql,
};

/// What a password hash becomes, whatever the rules say: a text that no password has.
const ALWAYS_FIXED: [(&str, &str, &str); 1] = [("users", "password_hash", "!")];
/// Tables whose rows never come along, whatever the rules say.
const ALWAYS_DROPPED: [&str; 1] = ["user_session"];

/// Whether contact data becomes something else.
#[derive(Clone, Debug)]
pub enum Masking {
    /// Every column becomes what the rules say.
    Rules(MaskingRules),
    /// Only credentials and sessions go.
    CredentialsOnly,
}

/// The statements that mask a database of one schema. The same rules and schema make the same plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MaskingPlan {
    /// Tables whose rows are deleted.
    pub drops: Vec<String>,
    /// One statement for each table with masked columns.
    pub updates: Vec<TableUpdate>,
}

/// The statement that masks a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableUpdate {
    /// The table.
    pub table: String,
    /// The masked columns and what becomes of them.
    pub columns: BTreeMap<String, Rule>,
    /// The columns whose derived keys are bound, in order; none where the key is no parameter.
    #[serde(skip)]
    pub(super) keys: Vec<String>,
    #[serde(skip)]
    pub(super) sql: String,
}

/// Why a database cannot be masked: all that is wrong with rules and schema together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanMaskingError {
    problems: Vec<MaskingProblem>,
}

/// One thing that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum MaskingProblem {
    /// Nobody has said what becomes of the column.
    #[error("column {column} is not classified")]
    Unclassified {
        /// `table.column`.
        column: String,
    },
    /// The rules speak of something that is in no schema.
    #[error("{what} is classified and does not exist")]
    Absent {
        /// `table t` or `column t.c`.
        what: String,
    },
    /// The rule would break the schema.
    #[error("column {column} cannot be masked as `{rule}`: {reason}")]
    Unfit {
        /// `table.column`.
        column: String,
        /// The rule.
        rule: &'static str,
        /// Why not.
        reason: &'static str,
    },
}

impl PlanMaskingError {
    /// All problems, sorted.
    #[must_use]
    pub fn problems(&self) -> &[MaskingProblem] {
        &self.problems
    }
}

impl fmt::Display for PlanMaskingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the masking rules do not fit the schema")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl Error for PlanMaskingError {}

impl MaskingPlan {
    /// What makes a database with `schema` free of personal data. `newer` is the schema after this build's migrations: the
    /// rules may speak of its columns, too.
    ///
    /// # Errors
    ///
    /// Fails where a table or column is not classified, a classified one is in neither schema, or a rule would break a
    /// constraint; all problems at once.
    pub fn new(
        masking: &Masking,
        schema: &Schema,
        newer: &Schema,
        dialect: Dialect,
    ) -> Result<Self, PlanMaskingError> {
        let mut planner = Planner { dialect, problems: BTreeSet::new() };
        let plan = planner.plan(masking, schema);
        if let Masking::Rules(rules) = masking {
            planner.find_absent(rules, schema, newer);
        }
        if planner.problems.is_empty() {
            Ok(plan)
        } else {
            Err(PlanMaskingError { problems: planner.problems.into_iter().collect() })
        }
    }

    /// What becomes of a column that does not stay as it is; `None` for one that stays.
    #[must_use]
    pub fn rule(&self, table: &str, column: &str) -> Option<&Rule> {
        self.updates
            .iter()
            .find(|update| update.table == table)
            .and_then(|update| update.columns.get(column))
    }
}

impl fmt::Display for MaskingPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drops, updates } = self;
        for table in drops {
            writeln!(f, "  {table}: no rows are copied")?;
        }
        for TableUpdate { table, columns, .. } in updates {
            let columns: Vec<String> =
                columns.iter().map(|(column, rule)| format!("{column} ({})", rule.as_str())).collect();
            writeln!(f, "  {table}: {}", columns.join(", "))?;
        }
        Ok(())
    }
}

struct Planner {
    dialect: Dialect,
    problems: BTreeSet<MaskingProblem>,
}

impl Planner {
    fn plan(&mut self, masking: &Masking, schema: &Schema) -> MaskingPlan {
        let mut plan = MaskingPlan { drops: Vec::new(), updates: Vec::new() };
        for (name, table) in &schema.tables {
            if is_dropped(masking, name) {
                plan.drops.push(name.clone());
                continue;
            }
            let mut masked = BTreeMap::new();
            for column in &table.columns {
                match self.rule(masking, name, column) {
                    None | Some(Rule::Keep) => {}
                    Some(rule) => {
                        self.check(name, table, column, &rule);
                        masked.insert(column.name.clone(), rule);
                    }
                }
            }
            if !masked.is_empty() {
                let sql::Update { sql, keys } = sql::update(self.dialect, name, table, &masked);
                plan.updates.push(TableUpdate { table: name.clone(), columns: masked, keys, sql });
            }
        }
        plan
    }

    fn rule(&mut self, masking: &Masking, table: &str, column: &Column) -> Option<Rule> {
        let always = ALWAYS_FIXED
            .iter()
            .find(|(of, name, _)| *of == table && *name == column.name)
            .map(|(_, _, text)| Rule::Fixed((*text).to_owned()));
        let Masking::Rules(rules) = masking else { return always };
        let classified = rules.tables.get(table).and_then(|columns| columns.get(&column.name));
        if always.is_none() && classified.is_none() {
            let column = format!("{table}.{}", column.name);
            self.problems.insert(MaskingProblem::Unclassified { column });
        }
        always.or_else(|| classified.cloned())
    }

    /// Notes why `rule` would break a constraint.
    fn check(&mut self, table_name: &str, table: &Table, column: &Column, rule: &Rule) {
        let made_from_key = matches!(rule, Rule::Email | Rule::Name | Rule::Phone);
        let reason = if column.is_key {
            "it is part of a key, which other rows refer to"
        } else if *rule == Rule::Null && !column.is_nullable {
            "it must have a value"
        } else if matches!(rule, Rule::Fixed(_)) && column.is_unique {
            "its values must differ"
        } else if *rule != Rule::Null && column.kind != Kind::Text {
            "it holds no text"
        } else if made_from_key && table.primary_key().is_empty() {
            "its table has no primary key to make it from"
        } else {
            return;
        };
        let column = format!("{table_name}.{}", column.name);
        self.problems.insert(MaskingProblem::Unfit { column, rule: rule.as_str(), reason });
    }

    fn find_absent(&mut self, rules: &MaskingRules, schema: &Schema, newer: &Schema) {
        let schemas = [schema, newer];
        for table in rules.drop_rows.iter().chain(rules.tables.keys()) {
            let found: Vec<&Table> =
                schemas.iter().filter_map(|schema| schema.tables.get(table)).collect();
            if found.is_empty() {
                let what = format!("table {table}");
                self.problems.insert(MaskingProblem::Absent { what });
                continue;
            }
            for column in rules.tables.get(table).into_iter().flat_map(BTreeMap::keys) {
                if !found.iter().any(|table| table.columns.iter().any(|c| c.name == *column)) {
                    let what = format!("column {table}.{column}");
                    self.problems.insert(MaskingProblem::Absent { what });
                }
            }
        }
    }
}

fn is_dropped(masking: &Masking, table: &str) -> bool {
    let by_rule = match masking {
        Masking::Rules(rules) => rules.drop_rows.contains(table),
        Masking::CredentialsOnly => false,
    };
    by_rule || ALWAYS_DROPPED.contains(&table)
}
