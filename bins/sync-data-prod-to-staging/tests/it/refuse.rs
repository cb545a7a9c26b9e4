//! Refreshes that must not be. Staging stays as it was.

use diesel::connection::SimpleConnection as _;
use omnitool_database::stamp;
use omnitool_environment::EnvironmentName;
use omnitool_testing::{Dialect, TestDatabase};

use crate::{Site, TESTER, on_both};

#[track_caller]
fn refused(site: &Site, flags: &[&str], because: &str) {
    let said = site.run(flags).failure(1);
    assert!(said.contains(because), "{said}");
    assert_eq!(site.people(), [TESTER]);
    assert_eq!(site.leftovers(), Vec::<String>::new());
}

fn a_real_value_in_another_column(site: &Site) {
    site.production
        .connection()
        .batch_execute("INSERT INTO tool_access_run (program, admin) VALUES ('omnitool', 'Alice.Real@corp.example')")
        .unwrap();
    refused(
        site,
        &[],
        "values of masked columns are still in tool_access_run.admin (from users.email)",
    );
    let status = site.run(&["--check-status"]).success();
    assert!(status.contains("failed and changed nothing"), "{status}");
}

fn columns_that_nobody_has_classified(site: &Site) {
    site.production
        .connection()
        .batch_execute(
            "ALTER TABLE users ADD COLUMN nickname TEXT; ALTER TABLE tools ADD COLUMN owner TEXT",
        )
        .unwrap();
    refused(
        site,
        &[],
        "column tools.owner is not classified\n  column users.nickname is not classified",
    );
}

#[test]
fn rules_that_speak_of_nothing() {
    let site = Site::new(Dialect::Sqlite);
    let rules = include_str!("../../../../data/masking.toml")
        .replace("phone_number = \"phone\"", "phone_number = \"phone\"\nnickname = \"name\"");
    site.project.write("masking.toml", &rules);
    refused(
        &site,
        &["--masking", "masking.toml"],
        "column users.nickname is classified and does not exist",
    );
    site.project.write("masking.toml", rules.replace("\"name\"", "\"nmae\""));
    refused(&site, &["--masking", "masking.toml"], "users.nickname: unknown rule `nmae`");
}

fn a_target_that_is_production(site: &Site) {
    stamp::write(&mut site.staging.connection(), EnvironmentName::Production).unwrap();
    stamp::write(&mut site.production.connection(), EnvironmentName::Staging).unwrap();
    refused(
        site,
        &["--source-env", "staging"],
        "is stamped `production` and is never replaced by a copy",
    );
}

fn a_source_that_is_not_production(site: &Site) {
    stamp::write(&mut site.production.connection(), EnvironmentName::Local).unwrap();
    refused(site, &[], "is stamped `local`, not stamped `production`");
    // Where that is what somebody wants, it can be said.
    site.run(&["--source-env", "local"]).success();
}

fn a_copy_that_fails_its_checks(site: &Site) {
    let orphan = "INSERT INTO tool_access (user_id, tool_id, origin) VALUES (99, 1, 'admin')";
    let statements = match site.production.dialect() {
        Dialect::Sqlite => format!("PRAGMA foreign_keys = OFF; {orphan}"),
        Dialect::Postgres => {
            format!("ALTER TABLE tool_access DROP CONSTRAINT tool_access_user_id_fkey; {orphan}")
        }
    };
    site.production.connection().batch_execute(&statements).unwrap();
    let said = site.run(&[]).failure(1);
    assert!(said.contains("staging is as it was"), "{said}");
    assert_eq!(site.people(), [TESTER]);
    assert_eq!(site.leftovers(), Vec::<String>::new());
}

fn a_staging_of_a_newer_build(site: &Site) {
    site.staging
        .connection()
        .batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')")
        .unwrap();
    refused(
        site,
        &[],
        "the target belongs to a newer build: this one does not know its migrations 2099",
    );
}

#[test]
fn access_that_is_not_there() {
    let site = Site::new(Dialect::Sqlite);
    refused(
        &site,
        &["--access", "no-such.json"],
        "users excluded in development would have access",
    );
}

#[test]
fn one_that_is_already_running() {
    let site = Site::new(Dialect::Sqlite);
    std::fs::create_dir_all(site.state()).unwrap();
    let lock = std::fs::File::create(site.state().join("refresh.lock")).unwrap();
    lock.lock().unwrap();
    refused(&site, &[], "another refresh is running");
    assert_eq!(site.run(&["--check-status"]).success(), "A refresh is running\n");
}

on_both!(
    a_real_value_in_another_column,
    columns_that_nobody_has_classified,
    a_target_that_is_production,
    a_source_that_is_not_production,
    a_copy_that_fails_its_checks,
    a_staging_of_a_newer_build,
);

#[test]
fn one_database_as_both() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        let site = Site::new(dialect);
        let mut command = site.command(&["--source-env", "staging"]);
        command.env("SOURCE_DATABASE_URL", site.staging.url().expose());
        let said = site.project.output(command).failure(1);
        assert!(said.contains("source and target are the same database"), "{said}");
    }
}

#[test]
fn two_database_systems() {
    let site = Site::new(Dialect::Sqlite);
    let other = TestDatabase::stamped(Dialect::Postgres, EnvironmentName::Production);
    let mut command = site.command(&[]);
    command.env("SOURCE_DATABASE_URL", other.url().expose());
    let said = site.project.output(command).failure(1);
    assert!(said.contains("belong to different database systems"), "{said}");
    assert!(!said.contains("password-of-the-test-server"), "{said}");
}

#[test]
fn another_environment_than_staging() {
    let site = Site::new(Dialect::Sqlite);
    refused(&site, &["--env", "local"], "only staging is refreshed, and `local` was asked for");
}

#[test]
fn a_url_that_is_none_is_not_shown() {
    let site = Site::new(Dialect::Sqlite);
    let mut command = site.command(&[]);
    command.env("SOURCE_DATABASE_URL", "mysql://u:hunter2@h/d");
    let said = site.project.output(command).failure(1);
    assert!(
        said.contains("--source-url or SOURCE_DATABASE_URL") && !said.contains("hunter2"),
        "{said}"
    );
}
