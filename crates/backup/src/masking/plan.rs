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
    store::statement,
};
use crate::digest::Hasher;

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
    /// The SHA-256 of what is done, so that a later run knows whether it would do the same.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hasher = Hasher::default();
        let mut add = |text: &str| {
            hasher.update(text.as_bytes());
            hasher.update(&[0]);
        };
        for table in &self.drops {
            add(table);
        }
        for TableUpdate { table, columns: _, keys, sql } in &self.updates {
            add(table);
            add(sql);
            keys.iter().for_each(|key| add(key));
        }
        hasher.finish().sha256
    }

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
            let columns: Vec<String> = columns
                .iter()
                .map(|(column, rule)| format!("{column} ({})", rule.as_str()))
                .collect();
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
                let statement::Update { sql, keys } =
                    statement::update(self.dialect, name, table, &masked);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column {
            name: name.to_owned(),
            kind,
            is_nullable: true,
            is_primary: false,
            is_key: false,
            is_unique: false,
        }
    }

    fn key(name: &str, kind: Kind) -> Column {
        Column {
            is_nullable: false,
            is_primary: true,
            is_key: true,
            is_unique: true,
            ..column(name, kind)
        }
    }

    fn schema(tables: &[(&str, Vec<Column>)]) -> Schema {
        let tables = tables
            .iter()
            .map(|(name, columns)| ((*name).to_owned(), Table { columns: columns.clone() }));
        Schema { tables: tables.collect() }
    }

    fn people() -> Schema {
        schema(&[
            (
                "users",
                vec![
                    key("id", Kind::Integer),
                    column("name", Kind::Text),
                    Column { is_unique: true, ..column("email", Kind::Text) },
                    Column { is_nullable: false, ..column("password_hash", Kind::Text) },
                    column("phone", Kind::Text),
                    column("badge", Kind::Text),
                    column("note", Kind::Text),
                ],
            ),
            ("user_session", vec![key("token_sha256", Kind::Text)]),
            ("device", vec![key("serial", Kind::Text), column("contact", Kind::Text)]),
        ])
    }

    const RULES: &str = "[tables.users]\nid = \"keep\"\nname = \"name\"\nemail = \"email\"\npassword_hash = \"keep\"\n\
        phone = \"phone\"\nbadge = \"hash\"\nnote = { fixed = \"it's gone\" }\n\
        [tables.device]\nserial = \"keep\"\ncontact = \"email\"\n";

    fn plan(
        rules: &str,
        schema: &Schema,
        dialect: Dialect,
    ) -> Result<MaskingPlan, PlanMaskingError> {
        let rules = MaskingRules::parse(rules, Path::new("masking.toml")).unwrap();
        MaskingPlan::new(&Masking::Rules(rules), schema, &Schema::default(), dialect)
    }

    fn sql(dialect: Dialect) -> String {
        let plan = plan(RULES, &people(), dialect).unwrap();
        let sql: Vec<String> = plan
            .updates
            .iter()
            .map(|update| format!("{} {:?}", update.sql.replace(", \"", ",\n  \""), update.keys))
            .collect();
        sql.join("\n")
    }

    #[test]
    fn one_statement_masks_a_table_on_sqlite() {
        insta::assert_snapshot!(sql(Dialect::Sqlite));
    }

    #[test]
    fn one_statement_masks_a_table_on_postgres() {
        insta::assert_snapshot!(sql(Dialect::Postgres));
    }

    #[test]
    fn credentials_and_sessions_go_whatever_the_rules_say() {
        let rules = RULES.to_owned() + "[tables.user_session]\ntoken_sha256 = \"keep\"\n";
        let plan = plan(&rules, &people(), Dialect::Sqlite).unwrap();
        assert_eq!(plan.drops, ["user_session"]);
        assert_eq!(plan.rule("users", "password_hash"), Some(&Rule::Fixed("!".to_owned())));

        let unmasked = MaskingPlan::new(
            &Masking::CredentialsOnly,
            &people(),
            &Schema::default(),
            Dialect::Sqlite,
        );
        insta::assert_snapshot!(unmasked.unwrap(), @r"
          user_session: no rows are copied
          users: password_hash (fixed)
        ");
    }

    #[test]
    fn everything_that_nobody_has_thought_about_is_named_at_once() {
        let rules = "drop_rows = [\"notes\"]\n[tables.users]\nid = \"null\"\nname = \"keep\"\nemail = { fixed = \"x\" }\n\
                     nick = \"keep\"\nphone = \"keep\"\n[tables.friend]\nid = \"keep\"\n";
        let mut schema = people();
        let users = schema.tables.get_mut("users").unwrap();
        users.columns.push(column("born", Kind::Other));
        let rules = rules.replace("[tables.friend]", "born = \"email\"\n[tables.friend]");
        insta::assert_snapshot!(plan(&rules, &schema, Dialect::Sqlite).unwrap_err(), @r"
        the masking rules do not fit the schema
          column device.contact is not classified
          column device.serial is not classified
          column users.badge is not classified
          column users.note is not classified
          column users.nick is classified and does not exist
          table friend is classified and does not exist
          table notes is classified and does not exist
          column users.born cannot be masked as `email`: it holds no text
          column users.email cannot be masked as `fixed`: its values must differ
          column users.id cannot be masked as `null`: it is part of a key, which other rows refer to
        ");
    }

    #[test]
    fn a_rule_must_fit_its_table() {
        let schema = schema(&[(
            "log",
            vec![
                column("who", Kind::Text),
                Column { is_nullable: false, ..column("what", Kind::Text) },
            ],
        )]);
        let rules = "[tables.log]\nwho = \"email\"\nwhat = \"null\"\n";
        insta::assert_snapshot!(plan(rules, &schema, Dialect::Postgres).unwrap_err(), @r"
        the masking rules do not fit the schema
          column log.what cannot be masked as `null`: it must have a value
          column log.who cannot be masked as `email`: its table has no primary key to make it from
        ");
    }

    #[test]
    fn rules_may_speak_of_what_a_pending_migration_adds() {
        let older = schema(&[("users", vec![key("id", Kind::Integer)])]);
        let newer =
            schema(&[("users", vec![key("id", Kind::Integer), column("phone", Kind::Text)])]);
        let rules = MaskingRules::parse(
            "[tables.users]\nid = \"keep\"\nphone = \"phone\"\n",
            Path::new("masking.toml"),
        );
        let masking = Masking::Rules(rules.unwrap());
        assert!(MaskingPlan::new(&masking, &older, &newer, Dialect::Sqlite).is_ok());
        assert!(MaskingPlan::new(&masking, &older, &older, Dialect::Sqlite).is_err());
    }
}
