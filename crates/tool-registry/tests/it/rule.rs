//! What holds for every database and all definitions.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use diesel::prelude::*;
use omnitool_database::{
    AnyConnection,
    schema::{effective_tool_access, tools, users},
};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_tool_registry::{Definitions, Resolution};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::state::{State, deprecations, parse, sync, tool};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const USERS: [&str; 3] = ["u", "v", "w"];

/// What the definitions say about a name.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Defined { is_active: bool },
    Renamed { to: usize },
    Deleted,
    Unmanaged,
}

/// What the database has of a tool.
#[derive(Clone, Debug)]
struct Row {
    is_active: bool,
    granted: [bool; USERS.len()],
    everyone: bool,
    excluded: [bool; USERS.len()],
}

fn fates() -> impl Strategy<Value = [Fate; NAMES.len()]> {
    proptest::array::uniform6(prop_oneof![
        3 => any::<bool>().prop_map(|is_active| Fate::Defined { is_active }),
        4 => (0..NAMES.len()).prop_map(|to| Fate::Renamed { to }),
        1 => Just(Fate::Deleted),
        1 => Just(Fate::Unmanaged),
    ])
}

fn row() -> impl Strategy<Value = Option<Row>> {
    let bools = || any::<[bool; USERS.len()]>();
    proptest::option::of((any::<bool>(), bools(), proptest::bool::weighted(0.2), bools()).prop_map(
        |(is_active, granted, everyone, excluded)| Row { is_active, granted, everyone, excluded },
    ))
}

/// Renames always lead to a later name that the file knows, so that there is no circle.
fn definitions_of(fates: &[Fate; NAMES.len()]) -> Definitions {
    let mut text = String::new();
    let mut deprecated = Vec::new();
    for (index, (name, fate)) in NAMES.into_iter().zip(fates).enumerate() {
        match fate {
            Fate::Defined { is_active } => text += &tool(name, &format!("is_active = {is_active}")),
            Fate::Renamed { to } => {
                let later = (index + 1..NAMES.len()).cycle().skip(*to).take(NAMES.len());
                let known = |index: &usize| !matches!(fates[*index], Fate::Unmanaged);
                deprecated.push((name, later.into_iter().find(known).map(|index| NAMES[index])));
            }
            Fate::Deleted => deprecated.push((name, None)),
            Fate::Unmanaged => {}
        }
    }
    parse(&(text + &deprecations(&deprecated)))
}

fn fill(conn: &mut AnyConnection, rows: &[Option<Row>; NAMES.len()]) {
    diesel::delete(tools::table).execute(conn).unwrap();
    diesel::delete(users::table).execute(conn).unwrap();
    let users = USERS.map(|name| fixture::user(conn, name));
    for (name, row) in NAMES.into_iter().zip(rows) {
        let Some(row) = row else { continue };
        let id = fixture::tool(conn, name);
        diesel::update(tools::table.find(id))
            .set(tools::is_active.eq(row.is_active))
            .execute(conn)
            .unwrap();
        if row.everyone {
            fixture::everyone(conn, id);
        }
        for (index, user) in users.into_iter().enumerate() {
            if row.granted[index] {
                fixture::grant(conn, user, id);
            }
            if row.excluded[index] {
                fixture::exclude(conn, user, id);
            }
        }
    }
}

/// What becomes of what is known, said without any database.
fn expected(before: &State, definitions: &Definitions) -> State {
    let heir = |name: &String| match definitions.resolve(name) {
        Resolution::Defined | Resolution::Unknown => Some(name.clone()),
        Resolution::Renamed(new) => Some(new.to_owned()),
        Resolution::Deleted => None,
    };
    let pairs = |pairs: &BTreeSet<(String, String)>| {
        pairs.iter().filter_map(|(user, tool)| Some((user.clone(), heir(tool)?))).collect()
    };
    let defined = definitions.tools().iter().map(|tool| tool.name.clone());
    State {
        tools: before.tools.iter().filter_map(heir).chain(defined).collect(),
        grants: pairs(&before.grants),
        wildcards: before.wildcards.iter().filter_map(heir).collect(),
        exclusions: pairs(&before.exclusions),
    }
}

fn effective(conn: &mut AnyConnection) -> BTreeSet<(String, String)> {
    effective_tool_access::table
        .inner_join(users::table)
        .inner_join(tools::table)
        .select((users::username, tools::name))
        .load(conn)
        .unwrap()
        .into_iter()
        .collect()
}

fn active(conn: &mut AnyConnection) -> BTreeMap<String, bool> {
    tools::table.select((tools::name, tools::is_active)).load(conn).unwrap().into_iter().collect()
}

fn check(conn: &mut AnyConnection, definitions: &Definitions) {
    let before = State::read(conn);
    let could = effective(conn);
    let was_active = active(conn);
    let plan = sync(conn, definitions);
    let after = State::read(conn);

    // Nothing is lost and nothing is invented: grants of tools that are not deprecated are untouched, exclusions under
    // any name survive.
    assert_eq!(after, expected(&before, definitions));

    // Nobody gains a tool that kept its name, unless the file switches it on.
    let renamed: BTreeSet<&str> = before
        .tools
        .iter()
        .filter_map(|name| match definitions.resolve(name) {
            Resolution::Renamed(new) => Some(new),
            _ => None,
        })
        .collect();
    for (user, tool) in effective(conn).difference(&could) {
        let switched_on = was_active.get(tool) == Some(&false);
        assert!(renamed.contains(tool.as_str()) || switched_on, "{user} gained {tool}\n{plan}");
    }

    let again = sync(conn, definitions);
    assert!(again.is_empty(), "{again}");
    assert_eq!(State::read(conn), after);
}

fn a_sync_keeps_the_rules_of_access(db: TestDatabase) {
    let conn = RefCell::new(db.connection());
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let rows = proptest::array::uniform6(row());
    TestRunner::new(config)
        .run(&(fates(), rows), |(fates, rows)| {
            let conn = &mut *conn.borrow_mut();
            fill(conn, &rows);
            check(conn, &definitions_of(&fates));
            Ok(())
        })
        .unwrap();
}

on_both_databases!(a_sync_keeps_the_rules_of_access);
