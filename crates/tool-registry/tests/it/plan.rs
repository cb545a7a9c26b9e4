//! What a plan shows.

use diesel::prelude::*;
use omnitool_database::{Mode, open, schema::tools};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_tool_registry::{Definitions, Options, SharedRoutes, plan};

use crate::state::{State, definitions, deprecations, parse, sync, tool};

fn the_dry_run_shows_what_is_then_applied_and_writes_nothing(db: TestDatabase) {
    let mut conn = db.connection();
    let user = ["alice", "bob"].map(|name| fixture::user(&mut conn, name));
    for (tool, users) in [("Calls", &user[..1]), ("Mail", &user[..]), ("Old Calculator", &user[..])]
    {
        let tool = fixture::tool(&mut conn, tool);
        users.iter().for_each(|user| fixture::grant(&mut conn, *user, tool));
    }
    let defined = parse(
        &(tool("Phone", "description = \"Make calls\"\nis_default = true")
            + &tool("Calendar", "")
            + &deprecations(&[
                ("Calls", Some("Phone")),
                ("Mail", Some("Phone")),
                ("Old Calculator", None),
            ])),
    );
    let before = State::read(&mut conn);

    let mut reader = open(db.url(), Mode::Read).unwrap();
    let planned = plan(&mut reader, &defined, Options::default()).unwrap();
    assert_eq!(State::read(&mut conn), before);
    drop(reader);

    let applied = sync(&mut conn, &defined);
    assert_eq!(planned, applied);
    insta::allow_duplicates! {
        insta::assert_snapshot!(applied, @r#"
        Renaming tool: Calls -> Phone
        Merging tool: Mail -> Phone (1 grant moved, 1 already there)
        Deleting tool: Old Calculator (2 grants)
        Creating new tool: Calendar
        Updating tool: Phone (description, route, is_default)
            description: "" => "Make calls"
            route: "/calls" => "/phone"
            is_default: "false" => "true"
        "#);
    }
    insta::allow_duplicates! {
        insta::assert_snapshot!(applied.summary(), @"tools: 1 renamed, 1 merged, 1 deleted, 1 created, 1 updated");
    }
    insta::allow_duplicates! {
        insta::assert_snapshot!(serde_json::to_string_pretty(&applied).unwrap(), @r#"
        {
          "orphans": {
            "grants_without_tool": 0,
            "grants_without_user": 0,
            "wildcards_without_tool": 0,
            "exclusions_without_tool": 0,
            "exclusions_without_user": 0
          },
          "orphan_handling": "report",
          "retirements": [
            {
              "action": "rename",
              "from": "Calls",
              "to": "Phone"
            },
            {
              "action": "merge",
              "from": "Mail",
              "to": "Phone",
              "moved": {
                "grants": 1,
                "wildcards": 0,
                "exclusions": 0
              },
              "already_there": {
                "grants": 1,
                "wildcards": 0,
                "exclusions": 0
              }
            },
            {
              "action": "delete",
              "name": "Old Calculator",
              "deleted": {
                "grants": 2,
                "wildcards": 0,
                "exclusions": 0
              }
            }
          ],
          "creates": [
            {
              "name": "Calendar",
              "description": "",
              "route": "/calendar",
              "is_default": false,
              "is_active": true
            }
          ],
          "updates": [
            {
              "name": "Phone",
              "changes": [
                {
                  "field": "description",
                  "old": "",
                  "new": "Make calls"
                },
                {
                  "field": "route",
                  "old": "/calls",
                  "new": "/phone"
                },
                {
                  "field": "is_default",
                  "old": "false",
                  "new": "true"
                }
              ]
            }
          ],
          "default_grants": [],
          "unmanaged": [],
          "shared_routes": []
        }
        "#);
    }
}

fn the_shipped_tools_are_made_once(db: TestDatabase) {
    let mut conn = db.connection();
    let shipped = Definitions::shipped().unwrap();
    let first = sync(&mut conn, &shipped);
    assert_eq!(first.creates, shipped.tools());
    assert!(first.to_string().contains("Creating new tool: Invoice Generator\n"));

    let second = sync(&mut conn, &shipped);
    assert!(second.is_empty());
    insta::allow_duplicates! {
        insta::assert_snapshot!(second, @"Nothing to change: every tool is as defined.");
    }
    insta::allow_duplicates! {
        insta::assert_snapshot!(second.summary(), @"nothing to change");
    }
}

fn a_tool_that_is_listed_nowhere_is_left_alone(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "alice");
    let extra = fixture::tool(&mut conn, "Extra");
    fixture::grant(&mut conn, user, extra);
    let before = State::read(&mut conn);

    let plan = sync(&mut conn, &definitions(&[], &[("Gone", None)]));
    assert!(plan.is_empty());
    assert_eq!(plan.unmanaged, ["Extra"]);
    assert_eq!(State::read(&mut conn), before);
}

fn a_tool_is_not_made_at_the_route_of_one_that_nobody_retired(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "alice");
    let _ = sync(&mut conn, &definitions(&["Sheets"], &[]));
    let old = fixture::tool(&mut conn, "Times");
    diesel::update(tools::table.find(old))
        .set(tools::route.eq("/shared"))
        .execute(&mut conn)
        .unwrap();
    fixture::grant(&mut conn, user, old);
    let before = State::read(&mut conn);

    let renamed =
        |more: &str| parse(&(tool("Sheets", "") + &tool("Hours", "route = \"/shared\"") + more));
    let silent = renamed("");
    let expected = "a tool's route is that of another one, which is in the database only: \
                    `Hours` at /shared, which is `Times`'s";
    let error = plan(&mut conn, &silent, Options::default()).unwrap_err();
    assert_eq!(error.to_string(), expected);
    let error = omnitool_tool_registry::sync(&mut conn, &silent, Options::default()).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(State::read(&mut conn), before);

    // An older build does not know the tool that has its route now.
    let options = Options { shared_routes: SharedRoutes::LeaveOut, ..Options::default() };
    let left = omnitool_tool_registry::sync(&mut conn, &silent, options).unwrap();
    assert!(left.is_empty());
    insta::allow_duplicates! {
        insta::assert_snapshot!(left, @"Leaving out tool: `Hours` at /shared, which is `Times`'s");
    }
    assert_eq!(State::read(&mut conn), before);

    let said = sync(&mut conn, &renamed(&deprecations(&[("Times", Some("Hours"))])));
    assert_eq!((said.retirements.len(), said.shared_routes.len()), (1, 0));
}

fn an_inactive_tools_route_is_free(db: TestDatabase) {
    let mut conn = db.connection();
    let old = fixture::tool(&mut conn, "Times");
    diesel::update(tools::table.find(old))
        .set((tools::route.eq("/shared"), tools::is_active.eq(false)))
        .execute(&mut conn)
        .unwrap();
    let made = sync(&mut conn, &parse(&tool("Hours", "route = \"/shared\"")));
    assert_eq!(made.creates.len(), 1);
}

on_both_databases!(
    the_dry_run_shows_what_is_then_applied_and_writes_nothing,
    the_shipped_tools_are_made_once,
    a_tool_that_is_listed_nowhere_is_left_alone,
    a_tool_is_not_made_at_the_route_of_one_that_nobody_retired,
    an_inactive_tools_route_is_free,
);
