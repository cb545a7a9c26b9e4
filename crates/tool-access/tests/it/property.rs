//! Rules that hold for any facts, on both databases.

use std::collections::BTreeSet;

use diesel::connection::SimpleConnection as _;
use omnitool_database::{AnyConnection, Mode as OpenMode, open};
use omnitool_testing::{Dialect, TestDatabase, dump, on_both_databases};
use omnitool_tool_access::{Fact, FactKind, ImportRequest, Mode, RemovalLimit, plan_import};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::world::{
    LOCAL, chain, exported, facts, file, import, people, plan_json, put, request, tool_id,
    tool_named, user_id,
};

/// Names that have broken something somewhere.
const NAMES: [&str; 12] = [
    "alice",
    "Alice",
    "ALICE",
    "it's \"quoted\" \\ `twice`",
    "100 % _ of; -- them",
    "two  spaces ",
    "🦀 Ferris",
    "مستخدم",
    "tab\tand\nnewline\u{1}",
    "{\"format\": 1}",
    "NULL",
    "\u{10ffff}",
];

/// Facts about some of the users and tools that a database has, by their numbers.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) users: BTreeSet<usize>,
    pub(crate) tools: BTreeSet<usize>,
    facts: BTreeSet<(usize, usize, u8)>,
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let numbers = || prop::collection::btree_set(0_usize..14, 0..14);
    let facts = prop::collection::btree_set((0_usize..14, 0_usize..14, 0_u8..5), 0..60);
    (numbers(), numbers(), facts).prop_map(|(users, tools, facts)| World { users, tools, facts })
}

pub(crate) fn name(number: usize) -> String {
    match number {
        12 => "x".repeat(500),
        13 => "é".repeat(500),
        number => NAMES[number].to_owned(),
    }
}

impl World {
    /// Facts of users and tools that there are; a user is granted or excluded, or both.
    fn facts(&self) -> BTreeSet<Fact> {
        self.facts
            .iter()
            .filter(|(user, tool, _)| self.users.contains(user) && self.tools.contains(tool))
            .map(|(user, tool, kind)| {
                let (user, fact) = match kind {
                    0 | 1 => (Some(name(*user)), FactKind::Grant),
                    2 | 3 => (Some(name(*user)), FactKind::Exclusion),
                    _ => (None, FactKind::Wildcard),
                };
                Fact { tool: name(*tool), user, fact }
            })
            .collect()
    }

    /// Users and tools of grants, also of users whom no database has.
    pub(crate) fn grants(&self) -> BTreeSet<(usize, usize)> {
        let has_tool = |tool: &usize| self.tools.contains(tool);
        let grants = self.facts.iter().filter(|(_, tool, kind)| *kind < 3 && has_tool(tool));
        grants.map(|(user, tool, _)| (*user, *tool)).collect()
    }

    /// The facts as an export has them: a grant of an excluded user has no effect and is left out.
    pub(crate) fn exported(&self) -> BTreeSet<Fact> {
        let facts = self.facts();
        let is_excluded = |fact: &Fact| {
            let exclusion = Fact { fact: FactKind::Exclusion, ..fact.clone() };
            fact.fact == FactKind::Grant && facts.contains(&exclusion)
        };
        facts.iter().filter(|fact| !is_excluded(fact)).cloned().collect()
    }

    pub(crate) fn fill(&self, conn: &mut AnyConnection) {
        conn.batch_execute(
            "DELETE FROM tool_access_event; DELETE FROM tool_access_run; DELETE FROM users; DELETE FROM tools",
        )
        .unwrap();
        for user in &self.users {
            people(conn, &[&name(*user)], &[]);
        }
        for tool in &self.tools {
            tool_named(conn, &name(*tool));
        }
        put(conn, self.facts());
    }

    /// The same users and tools without any facts.
    fn without_facts(&self) -> Self {
        Self { facts: BTreeSet::new(), ..self.clone() }
    }

    /// Whether the file of this world speaks for `fact`.
    pub(crate) fn speaks_for(&self, fact: &Fact) -> bool {
        let has_tool = self.tools.iter().any(|tool| name(*tool) == fact.tool);
        let has_user = |wanted: &String| self.users.iter().any(|user| name(*user) == *wanted);
        has_tool && fact.user.as_ref().is_none_or(has_user)
    }
}

/// Runs `check` on some worlds; each makes its own data, in databases that are made once.
pub(crate) fn each<S: Strategy>(cases: u32, strategy: S, mut check: impl FnMut(S::Value)) {
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let check = std::cell::RefCell::new(&mut check);
    runner
        .run(&strategy, |value| {
            check.borrow_mut()(value);
            Ok(())
        })
        .unwrap();
}

fn an_export_imported_and_exported_again_is_the_same(db: TestDatabase) {
    let other = match db.dialect() {
        Dialect::Sqlite => TestDatabase::migrated(Dialect::Postgres),
        Dialect::Postgres => TestDatabase::migrated(Dialect::Sqlite),
    };
    let (mut conn, mut target) = (db.connection(), other.connection());
    each(24, world(), |world| {
        world.fill(&mut conn);
        let first = exported(&mut conn);
        world.without_facts().fill(&mut target);
        let file = file(&first);
        let plan = import(&mut target, &ImportRequest::merge(file.path())).unwrap();
        assert_eq!(plan.added.total(), world.exported().len() as u64);
        assert_eq!(exported(&mut target), first);
        assert_eq!(facts(&mut target), world.exported());
    });
}

fn a_merge_adds_what_is_missing_and_removes_nothing(db: TestDatabase) {
    let source = TestDatabase::migrated(Dialect::Sqlite);
    let (mut conn, mut from) = (db.connection(), source.connection());
    each(24, (world(), world()), |(theirs, mut ours)| {
        // The target needs the file's tools; its users may differ.
        ours.tools.extend(&theirs.tools);
        theirs.fill(&mut from);
        ours.fill(&mut conn);
        let before = facts(&mut conn);
        let file = file(exported(&mut from));
        let merge = ImportRequest::merge(file.path());
        let planned = plan_import(&mut conn, LOCAL, &merge).unwrap();
        assert_eq!(facts(&mut conn), before);
        let plan = import(&mut conn, &merge).unwrap();
        assert_eq!(plan_json(&plan), plan_json(&planned));
        let known: BTreeSet<Fact> =
            theirs.exported().into_iter().filter(|fact| ours.speaks_for(fact)).collect();
        let expected: BTreeSet<Fact> = before.union(&known).cloned().collect();
        let after = facts(&mut conn);
        assert_eq!(after, expected);
        assert_eq!(plan.added.total() as usize, expected.len() - before.len());
        // What the target has against the file, but for grants that the file's exclusions beat.
        let is_against = |fact: &&Fact| {
            let exclusion = Fact { fact: FactKind::Exclusion, ..(*fact).clone() };
            theirs.speaks_for(fact)
                && !known.contains(*fact)
                && !(fact.fact == FactKind::Grant && known.contains(&exclusion))
        };
        assert_eq!(plan.contradiction_count as usize, before.iter().filter(is_against).count());
        assert_eq!(plan.contradictions.len() as u64, plan.contradiction_count);
        assert!(import(&mut conn, &merge).unwrap().is_empty());
        assert_eq!(facts(&mut conn), after);
    });
}

fn a_sync_equals_the_file_inside_its_scope_only(db: TestDatabase) {
    let source = TestDatabase::migrated(Dialect::Sqlite);
    let (mut conn, mut from) = (db.connection(), source.connection());
    each(24, (world(), world()), |(theirs, mut ours)| {
        ours.tools.extend(&theirs.tools);
        theirs.fill(&mut from);
        ours.fill(&mut conn);
        let before = facts(&mut conn);
        let file = file(exported(&mut from));
        let sync = ImportRequest {
            removals: RemovalLimit::Percent(100),
            ..request(file.path(), Mode::Sync)
        };
        let planned = plan_import(&mut conn, LOCAL, &sync).unwrap();
        let plan = import(&mut conn, &sync).unwrap();
        assert_eq!(plan_json(&plan), plan_json(&planned));
        let outside = before.into_iter().filter(|fact| !theirs.speaks_for(fact));
        let inside = theirs.exported().into_iter().filter(|fact| ours.speaks_for(fact));
        assert_eq!(facts(&mut conn), outside.chain(inside).collect());
        assert!(import(&mut conn, &sync).unwrap().is_empty());
    });
}

fn an_overwrite_is_the_file(db: TestDatabase) {
    let source = TestDatabase::migrated(Dialect::Sqlite);
    let (mut conn, mut from) = (db.connection(), source.connection());
    each(16, (world(), world()), |(theirs, mut ours)| {
        ours.tools.extend(&theirs.tools);
        theirs.fill(&mut from);
        ours.fill(&mut conn);
        let file = file(exported(&mut from));
        let overwrite = request(file.path(), Mode::Overwrite);
        let planned = plan_import(&mut conn, LOCAL, &overwrite).unwrap();
        let plan = import(&mut conn, &overwrite).unwrap();
        assert_eq!(plan_json(&plan), plan_json(&planned));
        let expected: BTreeSet<Fact> =
            theirs.exported().into_iter().filter(|fact| ours.speaks_for(fact)).collect();
        assert_eq!(facts(&mut conn), expected);
    });
}

/// A file that is broken anywhere changes nothing; one that is only cut at its end is never taken for whole.
fn a_file_cut_anywhere_changes_nothing(db: TestDatabase) {
    let source = TestDatabase::migrated(Dialect::Sqlite);
    let (mut conn, mut from) = (db.connection(), source.connection());
    each(24, (world(), any::<prop::sample::Index>()), |(world, cut)| {
        world.fill(&mut from);
        world.without_facts().fill(&mut conn);
        let whole = exported(&mut from).into_bytes();
        // Without the last brace and the newline after it.
        let cut = cut.index(whole.len() - 1);
        let file = file(&whole[..cut]);
        import(&mut conn, &ImportRequest::merge(file.path())).unwrap_err();
        assert!(facts(&mut conn).is_empty());
    });
}

/// Makes the database refuse to write or to remove `fact`, or its row of the history.
fn refuse(conn: &mut AnyConnection, fact: &Fact, is_added: bool, in_history: bool) {
    let tool = tool_id(conn, &fact.tool);
    let user = fact.user.as_ref().map_or(0, |user| user_id(conn, user));
    let table = match fact.fact {
        _ if in_history => "tool_access_event",
        FactKind::Grant => "tool_access",
        FactKind::Wildcard => "tool_access_everyone",
        FactKind::Exclusion => "tool_access_exclusion",
    };
    let (event, row) = if is_added || in_history { ("INSERT", "NEW") } else { ("DELETE", "OLD") };
    let is_user = match table {
        "tool_access_everyone" => String::new(),
        _ => format!(" AND {row}.user_id = {user}"),
    };
    let when = format!("{row}.tool_id = {tool}{is_user}");
    conn.batch_execute(&match conn.dialect() {
        Dialect::Sqlite => format!(
            "CREATE TRIGGER refuse BEFORE {event} ON {table} WHEN {when} \
             BEGIN SELECT RAISE(ABORT, 'this row is refused'); END"
        ),
        Dialect::Postgres => format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'this row is refused'; END $$; \
             CREATE TRIGGER refuse BEFORE {event} ON {table} FOR EACH ROW WHEN ({when}) \
             EXECUTE FUNCTION refuse()"
        ),
    })
    .unwrap();
}

fn accept(conn: &mut AnyConnection) {
    let tables =
        ["tool_access_event", "tool_access", "tool_access_everyone", "tool_access_exclusion"];
    conn.batch_execute(&match conn.dialect() {
        Dialect::Sqlite => "DROP TRIGGER IF EXISTS refuse".to_owned(),
        Dialect::Postgres => {
            let drop = |table| format!("DROP TRIGGER IF EXISTS refuse ON {table}; ");
            format!("{}DROP FUNCTION IF EXISTS refuse", tables.map(drop).concat())
        }
    })
    .unwrap();
}

fn an_error_at_any_row_leaves_the_target_unchanged(db: TestDatabase) {
    let source = TestDatabase::migrated(Dialect::Sqlite);
    let (mut conn, mut from) = (db.connection(), source.connection());
    let worlds = (world(), world(), any::<prop::sample::Index>(), any::<bool>());
    each(24, worlds, |(theirs, mut ours, row, in_history)| {
        ours.tools.extend(&theirs.tools);
        theirs.fill(&mut from);
        ours.fill(&mut conn);
        let file = file(exported(&mut from));
        let overwrite = request(file.path(), Mode::Overwrite);
        let plan = plan_import(&mut conn, LOCAL, &overwrite).unwrap();
        let added = plan.additions.iter().map(|fact| (fact, true));
        let changes: Vec<_> = added.chain(plan.removals.iter().map(|fact| (fact, false))).collect();
        if changes.is_empty() {
            return;
        }
        let (fact, is_added) = changes[row.index(changes.len())];
        refuse(&mut conn, fact, is_added, in_history);
        let before = dump(&mut conn);
        let error = import(&mut conn, &overwrite).unwrap_err();
        assert!(chain(&error).contains("this row is refused"), "{error:?}");
        assert_eq!(dump(&mut conn), before);
        accept(&mut conn);
        import(&mut conn, &overwrite).unwrap();
    });
}

#[test]
fn a_dry_run_leaves_the_bytes_of_a_sqlite_file_alone() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let source = TestDatabase::migrated(Dialect::Sqlite);
    each(8, (world(), world()), |(theirs, mut ours)| {
        ours.tools.extend(&theirs.tools);
        theirs.fill(&mut source.connection());
        let mut conn = db.connection();
        ours.fill(&mut conn);
        conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        drop(conn);
        let path = db.url().sqlite_path().unwrap().to_owned();
        let before = std::fs::read(&path).unwrap();
        let file = file(exported(&mut source.connection()));
        for mode in [Mode::Merge, Mode::Sync, Mode::Overwrite] {
            let mut reader = open(db.url(), OpenMode::Read).unwrap();
            plan_import(&mut reader, LOCAL, &request(file.path(), mode)).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == before);
        let wal = path.with_extension("db-wal");
        assert!(std::fs::metadata(wal).map_or(0, |metadata| metadata.len()) == 0);
    });
}

#[test]
fn a_dry_run_leaves_the_rows_and_sequences_of_postgresql_alone() {
    use diesel::{
        prelude::*,
        sql_types::{BigInt, Nullable},
    };
    #[derive(QueryableByName, Debug, PartialEq)]
    struct Sequence {
        #[diesel(sql_type = Nullable<BigInt>)]
        last_value: Option<i64>,
    }
    let db = TestDatabase::migrated(Dialect::Postgres);
    let source = TestDatabase::migrated(Dialect::Sqlite);
    let state = |conn: &mut AnyConnection| {
        let sequences: Vec<Sequence> =
            diesel::sql_query("SELECT last_value FROM pg_sequences ORDER BY sequencename")
                .load(conn)
                .unwrap();
        (facts(conn), sequences)
    };
    each(8, (world(), world()), |(theirs, mut ours)| {
        ours.tools.extend(&theirs.tools);
        theirs.fill(&mut source.connection());
        ours.fill(&mut db.connection());
        let before = state(&mut db.connection());
        let file = file(exported(&mut source.connection()));
        for mode in [Mode::Merge, Mode::Sync, Mode::Overwrite] {
            let mut reader = open(db.url(), OpenMode::Read).unwrap();
            plan_import(&mut reader, LOCAL, &request(file.path(), mode)).unwrap();
        }
        assert_eq!(state(&mut db.connection()), before);
    });
}

on_both_databases!(
    an_export_imported_and_exported_again_is_the_same,
    a_merge_adds_what_is_missing_and_removes_nothing,
    a_sync_equals_the_file_inside_its_scope_only,
    an_overwrite_is_the_file,
    a_file_cut_anywhere_changes_nothing,
    an_error_at_any_row_leaves_the_target_unchanged,
);
