//! Default tools for users who exist already.

use diesel::prelude::*;
use omnitool_database::schema::{tool_access, tool_access_event, tool_access_run, users};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_tool_registry::{DefaultTools, Options, sync};

use crate::state::{State, deprecations, parse, tool};

const ASSIGN: fn() -> Options<'static> =
    || Options { default_tools: DefaultTools::Assign, ..Options::default() };

fn only_users_who_lack_a_default_tool_and_are_not_excluded_get_it(db: TestDatabase) {
    let mut conn = db.connection();
    let user = ["alice", "bob", "gone", "user_a"].map(|name| fixture::user(&mut conn, name));
    diesel::update(users::table.find(user[2]))
        .set(users::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();
    let mail = fixture::tool(&mut conn, "Mail");
    fixture::grant(&mut conn, user[0], mail);
    fixture::exclude(&mut conn, user[3], mail);
    let open = fixture::tool(&mut conn, "Open To All");
    fixture::everyone(&mut conn, open);
    // Excluded under the name that the tool has until this very run.
    let old = fixture::tool(&mut conn, "Old");
    fixture::exclude(&mut conn, user[1], old);

    let defined = parse(
        &(["Mail", "Open To All", "Renamed", "Created"]
            .map(|name| tool(name, "is_default = true"))
            .concat()
            + &tool("Asleep", "is_default = true\nis_active = false")
            + &tool("Optional", "")
            + &deprecations(&[("Old", Some("Renamed"))])),
    );
    let plan = sync(&mut conn, &defined, ASSIGN()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(plan, @r#"
        Renaming tool: Old -> Renamed
        Creating new tool: Created
        Creating new tool: Asleep
        Creating new tool: Optional
        Updating tool: Mail (is_default)
            is_default: "false" => "true"
        Updating tool: Open To All (is_default)
            is_default: "false" => "true"
        Updating tool: Renamed (route, is_default)
            route: "/old" => "/renamed"
            is_default: "false" => "true"
        Assigning default tool: Created (3 users)
        Assigning default tool: Mail (1 user)
        Assigning default tool: Renamed (2 users)
        "#);
    }
    insta::allow_duplicates! {
        insta::assert_snapshot!(plan.summary(), @"tools: 1 renamed, 3 created, 3 updated, 6 default grants added");
    }
    let grants: Vec<String> = State::read(&mut conn)
        .grants
        .into_iter()
        .map(|(user, tool)| format!("{user}: {tool}"))
        .collect();
    insta::allow_duplicates! {
        insta::assert_snapshot!(grants.join("\n"), @r"
        alice: Created
        alice: Mail
        alice: Renamed
        bob: Created
        bob: Mail
        user_a: Created
        user_a: Renamed
        ");
    }

    let origins: Vec<(String, i64)> = tool_access::table
        .group_by(tool_access::origin)
        .order(tool_access::origin)
        .select((tool_access::origin, diesel::dsl::count_star()))
        .load(&mut conn)
        .unwrap();
    assert_eq!(origins, [("admin".to_owned(), 1), ("default".to_owned(), 6)]);
    let told: Vec<(String, String)> = tool_access_event::table
        .inner_join(tool_access_run::table)
        .select((tool_access_run::program, tool_access_event::change))
        .load(&mut conn)
        .unwrap();
    assert_eq!(told, vec![("sync-tools".to_owned(), "grant".to_owned()); 6]);

    assert!(sync(&mut conn, &defined, ASSIGN()).unwrap().is_empty());
}

fn nobody_is_granted_anything_without_being_asked_for(db: TestDatabase) {
    let mut conn = db.connection();
    fixture::user(&mut conn, "alice");
    let defined = parse(&tool("Mail", "is_default = true"));
    let plan = sync(&mut conn, &defined, Options::default()).unwrap();
    assert!(plan.default_grants.is_empty());
    assert!(State::read(&mut conn).grants.is_empty());
}

on_both_databases!(
    only_users_who_lack_a_default_tool_and_are_not_excluded_get_it,
    nobody_is_granted_anything_without_being_asked_for,
);
