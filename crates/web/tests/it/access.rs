use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::schema::{
    tool_access_event, tool_access_exclusion, tool_access_run, tools, users,
};
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};
use omnitool_tool_access::{may_use_by_name, users_of};

use crate::running::{Running, admin, user};

const CHANGE: &str = "/admin/access/change";

/// An admin, some users and a tool.
fn scenario(db: &TestDatabase) -> i64 {
    admin(db, "admin");
    user(db, "user_a");
    let conn = &mut db.connection();
    for name in ["alice", "bob", "carol"] {
        fixture::user(conn, name);
    }
    fixture::tool(conn, "Invoice Generator")
}

fn names(db: &TestDatabase, tool: i64) -> Vec<String> {
    users_of(&mut db.connection(), tool).unwrap().into_iter().map(|user| user.username).collect()
}

fn everyone_except_user_a_in_one_step(db: TestDatabase) {
    let tool = scenario(&db);
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let page = admin.get(&format!("/admin/tools/{tool}"));
    assert!(page.text("effective").starts_with("0 users"), "{}", page.body);
    let id = tool.to_string();
    let fields = [
        ("tool", &*id),
        ("wish", "everyone-except"),
        ("users", "user_a\r\n"),
        ("reason", "left the billing team"),
    ];
    let shown = admin.send(CHANGE, &fields);
    assert!(shown.text("everyone").starts_with("Everyone may use it"), "{}", shown.body);
    assert_eq!(shown.text("excluded"), "Excluded (1): user_a");
    assert_eq!(shown.text("gain"), "May use it from then on (4): admin, alice, bob, carol");
    assert!(!shown.has("lose"));
    assert!(names(&db, tool).is_empty(), "looking changes nothing");

    let (_, answer) = admin.change(CHANGE, &fields);
    let entry = answer.location().unwrap().to_owned();
    assert_eq!((answer.status, entry.starts_with("/admin/history/")), (303, true));
    assert_eq!(names(&db, tool), ["admin", "alice", "bob", "carol"]);
    let conn = &mut db.connection();
    let reasons: Vec<Option<String>> =
        tool_access_exclusion::table.select(tool_access_exclusion::reason).load(conn).unwrap();
    assert_eq!(reasons, [Some("left the billing team".to_owned())]);
    let runs: Vec<(String, Option<String>)> = tool_access_run::table
        .select((tool_access_run::program, tool_access_run::admin))
        .load(conn)
        .unwrap();
    assert_eq!(runs, [("omnitool".to_owned(), Some("admin".to_owned()))], "one entry for all");
    let history = admin.get(&entry);
    assert!(history.body.contains("Invoice Generator: for everyone"), "{}", history.body);
    assert!(history.body.contains("Invoice Generator: user_a excluded"), "{}", history.body);

    // The guide's step 4: user_a cannot see the tool.
    let user_a = app.log_in("user_a");
    assert!(!user_a.get("/dashboard").body.contains("Invoice"));
    assert_eq!(user_a.get("/invoice_generator").status, 403);

    let undo = entry.split('?').next().unwrap().to_owned() + "/undo";
    let (shown, answer) = admin.change(&undo, &[]);
    assert!(shown.text("lose").contains("(4): admin, alice, bob, carol"), "{}", shown.body);
    assert_eq!(shown.text("included"), "Exclusion lifted (1): user_a");
    assert_eq!(answer.status, 303);
    assert!(names(&db, tool).is_empty());
    let exclusions: i64 = tool_access_exclusion::table.count().get_result(conn).unwrap();
    assert_eq!(exclusions, 0);
    // And the way back from the way back.
    let undo = answer.location().unwrap().split('?').next().unwrap().to_owned() + "/undo";
    let (_, answer) = admin.change(&undo, &[("reason", "again")]);
    assert_eq!(answer.status, 303);
    assert_eq!(names(&db, tool), ["admin", "alice", "bob", "carol"]);
}

fn single_users_are_granted_excluded_included_and_revoked(db: TestDatabase) {
    let tool = scenario(&db);
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let id = tool.to_string();
    let alice = users::table.filter(users::username.eq("alice")).select(users::id);
    let alice: i64 = alice.first(&mut db.connection()).unwrap();
    let page = format!("/admin/users/{alice}");
    let wish = |wish: &str, shown: &str, access: &str| {
        let fields = [("tool", &*id), ("wish", wish), ("users", "alice"), ("reason", "why")];
        let (plan, answer) = admin.change(CHANGE, &fields);
        assert!(plan.body.contains(shown), "{wish}: {}", plan.body);
        assert_eq!(answer.status, 303, "{wish}");
        let page = admin.get(&page);
        assert!(page.body.contains(access), "{wish}: {}", page.body);
        let again = admin.send(CHANGE, &fields);
        assert!(again.text("plan").contains("Nothing to do"), "{wish}: {}", again.body);
    };
    wish("grant", "May use it from then on (1): alice", "yes: granted");
    wish("exclude", "May not use it any more (1): alice", "no: excluded");
    wish("include", "May use it from then on (1): alice", "yes: granted");
    wish("revoke", "May not use it any more (1): alice", ">no</a>");
    let events: Vec<String> = tool_access_event::table
        .filter(tool_access_event::user_id.eq(alice))
        .order(tool_access_event::run)
        .select(tool_access_event::change)
        .load(&mut db.connection())
        .unwrap();
    assert_eq!(events, ["grant", "exclude", "include", "revoke"]);
}

fn the_button_of_a_user_with_a_space_in_the_name_changes_nobody_else(db: TestDatabase) {
    let tool = scenario(&db);
    let carol_ = fixture::user(&mut db.connection(), "carol ");
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let page = admin.get(&format!("/admin/users/{carol_}"));
    let (id, user) = (tool.to_string(), page.hidden("user"));
    assert_eq!(user, "carol ");
    let shown = admin.send(CHANGE, &[("tool", &id), ("wish", "grant"), ("user", user)]);
    assert_eq!(shown.text("granted"), "Granted (1): carol ");
    let fields = ["tool", "wish", "scope", "users", "user", "fingerprint"];
    let fields = fields.map(|name| (name, shown.hidden(name)));
    assert_eq!(admin.send(CHANGE, &fields).status, 303);
    assert_eq!(names(&db, tool), ["carol "]);
    // Whoever types a list means no space.
    let fields = [("tool", &*id), ("wish", "grant"), ("users", "carol \n")];
    assert_eq!(admin.send(CHANGE, &fields).text("granted"), "Granted (1): carol");
}

fn a_search_decides_for_whom_a_change_is_made_at_once(db: TestDatabase) {
    let tool = scenario(&db);
    let conn = &mut db.connection();
    let inactive = fixture::user(conn, "user_b%");
    diesel::update(users::table.find(inactive))
        .set(users::is_active.eq(false))
        .execute(conn)
        .unwrap();
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let id = tool.to_string();
    let page = admin.get("/admin/users?q=USER_&show=all");
    assert_eq!(page.text("count"), "2 users");
    assert_eq!(admin.get("/admin/users?q=user_&show=active").text("count"), "1 user");
    assert_eq!(admin.get("/admin/users?q=%25").text("count"), "1 user", "no wildcard of SQL");

    let fields = |show| {
        [("tool", &*id), ("wish", "grant"), ("scope", "matching"), ("q", "user_"), ("show", show)]
    };
    let (shown, answer) = admin.change(CHANGE, &fields("all"));
    assert_eq!(shown.text("granted"), "Granted (2): user_a, user_b%");
    assert_eq!(shown.text("gain"), "May use it from then on (1): user_a");
    assert_eq!(answer.status, 303);
    assert_eq!(names(&db, tool), ["user_a"]);
    let fields =
        [("tool", &*id), ("wish", "grant"), ("scope", "matching"), ("q", ""), ("show", "all")];
    let (shown, _) = admin.change(CHANGE, &fields);
    assert_eq!(shown.text("already"), "Already so: 2");
    assert_eq!(names(&db, tool).len(), 5);
}

fn what_changed_meanwhile_is_shown_again_and_not_done(db: TestDatabase) {
    let tool = scenario(&db);
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let id = tool.to_string();
    let fields = [("tool", &*id), ("wish", "everyone")];
    let shown = admin.send(CHANGE, &fields);
    let fingerprint = shown.hidden("fingerprint").to_owned();
    fixture::user(&mut db.connection(), "dave");
    let late = admin.send(CHANGE, &[fields[0], fields[1], ("fingerprint", &fingerprint)]);
    assert_eq!(late.status, 409);
    assert!(late.body.contains("meanwhile") && late.body.contains("dave"), "{}", late.body);
    assert!(names(&db, tool).is_empty());
    let fingerprint = late.hidden("fingerprint").to_owned();
    let done = admin.send(CHANGE, &[fields[0], fields[1], ("fingerprint", &fingerprint)]);
    assert_eq!(done.status, 303);
    assert_eq!(names(&db, tool).len(), 6);
}

fn a_plan_is_shown_again_where_as_many_but_others_gain(db: TestDatabase) {
    let tool = scenario(&db);
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let id = tool.to_string();
    let wish = |wish, name| {
        let fields = [("tool", &*id), ("wish", wish), ("users", name)];
        assert_eq!(admin.change(CHANGE, &fields).1.status, 303, "{wish} {name}");
    };
    wish("exclude", "bob");
    let fields = [("tool", &*id), ("wish", "everyone")];
    let shown = admin.send(CHANGE, &fields);
    assert_eq!(shown.text("stay-excluded"), "Stay excluded, as before (1): bob");
    wish("include", "bob");
    wish("exclude", "carol");
    let fingerprint = shown.hidden("fingerprint");
    let late = admin.send(CHANGE, &[fields[0], fields[1], ("fingerprint", fingerprint)]);
    assert_eq!(late.status, 409);
    assert_eq!(late.text("stay-excluded"), "Stay excluded, as before (1): carol");
    assert!(names(&db, tool).is_empty());
}

fn a_mistyped_exception_lets_nobody_in(db: TestDatabase) {
    let tool = scenario(&db);
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let id = tool.to_string();
    let fields = [("tool", &*id), ("wish", "everyone-except"), ("users", "user_A\n<b>")];
    let answer = admin.send(CHANGE, &fields);
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains("user_A, &lt;b&gt;"), "{}", answer.body);
    assert!(names(&db, tool).is_empty());
    assert_eq!(admin.send(CHANGE, &[("tool", "999"), ("wish", "everyone")]).status, 404);
}

fn an_exception_without_a_name_lets_nobody_in(db: TestDatabase) {
    let tool = scenario(&db);
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let id = tool.to_string();
    for wish in ["grant", "everyone-except"] {
        let fields = [("tool", &*id), ("wish", wish), ("users", " \r\n\t")];
        let answer = admin.send(CHANGE, &fields);
        assert_eq!(answer.status, 409, "{wish}");
        assert!(answer.body.contains("Nobody is named"), "{wish}: {}", answer.body);
    }
    assert!(names(&db, tool).is_empty());
}

fn thousands_of_users_are_changed_and_changed_back_at_once(db: TestDatabase) {
    let tool = scenario(&db);
    let sql = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 5000) \
               INSERT INTO users (username, password_hash) SELECT 'many_' || n, '!' FROM number";
    db.connection().batch_execute(sql).unwrap();
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let id = tool.to_string();
    let fields = [("tool", &*id), ("wish", "grant"), ("scope", "matching"), ("q", "many_")];
    let (shown, answer) = admin.change(CHANGE, &fields);
    assert!(shown.text("gain").contains("(5000): many_") && shown.body.contains("and 4950 more"));
    assert_eq!(names(&db, tool).len(), 5000);
    let undo = answer.location().unwrap().split('?').next().unwrap().to_owned() + "/undo";
    let (shown, _) = admin.change(&undo, &[]);
    assert!(shown.text("lose").contains("(5000)"), "{}", shown.body);
    assert!(names(&db, tool).is_empty());
}

fn undoing_leaves_what_was_changed_again_later(db: TestDatabase) {
    let tool = scenario(&db);
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let id = tool.to_string();
    let wish = |wish, names, reason| {
        let fields = [("tool", &*id), ("wish", wish), ("users", names), ("reason", reason)];
        let (_, answer) = admin.change(CHANGE, &fields);
        answer.location().unwrap().split('?').next().unwrap().to_owned() + "/undo"
    };
    let undo = wish("everyone-except", "alice\nbob", "not trained");
    wish("include", "bob", "");
    let last = wish("exclude", "bob", "police investigation");

    let (shown, answer) = admin.change(&undo, &[]);
    assert_eq!(shown.text("kept"), "Changed again later, and left as it is (1): bob");
    assert_eq!(shown.text("included"), "Exclusion lifted (1): alice");
    assert!(shown.has("everyone") && !shown.has("kept-everyone"), "{}", shown.body);
    assert_eq!(answer.status, 303);
    let left: Vec<Option<String>> = tool_access_exclusion::table
        .select(tool_access_exclusion::reason)
        .load(&mut db.connection())
        .unwrap();
    assert_eq!(left, [Some("police investigation".to_owned())]);

    // By now all of it was changed again.
    let again = admin.send(&undo, &[]);
    assert!(again.text("plan").contains("changed again later"), "{}", again.body);
    // Another fact of the same user does not count.
    wish("grant", "bob", "");
    let (shown, _) = admin.change(&last, &[]);
    assert_eq!(shown.text("included"), "Exclusion lifted (1): bob");

    let undo = wish("everyone", "", "");
    wish("not-everyone", "", "");
    wish("everyone", "", "");
    let shown = admin.send(&undo, &[]);
    assert!(shown.text("plan").contains("changed again later"), "{}", shown.body);
}

fn a_program_is_not_undone_here(db: TestDatabase) {
    let tool = scenario(&db);
    let conn = &mut db.connection();
    let author = omnitool_tool_access::Author::program(
        "import-tool-access",
        omnitool_tool_access::Origin::Import,
    );
    let _ = omnitool_tool_access::grant_everyone(conn, tool, &author).unwrap();
    let app = Running::start(&db);
    let admin = app.log_in("admin");
    let run: i64 = tool_access_run::table.select(tool_access_run::id).first(conn).unwrap();
    let page = admin.get(&format!("/admin/history/{run}"));
    assert!(page.body.contains("A program did this") && !page.has("undo"), "{}", page.body);
    let answer = admin.send(&format!("/admin/history/{run}/undo"), &[]);
    assert_eq!(answer.status, 409);
    assert!(may_use_by_name(conn, "alice", "Invoice Generator").unwrap());
}

fn a_change_of_a_tool_that_is_gone_names_it(db: TestDatabase) {
    let tool = scenario(&db);
    let conn = &mut db.connection();
    let author = omnitool_tool_access::Author::admin("admin");
    let _ = omnitool_tool_access::grant_everyone(conn, tool, &author).unwrap();
    // As a synchronization of the tools does it.
    conn.batch_execute(&format!(
        "INSERT INTO deleted_tool (id, name) VALUES (-1, 'Invoice Generator'); \
         UPDATE tool_access_event SET tool_id = -1; DELETE FROM tools WHERE id = {tool}"
    ))
    .unwrap();
    let app = Running::start(&db);
    let run: i64 = tool_access_run::table.select(tool_access_run::id).first(conn).unwrap();
    let page = app.log_in("admin").get(&format!("/admin/history/{run}"));
    assert_eq!(page.text("events"), "Invoice Generator: for everyone");
}

on_both_databases!(
    everyone_except_user_a_in_one_step,
    single_users_are_granted_excluded_included_and_revoked,
    the_button_of_a_user_with_a_space_in_the_name_changes_nobody_else,
    a_search_decides_for_whom_a_change_is_made_at_once,
    what_changed_meanwhile_is_shown_again_and_not_done,
    a_plan_is_shown_again_where_as_many_but_others_gain,
    a_mistyped_exception_lets_nobody_in,
    an_exception_without_a_name_lets_nobody_in,
    thousands_of_users_are_changed_and_changed_back_at_once,
    undoing_leaves_what_was_changed_again_later,
    a_program_is_not_undone_here,
    a_change_of_a_tool_that_is_gone_names_it,
);

#[test]
fn deprecated_inactive_and_undefined_tools_are_shown_as_such() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    scenario(&db);
    let conn = &mut db.connection();
    for name in ["Email Templates", "Email Templates management", "Old Calculator"] {
        fixture::tool(conn, name);
    }
    let retired = fixture::tool(conn, "Time Tracking");
    diesel::update(tools::table.find(retired))
        .set(tools::is_active.eq(false))
        .execute(conn)
        .unwrap();
    fixture::tool(conn, "Homegrown");
    let definitions = Some(omnitool_tool_registry::Definitions::shipped().unwrap());
    let app =
        Running::with(omnitool_web::Settings { definitions, ..crate::running::settings(&db) });
    let admin = app.log_in("admin");
    let tools = admin.get("/admin/tools").text("tools");
    for text in [
        "Email Templates managementactive deprecated: now Email Templatesno",
        "Old Calculatoractive deprecated: will be deleted",
        "Homegrownactive not defined",
        "Time Trackingnot activeno",
    ] {
        assert!(tools.contains(text), "{text}: {tools}");
    }
    let page = admin.get(&format!("/admin/tools/{retired}"));
    assert!(page.body.contains("This tool is not active"), "{}", page.body);
}
