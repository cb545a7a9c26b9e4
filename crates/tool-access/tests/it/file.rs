//! What is read, and what is refused with its line and column.

use omnitool_testing::{Dialect, TestDatabase, on_both_databases};
use omnitool_tool_access::{ImportError, ImportRequest, Mode};

use crate::world::{
    chain, exclusion, exported, facts, file, grant, import, people, request, wildcard,
};

const START: &str = "{\n\"format\": \"omnitool.tool-access\",\n\"version\": 1,\n";

/// What is said about a file, without its path.
fn refusal(text: impl AsRef<[u8]>) -> String {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let mut conn = db.connection();
    people(&mut conn, &["alice", "bob"], &["Invoice Generator"]);
    let file = file(text);
    let before = facts(&mut conn);
    let error = import(&mut conn, &ImportRequest::merge(file.path())).unwrap_err();
    assert_eq!(facts(&mut conn), before);
    let path = file.path().display().to_string();
    chain(&error).replace(&path, "FILE").replace("cannot read the export: ", "")
}

fn rest(text: &str) -> String {
    refusal(format!("{START}{text}"))
}

#[test]
fn a_malformed_file_is_refused_with_line_and_column() {
    insta::assert_snapshot!(refusal(""), @"FILE, line 1, column 0: the file ends here, in the middle: it is truncated");
    insta::assert_snapshot!(refusal("[]"), @r#"FILE, line 1, column 1: invalid type: sequence, expected an object with `"format": "omnitool.tool-access"`, or a flat list of grants"#);
    insta::assert_snapshot!(refusal("{}"), @"FILE, line 1, column 2: the key `format` is missing");
    insta::assert_snapshot!(refusal("{\"format\": \"else\"}"), @"FILE, line 1, column 17: the format is `else`, and this is not an export: expected `omnitool.tool-access`");
    insta::assert_snapshot!(refusal("{\"tools\": {}}"), @"FILE, line 1, column 9: the key `tools` must come after `format`");
    insta::assert_snapshot!(refusal("{\"format\": \"omnitool.tool-access\", \"version\": 2"), @"FILE, line 1, column 47: the file has version 2, and this build reads version 1");
    insta::assert_snapshot!(rest("\"environment\": \"moon\"}"), @"FILE, line 4, column 21: unknown environment `moon`; expected local, staging or production");
    insta::assert_snapshot!(rest("\"extra\": {\"a\": [1]}}"), @"FILE, line 4, column 8: unknown key `extra`; expected `format`, `version`, `environment`, `users` and `tools`, or those of a flat list: `version`, `environment`, `exported_at`, `total_grants` and `grants`");
    insta::assert_snapshot!(rest("\"version\": 1}"), @"FILE, line 4, column 10: the key `version` appears twice");
    insta::assert_snapshot!(rest("\"grants\": []}"), @"FILE, line 4, column 9: the key `grants` belongs to another format than the keys before it");
    insta::assert_snapshot!(rest("\"tools\": {}, \"users\": []}"), @"FILE, line 4, column 21: the key `tools` must come after `users`");
    insta::assert_snapshot!(rest("\"users\": []}"), @"FILE, line 4, column 12: the key `tools` is missing");
    insta::assert_snapshot!(rest("\"users\": [\n\"alice\",\n5]"), @"FILE, line 6, column 2: invalid type: integer `5`, expected a text");
    insta::assert_snapshot!(rest("\"users\": [\n\"\"]"), @"FILE, line 5, column 2: an empty name");
    insta::assert_snapshot!(rest("\"users\": [], \"tools\": {}} x"), @"FILE, line 4, column 27: trailing characters");
    insta::assert_snapshot!(rest("\"users\": [\n\"alice\",\n\"ali"), @"FILE, line 6, column 4: the file ends here, in the middle: it is truncated");
    insta::assert_snapshot!(rest("\"tools\": {\"Invoice Generator\": {\"everyone\": 1}}}"), @"FILE, line 4, column 46: invalid type: integer `1`, expected a boolean");
    insta::assert_snapshot!(rest("\"tools\": {\"Invoice Generator\": {\"allowed\": []}}}"), @"FILE, line 4, column 42: unknown key `allowed`; expected `everyone`, `excluded` or `granted`");
    insta::assert_snapshot!(
        rest("\"tools\": {\"Invoice Generator\": {\"granted\": [],\n\"granted\": []}}}"), @"FILE, line 5, column 10: the key `granted` appears twice"
    );
}

#[test]
fn a_contradictory_file_is_refused_with_both_lines() {
    insta::assert_snapshot!(rest("\"users\": [\n\"alice\",\n\"bob\",\n\"alice\"]"), @"FILE, line 7, column 7: `alice` is listed twice in `users`; the first time was on line 5");
    insta::assert_snapshot!(
        rest("\"users\": [\"alice\"],\n\"tools\": {\"Invoice Generator\": {\n\"granted\": [\n\"alice\",\n\"alice\"]}}}"),
        @"FILE, line 8, column 7: `alice` is listed twice in `granted` of `Invoice Generator`; the first time was on line 7"
    );
    insta::assert_snapshot!(
        rest("\"users\": [\"alice\"],\n\"tools\": {\"Invoice Generator\": {\n\"excluded\": [\n\"alice\"\n],\"granted\": [\n\"alice\"]}}}"),
        @"FILE, line 9, column 7: `alice` is both granted `Invoice Generator` and excluded from it; the first time was on line 7"
    );
    insta::assert_snapshot!(
        rest("\"users\": [],\n\"tools\": {\n\"Invoice Generator\": {},\n\"Invoice Generator\": {}}}"), @"FILE, line 7, column 20: the tool `Invoice Generator` appears twice; the first time was on line 6"
    );
    insta::assert_snapshot!(
        rest("\"users\": [\"alice\"],\n\"tools\": {\"Invoice Generator\": {\n\"granted\": [\n\"bob\"]}}}"), @"FILE, line 7, column 5: `bob` is not listed in `users`, so the file does not speak for this user"
    );
    insta::assert_snapshot!(
        rest("\"users\": [],\n\"tools\": {\n\"Invoice Generator\": {},\n\"Time Machine\": {},\n\"Oracle\": {}}}"), @"FILE, line 8, names tools that the target does not have: `Oracle`, `Time Machine`"
    );
}

#[test]
fn a_flat_list_is_refused_when_it_is_incomplete() {
    insta::assert_snapshot!(
        refusal("{\"total_grants\": 2, \"grants\": [{\"username\": \"alice\", \"tool_name\": \"Invoice Generator\"}]}"), @"FILE, line 1, column 88: `total_grants` says 2, but there are 1 grants: the file is incomplete or edited"
    );
    insta::assert_snapshot!(refusal("{\"total_grants\": 0}"), @"FILE, line 1, column 19: the key `grants` is missing");
    insta::assert_snapshot!(refusal("{\"grants\": [{\"username\": \"alice\"}]}"), @"FILE, line 1, column 33: the key `tool_name` is missing");
    insta::assert_snapshot!(refusal("{\"grants\": [{\"user\": \"alice\", \"role\": \"x\"}]}"), @"FILE, line 1, column 37: unknown key `role`; expected `username`, `user` or `email`, and `tool_name` or `tool`");
    insta::assert_snapshot!(refusal("{\"grants\": [{\"user\": \"alice\", \"email\": \"x\"}]}"), @"FILE, line 1, column 38: the key `email` appears twice");
}

#[test]
fn bytes_that_are_no_json_text_are_refused() {
    let mut text = format!("{START}\"users\": [\"al").into_bytes();
    text.extend(b"\xff\xfe\"]}");
    insta::assert_snapshot!(refusal(text), @"FILE, line 4, column 14: this is not UTF-8: save the file as UTF-8");
    insta::assert_snapshot!(refusal(b"\xff\xfe{\0}\0"), @"FILE, line 1, column 1: this is not UTF-8: save the file as UTF-8");
    insta::assert_snapshot!(refusal(vec![0; 4096]), @"FILE, line 1, column 1: expected value");
    let folder = tempfile::tempdir().unwrap();
    let db = TestDatabase::migrated(Dialect::Sqlite);
    for path in [folder.path().to_owned(), folder.path().join("none.json")] {
        let error = import(&mut db.connection(), &ImportRequest::merge(&path)).unwrap_err();
        assert!(matches!(error, ImportError::Read(_)));
    }
}

/// A reader that took these into memory would take gigabytes, or minutes.
#[test]
fn endless_texts_gaps_and_nesting_are_refused_at_once() {
    let started = std::time::Instant::now();
    let name = "x".repeat(50 << 20);
    insta::assert_snapshot!(rest(&format!("\"users\": [\n\"{name}\"]")), @"FILE, line 5, column 16386: there is a text of more than 16384 bytes, which no export has");
    let quotes = "\\\"".repeat(25 << 20);
    insta::assert_snapshot!(rest(&format!("\"users\": [\n\"{quotes}\"]")), @"FILE, line 5, column 16386: there is a text of more than 16384 bytes, which no export has");
    insta::assert_snapshot!(rest(&" ".repeat(50 << 20)), @"FILE, line 4, column 65533: there is a gap of more than 65536 bytes, which no export has");
    insta::assert_snapshot!(rest(&"[".repeat(50 << 20)), @"FILE, line 4, column 1: key must be a string");
    insta::assert_snapshot!(rest(&format!("\"users\": {}", "[".repeat(1000))), @"FILE, line 4, column 11: invalid type: sequence, expected a text");
    // Generous, as tests run unoptimised and many at once.
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

fn a_byte_order_mark_and_windows_line_ends_are_fine(db: TestDatabase) {
    let mut conn = db.connection();
    people(&mut conn, &["alice"], &["Invoice Generator"]);
    let text = format!(
        "\u{feff}{START}\"users\": [\"alice\"],\n\"tools\": {{\"Invoice Generator\": {{\"granted\": [\"alice\"]}}}}}}"
    );
    let file = file(text.replace('\n', "\r\n"));
    let plan = import(&mut conn, &ImportRequest::merge(file.path())).unwrap();
    assert_eq!(plan.added.grants, 1);
}

fn a_flat_list_of_an_older_system_is_read(db: TestDatabase) {
    use diesel::prelude::*;
    use omnitool_database::schema::users;
    let mut conn = db.connection();
    people(&mut conn, &["alice", "bob", "carl"], &["Invoice Generator", "Email Templates"]);
    diesel::update(users::table.filter(users::username.eq("carl")))
        .set(users::email.eq("carl@example.com"))
        .execute(&mut conn)
        .unwrap();
    let file = file(
        r#"{"version": 1, "environment": "dev", "exported_at": "2024-01-01T00:00:00", "total_grants": 6, "grants": [
        {"username": "bob", "tool_name": "Invoice Generator"},
        {"tool": "Email Templates", "user": "alice"},
        {"email": "carl@example.com", "tool": "Invoice Generator"},
        {"email": "nobody@example.com", "tool": "Invoice Generator"},
        {"username": "zoe", "tool_name": "Invoice Generator"},
        {"username": "bob", "tool_name": "Invoice Generator"}]}"#,
    );
    let plan = import(&mut conn, &ImportRequest::merge(file.path())).unwrap();
    assert_eq!((plan.read.grants, plan.added.grants, plan.present), (6, 3, 0));
    assert_eq!((plan.skipped.unknown_users, plan.skipped.duplicates), (2, 1));
    assert_eq!(plan.unknown_users, ["nobody@example.com", "zoe"]);
    let expected = [
        grant("alice", "Email Templates"),
        grant("bob", "Invoice Generator"),
        grant("carl", "Invoice Generator"),
    ];
    assert_eq!(facts(&mut conn).into_iter().collect::<Vec<_>>(), expected);
    // It has no scope, so it cannot say what should go; it can replace everything.
    let error = import(&mut conn, &request(file.path(), Mode::Sync)).unwrap_err();
    assert!(matches!(error, ImportError::NoScope { .. }));
    crate::world::put(&mut conn, [wildcard("Email Templates")]);
    let plan = import(&mut conn, &request(file.path(), Mode::Overwrite)).unwrap();
    assert_eq!(plan.removed.total(), 1);
    assert_eq!(facts(&mut conn).into_iter().collect::<Vec<_>>(), expected);
    // It cannot say that nobody is excluded any more.
    crate::world::put(&mut conn, [exclusion("bob", "Invoice Generator")]);
    let plan = import(&mut conn, &request(file.path(), Mode::Overwrite)).unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    assert!(facts(&mut conn).contains(&exclusion("bob", "Invoice Generator")));
}

#[test]
fn an_absent_key_is_not_an_empty_list() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let mut conn = db.connection();
    people(&mut conn, &["alice"], &["Invoice Generator"]);
    crate::world::put(&mut conn, [grant("alice", "Invoice Generator")]);
    let silent = file(format!(
        "{START}\"users\": [\"alice\"], \"tools\": {{\"Invoice Generator\": {{\"everyone\": false}}}}}}"
    ));
    let plan = import(&mut conn, &request(silent.path(), Mode::Sync)).unwrap();
    assert!(plan.is_empty());
    let error = import(&mut conn, &request(silent.path(), Mode::Overwrite)).unwrap_err();
    assert!(matches!(error, ImportError::NoScope { .. }));
    let empty = file(format!(
        "{START}\"users\": [\"alice\"], \"tools\": {{\"Invoice Generator\": {{\"granted\": []}}}}}}"
    ));
    let plan = import(&mut conn, &request(empty.path(), Mode::Sync)).unwrap();
    assert_eq!(plan.removed.grants, 1);
}

fn the_shipped_export_is_canonical(db: TestDatabase) {
    let mut conn = db.connection();
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../data/tool_access_exports/local_tool_access.json");
    let text = std::fs::read_to_string(&shipped).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for user in json["users"].as_array().unwrap() {
        people(&mut conn, &[user.as_str().unwrap()], &[]);
    }
    for tool in json["tools"].as_object().unwrap().keys() {
        people(&mut conn, &[], &[tool]);
    }
    let plan = import(&mut conn, &ImportRequest::merge(&shipped)).unwrap();
    assert_eq!(plan.unknown_user_count, 0);
    assert_eq!(exported(&mut conn), text);
}

on_both_databases!(
    a_byte_order_mark_and_windows_line_ends_are_fine,
    a_flat_list_of_an_older_system_is_read,
    the_shipped_export_is_canonical,
);
