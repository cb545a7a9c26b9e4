//! What a plan counts, however much of a file is looked at.

use std::collections::BTreeSet;

use diesel::prelude::*;
use omnitool_database::{AnyConnection, schema::users};
use omnitool_testing::{TestDatabase, on_both_databases};
use omnitool_tool_access::{Counts, Fact, FactKind, ImportRequest, RemovalLimit, plan_import};
use proptest::prelude::*;

use crate::{
    property::{World, each, name, world},
    world::{LOCAL, exported, facts, file, import},
};

/// What the flags leave of a file; nothing means everything.
#[derive(Clone, Debug)]
struct Narrowing {
    users: Vec<String>,
    tools: Vec<String>,
    kind: Option<FactKind>,
}

/// The numbers of users and tools, and a kind of fact; each is as often absent as not.
type Chosen = (Option<BTreeSet<usize>>, Option<BTreeSet<usize>>, Option<u8>);

fn chosen() -> impl Strategy<Value = Chosen> {
    let numbers = || prop::option::of(prop::collection::btree_set(0_usize..14, 1..8));
    (numbers(), numbers(), prop::option::of(0_u8..3))
}

impl Narrowing {
    /// Only names that there are can be asked for.
    fn new((users, tools, kind): Chosen, known_users: &[&World], target: &World) -> Self {
        let known = |number: &usize| known_users.iter().any(|world| world.users.contains(number));
        Self {
            users: users.into_iter().flatten().filter(known).map(name).collect(),
            tools: tools
                .into_iter()
                .flatten()
                .filter(|number| target.tools.contains(number))
                .map(name)
                .collect(),
            kind: kind.map(|kind| match kind {
                0 => FactKind::Grant,
                1 => FactKind::Wildcard,
                _ => FactKind::Exclusion,
            }),
        }
    }

    fn keeps(&self, fact: &Fact) -> bool {
        let has_user = match &fact.user {
            Some(user) => self.users.is_empty() || self.users.contains(user),
            None => self.users.is_empty(),
        };
        has_user
            && (self.tools.is_empty() || self.tools.contains(&fact.tool))
            && self.kind.is_none_or(|kind| kind == fact.fact)
    }

    fn request<'a>(&'a self, file: &'a std::path::Path) -> ImportRequest<'a> {
        ImportRequest {
            only_users: &self.users,
            only_tools: &self.tools,
            only_kind: self.kind,
            removals: RemovalLimit::Percent(100),
            ..ImportRequest::merge(file)
        }
    }
}

fn counts<'f>(facts: impl IntoIterator<Item = &'f Fact>) -> Counts {
    let mut counts = Counts::default();
    for fact in facts {
        match fact.fact {
            FactKind::Grant => counts.grants += 1,
            FactKind::Wildcard => counts.wildcards += 1,
            FactKind::Exclusion => counts.exclusions += 1,
        }
    }
    counts
}

/// Imports `text`, which says `said`, into `ours`, and compares each count with what was to be expected.
fn check(conn: &mut AnyConnection, text: &str, said: &[Fact], ours: &World, narrowing: &Narrowing) {
    let file = file(text);
    let before = facts(conn);
    let request = narrowing.request(file.path());
    let planned = plan_import(conn, LOCAL, &request).unwrap();
    let plan = import(conn, &request).unwrap();
    assert_eq!(planned.read, plan.read);
    let kept: Vec<&Fact> = said.iter().filter(|fact| narrowing.keeps(fact)).collect();
    let different: BTreeSet<&Fact> = kept.iter().copied().collect();
    // Only of a whole list is said what it has twice.
    let is_whole = narrowing.users.is_empty() && narrowing.tools.is_empty();
    let read = if is_whole { counts(kept.iter().copied()) } else { counts(different.clone()) };
    assert_eq!(plan.read, read);
    let (known, unknown): (Vec<&Fact>, Vec<&Fact>) =
        different.into_iter().partition(|fact| ours.speaks_for(fact));
    assert_eq!(plan.skipped.unknown_users, unknown.len() as u64);
    let excluded = unknown.iter().filter(|fact| fact.fact == FactKind::Exclusion).count();
    assert_eq!(plan.unknown_exclusion_count, excluded as u64);
    let (present, missing): (Vec<&Fact>, Vec<&Fact>) =
        known.into_iter().partition(|fact| before.contains(fact));
    assert_eq!(plan.present, present.len() as u64);
    assert_eq!(plan.added, counts(missing.iter().copied()));
    let expected: BTreeSet<Fact> = before.iter().chain(missing.iter().copied()).cloned().collect();
    assert_eq!(facts(conn), expected);
}

fn whatever_of_a_file_is_looked_at_its_counts_add_up(db: TestDatabase) {
    let source = TestDatabase::migrated(omnitool_testing::Dialect::Sqlite);
    let (mut conn, mut from) = (db.connection(), source.connection());
    each(32, (world(), world(), chosen()), |(theirs, mut ours, chosen)| {
        ours.tools.extend(&theirs.tools);
        theirs.fill(&mut from);
        ours.fill(&mut conn);
        let narrowing = Narrowing::new(chosen, &[&theirs, &ours], &ours);
        let said: Vec<Fact> = theirs.exported().into_iter().collect();
        check(&mut conn, &exported(&mut from), &said, &ours, &narrowing);
    });
}

/// Every third user is named by a contact address, and every fifth grant is there twice.
fn whatever_of_a_flat_list_is_looked_at_its_counts_add_up(db: TestDatabase) {
    let mut conn = db.connection();
    each(32, (world(), world(), chosen()), |(theirs, mut ours, chosen)| {
        ours.tools.extend(&theirs.tools);
        ours.fill(&mut conn);
        let email = |user: usize| format!("user{user}@example.com");
        for user in &ours.users {
            diesel::update(users::table.filter(users::username.eq(name(*user))))
                .set(users::email.eq(email(*user)))
                .execute(&mut conn)
                .unwrap();
        }
        let mut said = Vec::new();
        let mut entries = Vec::new();
        for (place, (user, tool)) in theirs.grants().into_iter().enumerate() {
            let entry = match user % 3 {
                0 => serde_json::json!({ "email": email(user), "tool": name(tool) }),
                _ => serde_json::json!({ "username": name(user), "tool_name": name(tool) }),
            };
            let fact = Fact { tool: name(tool), user: Some(name(user)), fact: FactKind::Grant };
            for _ in 0..if place % 5 == 0 { 2 } else { 1 } {
                entries.push(entry.clone());
                said.push(fact.clone());
            }
        }
        let text = serde_json::json!({ "total_grants": entries.len(), "grants": entries });
        let mut narrowing = Narrowing::new(chosen, &[&ours], &ours);
        // Nobody asks by name for a user whom the list does not name and the target does not have.
        narrowing.users.retain(|user| ours.users.iter().any(|known| name(*known) == *user));
        check(&mut conn, &text.to_string(), &said, &ours, &narrowing);
    });
}

on_both_databases!(
    whatever_of_a_file_is_looked_at_its_counts_add_up,
    whatever_of_a_flat_list_is_looked_at_its_counts_add_up,
);
