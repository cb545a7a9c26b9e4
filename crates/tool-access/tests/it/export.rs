//! Exports and their comparison with the committed file.

use omnitool_testing::{TestDatabase, on_both_databases};
use omnitool_tool_access::Export;

use crate::world::{LOCAL, exclusion, exported, file, grant, people, put, wildcard};

fn an_export_is_sorted_and_canonical(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["user_a", "Zoe", "alice"], &["Invoice Generator", "A \"quoted\" tool"]);
    put(
        &mut conn,
        [
            wildcard("Invoice Generator"),
            exclusion("user_a", "Invoice Generator"),
            grant("alice", "A \"quoted\" tool"),
            grant("Zoe", "A \"quoted\" tool"),
            // Without effect, since the user is excluded.
            grant("user_a", "Invoice Generator"),
        ],
    );
    insta::allow_duplicates! {
        insta::assert_snapshot!(exported(&mut conn), @r#"
        {
          "format": "omnitool.tool-access",
          "version": 1,
          "environment": "local",
          "users": [
            "Zoe",
            "alice",
            "user_a"
          ],
          "tools": {
            "A \"quoted\" tool": {
              "everyone": false,
              "excluded": [],
              "granted": [
                "Zoe",
                "alice"
              ]
            },
            "Invoice Generator": {
              "everyone": true,
              "excluded": [
                "user_a"
              ],
              "granted": []
            }
          }
        }
        "#);
    }
    let mut bytes = Vec::new();
    let exported = Export::load(&mut conn, LOCAL).unwrap().write(&mut bytes).unwrap();
    assert_eq!((exported.grants_and_wildcards(), exported.without_effect), (3, 1));
}

fn an_empty_database_gives_empty_lists(db: TestDatabase) {
    insta::allow_duplicates! {
        insta::assert_snapshot!(exported(&mut db.connection()), @r#"
        {
          "format": "omnitool.tool-access",
          "version": 1,
          "environment": "local",
          "users": [],
          "tools": {}
        }
        "#);
    }
}

fn a_comparison_shows_the_difference_by_tool_and_user(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice", "bob"], &["Email Templates", "Invoice Generator"]);
    put(&mut conn, [grant("alice", "Invoice Generator"), wildcard("Email Templates")]);
    let committed = file(exported(&mut conn));
    let compare = |conn: &mut _| {
        let comparison = Export::load(conn, LOCAL).unwrap().compare(committed.path()).unwrap();
        comparison.to_string().replace(&committed.path().display().to_string(), "FILE")
    };
    insta::allow_duplicates! {
        insta::assert_snapshot!(compare(&mut conn), @"FILE is what an export gives");
    }
    people(&mut conn, &["carl"], &["Time Tracking"]);
    put(&mut conn, [exclusion("bob", "Email Templates"), grant("carl", "Time Tracking")]);
    let _ = omnitool_tool_access::revoke(
        &mut conn,
        crate::world::user_id(&mut db.connection(), "alice"),
        crate::world::tool_id(&mut db.connection(), "Invoice Generator"),
        &omnitool_tool_access::Author::admin("admin"),
    )
    .unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(compare(&mut conn), @r"
        FILE differs from the database: an export adds 2 facts and drops 1
          + user carl
          + Email Templates: bob excluded
          - Invoice Generator: alice granted
          + tool Time Tracking
          + Time Tracking: carl granted
        ");
    }
    let comparison = Export::load(&mut conn, LOCAL).unwrap().compare(committed.path()).unwrap();
    assert_eq!((comparison.added, comparison.dropped), (2, 1));
    // The same facts in another form are not what an export gives.
    std::fs::write(committed.path(), exported(&mut conn).replace('\n', " ")).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(compare(&mut conn), @"FILE has the same facts, but not in canonical form");
    }
}

on_both_databases!(
    an_export_is_sorted_and_canonical,
    an_empty_database_gives_empty_lists,
    a_comparison_shows_the_difference_by_tool_and_user,
);
