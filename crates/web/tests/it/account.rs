use std::thread;

use diesel::prelude::*;
use omnitool_database::{
    AnyConnection,
    schema::{user_event, users},
    write_transaction,
};
use omnitool_testing::{TestDatabase, on_both_databases};

use crate::running::{PASSWORD, Running, Visitor, user, wait_for_locks};

const NEW: &str = "a much better password";

fn a_user_changes_the_password_and_all_other_sessions_end(db: TestDatabase) {
    user(&db, "alice");
    let app = Running::start(&db);
    let (here, elsewhere) = (app.log_in("alice"), app.log_in("alice"));
    let fields = |current, new, again| [("current", current), ("new", new), ("again", again)];
    for (fields, text) in [
        (fields("wrong password", NEW, NEW), "The current password is wrong."),
        (fields(PASSWORD, NEW, "another password"), "are not the same"),
        (fields(PASSWORD, "short", "short"), "at least 12 characters"),
    ] {
        let answer = here.send("/account/password", &fields);
        assert_eq!(answer.status, 422);
        assert!(answer.body.contains(text) && !answer.body.contains(NEW), "{}", answer.body);
    }
    assert_eq!(elsewhere.get("/dashboard").status, 200);

    let answer = here.send("/account/password", &fields(PASSWORD, NEW, NEW));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.text("notice").starts_with("Your password is changed"));
    assert_eq!(here.get("/dashboard").status, 200, "under a new session");
    assert_eq!(elsewhere.get("/dashboard").status, 303);
    assert_eq!(app.visitor().log_in("alice", PASSWORD).status, 401);
    assert_eq!(app.visitor().log_in("alice", NEW).status, 303);
    let (author, change): (String, String) = user_event::table
        .order(user_event::id.desc())
        .select((user_event::author, user_event::change))
        .first(&mut db.connection())
        .unwrap();
    assert_eq!((&*author, &*change), ("alice", "change-password"));
    assert_eq!(app.visitor().get("/account").location(), Some("/login?next=/account"));
}

/// Hashes of `PASSWORD`, made with Python's hashlib as Werkzeug makes them.
const WERKZEUG: [(&str, &str); 2] = [
    (
        "scrypt_user",
        "scrypt:32768:8:1$sBHvGpXmUxNjfSzQ$9b05c70f3dd8b5ccf84ba435cbe8d15fa89d36f2372b497916ab46143ccade34fab77b906cc86716fa6571a82179df5048d18009dc9aaff669ce93c05786762b",
    ),
    (
        "pbkdf2_user",
        "pbkdf2:sha256:260000$qYVw3jR0Zc5KtX2e$7fd308d8c589bc428b1d48f764eb2f5eceb5a700dd28632884263e24309a7dfa",
    ),
];

fn users_of_the_python_system_log_in_and_get_a_hash_of_today(db: TestDatabase) {
    let conn = &mut db.connection();
    for (name, hash) in WERKZEUG {
        let id = omnitool_testing::fixture::user(conn, name);
        diesel::update(users::table.find(id))
            .set(users::password_hash.eq(hash))
            .execute(conn)
            .unwrap();
    }
    let app = Running::start(&db);
    for (name, old) in WERKZEUG {
        let stored = |conn: &mut _| -> String {
            let query = users::table.filter(users::username.eq(name));
            query.select(users::password_hash).first(conn).unwrap()
        };
        assert_eq!(app.visitor().log_in(name, "a wrong password").status, 401);
        assert_eq!(stored(conn), old);
        app.log_in(name);
        let new = stored(conn);
        assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
        app.log_in(name);
        assert_eq!(stored(conn), new, "once is enough");
    }
}

fn two_first_logins_of_a_user_of_the_python_system_at_once_both_get_in(db: TestDatabase) {
    let (name, hash) = WERKZEUG[1];
    let conn = &mut db.connection();
    let id = omnitool_testing::fixture::user(conn, name);
    let app = Running::start(&db);
    let visitors = [app.visitor(), app.visitor()];
    let set_old = |conn: &mut AnyConnection| {
        diesel::update(users::table.find(id)).set(users::password_hash.eq(hash)).execute(conn)
    };
    set_old(conn).unwrap();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let logins = write_transaction(conn, |conn| {
            // Both have checked the same hash when the first of them may replace it.
            set_old(conn)?;
            let log_in = |visitor| scope.spawn(move || log_in(visitor, name));
            let logins = visitors.each_ref().map(log_in);
            wait_for_locks(&db, 2);
            QueryResult::Ok(logins)
        });
        logins.unwrap().map(|login| login.join().unwrap()).into()
    });
    assert_eq!(statuses, [303, 303]);
}

fn log_in(visitor: &Visitor, name: &str) -> u16 {
    visitor.log_in(name, PASSWORD).status
}

on_both_databases!(
    two_first_logins_of_a_user_of_the_python_system_at_once_both_get_in,
    a_user_changes_the_password_and_all_other_sessions_end,
    users_of_the_python_system_log_in_and_get_a_hash_of_today,
);
