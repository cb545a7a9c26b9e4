//! What the modes do to a target.

use std::{cell::RefCell, collections::BTreeSet};

use diesel::prelude::*;
use omnitool_database::schema::{tool_access, tool_access_event, tool_access_run, users};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{TestDatabase, on_both_databases};
use omnitool_tool_access::{
    Approval, Fact, FactKind, ImportError, ImportPlan, ImportRequest, Mode, OverwriteProduction,
    RemovalLimit, Replacement, Shown, UnknownUsers, may_use_by_name, plan_import, run_import,
};
use tempfile::NamedTempFile;

use crate::world::{
    LOCAL, exclusion, exported, facts, file, grant, import, people, put, request, wildcard,
};

const USERS: [&str; 3] = ["alice", "bob", "user_a"];
const TOOLS: [&str; 2] = ["Email Templates", "Invoice Generator"];

/// The export of a database with these facts about [`USERS`] and [`TOOLS`].
fn export_of(db: &TestDatabase, facts: impl IntoIterator<Item = Fact>) -> NamedTempFile {
    let source = TestDatabase::migrated(db.dialect());
    let mut conn = source.connection();
    people(&mut conn, &USERS, &TOOLS);
    put(&mut conn, facts);
    file(exported(&mut conn))
}

/// A plan's text without what differs from run to run.
fn text(plan: &ImportPlan) -> String {
    plan.text(Shown::Everything).replace(&plan.source.display().to_string(), "FILE")
}

fn a_merge_shuts_the_excluded_user_out_without_removing_anything(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice", "bob", "user_a", "only_here"], &TOOLS);
    put(
        &mut conn,
        [
            grant("user_a", "Invoice Generator"),
            grant("bob", "Email Templates"),
            grant("only_here", "Email Templates"),
            exclusion("bob", "Invoice Generator"),
        ],
    );
    let before = facts(&mut conn);
    let file = export_of(
        &db,
        [
            wildcard("Invoice Generator"),
            exclusion("user_a", "Invoice Generator"),
            grant("alice", "Email Templates"),
        ],
    );
    let plan = import(&mut conn, &ImportRequest::merge(file.path())).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&plan), @r"
        merge of FILE (from local) into local
          read      1 grant, 1 wildcard, 1 exclusion
          added     1 grant, 1 wildcard, 1 exclusion
            + Invoice Generator: user_a excluded
            + Invoice Generator: everyone
            + Email Templates: alice granted
          present   0 facts
          skipped   0 facts
          refused   0 facts
          1 grant without effect here, since the file excludes the user
          2 contradictions: the target has what the file, which speaks for it, has not
            Invoice Generator: bob excluded
              to remove it: import-tool-access --env local --source FILE --mode sync --fact exclusion --tool 'Invoice Generator' --user bob --confirm
            Email Templates: bob granted
              to remove it: import-tool-access --env local --source FILE --mode sync --fact grant --tool 'Email Templates' --user bob --confirm
            to keep them: export-tool-access --env local
        ");
        insta::assert_snapshot!(plan.summary(), @"added 1 grant, 1 wildcard, 1 exclusion; 2 contradictions");
    }
    assert!(facts(&mut conn).is_superset(&before));
    assert!(!may_use_by_name(&mut conn, "user_a", "Invoice Generator").unwrap());
    assert!(may_use_by_name(&mut conn, "only_here", "Invoice Generator").unwrap());
    let again = import(&mut conn, &ImportRequest::merge(file.path())).unwrap();
    assert!(again.is_empty());
    insta::allow_duplicates! {
        insta::assert_snapshot!(again.summary(), @"nothing to do: 3 facts already present; 2 contradictions");
    }
}

fn a_sync_makes_the_scope_equal_and_leaves_the_rest(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice", "bob", "user_a", "only_here"], &TOOLS);
    people(&mut conn, &[], &["Only Here"]);
    let outside = [
        grant("only_here", "Email Templates"),
        exclusion("only_here", "Invoice Generator"),
        grant("alice", "Only Here"),
        wildcard("Only Here"),
    ];
    let against = [
        wildcard("Email Templates"),
        grant("bob", "Email Templates"),
        exclusion("bob", "Invoice Generator"),
        grant("user_a", "Invoice Generator"),
    ];
    put(&mut conn, outside.clone());
    put(&mut conn, against);
    let wanted = [
        wildcard("Invoice Generator"),
        exclusion("user_a", "Invoice Generator"),
        grant("alice", "Email Templates"),
    ];
    let file = export_of(&db, wanted.clone());
    let plan = import(&mut conn, &request(file.path(), Mode::Sync)).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&plan), @r"
        sync of FILE (from local) into local
          read      1 grant, 1 wildcard, 1 exclusion
          added     1 grant, 1 wildcard, 1 exclusion
            + Invoice Generator: user_a excluded
            + Invoice Generator: everyone
            + Email Templates: alice granted
          present   0 facts
          skipped   0 facts
          refused   0 facts
          removed   2 grants, 1 wildcard, 1 exclusion
            - Invoice Generator: bob excluded
            - Email Templates: everyone
            - Email Templates: bob granted
            - Invoice Generator: user_a granted
        ");
    }
    let expected: BTreeSet<Fact> = outside.into_iter().chain(wanted).collect();
    assert_eq!(facts(&mut conn), expected);
    assert!(import(&mut conn, &request(file.path(), Mode::Sync)).unwrap().is_empty());
}

fn a_narrowed_sync_settles_one_contradiction(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &USERS, &TOOLS);
    put(
        &mut conn,
        [
            grant("alice", "Invoice Generator"),
            grant("bob", "Invoice Generator"),
            grant("alice", "Email Templates"),
        ],
    );
    let file = export_of(&db, []);
    let (users, tools) = (["alice".to_owned()], ["Invoice Generator".to_owned()]);
    let narrowed = ImportRequest {
        only_users: &users,
        only_tools: &tools,
        ..request(file.path(), Mode::Sync)
    };
    let plan = import(&mut conn, &narrowed).unwrap();
    assert_eq!(plan.removed.total(), 1);
    let left = [grant("alice", "Email Templates"), grant("bob", "Invoice Generator")];
    assert_eq!(facts(&mut conn), BTreeSet::from(left));
    let nobody = ["nobody".to_owned()];
    let error = import(&mut conn, &ImportRequest { only_users: &nobody, ..narrowed }).unwrap_err();
    assert!(matches!(error, ImportError::UnknownFilter { what: "user", .. }));
}

fn closing_a_tool_to_everyone_lifts_no_exclusion(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &USERS, &TOOLS);
    put(&mut conn, [wildcard("Invoice Generator"), exclusion("user_a", "Invoice Generator")]);
    let file = export_of(&db, []);
    let merged = import(&mut conn, &request(file.path(), Mode::Merge)).unwrap();
    assert!(merged.contradictions.iter().all(|c| c.command.contains(" --fact ")), "{merged:?}");
    let tools = ["Invoice Generator".to_owned()];
    let narrowed = ImportRequest {
        only_tools: &tools,
        only_kind: Some(FactKind::Wildcard),
        ..request(file.path(), Mode::Sync)
    };
    let done = import(&mut conn, &narrowed).unwrap();
    assert_eq!((done.removed.wildcards, done.removed.total()), (1, 1));
    assert_eq!(facts(&mut conn), BTreeSet::from([exclusion("user_a", "Invoice Generator")]));
}

fn an_exclusion_of_an_unknown_user_is_not_lost_silently(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &USERS, &TOOLS);
    let all = [wildcard("Invoice Generator"), exclusion("user_a", "Invoice Generator")];
    let file = export_of(&db, all);
    let gone = users::table.filter(users::username.eq("user_a"));
    diesel::delete(gone).execute(&mut conn).unwrap();
    let plan = import(&mut conn, &request(file.path(), Mode::Merge)).unwrap();
    assert_eq!(plan.unknown_exclusions, [exclusion("user_a", "Invoice Generator")]);
    assert!(plan.summary().contains("1 exclusion of unknown users NOT imported"), "{plan:?}");
    assert!(plan.text(Shown::Some).contains("WARNING: 1 exclusion of users unknown here"));
}

fn an_overwrite_equals_the_file(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice", "bob", "user_a", "only_here"], &TOOLS);
    put(
        &mut conn,
        [
            grant("only_here", "Email Templates"),
            wildcard("Email Templates"),
            exclusion("bob", "Invoice Generator"),
            grant("alice", "Invoice Generator"),
        ],
    );
    let wanted = [grant("alice", "Invoice Generator"), exclusion("user_a", "Invoice Generator")];
    let file = export_of(&db, wanted.clone());
    let plan = import(&mut conn, &request(file.path(), Mode::Overwrite)).unwrap();
    assert_eq!((plan.added.total(), plan.removed.total(), plan.present), (1, 3, 1));
    assert_eq!(facts(&mut conn), BTreeSet::from(wanted));
}

fn production_is_not_overwritten_by_default(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &USERS, &TOOLS);
    put(&mut conn, [grant("alice", "Invoice Generator")]);
    let file = export_of(&db, []);
    let overwrite = request(file.path(), Mode::Overwrite);
    let production = EnvironmentName::Production;
    let approve = |_: &ImportPlan| Approval::Apply;
    let error = run_import(&mut conn, production, &overwrite, None, approve).unwrap_err();
    assert!(matches!(error, ImportError::Production));
    assert_eq!(facts(&mut conn).len(), 1);
    let allowed = ImportRequest { overwrite_production: OverwriteProduction::Allow, ..overwrite };
    let plan = run_import(&mut conn, production, &allowed, None, approve).unwrap();
    assert_eq!(plan.removed.total(), 1);
}

fn too_many_removals_are_refused(db: TestDatabase) {
    let mut conn = db.connection();
    let names: Vec<String> = (0..20).map(|number| format!("user_{number:02}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    people(&mut conn, &users, &["T"]);
    put(&mut conn, users.iter().map(|user| grant(user, "T")));
    let source = TestDatabase::migrated(db.dialect());
    let mut from = source.connection();
    people(&mut from, &users, &["T"]);
    put(&mut from, users.iter().take(9).map(|user| grant(user, "T")));
    let file = file(exported(&mut from));
    let sync = request(file.path(), Mode::Sync);
    let before = facts(&mut conn);
    let error = import(&mut conn, &sync).unwrap_err();
    insta::allow_duplicates! {
        insta::assert_snapshot!(error, @"this sync would remove 11 of the 20 facts that the target has in the file's scope, and at most 10 may be removed");
    }
    for removals in [RemovalLimit::Facts(10), RemovalLimit::Percent(54)] {
        let limited = ImportRequest { removals, ..request(file.path(), Mode::Sync) };
        assert!(import(&mut conn, &limited).is_err());
    }
    assert_eq!(facts(&mut conn), before);
    let allowed =
        ImportRequest { removals: RemovalLimit::Percent(55), ..request(file.path(), Mode::Sync) };
    assert_eq!(import(&mut conn, &allowed).unwrap().removed.grants, 11);
}

fn unknown_users_are_skipped_or_refused(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["bob"], &TOOLS);
    let file = export_of(
        &db,
        [
            grant("alice", "Invoice Generator"),
            exclusion("user_a", "Invoice Generator"),
            grant("bob", "Invoice Generator"),
        ],
    );
    let strict =
        ImportRequest { unknown_users: UnknownUsers::Refuse, ..ImportRequest::merge(file.path()) };
    let error = import(&mut conn, &strict).unwrap_err();
    assert!(matches!(error, ImportError::UnknownUsers { count: 2, .. }));
    assert!(facts(&mut conn).is_empty());
    let plan = import(&mut conn, &ImportRequest::merge(file.path())).unwrap();
    assert_eq!((plan.added.total(), plan.skipped.unknown_users), (1, 2));
    assert_eq!(plan.unknown_users, ["alice", "user_a"]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&plan), @r"
        merge of FILE (from local) into local
          read      2 grants, 1 exclusion
          added     1 grant
            + Invoice Generator: bob granted
          present   0 facts
          skipped   2 facts
          refused   0 facts
          2 users unknown here
            alice
            user_a
          WARNING: 1 exclusion of users unknown here; nothing keeps them out once they exist
            Invoice Generator: user_a excluded
            after creating them, and before they log in, import this file again
        ");
    }
}

fn older_names_of_tools_are_resolved(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &USERS, &["Email Templates", "Invoice Generator"]);
    let source = TestDatabase::migrated(db.dialect());
    let mut from = source.connection();
    people(&mut from, &USERS, &["Email Templates management", "Old Calculator", "Email Templates"]);
    put(
        &mut from,
        [
            grant("alice", "Email Templates management"),
            grant("alice", "Email Templates"),
            grant("bob", "Old Calculator"),
            wildcard("Old Calculator"),
        ],
    );
    let file = file(exported(&mut from));
    let error = import(&mut conn, &ImportRequest::merge(file.path())).unwrap_err();
    insta::allow_duplicates! {
        insta::assert_snapshot!(
            error.to_string().replace(&file.path().display().to_string(), "FILE"), @"FILE, line 18, names tools that the target does not have: `Email Templates management`, `Old Calculator`"
        );
    }
    let replacement = |name: &str| match name {
        "Email Templates management" => Some(Replacement::RenamedTo("Email Templates".to_owned())),
        "Old Calculator" => Some(Replacement::Deleted),
        _ => None,
    };
    let resolving =
        ImportRequest { replacement: &replacement, ..ImportRequest::merge(file.path()) };
    let plan = import(&mut conn, &resolving).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&plan), @r"
        merge of FILE (from local) into local
          tool `Email Templates management` is now `Email Templates`
          tool `Old Calculator` is deleted: its facts are skipped
          read      3 grants, 1 wildcard
          added     1 grant
            + Email Templates: alice granted
          present   1 fact
          skipped   2 facts
          refused   0 facts
        ");
    }
    assert_eq!(facts(&mut conn), BTreeSet::from([grant("alice", "Email Templates")]));
}

fn a_refused_plan_changes_nothing(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &USERS, &TOOLS);
    let file = export_of(&db, [grant("alice", "Invoice Generator")]);
    let merge = ImportRequest::merge(file.path());
    let error = run_import(&mut conn, LOCAL, &merge, None, |_| Approval::Stop).unwrap_err();
    assert!(matches!(error, ImportError::NotApproved));
    assert!(facts(&mut conn).is_empty());
    assert_eq!(tool_access_run::table.count().get_result(&mut conn), Ok(0_i64));
}

fn what_a_file_says_begins_no_line_and_acts_on_no_terminal(db: TestDatabase) {
    const EVIL: &str = "x\n::error::\u{1b}[31m\u{202e}'";
    let mut conn = db.connection();
    people(&mut conn, &["bob", EVIL], &[EVIL]);
    put(&mut conn, [grant(EVIL, EVIL)]);
    let text_of = |tool: &str| {
        let tool =
            serde_json::json!({ tool: { "granted": ["bob"], "excluded": ["ghost\n::stop"] } });
        let users = serde_json::json!([EVIL, "bob", "ghost\n::stop"]);
        format!(
            r#"{{"format":"omnitool.tool-access","version":1,"environment":"local","users":{users},"tools":{tool}}}"#
        )
    };
    let file = crate::world::file(text_of(EVIL));
    let plan = import(&mut conn, &ImportRequest::merge(file.path())).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&plan), @r"
        merge of FILE (from local) into local
          read      1 grant, 1 exclusion
          added     1 grant
            + x\n::error::\u{1b}[31m\u{202e}': bob granted
          present   0 facts
          skipped   1 fact
          refused   0 facts
          1 user unknown here
            ghost\n::stop
          WARNING: 1 exclusion of users unknown here; nothing keeps them out once they exist
            x\n::error::\u{1b}[31m\u{202e}': ghost\n::stop excluded
            after creating them, and before they log in, import this file again
          1 contradiction: the target has what the file, which speaks for it, has not
            x\n::error::\u{1b}[31m\u{202e}': x\n::error::\u{1b}[31m\u{202e}' granted
              to remove it: import-tool-access --env local --source FILE --mode sync --fact grant --tool $'x\x0a::error::\x1b[31m\u202e\'' --user $'x\x0a::error::\x1b[31m\u202e\'' --confirm
            to keep them: export-tool-access --env local
        ");
    }
    let unknown = crate::world::file(text_of("no\n::error::\u{1b}"));
    let error = import(&mut conn, &ImportRequest::merge(unknown.path())).unwrap_err().to_string();
    assert!(error.ends_with(r"`no\n::error::\u{1b}`"), "{error}");
}

/// The second waits for the first and then finds what it left.
fn two_imports_at_the_same_time_both_succeed(db: TestDatabase) {
    people(&mut db.connection(), &USERS, &TOOLS);
    let first = export_of(&db, [grant("alice", "Invoice Generator"), wildcard("Email Templates")]);
    let second = export_of(&db, [grant("bob", "Invoice Generator"), wildcard("Email Templates")]);
    std::thread::scope(|scope| {
        let runs = [&first, &second].map(|file| {
            scope
                .spawn(|| import(&mut db.connection(), &ImportRequest::merge(file.path())).unwrap())
        });
        let added: u64 = runs.into_iter().map(|run| run.join().unwrap().added.total()).sum();
        assert_eq!(added, 3);
    });
    let mut conn = db.connection();
    assert_eq!(facts(&mut conn).len(), 3);
    // With removals, the result is one of the two orders.
    let only_alice = export_of(&db, [grant("alice", "Invoice Generator")]);
    let only_bob = export_of(&db, [grant("bob", "Invoice Generator")]);
    std::thread::scope(|scope| {
        for file in [&only_alice, &only_bob] {
            scope.spawn(|| {
                import(&mut db.connection(), &request(file.path(), Mode::Overwrite)).unwrap();
            });
        }
    });
    let result = facts(&mut conn);
    assert!(
        result == BTreeSet::from([grant("alice", "Invoice Generator")])
            || result == BTreeSet::from([grant("bob", "Invoice Generator")]),
        "{result:?}"
    );
}

fn every_changed_fact_is_in_the_history_once(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &USERS, &TOOLS);
    put(&mut conn, [grant("bob", "Email Templates"), wildcard("Email Templates")]);
    let file = export_of(
        &db,
        [grant("alice", "Email Templates"), exclusion("user_a", "Invoice Generator")],
    );
    for _ in 0..2 {
        let run_id = Some("run-9".to_owned());
        let sync = request(file.path(), Mode::Sync);
        run_import(&mut conn, LOCAL, &sync, run_id, |_| Approval::Apply).unwrap();
    }
    let changes: Vec<String> = tool_access_event::table
        .order(tool_access_event::change)
        .select(tool_access_event::change)
        .load(&mut conn)
        .unwrap();
    assert_eq!(changes, ["exclude", "grant", "revoke", "revoke-everyone"]);
    let runs: Vec<(String, Option<String>, bool)> = tool_access_run::table
        .select((
            tool_access_run::program,
            tool_access_run::run_id,
            tool_access_run::file_sha256.is_not_null(),
        ))
        .load(&mut conn)
        .unwrap();
    assert_eq!(runs, [("import-tool-access".to_owned(), Some("run-9".to_owned()), true)]);
}

/// Many rows go another way than few on PostgreSQL: their foreign keys are checked once.
fn a_large_import_keeps_the_foreign_keys(db: TestDatabase) {
    use omnitool_testing::Dialect;
    let mut conn = db.connection();
    diesel::sql_query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000) \
         INSERT INTO users (username, password_hash) SELECT 'user_' || i, '!' FROM n",
    )
    .execute(&mut conn)
    .unwrap();
    people(&mut conn, &[], &TOOLS);
    diesel::sql_query(
        "INSERT INTO tool_access (user_id, tool_id, origin) \
         SELECT users.id, tools.id, 'admin' FROM users CROSS JOIN tools",
    )
    .execute(&mut conn)
    .unwrap();
    let file = file(exported(&mut conn));
    diesel::sql_query("DELETE FROM tool_access").execute(&mut conn).unwrap();
    let said = RefCell::new(String::new());
    let merge = ImportRequest::merge(file.path());
    let plan = run_import(&mut conn, LOCAL, &merge, None, |plan| {
        *said.borrow_mut() = text(plan);
        Approval::Apply
    })
    .unwrap();
    assert_eq!(plan.added.grants, 12_000);
    assert_eq!(said.borrow().contains("checked once"), db.dialect() == Dialect::Postgres);
    let orphan = diesel::sql_query(
        "INSERT INTO tool_access (user_id, tool_id, origin) VALUES (999999999, 1, 'admin')",
    )
    .execute(&mut conn);
    assert!(orphan.is_err());
    // Deleting a user still takes the grants along.
    diesel::sql_query("DELETE FROM users WHERE username = 'user_7'").execute(&mut conn).unwrap();
    assert_eq!(omnitool_tool_access::count(&mut conn).unwrap().grants, 11_998);
    let plan = plan_import(&mut conn, LOCAL, &merge).unwrap();
    assert_eq!((plan.added.total(), plan.skipped.unknown_users), (0, 2));
}

/// A first import goes another way on PostgreSQL: some thousand users and 62 tools at a time.
fn a_first_import_of_many_users_and_tools_is_exact_and_in_the_history(db: TestDatabase) {
    let mut conn = db.connection();
    for statement in [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2200) \
         INSERT INTO users (username, password_hash) SELECT 'user_' || i, '!' FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
         INSERT INTO tools (name, route) SELECT 'Tool ' || i, '/tool_' || i FROM n",
        "INSERT INTO tool_access (user_id, tool_id, origin) SELECT users.id, tools.id, 'admin' \
         FROM users CROSS JOIN tools WHERE (users.id * 7 + tools.id) % 50 = 0",
    ] {
        diesel::sql_query(statement).execute(&mut conn).unwrap();
    }
    let before = exported(&mut conn);
    let file = file(&before);
    diesel::sql_query("DELETE FROM tool_access").execute(&mut conn).unwrap();
    let merge = ImportRequest::merge(file.path());
    let plan = run_import(&mut conn, LOCAL, &merge, None, |_| Approval::Apply).unwrap();
    assert_eq!(plan.added.grants, 11_000);
    assert_eq!(exported(&mut conn), before);
    let origins: Vec<String> =
        tool_access::table.select(tool_access::origin).distinct().load(&mut conn).unwrap();
    assert_eq!(origins, ["import"]);
    let key = (tool_access::user_id, tool_access::tool_id);
    let facts: Vec<(i64, i64)> = tool_access::table.order(key).select(key).load(&mut conn).unwrap();
    let key = (tool_access_event::user_id, tool_access_event::tool_id);
    let events: Vec<(i64, i64)> = tool_access_event::table
        .filter(tool_access_event::change.eq("grant"))
        .order(key)
        .select(key)
        .load(&mut conn)
        .unwrap();
    assert_eq!(facts, events);
}

on_both_databases!(
    a_merge_shuts_the_excluded_user_out_without_removing_anything,
    a_sync_makes_the_scope_equal_and_leaves_the_rest,
    a_narrowed_sync_settles_one_contradiction,
    closing_a_tool_to_everyone_lifts_no_exclusion,
    an_exclusion_of_an_unknown_user_is_not_lost_silently,
    an_overwrite_equals_the_file,
    production_is_not_overwritten_by_default,
    too_many_removals_are_refused,
    unknown_users_are_skipped_or_refused,
    older_names_of_tools_are_resolved,
    a_refused_plan_changes_nothing,
    what_a_file_says_begins_no_line_and_acts_on_no_terminal,
    two_imports_at_the_same_time_both_succeed,
    every_changed_fact_is_in_the_history_once,
    a_large_import_keeps_the_foreign_keys,
    a_first_import_of_many_users_and_tools_is_exact_and_in_the_history,
);
