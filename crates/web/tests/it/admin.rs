use std::thread;

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::{
    schema::{tool_access_event, tools, user_event, users},
    write_transaction,
};
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};

use crate::running::{PASSWORD, Running, admin, user, wait_for_locks};

/// The newest entries of the history of users: author, change, what was there before.
fn events(db: &TestDatabase, of: i64) -> Vec<(String, String, Option<String>)> {
    user_event::table
        .filter(user_event::user_id.eq(of))
        .order(user_event::id.desc())
        .select((user_event::author, user_event::change, user_event::previous))
        .load(&mut db.connection())
        .unwrap()
}

fn is_active_admin(db: &TestDatabase, id: i64) -> bool {
    let query = users::table.find(id).select((users::is_active, users::is_admin));
    query.first(&mut db.connection()).map(|(active, admin): (bool, bool)| active && admin).unwrap()
}

fn nobody_but_an_admin_gets_in(db: TestDatabase) {
    let alice = user(&db, "alice");
    let root = admin(&db, "root");
    let tool = fixture::tool(&mut db.connection(), "Invoice Generator").to_string();
    let app = Running::start(&db);
    let (visitor, alice_in, root_in) = (app.visitor(), app.log_in("alice"), app.log_in("root"));
    let pages = [
        "/admin/users".to_owned(),
        "/admin/users/new".to_owned(),
        format!("/admin/users/{alice}"),
        "/admin/tools".to_owned(),
        format!("/admin/tools/{tool}"),
        "/admin/access".to_owned(),
        "/admin/access/explain?user=alice&tool=Invoice%20Generator".to_owned(),
        "/admin/access/export".to_owned(),
        "/admin/history".to_owned(),
        "/admin/deployments".to_owned(),
    ];
    for page in &pages {
        assert_eq!(visitor.get(page).status, 303, "{page}");
        let refused = alice_in.get(page);
        assert_eq!(refused.status, 403, "{page}");
        assert!(!refused.body.contains("Invoice"), "{page}");
        assert_eq!(root_in.get(page).status, 200, "{page}");
    }
    assert!(!alice_in.get("/dashboard").body.contains("/admin/"));
    let make = [("username", "mallory"), ("confirmed", "yes")];
    let grant = [("tool", &*tool), ("wish", "grant"), ("users", "alice"), ("fingerprint", "x")];
    let demote = [("action", "remove-admin"), ("fingerprint", "x")];
    let target = format!("/admin/users/{root}/change");
    for (path, fields) in [
        ("/admin/users/new", &make[..]),
        ("/admin/access/change", &grant),
        (&target, &demote),
        ("/admin/history/1/undo", &[]),
    ] {
        assert_eq!(alice_in.send(path, fields).status, 403, "{path}");
        assert_eq!(root_in.post(path, fields).status, 403, "{path}: without the form's token");
    }
    assert!(is_active_admin(&db, root));
    let number: i64 = users::table.count().get_result(&mut db.connection()).unwrap();
    assert_eq!(number, 2);
}

fn a_user_is_shown_then_made_and_can_log_in(db: TestDatabase) {
    admin(&db, "root");
    let app = Running::start(&db);
    let root = app.log_in("root");
    let fields = [("username", "carol"), ("email", "carol@example.com"), ("admin", "yes")];
    let shown = root.send("/admin/users/new", &fields);
    assert_eq!(shown.status, 200);
    assert!(shown.text("plan").contains("carol@example.com"), "{}", shown.body);
    let count = || users::table.count().get_result::<i64>(&mut db.connection()).unwrap();
    assert_eq!(count(), 1);
    let made =
        root.send("/admin/users/new", &[fields[0], fields[1], fields[2], ("confirmed", "yes")]);
    assert_eq!((made.status, made.header("cache-control")), (200, Some("no-store")));
    let password = made.text("password");
    assert_eq!(app.visitor().log_in("carol", &password).status, 303);
    let carol: i64 = users::table
        .filter(users::is_admin)
        .select(users::id)
        .order(users::id.desc())
        .first(&mut db.connection())
        .unwrap();
    assert_eq!(events(&db, carol), [("root".to_owned(), "create".to_owned(), None)]);

    let page = root.get(&format!("/admin/users/{carol}"));
    assert!(page.body.contains("aria-label=\"Undo: made, carol\""), "{}", page.body);
    let path = format!("/admin/users/{carol}/change");
    let (_, undone) = root.change(&path, &[("action", "deactivate"), ("value", "")]);
    assert_eq!(undone.status, 303);
    assert_eq!(app.visitor().log_in("carol", &password).status, 401);

    let again = root.send("/admin/users/new", &[("username", "carol"), ("confirmed", "yes")]);
    assert_eq!(again.status, 422);
    assert!(again.body.contains("There already is a user `carol`."), "{}", again.body);
    let wrong = root.send("/admin/users/new", &[("username", "dave"), ("email", "nobody")]);
    assert!(wrong.body.contains("is no e-mail address") && wrong.body.contains("value=\"dave\""));
    assert_eq!(count(), 2);
}

fn what_is_done_to_users_is_shown_noted_and_undone(db: TestDatabase) {
    admin(&db, "root");
    let alice = user(&db, "alice");
    let app = Running::start(&db);
    let (root, alice_in) = (app.log_in("root"), app.log_in("alice"));
    let path = format!("/admin/users/{alice}/change");
    let act = |action: &str, value: &str, shown: &str| {
        let (plan, answer) = root.change(&path, &[("action", action), ("value", value)]);
        assert!(plan.text("plan").contains(shown), "{}", plan.body);
        answer
    };
    assert_eq!(act("deactivate", "", "logged out everywhere").status, 303);
    assert_eq!(alice_in.get("/dashboard").status, 303, "the session has ended");
    assert_eq!(app.visitor().log_in("alice", PASSWORD).status, 401);
    assert_eq!(act("activate", "", "log in again").status, 303);
    assert_eq!(alice_in.get("/dashboard").status, 303, "and does not come back");
    let alice_in = app.log_in("alice");

    assert_eq!(act("make-admin", "", "change users").status, 303);
    assert_eq!(alice_in.get("/admin/users").status, 200);
    assert_eq!(act("remove-admin", "", "no longer").status, 303);
    assert_eq!(alice_in.get("/admin/users").status, 403);

    assert_eq!(act("phone-number", "+41 44 123", "none becomes +41 44 123").status, 303);
    assert_eq!(act("phone-number", "", "+41 44 123 becomes none").status, 303);
    let page = root.get(&format!("/admin/users/{alice}"));
    assert!(page.body.contains("aria-label=\"Undo: telephone number changed, alice\""));
    assert!(page.body.contains("name=\"value\" value=\"+41 44 123\""), "{}", page.body);
    let wrong = root.send(&path, &[("action", "phone-number"), ("value", "call me")]);
    assert!(wrong.body.contains("This is no telephone number"), "{}", wrong.body);

    let answer = act("reset-password", "", "cannot be undone");
    assert_eq!(answer.status, 200);
    assert_eq!(alice_in.get("/dashboard").status, 303, "the session has ended");
    assert_eq!(app.visitor().log_in("alice", PASSWORD).status, 401);
    assert_eq!(app.visitor().log_in("alice", &answer.text("password")).status, 303);

    let changes: Vec<String> =
        events(&db, alice).into_iter().map(|(_, change, _)| change).collect();
    assert_eq!(
        changes,
        [
            "reset-password",
            "phone-number",
            "phone-number",
            "remove-admin",
            "make-admin",
            "activate",
            "deactivate",
            "create"
        ]
    );
    assert!(events(&db, alice)[..7].iter().all(|(author, ..)| author == "root"));
    let all = root.get("/admin/history").body;
    assert!(all.contains("password reset") && !all.contains(&answer.text("password")), "{all}");
}

fn a_confirmed_reset_works_once(db: TestDatabase) {
    admin(&db, "root");
    let alice = user(&db, "alice");
    let app = Running::start(&db);
    let root = app.log_in("root");
    let path = format!("/admin/users/{alice}/change");
    let reset = ("action", "reset-password");
    let shown = root.send(&path, &[reset]);
    let fingerprint = shown.hidden("fingerprint");
    let done = root.send(&path, &[reset, ("fingerprint", fingerprint)]);
    assert_eq!(done.status, 200);
    let again = root.send(&path, &[reset, ("fingerprint", fingerprint)]);
    assert_eq!(again.status, 409);
    assert!(again.body.contains("meanwhile") && !again.has("password"), "{}", again.body);
    assert_eq!(app.visitor().log_in("alice", &done.text("password")).status, 303);
    let fresh = root.send(&path, &[reset, ("fingerprint", again.hidden("fingerprint"))]);
    assert_eq!(fresh.status, 200);
    assert_ne!(fresh.text("password"), done.text("password"));
}

fn the_last_active_admin_stays(db: TestDatabase) {
    let root = admin(&db, "root");
    user(&db, "alice");
    let app = Running::start(&db);
    let in_app = app.log_in("root");
    let path = format!("/admin/users/{root}/change");
    for action in ["deactivate", "remove-admin"] {
        let answer = in_app.send(&path, &[("action", action)]);
        assert_eq!(answer.status, 409);
        assert!(answer.body.contains("The last active admin stays"), "{}", answer.body);
    }
    assert!(is_active_admin(&db, root));
}

fn two_admins_who_remove_each_other_at_once_leave_one(db: TestDatabase) {
    let ids = [admin(&db, "ann"), admin(&db, "ben")];
    let app = Running::start(&db);
    let admins = [app.log_in("ann"), app.log_in("ben")];
    for (round, action) in ["remove-admin", "deactivate", "remove-admin"].into_iter().enumerate() {
        let steps: Vec<_> = [0, 1]
            .map(|at| {
                let path = format!("/admin/users/{}/change", ids[1 - at]);
                let shown = admins[at].send(&path, &[("action", action)]);
                (path, shown.hidden("fingerprint").to_owned())
            })
            .into();
        let tokens = [0, 1].map(|at| admins[at].get("/account").form_token().to_owned());
        let (admins, steps, tokens) = (&admins, &steps, &tokens);
        let statuses: Vec<u16> = thread::scope(|scope| {
            let threads = [0, 1].map(|at| {
                scope.spawn(move || {
                    let (path, fingerprint) = &steps[at];
                    let fields = [
                        ("form_token", &*tokens[at]),
                        ("action", action),
                        ("fingerprint", fingerprint),
                    ];
                    admins[at].post(path, &fields).status
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let left: Vec<bool> = ids.iter().map(|id| is_active_admin(&db, *id)).collect();
        assert_eq!(left.iter().filter(|left| **left).count(), 1, "{round}: {statuses:?} {left:?}");
        let both = users::table.filter(users::id.eq_any(ids));
        diesel::update(both)
            .set((users::is_active.eq(true), users::is_admin.eq(true)))
            .execute(&mut db.connection())
            .unwrap();
        if action == "deactivate" {
            break;
        }
    }
}

fn a_query_that_cannot_be_read_is_refused_and_no_error_of_the_app(db: TestDatabase) {
    admin(&db, "root");
    let app = Running::start(&db);
    let root = app.log_in("root");
    let long = format!("q={}", "x".repeat(60_000));
    for page in ["/admin/users", "/admin/access"] {
        // Without the filter, the page would be about everybody.
        for query in ["q=root&show=Active", "q=root&q=x", "q=%00", "after=%00", &long] {
            let answer = root.get(&format!("{page}?{query}"));
            assert_eq!(answer.status, 400, "{page}: {}", &query[..query.len().min(20)]);
            assert!(!answer.has("count"), "{}", answer.body);
        }
        assert_eq!(root.get(&format!("{page}?q={}", "x".repeat(200))).status, 200);
    }
    for query in ["from=%00", "against=%00", "explain?user=%00&tool=x", "explain?user=x&tool=%00"] {
        let page = if query.starts_with("explain") { "/admin/access/" } else { "/admin/access?" };
        assert_eq!(root.get(&format!("{page}{query}")).status, 400, "{query}");
    }
    assert_eq!(app.visitor().get("/health").json()["server_errors"], 0);
}

fn what_an_admin_asked_for_is_not_done_after_the_admin_was_demoted(db: TestDatabase) {
    let root = admin(&db, "root");
    admin(&db, "other");
    let alice = user(&db, "alice");
    let conn = &mut db.connection();
    let tool = fixture::tool(conn, "Profile");
    // New users are granted it, which waits for whoever changes grants.
    diesel::update(tools::table.find(tool)).set(tools::is_default.eq(true)).execute(conn).unwrap();
    let app = Running::start(&db);
    let (root_in, id) = (app.log_in("root"), tool.to_string());
    let grant = [("tool", &*id), ("wish", "grant"), ("users", "alice")];
    let (_, done) = root_in.change("/admin/access/change", &grant);
    let undo = done.location().unwrap().split('?').next().unwrap().to_owned() + "/undo";
    let events = |conn: &mut _| tool_access_event::table.count().get_result::<i64>(conn).unwrap();
    assert_eq!(events(conn), 1);

    let deactivate = format!("/admin/users/{alice}/change");
    let steps = [
        ("/admin/access/change", vec![("tool", &*id), ("wish", "everyone")]),
        (&*undo, vec![]),
        (&*deactivate, vec![("action", "deactivate")]),
    ];
    let token = root_in.get("/account").form_token().to_owned();
    let mut posts: Vec<(&str, Vec<(&str, String)>)> = steps
        .into_iter()
        .map(|(path, fields)| {
            let fingerprint = root_in.send(path, &fields).hidden("fingerprint").to_owned();
            let mut all: Vec<_> =
                fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
            all.push(("fingerprint", fingerprint));
            (path, all)
        })
        .collect();
    let mallory = [("username", "mallory"), ("confirmed", "yes")];
    let mallory = mallory.map(|(name, value)| (name, value.to_owned())).to_vec();
    posts.push(("/admin/users/new", mallory));

    let post = |path: &str, fields: &[(&str, String)]| {
        let mut all = vec![("form_token", &*token)];
        all.extend(fields.iter().map(|(name, value)| (*name, &**value)));
        root_in.post(path, &all).status
    };
    let statuses: Vec<u16> = thread::scope(|scope| {
        let threads = write_transaction(conn, |conn| {
            let demoted = users::table.find(root);
            diesel::update(demoted).set(users::is_admin.eq(false)).execute(conn)?;
            if db.dialect() == Dialect::Postgres {
                conn.batch_execute("LOCK TABLE tool_access IN SHARE ROW EXCLUSIVE MODE")?;
            }
            let threads: Vec<_> =
                posts.iter().map(|(path, fields)| scope.spawn(|| post(path, fields))).collect();
            wait_for_locks(&db, 4);
            QueryResult::Ok(threads)
        });
        threads.unwrap().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses, [403; 4]);
    assert_eq!(events(conn), 1);
    let (number, active): (i64, i64) = (
        users::table.count().get_result(conn).unwrap(),
        users::table.filter(users::is_active).count().get_result(conn).unwrap(),
    );
    assert_eq!((number, active), (3, 3));
}

on_both_databases!(
    a_query_that_cannot_be_read_is_refused_and_no_error_of_the_app,
    what_an_admin_asked_for_is_not_done_after_the_admin_was_demoted,
    nobody_but_an_admin_gets_in,
    a_user_is_shown_then_made_and_can_log_in,
    what_is_done_to_users_is_shown_noted_and_undone,
    a_confirmed_reset_works_once,
    the_last_active_admin_stays,
    two_admins_who_remove_each_other_at_once_leave_one,
);

#[test]
fn long_lists_come_in_pages() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    admin(&db, "root");
    let conn = &mut db.connection();
    for number in 0..60 {
        fixture::user(conn, &format!("user_{number:03}"));
    }
    let app = Running::start(&db);
    let root = app.log_in("root");
    let first = root.get("/admin/users");
    assert_eq!(first.text("count"), "61 users");
    assert!(first.body.contains("user_048") && !first.body.contains("user_049"));
    assert!(first.body.contains("after=user_048"), "{}", first.body);
    let second = root.get("/admin/users?after=user_048");
    assert!(second.body.contains("user_049") && !second.has("next"), "{}", second.body);
}
