//! What a synchronization changes.

use std::{collections::BTreeMap, fmt};

use diesel::result::Error;
use omnitool_database::{AnyConnection, read_snapshot};
use serde::Serialize;

use crate::{
    definition::{Definitions, Deprecation, ToolDefinition},
    route::{SharedRoute, SharedRoutes, Taken},
    store::{self, ToolRow},
};

/// What to do beyond the tools themselves. The default is neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// Whether users who exist already are granted the default tools.
    pub default_tools: DefaultTools,
    /// What happens to rows without a user or tool.
    pub orphans: Orphans,
    /// What happens where two tools would have one route.
    pub shared_routes: SharedRoutes,
    /// The deployment's run, for the history.
    pub run_id: Option<&'a str>,
}

/// Whether users who exist already are granted the default tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultTools {
    /// No: being a default only matters for new users.
    #[default]
    Leave,
    /// Yes, every active user who cannot use an active default tool, except those who are excluded from it.
    Assign,
}

/// What happens to rows without a user or tool, which only adopted databases have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orphans {
    /// They are counted.
    #[default]
    Report,
    /// They are counted and removed.
    Prune,
}

/// Everything that a synchronization changes, in the order in which it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use]
pub struct SyncPlan {
    /// Rows without a user or tool.
    pub orphans: OrphanCounts,
    /// What happens to them.
    pub orphan_handling: Orphans,
    /// Deprecated tools that the database still has.
    pub retirements: Vec<Retirement>,
    /// Defined tools that it does not have.
    pub creates: Vec<ToolDefinition>,
    /// Tools that it has otherwise than defined.
    pub updates: Vec<ToolUpdate>,
    /// Default tools that users are granted; empty unless asked for.
    pub default_grants: Vec<DefaultGrant>,
    /// Tools that are neither defined nor deprecated. They are left alone.
    pub unmanaged: Vec<String>,
    /// Tools that would have the route of one of those: refused, or left out, as was asked for.
    pub shared_routes: Vec<SharedRoute>,
}

/// How a deprecated tool goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Retirement {
    /// Its row takes the new name, and everything about it stays.
    Rename {
        /// The row.
        #[serde(skip)]
        id: i64,
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// There is a row with the new name already: what is known about the old one moves there.
    Merge {
        /// The row that goes.
        #[serde(skip)]
        id: i64,
        /// The row that stays.
        #[serde(skip)]
        into: i64,
        /// The old name.
        from: String,
        /// The new name.
        to: String,
        /// What the row that stays did not have.
        moved: FactCounts,
        /// What it had.
        already_there: FactCounts,
    },
    /// It goes with all that is known about it.
    Delete {
        /// The row.
        #[serde(skip)]
        id: i64,
        /// Its name.
        name: String,
        /// What goes with it.
        deleted: FactCounts,
    },
}

/// A number of facts about users and a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FactCounts {
    /// This user may.
    pub grants: i64,
    /// Everyone may.
    pub wildcards: i64,
    /// This user must not.
    pub exclusions: i64,
}

/// A tool whose fields become as defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolUpdate {
    #[serde(skip)]
    pub(crate) id: i64,
    #[serde(skip)]
    pub(crate) definition: ToolDefinition,
    /// The tool.
    pub name: String,
    /// What differs; never empty.
    pub changes: Vec<FieldChange>,
}

/// One field that differs from its definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// The field's name in `data/tools.toml`.
    pub field: &'static str,
    /// What the database has.
    pub old: String,
    /// What is defined.
    pub new: String,
}

/// A default tool that users are granted who cannot use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DefaultGrant {
    /// The tool.
    pub tool: String,
    /// How many users.
    pub users: i64,
}

/// Rows without a parent. A row that has neither is counted as one without a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OrphanCounts {
    /// Grants of no tool.
    pub grants_without_tool: i64,
    /// Grants to no user.
    pub grants_without_user: i64,
    /// Wildcards of no tool.
    pub wildcards_without_tool: i64,
    /// Exclusions from no tool.
    pub exclusions_without_tool: i64,
    /// Exclusions of no user.
    pub exclusions_without_user: i64,
}

/// Why it cannot be said what a synchronization would change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanSyncError {
    /// The database cannot be read.
    #[error("cannot read the database's tools")]
    Read(#[from] Error),
    /// Tools would have the route of another one, so that whoever may use that one could open them, too.
    #[error(
        "a tool's route is that of another one, which is in the database only: {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    SharedRoutes(Vec<SharedRoute>),
}

/// Says what [`sync`](crate::sync()) would change. Writes nothing, and works on a connection that only reads.
///
/// # Errors
///
/// Fails where the database cannot be read, and where a tool would have the route of one that is not defined.
pub fn plan(
    conn: &mut AnyConnection,
    definitions: &Definitions,
    options: Options<'_>,
) -> Result<SyncPlan, PlanSyncError> {
    read_snapshot(conn, |conn| plan_in_transaction(conn, definitions, options))
}

/// [`plan`] for a caller that has begun a transaction.
pub(crate) fn plan_in_transaction(
    conn: &mut AnyConnection,
    definitions: &Definitions,
    options: Options<'_>,
) -> Result<SyncPlan, PlanSyncError> {
    let plan = SyncPlan::between(&Current::load(conn, definitions, options)?, definitions, options);
    if options.shared_routes == SharedRoutes::Refuse && !plan.shared_routes.is_empty() {
        return Err(PlanSyncError::SharedRoutes(plan.shared_routes));
    }
    Ok(plan)
}

/// What the database has, as far as it matters for a plan.
#[derive(Debug, Default)]
struct Current {
    /// All tools, by name.
    tools: Vec<ToolRow>,
    /// What is known about each tool that is merged or deleted, by key.
    retired: BTreeMap<i64, RetiredFacts>,
    /// How many users lack each default tool; empty unless asked for.
    lacking: BTreeMap<String, i64>,
    orphans: OrphanCounts,
}

#[derive(Clone, Copy, Debug, Default)]
struct RetiredFacts {
    all: FactCounts,
    /// Those that the tool it is merged into has not, nor an earlier one that is merged into the same.
    unshared: FactCounts,
}

impl Current {
    fn load(
        conn: &mut AnyConnection,
        definitions: &Definitions,
        options: Options<'_>,
    ) -> Result<Self, Error> {
        let tools = store::list_tools(conn)?;
        let mut current = Self { orphans: store::count_orphans(conn)?, ..Self::default() };
        for rows in heirs(&tools, definitions).into_values() {
            let keys: Vec<i64> = rows.iter().map(|row| row.id).collect();
            for (index, key) in keys.iter().enumerate().skip(1) {
                let all = store::count_facts(conn, *key, &[])?;
                let unshared = store::count_facts(conn, *key, &keys[..index])?;
                current.retired.insert(*key, RetiredFacts { all, unshared });
            }
        }
        for row in deleted(&tools, definitions) {
            let all = store::count_facts(conn, row.id, &[])?;
            current.retired.insert(row.id, RetiredFacts { all, unshared: all });
        }
        if options.default_tools == DefaultTools::Assign {
            let heirs = heirs(&tools, definitions);
            for tool in definitions.tools().iter().filter(|tool| tool.is_default && tool.is_active)
            {
                let rows = heirs.get(tool.name.as_str());
                let keys: Vec<i64> = rows.into_iter().flatten().map(|row| row.id).collect();
                let users = store::count_users_lacking(conn, &keys)?;
                current.lacking.insert(tool.name.clone(), users);
            }
        }
        current.tools = tools;
        Ok(current)
    }
}

/// The rows that become each defined tool. The first one stays, the others are merged into it.
fn heirs<'a>(
    tools: &'a [ToolRow],
    definitions: &'a Definitions,
) -> BTreeMap<&'a str, Vec<&'a ToolRow>> {
    let mut heirs: BTreeMap<&str, Vec<&ToolRow>> = BTreeMap::new();
    let row = |name: &str| tools.iter().find(|row| row.name == name);
    for tool in definitions.tools() {
        heirs.entry(&tool.name).or_default().extend(row(&tool.name));
    }
    for (old, deprecation) in definitions.deprecated() {
        if let Deprecation::RenamedTo(new) = deprecation {
            heirs.entry(new).or_default().extend(row(old));
        }
    }
    heirs
}

/// The rows that go without a successor.
fn deleted<'a>(
    tools: &'a [ToolRow],
    definitions: &'a Definitions,
) -> impl Iterator<Item = &'a ToolRow> {
    tools
        .iter()
        .filter(|row| definitions.deprecated().get(&row.name) == Some(&Deprecation::Deleted))
}

impl SyncPlan {
    /// The difference between what there is and what should be.
    fn between(current: &Current, definitions: &Definitions, options: Options<'_>) -> Self {
        let Current { tools, retired, lacking, orphans } = current;
        let heirs = heirs(tools, definitions);
        let facts = |row: &ToolRow| retired.get(&row.id).copied().unwrap_or_default();

        let mut retirements = Vec::new();
        for (name, rows) in &heirs {
            let Some((stays, goes)) = rows.split_first() else { continue };
            let to = (*name).to_owned();
            if stays.name != to {
                let from = stays.name.clone();
                retirements.push(Retirement::Rename { id: stays.id, from, to: to.clone() });
            }
            retirements.extend(goes.iter().map(|row| {
                let RetiredFacts { all, unshared } = facts(row);
                Retirement::Merge {
                    id: row.id,
                    into: stays.id,
                    from: row.name.clone(),
                    to: to.clone(),
                    moved: unshared,
                    already_there: all.minus(unshared),
                }
            }));
        }
        retirements.extend(deleted(tools, definitions).map(|row| Retirement::Delete {
            id: row.id,
            name: row.name.clone(),
            deleted: facts(row).all,
        }));

        let unmanaged: Vec<&ToolRow> = tools
            .iter()
            .filter(|row| !heirs.contains_key(row.name.as_str()))
            .filter(|row| !definitions.deprecated().contains_key(&row.name))
            .collect();
        let taken = Taken::new(unmanaged.iter().copied());
        let mut creates = Vec::new();
        let mut updates = Vec::new();
        let mut shared_routes = Vec::new();
        for definition in definitions.tools() {
            if let Some(shared) = taken.by_another(definition) {
                shared_routes.push(shared);
                continue;
            }
            match heirs.get(definition.name.as_str()).and_then(|rows| rows.first()) {
                None => creates.push(definition.clone()),
                Some(row) => updates.extend(ToolUpdate::between(row, definition)),
            }
        }

        let default_grants = lacking
            .iter()
            .filter(|(_, users)| **users > 0)
            .map(|(tool, users)| DefaultGrant { tool: tool.clone(), users: *users })
            .collect();
        Self {
            orphans: *orphans,
            orphan_handling: options.orphans,
            retirements,
            creates,
            updates,
            default_grants,
            unmanaged: unmanaged.into_iter().map(|row| row.name.clone()).collect(),
            shared_routes,
        }
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            orphans: _,
            orphan_handling: _,
            retirements,
            creates,
            updates,
            default_grants,
            unmanaged: _,
            shared_routes: _,
        } = self;
        self.pruned_orphans() == 0
            && retirements.is_empty()
            && creates.is_empty()
            && updates.is_empty()
            && default_grants.is_empty()
    }

    /// How many rows without a user or tool are removed.
    const fn pruned_orphans(&self) -> i64 {
        match self.orphan_handling {
            Orphans::Report => 0,
            Orphans::Prune => self.orphans.total(),
        }
    }

    /// One line that says how much changes.
    #[must_use]
    pub fn summary(&self) -> String {
        let (mut renamed, mut merged, mut deleted) = (0, 0, 0);
        for retirement in &self.retirements {
            match retirement {
                Retirement::Rename { .. } => renamed += 1,
                Retirement::Merge { .. } => merged += 1,
                Retirement::Delete { .. } => deleted += 1,
            }
        }
        let tools = [
            (renamed, "renamed"),
            (merged, "merged"),
            (deleted, "deleted"),
            (self.creates.len(), "created"),
            (self.updates.len(), "updated"),
        ];
        let mut parts: Vec<String> = tools
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if let Some(first) = parts.first_mut() {
            first.insert_str(0, "tools: ");
        }
        let grants = self.default_grants.iter().map(|grant| grant.users).sum();
        if grants > 0 {
            parts.push(format!("{} added", counted(grants, "default grant")));
        }
        if self.pruned_orphans() > 0 {
            parts.push(format!("{} removed", counted(self.pruned_orphans(), "orphaned row")));
        }
        if parts.is_empty() { "nothing to change".to_owned() } else { parts.join(", ") }
    }
}

impl ToolUpdate {
    fn between(row: &ToolRow, definition: &ToolDefinition) -> Option<Self> {
        let ToolDefinition { name, description, route, is_default, is_active } = definition;
        let fields = [
            ("description", row.description.clone(), description.clone()),
            ("route", row.route.clone(), route.clone()),
            ("is_default", row.is_default.to_string(), is_default.to_string()),
            ("is_active", row.is_active.to_string(), is_active.to_string()),
        ];
        let changes: Vec<FieldChange> = fields
            .into_iter()
            .filter(|(_, old, new)| old != new)
            .map(|(field, old, new)| FieldChange { field, old, new })
            .collect();
        (!changes.is_empty()).then(|| Self {
            id: row.id,
            definition: definition.clone(),
            name: name.clone(),
            changes,
        })
    }
}

impl FactCounts {
    const fn minus(self, other: Self) -> Self {
        Self {
            grants: self.grants - other.grants,
            wildcards: self.wildcards - other.wildcards,
            exclusions: self.exclusions - other.exclusions,
        }
    }
}

impl OrphanCounts {
    /// How many rows there are.
    #[must_use]
    pub const fn total(&self) -> i64 {
        let Self {
            grants_without_tool,
            grants_without_user,
            wildcards_without_tool,
            exclusions_without_tool,
            exclusions_without_user,
        } = self;
        *grants_without_tool
            + *grants_without_user
            + *wildcards_without_tool
            + *exclusions_without_tool
            + *exclusions_without_user
    }
}

/// The plan as lines for people, each ended by a newline.
impl fmt::Display for SyncPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            orphans,
            orphan_handling,
            retirements,
            creates,
            updates,
            default_grants,
            unmanaged: _,
            shared_routes,
        } = self;
        if orphans.total() > 0 {
            let verb = match orphan_handling {
                Orphans::Report => "Leaving",
                Orphans::Prune => "Removing",
            };
            writeln!(f, "{verb} orphaned rows: {orphans}")?;
        }
        for retirement in retirements {
            writeln!(f, "{retirement}")?;
        }
        for tool in creates {
            writeln!(f, "Creating new tool: {}", tool.name)?;
        }
        for update in updates {
            writeln!(f, "{update}")?;
            for FieldChange { field, old, new } in &update.changes {
                writeln!(f, "    {field}: {old:?} => {new:?}")?;
            }
        }
        for grant in default_grants {
            writeln!(f, "{grant}")?;
        }
        for shared in shared_routes {
            writeln!(f, "Leaving out tool: {shared}")?;
        }
        if self.is_empty() && shared_routes.is_empty() {
            writeln!(f, "Nothing to change: every tool is as defined.")?;
        }
        Ok(())
    }
}

impl fmt::Display for Retirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { id: _, from, to } => write!(f, "Renaming tool: {from} -> {to}"),
            Self::Merge { id: _, into: _, from, to, moved, already_there: there } => {
                let grants = counted(moved.grants, "grant");
                write!(
                    f,
                    "Merging tool: {from} -> {to} ({grants} moved, {} already there",
                    there.grants
                )?;
                for (moved, there, what) in [
                    (moved.wildcards, there.wildcards, "wildcard"),
                    (moved.exclusions, there.exclusions, "exclusion"),
                ] {
                    if moved + there > 0 {
                        write!(f, "; {} moved, {there} already there", counted(moved, what))?;
                    }
                }
                f.write_str(")")
            }
            Self::Delete { id: _, name, deleted } => {
                write!(f, "Deleting tool: {name} ({}", counted(deleted.grants, "grant"))?;
                for (count, what) in
                    [(deleted.wildcards, "wildcard"), (deleted.exclusions, "exclusion")]
                {
                    if count > 0 {
                        write!(f, ", {}", counted(count, what))?;
                    }
                }
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for ToolUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<&str> = self.changes.iter().map(|change| change.field).collect();
        write!(f, "Updating tool: {} ({})", self.name, fields.join(", "))
    }
}

impl fmt::Display for DefaultGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assigning default tool: {} ({})", self.tool, counted(self.users, "user"))
    }
}

impl fmt::Display for OrphanCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            (self.grants_without_tool, "grant", "tool"),
            (self.grants_without_user, "grant", "user"),
            (self.wildcards_without_tool, "wildcard", "tool"),
            (self.exclusions_without_tool, "exclusion", "tool"),
            (self.exclusions_without_user, "exclusion", "user"),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, parent)| format!("{} without {parent}", counted(count, what)))
        .collect();
        f.write_str(&parts.join(", "))
    }
}

/// `1 grant`, `2 grants`.
fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
