//! Why, and why not.

use diesel::connection::SimpleConnection as _;
use omnitool_testing::{TestDatabase, on_both_databases};
use omnitool_tool_access::{
    Author, ExplainError, ImportRequest, exclude, explain, grant, grant_everyone, include,
};

use crate::world::{self, exported, file, import, people, put, tool_id, user_id};

/// The text with times and digests that differ from run to run replaced.
fn text(conn: &mut omnitool_database::AnyConnection, user: &str, tool: &str) -> String {
    let explanation = explain(conn, user, tool).unwrap();
    let mut text = explanation.to_string();
    let sources = [&explanation.grant, &explanation.wildcard, &explanation.exclusion];
    let times = sources.into_iter().flatten().map(|fact| fact.since);
    let times = times.chain(explanation.deleted.iter().map(|deleted| deleted.at));
    for time in times.chain(explanation.history.iter().map(|entry| entry.at)) {
        text = text.replace(&time.format("%Y-%m-%d %H:%M:%S").to_string(), "TIME");
    }
    for digest in explanation.history.iter().filter_map(|entry| entry.file_sha256.as_deref()) {
        text = text.replace(&digest[..12], "DIGEST");
    }
    text
}

fn the_deciding_fact_and_the_history_are_shown(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice", "user_a"], &["Invoice Generator"]);
    let tool = tool_id(&mut conn, "Invoice Generator");
    let user_a = user_id(&mut conn, "user_a");
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&mut conn, "alice", "Invoice Generator"), @r"
        alice may not use Invoice Generator: there is neither a grant for the user nor one for everyone
          grant      none
          wildcard   none
          exclusion  none
        No changes are recorded.
        ");
    }
    let admin = Author::admin("admin");
    let _ = grant_everyone(&mut conn, tool, &admin).unwrap();
    let _ = exclude(&mut conn, user_a, tool, Some("left the team"), &admin).unwrap();
    let _ = include(&mut conn, user_a, tool, &admin).unwrap();
    let run = Author::admin("admin").run_id(Some("run-7".to_owned()));
    let _ = exclude(&mut conn, user_a, tool, Some("really"), &run).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&mut conn, "user_a", "Invoice Generator"), @r"
        user_a may not use Invoice Generator: the user is excluded, and an exclusion wins over everything
          grant      none
          wildcard   since TIME UTC, by admin
          exclusion  since TIME UTC, by admin: really
        History, newest first:
          TIME UTC  exclude          omnitool, admin admin, run run-7
          TIME UTC  include          omnitool, admin admin
          TIME UTC  exclude          omnitool, admin admin
          TIME UTC  grant-everyone   omnitool, admin admin
        ");
    }
    assert!(explain(&mut conn, "alice", "Invoice Generator").unwrap().may_use);
}

fn an_import_is_in_the_history_with_its_file(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice"], &["Invoice Generator"]);
    let source = TestDatabase::migrated(db.dialect());
    let mut from = source.connection();
    people(&mut from, &["alice"], &["Invoice Generator"]);
    put(&mut from, [world::grant("alice", "Invoice Generator")]);
    let file = file(exported(&mut from));
    import(&mut conn, &ImportRequest::merge(file.path())).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&mut conn, "alice", "Invoice Generator"), @r"
        alice may use Invoice Generator: the user has a grant
          grant      since TIME UTC, by import
          wildcard   none
          exclusion  none
        History, newest first:
          TIME UTC  grant            import-tool-access, file sha256 DIGEST
        ");
    }
}

fn a_tool_that_is_gone_keeps_its_history(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice"], &["Old", "New"]);
    let alice = user_id(&mut conn, "alice");
    let [old, new] = ["Old", "New"].map(|name| tool_id(&mut conn, name));
    let _ = grant(&mut conn, alice, old, &Author::admin("admin")).unwrap();
    // As a synchronization of the tools does it.
    conn.batch_execute(&format!(
        "INSERT INTO deleted_tool (id, name, merged_into) VALUES (-1, 'Old', {new}); \
         UPDATE tool_access_event SET tool_id = -1; DELETE FROM tools WHERE id = {old}"
    ))
    .unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&mut conn, "alice", "Old"), @r"
        alice may not use Old: the tool is gone
          grant      none
          wildcard   none
          exclusion  none
          deleted    TIME UTC, merged into New
        History, newest first:
          TIME UTC  grant            omnitool, admin admin
        ");
        insta::assert_snapshot!(text(&mut conn, "alice", "New"), @r"
        alice may not use New: there is neither a grant for the user nor one for everyone
          grant      none
          wildcard   none
          exclusion  none
        History, newest first:
          TIME UTC  grant            omnitool, admin admin, of Old
        ");
    }
    conn.batch_execute("UPDATE deleted_tool SET merged_into = NULL").unwrap();
    let gone = explain(&mut conn, "alice", "Old").unwrap();
    assert_eq!(gone.deleted.unwrap().merged_into, None);
    assert!(explain(&mut conn, "alice", "New").unwrap().history.is_empty());
}

fn unknown_names_are_said_to_be_unknown(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice"], &[]);
    let error = explain(&mut conn, "bob", "X").unwrap_err();
    assert!(matches!(error, ExplainError::UnknownUser { user } if user == "bob"));
    let error = explain(&mut conn, "alice", "X").unwrap_err();
    assert!(matches!(error, ExplainError::UnknownTool { tool } if tool == "X"));
}

on_both_databases!(
    the_deciding_fact_and_the_history_are_shown,
    an_import_is_in_the_history_with_its_file,
    a_tool_that_is_gone_keeps_its_history,
    unknown_names_are_said_to_be_unknown,
);
