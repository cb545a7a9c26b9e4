use std::thread;

use chrono::{TimeDelta, Utc};
use diesel::prelude::*;
use omnitool_database::{
    schema::{user_session, users},
    write_transaction,
};
use omnitool_testing::{Dialect, TestDatabase, on_both_databases};

use crate::running::{PASSWORD, Running, admin, user, wait_for_locks};

fn a_login_leads_to_the_dashboard_and_a_logout_ends_it(db: TestDatabase) {
    user(&db, "alice");
    let app = Running::start(&db);
    let alice = app.visitor();
    assert_eq!(alice.get("/dashboard").location(), Some("/login?next=/dashboard"));

    let answer = alice.log_in("alice", PASSWORD);
    assert_eq!((answer.status, answer.location()), (303, Some("/dashboard")));
    let dashboard = alice.get("/dashboard");
    assert_eq!(dashboard.status, 200);
    assert!(dashboard.body.contains("alice"));

    let answer = alice.post("/logout", &[("form_token", dashboard.form_token())]);
    assert_eq!((answer.status, answer.location()), (303, Some("/")));
    assert_eq!(alice.get("/dashboard").status, 303);
    let sessions: i64 = user_session::table.count().get_result(&mut db.connection()).unwrap();
    assert_eq!(sessions, 0);
}

fn whatever_is_wrong_the_answer_is_the_same(db: TestDatabase) {
    user(&db, "alice");
    user(&db, "gone");
    diesel::update(users::table.filter(users::username.eq("gone")))
        .set(users::is_active.eq(false))
        .execute(&mut db.connection())
        .unwrap();
    omnitool_testing::fixture::user(&mut db.connection(), "without_password");
    let app = Running::start(&db);
    let visitor = app.visitor();
    let answers = [
        ("alice", "a wrong password"),
        ("alice", ""),
        ("nobody", PASSWORD),
        ("gone", PASSWORD),
        ("without_password", "!"),
        ("Alice", PASSWORD),
    ]
    .map(|(username, password)| {
        let answer = visitor.log_in(username, password);
        assert!(answer.body.contains("The user name or the password is wrong."));
        assert!(answer.cookies().is_empty());
        (answer.status, answer.body.replace(&format!("value=\"{username}\""), "value"))
    });
    assert_eq!(answers[0].0, 401);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

fn each_login_begins_a_new_session_and_ends_the_one_before(db: TestDatabase) {
    user(&db, "alice");
    let app = Running::start(&db);
    let first = app.visitor();
    let page = first.get("/login");
    let fields = [("form_token", page.form_token()), ("username", "alice"), ("password", PASSWORD)];
    let cookie = |answer: &crate::running::Answer| {
        let cookies = answer.cookies();
        let session = cookies.iter().find(|cookie| cookie.contains("_session=")).unwrap();
        session.split(';').next().unwrap().to_owned()
    };
    let old = cookie(&first.post("/login", &fields));

    let again = first.get("/dashboard");
    let fields =
        [("form_token", again.form_token()), ("username", "alice"), ("password", PASSWORD)];
    let new = cookie(&first.post("/login", &fields));
    assert_ne!(old, new);
    let with = |cookie: &str| app.visitor().get_with("/dashboard", &[("cookie", cookie)]).status;
    assert_eq!((with(&old), with(&new)), (303, 200));

    let stored: Vec<String> =
        user_session::table.select(user_session::token_sha256).load(&mut db.connection()).unwrap();
    let token = new.split_once('=').unwrap().1;
    assert_eq!((stored.len(), stored[0].len(), token.len()), (1, 64, 64));
    assert_ne!(stored[0], token, "a copy of the table must open no session");
}

fn a_session_ends_with_its_time_and_with_its_user(db: TestDatabase) {
    user(&db, "alice");
    user(&db, "bob");
    let app = Running::start(&db);
    let (alice, bob) = (app.log_in("alice"), app.log_in("bob"));
    let conn = &mut db.connection();
    diesel::update(users::table.filter(users::username.eq("alice")))
        .set(users::is_active.eq(false))
        .execute(conn)
        .unwrap();
    assert_eq!((alice.get("/dashboard").status, bob.get("/dashboard").status), (303, 200));

    let past = chrono::Utc::now().naive_utc() - chrono::TimeDelta::seconds(1);
    diesel::update(user_session::table)
        .set(user_session::expires_at.eq(past))
        .execute(conn)
        .unwrap();
    assert_eq!(bob.get("/dashboard").status, 303);
    // The next login clears up.
    app.log_in("bob");
    let sessions: i64 = user_session::table.count().get_result(conn).unwrap();
    assert_eq!(sessions, 1);
}

fn a_login_under_way_while_the_password_is_reset_is_refused(db: TestDatabase) {
    let alice = user(&db, "alice");
    let app = Running::start(&db);
    let visitor = app.visitor();
    let conn = &mut db.connection();
    let login = write_transaction(conn, |conn| {
        diesel::update(users::table.find(alice)).set(users::password_hash.eq("!")).execute(conn)?;
        let login = thread::spawn(move || visitor.log_in("alice", PASSWORD).status);
        wait_for_locks(&db, 1);
        QueryResult::Ok(login)
    });
    assert_eq!(login.unwrap().join().unwrap(), 401);
    let sessions: i64 = user_session::table.count().get_result(conn).unwrap();
    assert_eq!(sessions, 0);
}

fn a_reset_ends_also_the_session_that_a_login_is_just_opening(db: TestDatabase) {
    admin(&db, "root");
    let alice = user(&db, "alice");
    let app = Running::start(&db);
    let root = app.log_in("root");
    let path = format!("/admin/users/{alice}/change");
    let conn = &mut db.connection();
    // As a login does it, which has locked the user and not yet committed its session.
    let reset = write_transaction(conn, |conn| {
        let lock = format!("UPDATE users SET is_active = is_active WHERE id = {alice}");
        diesel::sql_query(lock).execute(conn)?;
        diesel::insert_into(user_session::table)
            .values((
                user_session::token_sha256.eq("0".repeat(64)),
                user_session::user_id.eq(alice),
                user_session::expires_at.eq(Utc::now().naive_utc() + TimeDelta::hours(1)),
            ))
            .execute(conn)?;
        let reset =
            thread::spawn(move || root.change(&path, &[("action", "reset-password")]).1.status);
        wait_for_locks(&db, 1);
        QueryResult::Ok(reset)
    });
    assert_eq!(reset.unwrap().join().unwrap(), 200);
    let of_alice = user_session::table.filter(user_session::user_id.eq(alice)).count();
    assert_eq!(of_alice.get_result::<i64>(conn).unwrap(), 0);
}

on_both_databases!(
    a_login_under_way_while_the_password_is_reset_is_refused,
    a_reset_ends_also_the_session_that_a_login_is_just_opening,
    a_login_leads_to_the_dashboard_and_a_logout_ends_it,
    whatever_is_wrong_the_answer_is_the_same,
    each_login_begins_a_new_session_and_ends_the_one_before,
    a_session_ends_with_its_time_and_with_its_user,
);

#[test]
fn a_login_leads_where_the_visitor_wanted_to_go_but_to_no_other_site() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    user(&db, "alice");
    let app = Running::start(&db);
    let page = app.visitor().get("/login?next=/dashboard%3Fq%3Dx");
    assert!(page.body.contains("name=\"next\" value=\"/dashboard?q=x\""), "{}", page.body);
    for (next, location) in [
        ("/dashboard?q=x", "/dashboard?q=x"),
        ("//evil.example", "/dashboard"),
        ("https://evil.example", "/dashboard"),
    ] {
        let answer = app.visitor().log_in_to("alice", PASSWORD, next);
        assert_eq!(answer.location(), Some(location));
    }
    let alice = app.log_in("alice");
    assert_eq!(alice.get("/login").location(), Some("/dashboard"));
}

#[test]
fn guessing_is_stopped_also_when_the_next_guess_is_right() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    user(&db, "alice");
    user(&db, "bob");
    let app = Running::start(&db);
    let guess = || assert_eq!(app.visitor().log_in("alice", "a wrong password").status, 401);
    // At once, since each is answered only after a while; that must not let more of them through either.
    std::thread::scope(|scope| (0..10).for_each(|_| drop(scope.spawn(guess))));
    let answer = app.visitor().log_in("alice", PASSWORD);
    assert_eq!(answer.status, 429);
    assert!(answer.body.contains("Too many attempts. Try again in"), "{}", answer.body);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&seconds));
    app.log_in("bob");
}
