//! Renamed, merged and deleted tools.

use diesel::prelude::*;
use omnitool_database::{
    AnyConnection,
    schema::{
        deleted_tool, tool_access, tool_access_event, tool_access_exclusion, tool_access_run,
        tools, users,
    },
};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};

use crate::state::{State, definitions, sync};

fn names(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(user, tool)| ((*user).to_owned(), (*tool).to_owned())).collect()
}

fn a_renamed_tool_keeps_its_row_and_all_that_is_known_about_it(db: TestDatabase) {
    let mut conn = db.connection();
    let (alice, user_a) = (fixture::user(&mut conn, "alice"), fixture::user(&mut conn, "user_a"));
    let old = fixture::tool(&mut conn, "Email Templates management");
    fixture::grant(&mut conn, alice, old);
    fixture::everyone(&mut conn, old);
    fixture::exclude(&mut conn, user_a, old);
    let granted: Vec<(i64, chrono::NaiveDateTime, String)> = tool_access::table
        .select((tool_access::tool_id, tool_access::granted_at, tool_access::origin))
        .load(&mut conn)
        .unwrap();

    let defined = definitions(
        &["Email Templates"],
        &[("Email Templates management", Some("Email Templates"))],
    );
    insta::allow_duplicates! {
        insta::assert_snapshot!(sync(&mut conn, &defined), @r#"
        Renaming tool: Email Templates management -> Email Templates
        Updating tool: Email Templates (route)
            route: "/email_templates_management" => "/email_templates"
        "#);
    }

    let id: i64 = tools::table.select(tools::id).get_result(&mut conn).unwrap();
    assert_eq!(id, old);
    let after = tool_access::table
        .select((tool_access::tool_id, tool_access::granted_at, tool_access::origin))
        .load(&mut conn)
        .unwrap();
    assert_eq!(granted, after);
    let state = State::read(&mut conn);
    assert!(state.exclusions.contains(&("user_a".to_owned(), "Email Templates".to_owned())));
    assert!(state.wildcards.contains("Email Templates"));
}

fn a_merge_moves_what_is_missing_and_counts_it(db: TestDatabase) {
    let mut conn = db.connection();
    let user = ["alice", "bob", "carol", "dave"].map(|name| fixture::user(&mut conn, name));
    let (old, new) = (fixture::tool(&mut conn, "Old"), fixture::tool(&mut conn, "New"));
    fixture::grant(&mut conn, user[0], old);
    fixture::grant(&mut conn, user[1], old);
    fixture::grant(&mut conn, user[1], new);
    fixture::grant(&mut conn, user[2], new);
    fixture::everyone(&mut conn, old);
    // Excluded under the old name only, the new name only, and both.
    fixture::exclude(&mut conn, user[0], old);
    fixture::exclude(&mut conn, user[2], new);
    fixture::exclude(&mut conn, user[3], old);
    fixture::exclude(&mut conn, user[3], new);

    let defined = definitions(&["New"], &[("Old", Some("New"))]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(sync(&mut conn, &defined), @"Merging tool: Old -> New (1 grant moved, 1 already there; 1 wildcard moved, 0 already there; 1 exclusion moved, 1 already there)");
    }

    let State { tools, grants, wildcards, exclusions } = State::read(&mut conn);
    assert_eq!(Vec::from_iter(tools), ["New"]);
    assert_eq!(
        Vec::from_iter(grants),
        names(&[("alice", "New"), ("bob", "New"), ("carol", "New")])
    );
    assert_eq!(Vec::from_iter(wildcards), ["New"]);
    assert_eq!(
        Vec::from_iter(exclusions),
        names(&[("alice", "New"), ("carol", "New"), ("dave", "New")])
    );
    assert!(sync(&mut conn, &defined).is_empty());
}

fn a_merge_keeps_the_reason_that_only_the_old_exclusion_had(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "user_a");
    let (old, new) = (fixture::tool(&mut conn, "Old"), fixture::tool(&mut conn, "New"));
    fixture::exclude(&mut conn, user, old);
    fixture::exclude(&mut conn, user, new);
    diesel::update(tool_access_exclusion::table.find((user, old)))
        .set(tool_access_exclusion::reason.eq("left the team"))
        .execute(&mut conn)
        .unwrap();

    let _ = sync(&mut conn, &definitions(&["New"], &[("Old", Some("New"))]));
    let reasons: Vec<(i64, Option<String>)> = tool_access_exclusion::table
        .select((tool_access_exclusion::tool_id, tool_access_exclusion::reason))
        .load(&mut conn)
        .unwrap();
    assert_eq!(reasons, [(new, Some("left the team".to_owned()))]);
}

/// The history: program, user (everyone is empty), tool (with what became of it), change.
fn history(conn: &mut AnyConnection) -> Vec<String> {
    let rows: Vec<(i64, i64, String, String)> = tool_access_event::table
        .inner_join(tool_access_run::table)
        .order((
            tool_access_event::run,
            tool_access_event::tool_id.desc(),
            tool_access_event::change,
            tool_access_event::user_id,
        ))
        .select((
            tool_access_event::user_id,
            tool_access_event::tool_id,
            tool_access_run::program,
            tool_access_event::change,
        ))
        .load(conn)
        .unwrap();
    let row = |(user, tool, program, change)| {
        let user: Option<String> =
            users::table.find(user).select(users::username).first(conn).optional().unwrap();
        let live: Option<String> =
            tools::table.find(tool).select(tools::name).first(conn).optional().unwrap();
        let tool = live.unwrap_or_else(|| {
            let (name, into): (String, Option<i64>) = deleted_tool::table
                .find(tool)
                .select((deleted_tool::name, deleted_tool::merged_into))
                .first(conn)
                .unwrap();
            format!("{name} (gone{})", if into.is_some() { ", merged" } else { "" })
        });
        let user = user.unwrap_or_else(|| "everyone".to_owned());
        format!("{program}: {tool}, {user}: {change}")
    };
    rows.into_iter().map(row).collect()
}

/// Notes that an admin granted `tool`.
fn granted_by_an_admin(conn: &mut AnyConnection, user: i64, tool: i64) {
    let run: i64 = diesel::insert_into(tool_access_run::table)
        .values(tool_access_run::program.eq("omnitool"))
        .returning(tool_access_run::id)
        .get_result(conn)
        .unwrap();
    diesel::insert_into(tool_access_event::table)
        .values((
            tool_access_event::run.eq(run),
            tool_access_event::user_id.eq(user),
            tool_access_event::tool_id.eq(tool),
            tool_access_event::change.eq("grant"),
        ))
        .execute(conn)
        .unwrap();
    fixture::grant(conn, user, tool);
}

fn a_merge_appends_every_change_and_keeps_the_old_history(db: TestDatabase) {
    let mut conn = db.connection();
    let user = ["alice", "bob", "carol"].map(|name| fixture::user(&mut conn, name));
    let (old, new) = (fixture::tool(&mut conn, "Old"), fixture::tool(&mut conn, "New"));
    granted_by_an_admin(&mut conn, user[0], old);
    fixture::grant(&mut conn, user[1], old);
    fixture::grant(&mut conn, user[1], new);
    fixture::everyone(&mut conn, old);
    fixture::exclude(&mut conn, user[2], old);

    let _ = sync(&mut conn, &definitions(&["New"], &[("Old", Some("New"))]));
    assert_eq!(
        history(&mut conn),
        [
            "omnitool: Old (gone, merged), alice: grant",
            "sync-tools: New, carol: exclude",
            "sync-tools: New, alice: grant",
            "sync-tools: New, everyone: grant-everyone",
            "sync-tools: Old (gone, merged), carol: include",
            "sync-tools: Old (gone, merged), alice: revoke",
            "sync-tools: Old (gone, merged), bob: revoke",
            "sync-tools: Old (gone, merged), everyone: revoke-everyone",
        ]
    );
}

fn a_reason_that_a_merge_brings_is_noted_once(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "user_a");
    let tool = ["Mail", "Post", "New"].map(|name| fixture::tool(&mut conn, name));
    fixture::exclude(&mut conn, user, tool[0]);
    fixture::exclude(&mut conn, user, tool[1]);
    diesel::update(tool_access_exclusion::table.find((user, tool[1])))
        .set(tool_access_exclusion::reason.eq("left the team"))
        .execute(&mut conn)
        .unwrap();

    let _ =
        sync(&mut conn, &definitions(&["New"], &[("Mail", Some("New")), ("Post", Some("New"))]));
    let told = history(&mut conn);
    let told: Vec<&String> = told.iter().filter(|text| text.contains(": New,")).collect();
    assert_eq!(told, ["sync-tools: New, user_a: exclude"]);
    assert!(State::read(&mut conn).exclusions.contains(&("user_a".to_owned(), "New".to_owned())));
}

fn a_new_tool_inherits_no_history_from_a_deleted_one(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "alice");
    let old = fixture::tool(&mut conn, "Old");
    granted_by_an_admin(&mut conn, user, old);

    let _ = sync(&mut conn, &definitions(&["New"], &[("Old", None)]));
    assert_eq!(
        history(&mut conn),
        ["omnitool: Old (gone), alice: grant", "sync-tools: Old (gone), alice: revoke"]
    );
    // The new tool may have the key that the old one had; and it goes, too, under a name that was there before.
    let new: i64 = tools::table.select(tools::id).first(&mut conn).unwrap();
    granted_by_an_admin(&mut conn, user, new);
    let _ = sync(&mut conn, &definitions(&["Newest"], &[("New", None)]));
    assert_eq!(
        history(&mut conn),
        [
            "omnitool: Old (gone), alice: grant",
            "sync-tools: Old (gone), alice: revoke",
            "omnitool: New (gone), alice: grant",
            "sync-tools: New (gone), alice: revoke",
        ]
    );
}

fn a_tool_without_facts_goes_without_a_run(db: TestDatabase) {
    let mut conn = db.connection();
    let (_old, _new) = (fixture::tool(&mut conn, "Old"), fixture::tool(&mut conn, "New"));
    let _ = sync(&mut conn, &definitions(&["New"], &[("Old", Some("New"))]));
    let runs: i64 = tool_access_run::table.count().get_result(&mut conn).unwrap();
    assert_eq!(runs, 0);
}

fn what_was_merged_into_a_tool_that_is_merged_belongs_to_the_last_one(db: TestDatabase) {
    let mut conn = db.connection();
    for name in ["Mail", "Post", "New"] {
        fixture::tool(&mut conn, name);
    }
    let _ = sync(&mut conn, &definitions(&["Post", "New"], &[("Mail", Some("Post"))]));
    let _ = sync(&mut conn, &definitions(&["New"], &[("Post", Some("New"))]));
    let new: i64 =
        tools::table.filter(tools::name.eq("New")).select(tools::id).first(&mut conn).unwrap();
    let into: Vec<Option<i64>> =
        deleted_tool::table.select(deleted_tool::merged_into).load(&mut conn).unwrap();
    assert_eq!(into, [Some(new), Some(new)]);
}

fn several_old_names_of_one_tool_become_one(db: TestDatabase) {
    let mut conn = db.connection();
    let user = ["alice", "bob"].map(|name| fixture::user(&mut conn, name));
    let (mail, post) = (fixture::tool(&mut conn, "Mail"), fixture::tool(&mut conn, "Post"));
    let letters = fixture::tool(&mut conn, "Letters");
    fixture::grant(&mut conn, user[0], mail);
    fixture::grant(&mut conn, user[0], post);
    fixture::grant(&mut conn, user[1], post);
    fixture::grant(&mut conn, user[1], letters);

    // A chain, and a second way to its end.
    let defined = definitions(
        &["Messages"],
        &[("Mail", Some("Post")), ("Post", Some("Messages")), ("Letters", Some("Messages"))],
    );
    insta::allow_duplicates! {
        insta::assert_snapshot!(sync(&mut conn, &defined), @r#"
        Renaming tool: Letters -> Messages
        Merging tool: Mail -> Messages (1 grant moved, 0 already there)
        Merging tool: Post -> Messages (0 grants moved, 2 already there)
        Updating tool: Messages (route)
            route: "/letters" => "/messages"
        "#);
    }
    let state = State::read(&mut conn);
    assert_eq!(Vec::from_iter(state.tools), ["Messages"]);
    assert_eq!(Vec::from_iter(state.grants), names(&[("alice", "Messages"), ("bob", "Messages")]));
}

fn a_deleted_tool_goes_with_its_facts_and_nothing_else(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "alice");
    let (old, kept) =
        (fixture::tool(&mut conn, "Old Calculator"), fixture::tool(&mut conn, "Kept"));
    fixture::grant(&mut conn, user, old);
    fixture::everyone(&mut conn, old);
    fixture::exclude(&mut conn, user, old);
    fixture::grant(&mut conn, user, kept);

    let defined = definitions(&["Kept"], &[("Old Calculator", None)]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(sync(&mut conn, &defined), @"Deleting tool: Old Calculator (1 grant, 1 wildcard, 1 exclusion)");
    }
    let State { tools, grants, wildcards, exclusions } = State::read(&mut conn);
    assert_eq!(Vec::from_iter(tools), ["Kept"]);
    assert_eq!(Vec::from_iter(grants), names(&[("alice", "Kept")]));
    assert!(wildcards.is_empty() && exclusions.is_empty());
}

on_both_databases!(
    a_renamed_tool_keeps_its_row_and_all_that_is_known_about_it,
    a_merge_moves_what_is_missing_and_counts_it,
    a_merge_keeps_the_reason_that_only_the_old_exclusion_had,
    a_merge_appends_every_change_and_keeps_the_old_history,
    a_reason_that_a_merge_brings_is_noted_once,
    a_new_tool_inherits_no_history_from_a_deleted_one,
    a_tool_without_facts_goes_without_a_run,
    what_was_merged_into_a_tool_that_is_merged_belongs_to_the_last_one,
    several_old_names_of_one_tool_become_one,
    a_deleted_tool_goes_with_its_facts_and_nothing_else,
);
