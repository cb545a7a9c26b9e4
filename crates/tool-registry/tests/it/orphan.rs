//! Rows without a user or a tool.

use diesel::prelude::*;
use omnitool_database::{AnyConnection, schema::tool_access};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_tool_registry::{Options, Orphans, SyncToolsError, sync};

use crate::state::{State, definitions, without_foreign_keys};

const PRUNE: fn() -> Options<'static> =
    || Options { orphans: Orphans::Prune, ..Options::default() };

fn orphans(conn: &mut AnyConnection) {
    let user = fixture::user(conn, "alice");
    let (old, new) = (fixture::tool(conn, "Old"), fixture::tool(conn, "New"));
    fixture::grant(conn, user, old);
    without_foreign_keys(conn, |conn| {
        fixture::grant(conn, user, 7001);
        fixture::grant(conn, 8001, 7001);
        fixture::grant(conn, 8001, old);
        fixture::grant(conn, 8001, new);
        fixture::everyone(conn, 7001);
        fixture::exclude(conn, user, 7001);
        fixture::exclude(conn, 8001, old);
    });
}

fn orphaned_rows_are_reported_and_left(db: TestDatabase) {
    let mut conn = db.connection();
    orphans(&mut conn);
    let plan = sync(&mut conn, &definitions(&["Old", "New"], &[]), Options::default()).unwrap();
    assert!(plan.is_empty());
    insta::allow_duplicates! {
        insta::assert_snapshot!(plan, @r"
        Leaving orphaned rows: 2 grants without tool, 2 grants without user, 1 wildcard without tool, 1 exclusion without tool, 1 exclusion without user
        Nothing to change: every tool is as defined.
        ");
    }
    let grants: i64 = tool_access::table.count().get_result(&mut conn).unwrap();
    assert_eq!(grants, 5);
}

fn orphaned_rows_are_removed_on_demand_and_the_merge_counts_stay_true(db: TestDatabase) {
    let mut conn = db.connection();
    orphans(&mut conn);
    let defined = definitions(&["New"], &[("Old", Some("New"))]);
    let plan = sync(&mut conn, &defined, PRUNE()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(plan, @r"
        Removing orphaned rows: 2 grants without tool, 2 grants without user, 1 wildcard without tool, 1 exclusion without tool, 1 exclusion without user
        Merging tool: Old -> New (1 grant moved, 0 already there)
        ");
    }
    insta::allow_duplicates! {
        insta::assert_snapshot!(plan.summary(), @"tools: 1 merged, 7 orphaned rows removed");
    }
    let grants: i64 = tool_access::table.count().get_result(&mut conn).unwrap();
    assert_eq!(grants, 1);

    let again = sync(&mut conn, &defined, PRUNE()).unwrap();
    assert!(again.is_empty());
    assert_eq!(again.orphans.total(), 0);
}

fn a_new_tool_inherits_no_orphaned_grants(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "alice");
    // Whatever key the new tool gets, somebody without a tool holds it already.
    without_foreign_keys(&mut conn, |conn| {
        (1..20).for_each(|tool| fixture::grant(conn, user, tool));
    });
    let defined = definitions(&["New"], &[]);
    let error = sync(&mut conn, &defined, Options::default()).unwrap_err();
    assert!(matches!(error, SyncToolsError::InheritedFacts { .. }));
    insta::allow_duplicates! {
        insta::assert_snapshot!(error, @"orphaned rows would become grants of the new tool `New`");
    }
    assert_eq!(State::read(&mut conn), State::default());

    let _ = sync(&mut conn, &defined, PRUNE()).unwrap();
    let state = State::read(&mut conn);
    assert_eq!(Vec::from_iter(state.tools), ["New"]);
    assert!(state.grants.is_empty());
}

on_both_databases!(
    orphaned_rows_are_reported_and_left,
    orphaned_rows_are_removed_on_demand_and_the_merge_counts_stay_true,
    a_new_tool_inherits_no_orphaned_grants,
);
