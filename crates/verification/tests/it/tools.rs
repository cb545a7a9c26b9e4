//! Check 3.

use diesel::prelude::*;
use omnitool_database::schema::tools;
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_verification::Outcome;

use crate::setup::Setup;

fn a_missing_tool_fails(db: TestDatabase) {
    let setup = Setup::clean(db);
    diesel::delete(tools::table.find(setup.invoices)).execute(&mut setup.conn()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("tool-definitions", Outcome::Failed), @r"
        Missing: Invoice Generator
        Critical: 1 defined tool missing
        - Invoice Generator
        repair: sync-tools --env local
        ");
    }
}

fn a_tool_that_differs_fails(db: TestDatabase) {
    let setup = Setup::clean(db);
    diesel::update(tools::table.find(setup.invoices))
        .set((tools::route.eq("/invoices"), tools::is_active.eq(false)))
        .execute(&mut setup.conn())
        .unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("tool-definitions", Outcome::Failed), @r"
        Different: Invoice Generator
        Critical: 1 tool not as defined
        - Invoice Generator has the route `/invoices`, defined `/invoice_generator`; has is_active = false, defined true
        repair: sync-tools --env local
        ");
    }
}

fn a_deprecated_tool_that_is_still_there_fails(db: TestDatabase) {
    let setup = Setup::clean(db);
    fixture::tool(&mut setup.conn(), "Old Calculator");
    fixture::tool(&mut setup.conn(), "Email Templates management");
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("tool-definitions", Outcome::Failed), @r"
        Deprecated: Email Templates management, Old Calculator
        Critical: 2 deprecated tools still there
        - Email Templates management is now `Email Templates`
        - Old Calculator is to be deleted
        repair: sync-tools --env local
        ");
    }
}

fn an_extra_tool_at_the_route_of_another_one_fails(db: TestDatabase) {
    let setup = Setup::clean(db);
    let extra = fixture::tool(&mut setup.conn(), "Bill Maker");
    diesel::update(tools::table.find(extra))
        .set(tools::route.eq("/invoice_generator"))
        .execute(&mut setup.conn())
        .unwrap();
    let trouble = setup.only_trouble("tool-definitions", Outcome::Failed);
    assert!(
        trouble.contains("Bill Maker has the route `/invoice_generator` of `Invoice Generator`"),
        "{trouble}"
    );
}

fn an_extra_tool_is_a_warning(db: TestDatabase) {
    let setup = Setup::clean(db);
    fixture::tool(&mut setup.conn(), "Party Planner");
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("tool-definitions", Outcome::Warned), @r"
        Extra: Party Planner
        Warning: 1 tool in the database only
        - Party Planner
        repair: nothing needs to be done; to settle it, define or deprecate it in data/tools.toml and run: sync-tools --env local
        ");
    }
}

fn missing_and_extra_tools_are_both_named(db: TestDatabase) {
    let setup = Setup::clean(db);
    diesel::update(tools::table.find(setup.invoices))
        .set(tools::name.eq("Invoice\u{1b}[31m\nGenerator"))
        .execute(&mut setup.conn())
        .unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("tool-definitions", Outcome::Failed), @r"
        Missing: Invoice Generator Extra: Invoice\u{1b}[31m\nGenerator
        Critical: 1 defined tool missing
        - Invoice Generator
        repair: sync-tools --env local
        Warning: 1 tool in the database only
        - Invoice\u{1b}[31m\nGenerator
        repair: nothing needs to be done; to settle it, define or deprecate it in data/tools.toml and run: sync-tools --env local
        ");
    }
}

on_both_databases!(
    a_missing_tool_fails,
    a_tool_that_differs_fails,
    a_deprecated_tool_that_is_still_there_fails,
    an_extra_tool_at_the_route_of_another_one_fails,
    an_extra_tool_is_a_warning,
    missing_and_extra_tools_are_both_named,
);
