use diesel::prelude::*;
use omnitool_database::schema::{tools, users};
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};
use omnitool_tool_registry::RESERVED_ROUTES;

use crate::running::{Running, user};

/// The guide's scenario: everyone has Invoice Generator except `user_a`; alice alone has Email Templates.
fn scenario(db: &TestDatabase) {
    let (alice, user_a) = (user(db, "alice"), user(db, "user_a"));
    let conn = &mut db.connection();
    let invoices = fixture::tool(conn, "Invoice Generator");
    fixture::everyone(conn, invoices);
    fixture::exclude(conn, user_a, invoices);
    let templates = fixture::tool(conn, "Email Templates");
    fixture::grant(conn, alice, templates);
    let retired = fixture::tool(conn, "Old Calculator");
    fixture::everyone(conn, retired);
    diesel::update(tools::table.find(retired))
        .set(tools::is_active.eq(false))
        .execute(conn)
        .unwrap();
}

fn everyone_sees_the_tools_that_they_may_use_and_no_others(db: TestDatabase) {
    scenario(&db);
    let app = Running::start(&db);
    let alice = app.log_in("alice").get("/dashboard").body;
    assert!(alice.contains("Invoice Generator") && alice.contains("Email Templates"), "{alice}");
    assert!(alice.contains("href=\"/invoice_generator\"") && alice.contains("2 tools"), "{alice}");
    assert!(!alice.contains("Old Calculator"), "{alice}");

    let user_a = app.log_in("user_a").get("/dashboard").body;
    assert!(user_a.contains("You have no tools yet"), "{user_a}");
    for name in ["Invoice", "Email", "Calculator", "invoice_generator"] {
        assert!(!user_a.contains(name), "{user_a}");
    }
}

fn a_tools_page_is_there_for_its_users_only(db: TestDatabase) {
    scenario(&db);
    let app = Running::start(&db);
    let (alice, user_a, nobody) = (app.log_in("alice"), app.log_in("user_a"), app.visitor());
    let page = alice.get("/invoice_generator");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("<h1>Invoice Generator</h1>"), "{}", page.body);

    let refused = user_a.get("/invoice_generator");
    assert_eq!(refused.status, 403);
    assert!(!refused.body.contains("Invoice"), "{}", refused.body);
    assert_eq!(alice.get("/old_calculator").status, 403);
    assert_eq!(alice.get("/no_such_tool").status, 404);

    let answer = nobody.get("/invoice_generator");
    assert_eq!(answer.location(), Some("/login?next=/invoice_generator"));
    assert_eq!(nobody.get("/no_such_tool").status, 404);
    assert_eq!(alice.post("/invoice_generator", &[]).status, 405);
}

/// The app remembers whom a session belonged to, and must not believe it.
fn what_changes_shows_in_the_next_dashboard(db: TestDatabase) {
    scenario(&db);
    let app = Running::start(&db);
    let browser = app.log_in("alice");
    let page = || browser.get("/dashboard");
    let mut conn = db.connection();
    let mut change = |statement: &str| {
        diesel::sql_query(statement).execute(&mut conn).unwrap();
    };
    let alice = users::table.filter(users::username.eq("alice"));
    let alice: i64 = alice.select(users::id).first(&mut db.connection()).unwrap();
    assert!(page().body.contains("2 tools"));
    assert!(page().body.contains("2 tools"));

    change(&format!("UPDATE users SET is_admin = true WHERE id = {alice}"));
    assert!(page().body.contains("alice (admin)"));
    change(&format!("UPDATE users SET is_admin = false WHERE id = {alice}"));
    assert!(!page().body.contains("(admin)"));
    change(&format!("UPDATE users SET username = 'alice b' WHERE id = {alice}"));
    assert!(page().body.contains("alice b"));

    change(
        "UPDATE tools SET name = 'Bills', description = 'Write bills' WHERE name = 'Invoice Generator'",
    );
    let body = page().body;
    assert!(body.contains("Bills") && body.contains("Write bills"), "{body}");
    change(&format!(
        "INSERT INTO tool_access_exclusion (user_id, tool_id, origin) \
         SELECT {alice}, id, 'admin' FROM tools WHERE name = 'Bills'"
    ));
    let body = page().body;
    assert!(body.contains("1 tool<") && !body.contains("Bills"), "{body}");
    change("DELETE FROM tool_access");
    assert!(page().body.contains("You have no tools yet"));
    change("DELETE FROM tool_access_exclusion");
    assert!(page().body.contains("Bills"));

    change(&format!("UPDATE users SET is_active = false WHERE id = {alice}"));
    assert_eq!(page().location(), Some("/login?next=/dashboard"));
    change(&format!("UPDATE users SET is_active = true WHERE id = {alice}"));
    assert!(page().body.contains("Bills"));
    change("UPDATE user_session SET expires_at = '2000-01-01 00:00:00'");
    assert_eq!(page().location(), Some("/login?next=/dashboard"));
}

on_both_databases!(
    everyone_sees_the_tools_that_they_may_use_and_no_others,
    what_changes_shows_in_the_next_dashboard,
    a_tools_page_is_there_for_its_users_only,
);

#[test]
fn the_search_works_without_script() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    scenario(&db);
    let app = Running::start(&db);
    let alice = app.log_in("alice");
    let found = alice.get("/dashboard?q=inVoice").body;
    assert!(found.contains("Invoice Generator") && !found.contains("Email Templates"), "{found}");
    assert!(found.contains("1 of 2 tools") && found.contains("value=\"inVoice\""), "{found}");
    let nothing = alice.get("/dashboard?q=%22%3E%3Cscript%3E").body;
    assert!(nothing.contains("0 of 2 tools") && !nothing.contains("<script>"), "{nothing}");
}

#[test]
fn a_retired_tools_route_serves_the_tool_that_has_it_now() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    scenario(&db);
    let conn = &mut db.connection();
    let new = fixture::tool(conn, "Calculator");
    fixture::everyone(conn, new);
    diesel::update(tools::table.find(new))
        .set(tools::route.eq("/old_calculator"))
        .execute(conn)
        .unwrap();
    let app = Running::start(&db);
    let page = app.log_in("alice").get("/old_calculator");
    assert!(page.body.contains("<h1>Calculator</h1>"), "{}", page.body);
}

#[test]
fn whoever_is_excluded_does_not_come_in_by_another_tool_at_the_route() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    scenario(&db);
    let conn = &mut db.connection();
    let bills = fixture::tool(conn, "Bill Maker");
    fixture::everyone(conn, bills);
    diesel::update(tools::table.find(bills))
        .set(tools::route.eq("/invoice_generator"))
        .execute(conn)
        .unwrap();
    let app = Running::start(&db);
    assert_eq!(app.log_in("alice").get("/invoice_generator").status, 200);
    assert_eq!(app.log_in("user_a").get("/invoice_generator").status, 403);
}

#[test]
fn no_tool_can_be_defined_where_the_app_has_a_page_of_its_own() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let app = Running::start(&db);
    let nobody = app.visitor();
    for route in RESERVED_ROUTES.into_iter().filter(|route| *route != "/static") {
        assert_ne!(nobody.get(route).status, 404, "{route}");
    }
    assert_eq!(nobody.get("/static/app.css").status, 200);
}
