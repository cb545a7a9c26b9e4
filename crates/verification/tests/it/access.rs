//! Checks 4, 5 and 6.

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::{
    AnyConnection,
    schema::{tools, users},
};
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};
use omnitool_verification::{Depth, Outcome};

use crate::setup::{Setup, without_foreign_keys};

/// A key that no row has.
const NOBODY: i64 = 4711;

fn access_to_a_tool_that_is_gone_fails_check_4(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    let alice = setup.alice;
    without_foreign_keys(&mut setup, |conn| {
        fixture::grant(conn, alice, NOBODY);
        fixture::everyone(conn, NOBODY);
        fixture::exclude(conn, alice, NOBODY);
    });
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("orphaned-tools", Outcome::Failed), @r"
        1 row in tool_access without a tool; 1 row in tool_access_everyone without a tool; 1 row in tool_access_exclusion without a tool
        Critical: 1 row in tool_access without a tool
        - tool_access: user alice, tool 4711 (unknown)
        repair: sync-tools --prune-orphans --env local
        Critical: 1 row in tool_access_everyone without a tool
        - tool_access_everyone: tool 4711 (unknown)
        repair: sync-tools --prune-orphans --env local
        Critical: 1 row in tool_access_exclusion without a tool
        - tool_access_exclusion: user alice, tool 4711 (unknown)
        repair: sync-tools --prune-orphans --env local
        ");
    }
}

fn access_of_a_user_who_is_gone_fails_check_5(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    let (email, invoices) = (setup.email, setup.invoices);
    without_foreign_keys(&mut setup, |conn| {
        fixture::grant(conn, NOBODY, email);
        fixture::exclude(conn, NOBODY, invoices);
    });
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("orphaned-users", Outcome::Failed), @r"
        1 row in tool_access without a user; 1 row in tool_access_exclusion without a user
        Critical: 1 row in tool_access without a user
        - tool_access: user 4711 (unknown), tool Email Templates
        repair: sync-tools --prune-orphans --env local
        Critical: 1 row in tool_access_exclusion without a user
        - tool_access_exclusion: user 4711 (unknown), tool Invoice Generator
        repair: sync-tools --prune-orphans --env local
        ");
    }
}

fn only_the_first_ten_of_many_orphans_are_named(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    let email = setup.email;
    without_foreign_keys(&mut setup, |conn| {
        for user in 0..23 {
            fixture::grant(conn, NOBODY + user, email);
        }
    });
    let text = setup.only_trouble("orphaned-users", Outcome::Failed);
    assert!(text.starts_with("23 rows in tool_access without a user\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("- ")).count(), 10);
    assert!(text.contains("\nand 13 more\n"), "{text}");
}

fn grant_as_replica(conn: &mut AnyConnection, user: i64, tool: i64) {
    conn.batch_execute("SET session_replication_role = replica").unwrap();
    fixture::grant(conn, user, tool);
}

#[test]
fn a_foreign_key_is_trusted_unless_asked_to_read_everything() {
    let mut setup = Setup::clean(TestDatabase::migrated(Dialect::Postgres));
    grant_as_replica(&mut setup.conn(), setup.alice, NOBODY);
    let report = setup.verify();
    assert_eq!(report.summary, "12 checks: 12 passed");
    assert_eq!(
        report.checks[3].message,
        "none: tool_access by its foreign key, tool_access_everyone by its foreign key, \
         tool_access_exclusion by its foreign key"
    );
    setup.depth = Depth::ReadEverything;
    setup.only_trouble("orphaned-tools", Outcome::Failed);
}

#[test]
fn a_foreign_key_that_is_not_validated_or_switched_off_is_not_trusted() {
    for alter in [
        "ALTER TABLE tool_access DROP CONSTRAINT tool_access_tool_id_fkey; \
         ALTER TABLE tool_access ADD FOREIGN KEY (tool_id) REFERENCES tools (id) NOT VALID",
        "ALTER TABLE tool_access DISABLE TRIGGER ALL",
        "ALTER TABLE tools DISABLE TRIGGER ALL",
    ] {
        let setup = Setup::clean(TestDatabase::migrated(Dialect::Postgres));
        grant_as_replica(&mut setup.conn(), setup.alice, NOBODY);
        setup.conn().batch_execute(alter).unwrap();
        let report = setup.verify_only(&["orphaned-tools"]);
        assert_eq!(report.checks[0].outcome, Outcome::Failed, "{alter}");
    }
}

fn a_user_without_a_default_tool_is_a_warning(db: TestDatabase) {
    let setup = Setup::clean(db);
    fixture::user(&mut setup.conn(), "bob");
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("default-tools", Outcome::Warned), @r"
        1 default tool not assigned
        Warning: 1 default tool not assigned
        - bob lacks Email Templates
        repair: sync-tools --assign-defaults --env local
        ");
    }
}

fn nobody_lacks_a_default_tool_for_a_good_reason(db: TestDatabase) {
    let setup = Setup::clean(db);
    let mut conn = setup.conn();
    // Excluded.
    let bob = fixture::user(&mut conn, "bob");
    fixture::exclude(&mut conn, bob, setup.email);
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
    // Inactive.
    let carol = fixture::user(&mut conn, "carol");
    setup.only_trouble("default-tools", Outcome::Warned);
    diesel::update(users::table.find(carol))
        .set(users::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
    // By the wildcard.
    fixture::user(&mut conn, "dave");
    setup.only_trouble("default-tools", Outcome::Warned);
    fixture::everyone(&mut conn, setup.email);
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
}

fn whoever_has_a_default_tool_twice_or_not_is_counted_once(db: TestDatabase) {
    let setup = Setup::clean(db);
    let mut conn = setup.conn();
    // Granted and excluded, also who is inactive, and of a tool that is no default.
    fixture::exclude(&mut conn, setup.alice, setup.email);
    let bob = fixture::user(&mut conn, "bob");
    fixture::grant(&mut conn, bob, setup.email);
    fixture::exclude(&mut conn, bob, setup.email);
    diesel::update(users::table.find(bob))
        .set(users::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();
    fixture::grant(&mut conn, setup.alice, setup.invoices);
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
    for number in 0..12 {
        fixture::user(&mut conn, &format!("user_{number:02}"));
    }
    let text = setup.only_trouble("default-tools", Outcome::Warned);
    assert!(text.starts_with("12 default tools not assigned\n"), "{text}");
    assert!(text.contains("- user_09 lacks Email Templates\nand 2 more\n"), "{text}");
}

fn a_default_tool_that_is_inactive_is_not_missed(db: TestDatabase) {
    let setup = Setup::clean(db);
    let mut conn = setup.conn();
    fixture::user(&mut conn, "bob");
    diesel::update(tools::table.find(setup.email))
        .set(tools::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();
    // The definitions say otherwise, which is another check's concern.
    setup.only_trouble("tool-definitions", Outcome::Failed);
}

on_both_databases!(
    access_to_a_tool_that_is_gone_fails_check_4,
    access_of_a_user_who_is_gone_fails_check_5,
    only_the_first_ten_of_many_orphans_are_named,
    a_user_without_a_default_tool_is_a_warning,
    nobody_lacks_a_default_tool_for_a_good_reason,
    whoever_has_a_default_tool_twice_or_not_is_counted_once,
    a_default_tool_that_is_inactive_is_not_missed,
);
