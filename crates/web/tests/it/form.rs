use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};

use crate::running::{Answer, PASSWORD, Running, admin, user};

fn started() -> (TestDatabase, Running) {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    user(&db, "alice");
    let app = Running::start(&db);
    (db, app)
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.body.contains("This form is no longer valid"), "{}", answer.body);
    assert!(answer.cookies().is_empty());
}

fn a_form_with_a_nul_or_a_long_search_is_refused_and_no_error_of_the_app(db: TestDatabase) {
    let root = admin(&db, "root").to_string();
    user(&db, "alice");
    let tool = fixture::tool(&mut db.connection(), "Invoice Generator").to_string();
    let app = Running::start(&db);
    let visitor = app.visitor();
    for (username, password) in [("\0", "x"), ("alice\0", PASSWORD), ("alice", "\0")] {
        assert_eq!(visitor.log_in(username, password).status, 400, "{username:?}");
    }
    let in_app = app.log_in("root");
    let long = "x".repeat(201);
    let change = [("tool", &*tool), ("wish", "exclude")];
    for more in [
        [("users", "alice\0"), ("reason", "")],
        [("users", "alice"), ("reason", "\0")],
        // On SQLite, the pattern of this search would end before it, and match everybody.
        [("scope", "matching"), ("q", "\0")],
        [("scope", "matching"), ("q", &long)],
    ] {
        let answer = in_app.send("/admin/access/change", &[&change[..], &more].concat());
        assert_eq!(answer.status, 400, "{more:?}");
        assert!(!answer.has("plan"), "{}", answer.body);
    }
    let phone = [("action", "phone-number"), ("value", "\0")];
    assert_eq!(in_app.send(&format!("/admin/users/{root}/change"), &phone).status, 400);
    assert_eq!(in_app.send("/admin/users/new", &[("username", "bob\0")]).status, 400);
    assert_eq!(app.visitor().get("/health").json()["server_errors"], 0);
}

on_both_databases!(a_form_with_a_nul_or_a_long_search_is_refused_and_no_error_of_the_app);

#[test]
fn a_login_without_a_token_of_ones_own_is_refused() {
    let (_db, app) = started();
    let fields = |token| [("form_token", token), ("username", "alice"), ("password", PASSWORD)];
    let (visitor, other) = (app.visitor(), app.visitor());
    let token = visitor.get("/login").form_token().to_owned();
    let others = other.get("/login").form_token().to_owned();
    assert_refused(&visitor.post("/login", &fields("")));
    assert_refused(&visitor.post("/login", &fields(&others)));
    assert_refused(&visitor.post("/login", &fields(&token)[1..]));
    assert_refused(&app.visitor().post("/login", &fields(&token)));
    assert_eq!(visitor.post("/login", &fields(&token)).status, 303);
}

#[test]
fn another_site_can_neither_log_in_nor_log_out() {
    let (_db, app) = started();
    let alice = app.log_in("alice");
    let token = alice.get("/dashboard").form_token().to_owned();
    let fields = [("form_token", &*token)];
    for headers in [
        [("origin", "http://evil.example")],
        [("origin", "null")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
    ] {
        assert_refused(&alice.post_with("/logout", &fields, &headers));
    }
    assert_refused(&alice.post("/logout", &[]));
    assert_refused(&alice.post("/logout", &[("form_token", "0")]));
    assert_eq!(alice.get("/dashboard").status, 200);
    let own = [("origin", &*alice.base), ("sec-fetch-site", "same-origin")];
    assert_eq!(alice.post_with("/logout", &fields, &own).status, 303);
    assert_eq!(alice.get("/dashboard").status, 303);
}

#[test]
fn a_link_cannot_log_out() {
    let (_db, app) = started();
    let alice = app.log_in("alice");
    assert_eq!(alice.get("/logout").status, 405);
    assert_eq!(alice.get("/dashboard").status, 200);
}

#[test]
fn a_body_that_is_too_large_or_no_form_is_refused() {
    let (_db, app) = started();
    let visitor = app.visitor();
    let token = visitor.get("/login").form_token().to_owned();
    let long = "x".repeat(100_000);
    let fields = [("form_token", &*token), ("username", &long), ("password", "x")];
    assert_eq!(visitor.post("/login", &fields).status, 413);

    let json = ureq::post(format!("{}/login", visitor.base))
        .config()
        .http_status_as_error(false)
        .build()
        .send_json(serde_json::json!({"username": "alice"}))
        .unwrap();
    assert_eq!(json.status(), 415);
}
