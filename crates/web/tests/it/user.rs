use std::collections::BTreeSet;

use diesel::prelude::*;
use omnitool_database::schema::{tool_access, tools, users};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_web::{CreateUserError, NewUser, Password, Role, create_demo_users, create_user};

use crate::running::Running;

fn new_user(username: &str, email: Option<&str>) -> NewUser {
    NewUser {
        username: username.to_owned(),
        email: email.map(ToOwned::to_owned),
        role: Role::User,
        password: Password::generate().unwrap(),
    }
}

fn a_new_user_has_the_default_tools(db: TestDatabase) {
    let conn = &mut db.connection();
    let ids = ["Profile", "Archive", "Invoices"].map(|name| fixture::tool(conn, name));
    let defaults = tools::table.filter(tools::id.eq_any(&ids[..2]));
    diesel::update(defaults).set(tools::is_default.eq(true)).execute(conn).unwrap();
    diesel::update(tools::table.find(ids[1]))
        .set(tools::is_active.eq(false))
        .execute(conn)
        .unwrap();

    let created = create_user(conn, &new_user("alice", None)).unwrap();
    assert_eq!(created.granted, ["Profile"]);
    let grants: Vec<(i64, i64, String)> = tool_access::table
        .select((tool_access::user_id, tool_access::tool_id, tool_access::origin))
        .load(conn)
        .unwrap();
    assert_eq!(grants, [(created.id, ids[0], "default".to_owned())]);
}

fn a_taken_name_or_address_is_refused(db: TestDatabase) {
    let conn = &mut db.connection();
    create_user(conn, &new_user("alice", Some("alice@example.com"))).unwrap();
    let error = create_user(conn, &new_user("alice", None)).unwrap_err();
    assert_eq!(error.to_string(), "there already is a user `alice`");
    let error = create_user(conn, &new_user("bob", Some("alice@example.com"))).unwrap_err();
    assert!(matches!(error, CreateUserError::EmailTaken { .. }), "{error}");
    let number: i64 = users::table.count().get_result(conn).unwrap();
    assert_eq!(number, 1);
}

fn demo_users_can_log_in_and_are_made_once(db: TestDatabase) {
    let conn = &mut db.connection();
    let made = create_demo_users(conn).unwrap();
    let names: Vec<&str> = made.iter().map(|(user, _)| &*user.username).collect();
    assert_eq!(names, ["admin", "alice", "user_a", "user_b", "user_c"]);
    let admins: Vec<String> =
        users::table.filter(users::is_admin).select(users::username).load(conn).unwrap();
    assert_eq!(admins, ["admin"]);
    let passwords: BTreeSet<&str> = made.iter().map(|(user, _)| user.password.expose()).collect();
    assert_eq!(passwords.len(), 5);

    let app = Running::start(&db);
    for (user, _) in &made {
        let answer = app.visitor().log_in(&user.username, user.password.expose());
        assert_eq!(answer.status, 303, "{}", user.username);
    }
    let error = create_demo_users(conn).unwrap_err();
    assert_eq!(error.to_string(), "the database already has users");
}

on_both_databases!(
    a_new_user_has_the_default_tools,
    a_taken_name_or_address_is_refused,
    demo_users_can_log_in_and_are_made_once,
);
