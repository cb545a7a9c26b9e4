use diesel::prelude::*;
use omnitool_database::{
    AnyConnection,
    schema::{tool_access_event, tool_access_run, tools, users},
};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_tool_access::{
    Author, ChangeAccessError, ChangeOutcome, Counts, Origin, count, exclude, grant,
    grant_defaults, grant_everyone, include, may_use, may_use_by_name, revoke, revoke_everyone,
    tools_for, tools_for_by_name, users_of, users_of_by_name,
};

fn admin() -> Author {
    Author::admin("admin").run_id(Some("run-1".to_owned()))
}

fn events(conn: &mut AnyConnection) -> Vec<(i64, String)> {
    tool_access_event::table
        .order(tool_access_event::run)
        .select((tool_access_event::user_id, tool_access_event::change))
        .load(conn)
        .unwrap()
}

fn an_exclusion_wins_over_grant_and_wildcard(db: TestDatabase) {
    let mut conn = db.connection();
    let alice = fixture::user(&mut conn, "alice");
    let tool = fixture::tool(&mut conn, "Invoice Generator");
    assert!(!may_use(&mut conn, alice, tool).unwrap());
    assert_eq!(grant(&mut conn, alice, tool, &admin()).unwrap(), ChangeOutcome::Changed);
    assert!(may_use_by_name(&mut conn, "alice", "Invoice Generator").unwrap());
    let _ = exclude(&mut conn, alice, tool, Some("moved"), &admin()).unwrap();
    let _ = grant_everyone(&mut conn, tool, &admin()).unwrap();
    assert!(!may_use(&mut conn, alice, tool).unwrap());
    // Granting again is no way around the exclusion.
    assert_eq!(grant(&mut conn, alice, tool, &admin()).unwrap(), ChangeOutcome::AlreadySo);
    assert!(!may_use(&mut conn, alice, tool).unwrap());
    let _ = include(&mut conn, alice, tool, &admin()).unwrap();
    let _ = revoke(&mut conn, alice, tool, &admin()).unwrap();
    // The wildcard is left.
    assert!(may_use(&mut conn, alice, tool).unwrap());
    let _ = revoke_everyone(&mut conn, tool, &admin()).unwrap();
    assert!(!may_use(&mut conn, alice, tool).unwrap());
    assert_eq!(count(&mut conn).unwrap(), Counts::default());
}

fn every_change_and_nothing_else_is_in_the_history(db: TestDatabase) {
    let mut conn = db.connection();
    let alice = fixture::user(&mut conn, "alice");
    let tool = fixture::tool(&mut conn, "Invoice Generator");
    for _ in 0..2 {
        let _ = grant(&mut conn, alice, tool, &admin()).unwrap();
        let _ = exclude(&mut conn, alice, tool, None, &admin()).unwrap();
        let _ = grant_everyone(&mut conn, tool, &admin()).unwrap();
    }
    for _ in 0..2 {
        let _ = include(&mut conn, alice, tool, &admin()).unwrap();
        let _ = revoke(&mut conn, alice, tool, &admin()).unwrap();
        let _ = revoke_everyone(&mut conn, tool, &admin()).unwrap();
    }
    let expected = [
        (alice, "grant"),
        (alice, "exclude"),
        (0, "grant-everyone"),
        (alice, "include"),
        (alice, "revoke"),
        (0, "revoke-everyone"),
    ];
    assert_eq!(events(&mut conn), expected.map(|(user, change)| (user, change.to_owned())));
    let run: (String, Option<String>, Option<String>) = tool_access_run::table
        .select((tool_access_run::program, tool_access_run::admin, tool_access_run::run_id))
        .first(&mut conn)
        .unwrap();
    assert_eq!(run, ("omnitool".into(), Some("admin".into()), Some("run-1".into())));
}

fn a_new_user_gets_the_active_defaults_and_the_history_says_so(db: TestDatabase) {
    let mut conn = db.connection();
    let alice = fixture::user(&mut conn, "alice");
    for (name, is_default, is_active) in
        [("B", true, true), ("A", true, true), ("Off", true, false), ("Other", false, true)]
    {
        let id = fixture::tool(&mut conn, name);
        diesel::update(tools::table.find(id))
            .set((tools::is_default.eq(is_default), tools::is_active.eq(is_active)))
            .execute(&mut conn)
            .unwrap();
    }
    let author = Author::program("omnitool", Origin::Default);
    assert_eq!(grant_defaults(&mut conn, alice, &author).unwrap(), ["A", "B"]);
    assert_eq!(events(&mut conn), [(alice, "grant".to_owned()), (alice, "grant".to_owned())]);
    assert_eq!(grant_defaults(&mut conn, alice, &author).unwrap(), Vec::<String>::new());
    assert_eq!(tool_access_run::table.count().get_result(&mut conn), Ok(1_i64));
    assert!(grant_defaults(&mut conn, alice + 1, &author).is_err());
}

fn an_unknown_user_or_tool_is_refused_and_leaves_no_trace(db: TestDatabase) {
    let mut conn = db.connection();
    let alice = fixture::user(&mut conn, "alice");
    let tool = fixture::tool(&mut conn, "Invoice Generator");
    assert!(matches!(
        grant(&mut conn, alice + 1, tool, &admin()),
        Err(ChangeAccessError::UnknownUser { .. })
    ));
    assert!(matches!(
        exclude(&mut conn, alice, tool + 1, None, &admin()),
        Err(ChangeAccessError::UnknownTool { .. })
    ));
    assert!(matches!(
        grant_everyone(&mut conn, tool + 1, &admin()),
        Err(ChangeAccessError::UnknownTool { .. })
    ));
    assert_eq!(tool_access_run::table.count().get_result(&mut conn), Ok(0_i64));
}

fn lists_are_effective_and_sorted(db: TestDatabase) {
    let mut conn = db.connection();
    for name in ["bob", "Zoe", "alice", "äda"] {
        fixture::user(&mut conn, name);
    }
    let gone = fixture::user(&mut conn, "gone");
    diesel::update(users::table.find(gone))
        .set(users::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();
    let invoices = fixture::tool(&mut conn, "Invoice Generator");
    let mails = fixture::tool(&mut conn, "Email Templates");
    let off = fixture::tool(&mut conn, "Archive");
    diesel::update(tools::table.find(off))
        .set(tools::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();
    for tool in [invoices, mails, off] {
        let _ = grant_everyone(&mut conn, tool, &admin()).unwrap();
    }
    let users: Vec<String> =
        users_of(&mut conn, invoices).unwrap().into_iter().map(|user| user.username).collect();
    assert_eq!(users, ["Zoe", "alice", "bob", "äda"]);
    assert_eq!(users_of_by_name(&mut conn, "Invoice Generator").unwrap().len(), 4);
    assert_eq!(users_of_by_name(&mut conn, "Archive").unwrap(), []);
    let tools: Vec<String> =
        tools_for_by_name(&mut conn, "bob").unwrap().into_iter().map(|tool| tool.name).collect();
    assert_eq!(tools, ["Email Templates", "Invoice Generator"]);
    assert_eq!(tools_for(&mut conn, gone).unwrap(), []);
    assert_eq!(tools_for_by_name(&mut conn, "nobody").unwrap(), []);
}

fn a_new_user_does_not_inherit_a_deleted_ones_history(db: TestDatabase) {
    let mut conn = db.connection();
    let tool = fixture::tool(&mut conn, "Invoice Generator");
    let old = fixture::user(&mut conn, "old");
    let _ = grant(&mut conn, old, tool, &admin()).unwrap();
    diesel::delete(users::table.find(old)).execute(&mut conn).unwrap();
    let new = fixture::user(&mut conn, "new");
    let inherited: i64 = tool_access_event::table
        .filter(tool_access_event::user_id.eq(new))
        .count()
        .get_result(&mut conn)
        .unwrap();
    assert_eq!(inherited, 0);
}

on_both_databases!(
    an_exclusion_wins_over_grant_and_wildcard,
    every_change_and_nothing_else_is_in_the_history,
    a_new_user_gets_the_active_defaults_and_the_history_says_so,
    an_unknown_user_or_tool_is_refused_and_leaves_no_trace,
    lists_are_effective_and_sorted,
    a_new_user_does_not_inherit_a_deleted_ones_history,
);
