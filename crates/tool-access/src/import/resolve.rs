//! From names to keys, from a file to a plan.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
};

use omnitool_database::AnyConnection;
use omnitool_environment::EnvironmentName;
use sha2::{Digest as _, Sha256};

use super::{
    ImportError, ImportPlan, ImportRequest, Mode, Replacement, UnknownUsers,
    plan::{Contradiction, MOST_LISTED, ResolvedTool, Skipped},
};
use crate::{
    Counts, Fact, FactKind,
    facts::{Facts, ToolFacts, UserSet},
    file::{self, FileHeader, FileLayout, Needle},
    store::{
        self,
        facts::Pairs,
        import::Reach,
        stage::{Row, ToolScope},
    },
};

/// How many unknown names an error lists.
const MOST_NAMED: usize = 10;

/// A file whose names are resolved.
struct Resolved {
    facts: Facts,
    header: FileHeader,
    sha256: String,
    /// Keys of users by ordinal; users beyond are unknown.
    user_ids: Vec<i64>,
    /// Tools of the file by key. Two when the file names one by its old and its new name.
    tools: BTreeMap<i64, Vec<String>>,
    resolved: Vec<ResolvedTool>,
    deleted: Vec<String>,
    only_users: Option<HashSet<u32>>,
    only_tools: Option<HashSet<i64>>,
}

/// Reads the file, stages it, and says what it does. Reads facts of the target and writes only temporary tables.
pub(super) fn plan(
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    request: &ImportRequest<'_>,
) -> Result<ImportPlan, ImportError> {
    let resolved = resolve(conn, request)?;
    let (unknown_users, unknown_facts) = resolved.unknown_users();
    if request.unknown_users == UnknownUsers::Refuse && !unknown_users.is_empty() {
        return Err(ImportError::UnknownUsers {
            file: request.file.to_owned(),
            count: unknown_users.len(),
            users: unknown_users.into_iter().take(MOST_NAMED).collect(),
        });
    }
    let reach = resolved.reach(request)?;
    let staged = resolved.stage(conn)?;
    let differences = store::import::diff(conn, reach, staged)?;
    let deleted_tools = resolved.deleted_facts();
    let different = resolved.different();
    let duplicates = resolved.duplicates(different);
    let skipped = Skipped { unknown_users: unknown_facts, deleted_tools, duplicates };
    // A flat list may have a grant twice; both were read.
    let read = Counts { grants: different.grants + duplicates, ..different };
    let added = differences.missing;
    let removed = match request.mode {
        Mode::Merge => Counts::default(),
        Mode::Sync | Mode::Overwrite => differences.against,
    };
    let unknown_exclusions = resolved.unknown_exclusions();
    let mut plan = ImportPlan {
        mode: request.mode,
        environment,
        source: request.file.to_owned(),
        source_environment: resolved.header.environment.clone(),
        layout: resolved.header.layout,
        file_sha256: resolved.sha256.clone(),
        read,
        added,
        present: read.total() - added.total() - skipped.total(),
        skipped,
        refused: 0,
        removed,
        without_effect: differences.without_effect,
        contradiction_count: 0,
        contradictions: Vec::new(),
        additions: Vec::new(),
        removals: Vec::new(),
        unknown_user_count: unknown_users.len() as u64,
        unknown_users: unknown_users.into_iter().take(MOST_LISTED).collect(),
        unknown_exclusion_count: unknown_exclusions.len() as u64,
        unknown_exclusions: unknown_exclusions.into_iter().take(MOST_LISTED).collect(),
        resolved: resolved.resolved.clone(),
        scope: differences.scope,
        foreign_keys: store::import::foreign_key_check(conn, added.grants, differences.grants)?,
        sources: differences.sources,
    };
    list(conn, &mut plan, differences.against)?;
    Ok(plan)
}

/// Fills the plan's lists.
fn list(
    conn: &mut AnyConnection,
    plan: &mut ImportPlan,
    against: Counts,
) -> Result<(), ImportError> {
    if plan.added.total() <= MOST_LISTED as u64 {
        plan.additions = store::import::list_missing(conn, plan.sources, MOST_LISTED)?;
    }
    if against == Counts::default() {
        return Ok(());
    }
    match plan.mode {
        Mode::Merge => {
            plan.contradiction_count = against.total() - plan.without_effect;
            let facts =
                store::import::list_against(conn, MOST_LISTED, store::import::Grants::InEffect)?;
            let contradiction = |fact| Contradiction::new(fact, &plan.source, plan.environment);
            plan.contradictions = facts.into_iter().map(contradiction).collect();
        }
        Mode::Sync | Mode::Overwrite => {
            plan.removals =
                store::import::list_against(conn, MOST_LISTED, store::import::Grants::All)?;
        }
    }
    Ok(())
}

fn resolve(conn: &mut AnyConnection, request: &ImportRequest<'_>) -> Result<Resolved, ImportError> {
    let (roster, user_ids) = store::facts::load_users(conn)?;
    let digest = RefCell::new(Sha256::new());
    let mut see = |bytes: &[u8]| {
        digest.borrow_mut().update(bytes);
        (request.progress)(bytes.len() as u64);
    };
    let (mut facts, header) = file::read_with(request.file, roster, &mut see)?;
    resolve_emails(conn, &mut facts)?;
    let sha256 = digest.into_inner().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut resolved = Resolved {
        facts,
        header,
        sha256,
        user_ids,
        tools: BTreeMap::new(),
        resolved: Vec::new(),
        deleted: Vec::new(),
        only_users: None,
        only_tools: None,
    };
    resolved.resolve_tools(conn, request)?;
    resolved.narrow(conn, request)?;
    Ok(resolved)
}

/// Turns grants by contact address into grants by user; those of addresses that nobody has stay.
fn resolve_emails(conn: &mut AnyConnection, facts: &mut Facts) -> Result<(), ImportError> {
    if facts.emails.len() == 0 {
        return Ok(());
    }
    let emails: Vec<&str> =
        (0..).take(facts.emails.len()).map(|at| facts.emails.name(at)).collect();
    let found = store::query::find_users_by_email(conn, &emails)?;
    for tool in facts.tools.values_mut() {
        for email in std::mem::take(&mut tool.granted_by_email).iter() {
            let user = found.get(facts.emails.name(email)).and_then(|user| facts.roster.find(user));
            match user {
                Some(user) => tool.granted.get_or_insert_default().insert(user),
                None => tool.granted_by_email.insert(email),
            };
        }
    }
    Ok(())
}

impl Resolved {
    /// Finds each tool: under its name, else under its new name.
    fn resolve_tools(
        &mut self,
        conn: &mut AnyConnection,
        request: &ImportRequest<'_>,
    ) -> Result<(), ImportError> {
        let known = store::query::list_tool_ids(conn)?;
        let mut unknown = Vec::new();
        for name in self.facts.tools.keys() {
            if let Some(id) = known.get(name) {
                self.tools.entry(*id).or_default().push(name.clone());
                continue;
            }
            match (request.replacement)(name) {
                Some(Replacement::RenamedTo(new)) if known.contains_key(&new) => {
                    self.tools.entry(known[&new]).or_default().push(name.clone());
                    self.resolved.push(ResolvedTool { old: name.clone(), new: Some(new) });
                }
                Some(Replacement::Deleted) => {
                    self.deleted.push(name.clone());
                    self.resolved.push(ResolvedTool { old: name.clone(), new: None });
                }
                _ => unknown.push(name.clone()),
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let count = unknown.len();
        let line = file::locate(request.file, &Needle::Tool(unknown[0].clone()));
        let tools = unknown.into_iter().take(MOST_NAMED).collect();
        Err(ImportError::UnknownTools { file: request.file.to_owned(), line, tools, count })
    }

    /// Keeps only what the flags `--user` and `--tool` name.
    fn narrow(
        &mut self,
        conn: &mut AnyConnection,
        request: &ImportRequest<'_>,
    ) -> Result<(), ImportError> {
        let unknown = |what, name: &str| ImportError::UnknownFilter { what, name: name.to_owned() };
        if let Some(kind) = request.only_kind {
            self.keep_only(kind);
        }
        if !request.only_users.is_empty() {
            let find =
                |name: &String| self.facts.roster.find(name).ok_or_else(|| unknown("user", name));
            self.only_users = Some(request.only_users.iter().map(find).collect::<Result<_, _>>()?);
        }
        if !request.only_tools.is_empty() {
            let known = store::query::list_tool_ids(conn)?;
            let find =
                |name: &String| known.get(name).copied().ok_or_else(|| unknown("tool", name));
            self.deleted.clear();
            self.only_tools = Some(request.only_tools.iter().map(find).collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    /// Makes the file say nothing of the other kinds, which is not the same as saying that there are none.
    fn keep_only(&mut self, kind: FactKind) {
        for tool in self.facts.tools.values_mut() {
            if kind != FactKind::Grant {
                tool.granted = None;
                tool.granted_by_email = UserSet::default();
            }
            if kind != FactKind::Wildcard {
                tool.everyone = None;
            }
            if kind != FactKind::Exclusion {
                tool.excluded = None;
            }
        }
        if kind != FactKind::Grant {
            self.header.grants = None;
        }
    }

    fn has_user(&self, user: u32) -> bool {
        self.only_users.as_ref().is_none_or(|only| only.contains(&user))
    }

    fn has_tool(&self, tool_id: i64) -> bool {
        self.only_tools.as_ref().is_none_or(|only| only.contains(&tool_id))
    }

    /// The tools that are looked at, with what the file says about each.
    fn tools(&self) -> impl Iterator<Item = (i64, Vec<&ToolFacts>)> {
        self.tools
            .iter()
            .filter(|(id, _)| self.has_tool(**id))
            .map(|(id, names)| (*id, names.iter().map(|name| &self.facts.tools[name]).collect()))
    }

    /// What the file says about tools that are looked at, also about deleted ones.
    fn looked_at(&self) -> impl Iterator<Item = &ToolFacts> {
        let deleted = self.deleted.iter().map(|name| &self.facts.tools[name]);
        self.tools().flat_map(|(_, tools)| tools).chain(deleted)
    }

    fn count(&self, tool: &ToolFacts) -> Counts {
        let count = |set: Option<&UserSet>| match (set, &self.only_users) {
            (None, _) => 0,
            (Some(set), None) => set.len(),
            (Some(set), Some(only)) => {
                only.iter().filter(|user| set.contains(**user)).count() as u64
            }
        };
        Counts {
            grants: count(tool.granted.as_ref()) + self.by_unknown_email(tool).len(),
            wildcards: u64::from(self.only_users.is_none() && tool.everyone == Some(true)),
            exclusions: count(tool.excluded.as_ref()),
        }
    }

    /// Grants to addresses that nobody has. Users are named by their names, so that none of them is asked for by a flag.
    fn by_unknown_email<'t>(&self, tool: &'t ToolFacts) -> &'t UserSet {
        const NONE: &UserSet = &UserSet::List(Vec::new());
        if self.only_users.is_some() { NONE } else { &tool.granted_by_email }
    }

    /// The different facts in the file, as far as they are looked at.
    fn different(&self) -> Counts {
        let mut different = Counts::default();
        for tool in self.looked_at() {
            let Counts { grants, wildcards, exclusions } = self.count(tool);
            different.grants += grants;
            different.wildcards += wildcards;
            different.exclusions += exclusions;
        }
        different
    }

    /// How many grants of a flat list are there again. Where a flag narrows the list, only different ones were counted.
    fn duplicates(&self, different: Counts) -> u64 {
        match (self.header.grants, &self.only_users, &self.only_tools) {
            (Some(grants), None, None) => grants.saturating_sub(different.grants),
            _ => 0,
        }
    }

    fn deleted_facts(&self) -> u64 {
        let known = |user: u32| (user as usize) < self.user_ids.len() && self.has_user(user);
        self.deleted
            .iter()
            .map(|name| {
                let tool = &self.facts.tools[name];
                let sets = [tool.granted.as_ref(), tool.excluded.as_ref()];
                let facts =
                    sets.into_iter().flatten().flat_map(UserSet::iter).filter(|user| known(*user));
                facts.count() as u64 + self.count(tool).wildcards
            })
            .sum()
    }

    /// Users whom the target does not have, and how many facts there are about them.
    fn unknown_users(&self) -> (Vec<String>, u64) {
        let mut names: Vec<String> = Vec::new();
        let mut facts = 0;
        let unknown = (0..).take(self.facts.roster.len()).skip(self.user_ids.len());
        for user in unknown.filter(|user| self.has_user(*user)) {
            names.push(self.facts.roster.name(user).to_owned());
            for tool in self.looked_at() {
                facts += u64::from(tool.is_granted(user)) + u64::from(tool.is_excluded(user));
            }
        }
        let mut emails = UserSet::default();
        for set in self.looked_at().map(|tool| self.by_unknown_email(tool)) {
            facts += set.len();
            for email in set.iter() {
                emails.insert(email);
            }
        }
        names.extend(emails.iter().map(|email| self.facts.emails.name(email).to_owned()));
        names.sort();
        (names, facts)
    }

    /// The exclusions of users whom the target does not have. They are lost, and matter once such a user is created.
    fn unknown_exclusions(&self) -> Vec<Fact> {
        let looked_at = self.tools.iter().filter(|(id, _)| self.has_tool(**id));
        let mut tools: Vec<&String> = looked_at.flat_map(|(_, names)| names).collect();
        tools.sort();
        let mut facts = Vec::new();
        let unknown = (0..).take(self.facts.roster.len()).skip(self.user_ids.len());
        for user in unknown.filter(|user| self.has_user(*user)) {
            for &name in &tools {
                if self.facts.tools[name].is_excluded(user) {
                    facts.push(Fact {
                        tool: name.clone(),
                        user: Some(self.facts.roster.name(user).to_owned()),
                        fact: FactKind::Exclusion,
                    });
                }
            }
        }
        facts
    }

    /// What the import may remove, which the file must be able to say.
    fn reach(&self, request: &ImportRequest<'_>) -> Result<Reach, ImportError> {
        let is_flat = self.header.layout == FileLayout::Flat;
        let no_scope = |reason| ImportError::NoScope {
            file: request.file.to_owned(),
            reason,
            can_overwrite: is_flat,
        };
        let has_all_keys = self.facts.users.is_some()
            && self.facts.tools.values().all(|tool| {
                tool.everyone.is_some() && tool.excluded.is_some() && tool.granted.is_some()
            });
        match request.mode {
            Mode::Overwrite if !is_flat && !has_all_keys => {
                Err(no_scope("some of its keys are absent, and an absent key is not an empty list"))
            }
            // Exclusions hold in every mode; a list of grants has nothing to say against them.
            Mode::Overwrite if is_flat => Ok(Reach::AllButExclusions),
            Mode::Overwrite => Ok(Reach::Everything),
            Mode::Sync if is_flat => Err(no_scope("it is a flat list of grants")),
            Mode::Sync if self.facts.users.is_none() => Err(no_scope("it has no key `users`")),
            _ if self.facts.users.is_none() => Ok(Reach::Nothing),
            _ => Ok(Reach::Scope),
        }
    }

    /// Fills the temporary tables, in the order of the keys.
    fn stage(&self, conn: &mut AnyConnection) -> Result<Counts, ImportError> {
        let mut by_id: Vec<u32> =
            (0..).take(self.user_ids.len()).filter(|user| self.has_user(*user)).collect();
        by_id.sort_unstable_by_key(|user| self.user_ids[*user as usize]);
        let tools: Vec<(i64, Vec<&ToolFacts>)> = self.tools().collect();
        let rows = |pairs: Pairs, see: &mut dyn FnMut(Row) -> diesel::QueryResult<()>| {
            for user in &by_id {
                let user_id = self.user_ids[*user as usize];
                for (tool_place, (_, tools)) in tools.iter().enumerate() {
                    let is_fact = tools.iter().any(|tool| match pairs {
                        Pairs::Grants => tool.is_granted(*user),
                        Pairs::Exclusions => tool.is_excluded(*user),
                    });
                    if is_fact {
                        see(Row { user_id, tool_place })?;
                    }
                }
            }
            Ok(())
        };
        let users = by_id
            .iter()
            .filter(|user| self.facts.users.as_ref().is_some_and(|users| users.contains(**user)))
            .map(|user| self.user_ids[*user as usize]);
        let scopes: Vec<ToolScope> = tools
            .iter()
            .map(|(tool_id, tools)| ToolScope {
                tool_id: *tool_id,
                everyone: match &self.only_users {
                    Some(_) => None,
                    None => tools.iter().filter_map(|tool| tool.everyone).max(),
                },
                has_excluded: tools.iter().any(|tool| tool.excluded.is_some()),
                has_granted: tools.iter().any(|tool| tool.granted.is_some()),
            })
            .collect();
        let wildcards = scopes.iter().filter(|tool| tool.everyone == Some(true)).count() as u64;
        store::stage::fill_scope(conn, users, &scopes)?;
        let grants = store::stage::fill(conn, Pairs::Grants, &rows)?;
        let exclusions = store::stage::fill(conn, Pairs::Exclusions, &rows)?;
        store::stage::finish(conn)?;
        Ok(Counts { grants, wildcards, exclusions })
    }
}
