//! What the checks 10 to 12 are given, and where it is looked for.

use diesel::prelude::*;
use omnitool_backup::{Catalog, Kind, Manifest, capture, for_url};
use omnitool_database::{
    Dialect,
    schema::{tool_access_exclusion, users},
};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{TestDatabase, fixture, on_both_databases};

use crate::program::{Release, WORKS, fill};

/// The report of one check, as JSON.
#[track_caller]
fn check(
    release: &Release,
    db: &TestDatabase,
    number: &str,
    more: &[&str],
    code: i32,
) -> serde_json::Value {
    let arguments = [&["--only", number, "--format", "json", "--env", "local"], more].concat();
    let output = release.run(db.url(), &arguments);
    assert_eq!(output.code, Some(code), "{}{}", output.stdout, output.stderr);
    let mut report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    report["checks"][0].take()
}

fn an_export_is_compared_where_it_is_named(db: TestDatabase) {
    fill(&db);
    let user = fixture::user(&mut db.connection(), "user_a");
    let release = Release::with_app(WORKS);
    release.project.write(
        "access.json",
        r#"{"format": "omnitool.tool-access", "version": 1, "environment": "local", "users": ["user_a"],
            "tools": {"Invoice Generator": {"everyone": true, "excluded": ["user_a"], "granted": []}}}"#,
    );
    let expect = ["--expect-access", "access.json"];
    let failed = check(&release, &db, "10", &expect, 1);
    assert_eq!(failed["findings"][0]["rows"], serde_json::json!(["Invoice Generator: user_a"]));
    assert_eq!(
        failed["findings"][0]["repair"],
        "import-tool-access --source access.json --env local"
    );
    let tool: i64 = omnitool_database::schema::tools::table
        .filter(omnitool_database::schema::tools::name.eq("Invoice Generator"))
        .select(omnitool_database::schema::tools::id)
        .first(&mut db.connection())
        .unwrap();
    fixture::exclude(&mut db.connection(), user, tool);
    assert_eq!(check(&release, &db, "10", &expect, 0)["outcome"], "passed");
    diesel::delete(tool_access_exclusion::table).execute(&mut db.connection()).unwrap();
    assert_eq!(check(&release, &db, "10", &[], 0)["message"], "not asked for: no export was given");
}

fn the_shipped_assertions_apply_by_themselves(db: TestDatabase) {
    fill(&db);
    fixture::user(&mut db.connection(), "user_a");
    let release = Release::with_app(WORKS);
    // Everybody may use every tool here.
    let failed = check(&release, &db, "11", &[], 1);
    assert_eq!(failed["findings"][0]["rows"], serde_json::json!(["user_a"]));
    release.project.write("other.toml", "[[assert]]\nusers = [\"user_a\"]\ntool = \"Invoice Generator\"\nhas = true\nbecause = \"x\"\n");
    assert_eq!(
        check(&release, &db, "11", &["--access-tests", "other.toml"], 0)["outcome"],
        "passed"
    );
    assert_eq!(
        check(&release, &db, "11", &["--access-tests", "no.toml"], 1)["outcome"],
        "could-not-run"
    );
    std::fs::remove_file(release.project.path().join("data/access_tests.toml")).unwrap();
    assert_eq!(
        check(&release, &db, "11", &[], 0)["message"],
        "not asked for: no assertions were given"
    );
}

fn rows_are_compared_with_the_newest_verified_backup(db: TestDatabase) {
    fill(&db);
    for name in ["bob", "carol"] {
        fixture::user(&mut db.connection(), name);
    }
    let release = Release::with_app(WORKS);
    let backups = release.project.path().join("data/backups");
    let catalog = Catalog::new(&backups, EnvironmentName::Local);
    let backup =
        capture(&catalog, &*for_url(db.url()).unwrap(), Kind::Manual, None, &mut |_| {}).unwrap();
    assert_eq!(check(&release, &db, "12", &[], 0)["outcome"], "passed");

    diesel::delete(users::table.filter(users::username.eq("bob")))
        .execute(&mut db.connection())
        .unwrap();
    // Safety copies and what was found to be bad do not count.
    let safety =
        capture(&catalog, &*for_url(db.url()).unwrap(), Kind::BeforeRollback, None, &mut |_| {})
            .unwrap();
    let bad =
        capture(&catalog, &*for_url(db.url()).unwrap(), Kind::Manual, None, &mut |_| {}).unwrap();
    let file = backups.join(format!("local/{}.json", bad.id));
    let mut manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    manifest["verified"] = serde_json::Value::Null;
    std::fs::write(&file, manifest.to_string()).unwrap();

    let failed = check(&release, &db, "12", &[], 1);
    assert_eq!(
        failed["findings"][0]["rows"],
        serde_json::json!(["users: 3 rows then, 2 now (33 % lost)"])
    );
    let repair = failed["findings"][0]["repair"].as_str().unwrap();
    assert!(
        repair.starts_with(&format!("rollback-migration --backup {} --env local", backup.id)),
        "{repair}"
    );
    assert_eq!(check(&release, &db, "12", &["--max-loss", "34"], 0)["outcome"], "passed");

    // What a refresh replaced was replaced with all its rows.
    let refreshed =
        capture(&catalog, &*for_url(db.url()).unwrap(), Kind::BeforeRefresh, None, &mut |_| {})
            .unwrap();
    assert_eq!(check(&release, &db, "12", &[], 0)["message"], "no backup to compare with");
    std::fs::remove_file(backups.join(format!("local/{}.json", refreshed.id))).unwrap();

    let named = |backup: &Manifest| format!("data/backups/local/{}.json", backup.id);
    assert_eq!(
        check(&release, &db, "12", &["--last-backup", &named(&safety)], 0)["outcome"],
        "passed"
    );
    assert_eq!(
        check(&release, &db, "12", &["--last-backup", &named(&backup)], 1)["outcome"],
        "failed"
    );
    for (file, problem) in [
        ("data/backups/local/b099.json", "cannot read data/backups/local/b099.json"),
        ("data/tools.toml", "data/tools.toml is not named after a backup, as b001.json is"),
    ] {
        let check = check(&release, &db, "12", &["--last-backup", file], 1);
        assert_eq!(check["outcome"], "could-not-run");
        let message = check["message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("cannot read the last backup's manifest: {problem}")),
            "{message}"
        );
    }
}

fn a_damaged_manifest_is_no_missing_one(db: TestDatabase) {
    fill(&db);
    let release = Release::with_app(WORKS);
    let backups = release.project.path().join("data/backups");
    let catalog = Catalog::new(&backups, EnvironmentName::Local);
    let url = for_url(db.url()).unwrap();
    let backup = capture(&catalog, &*url, Kind::Manual, None, &mut |_| {}).unwrap();
    std::fs::write(backups.join(format!("local/{}.json", backup.id)), "{\"format\"").unwrap();
    let check = check(&release, &db, "12", &[], 1);
    assert_eq!(check["outcome"], "could-not-run");
    let message = check["message"].as_str().unwrap();
    assert!(
        message.contains("none of the backups can be used; the newest, b001, is broken"),
        "{message}"
    );
}

on_both_databases!(
    a_damaged_manifest_is_no_missing_one,
    an_export_is_compared_where_it_is_named,
    the_shipped_assertions_apply_by_themselves,
    rows_are_compared_with_the_newest_verified_backup,
);

#[test]
fn a_share_is_a_number_up_to_a_hundred() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let error = Release::with_app(WORKS).run(db.url(), &["--max-loss", "101"]).failure(2);
    assert!(error.contains("101 is not in 0..=100"), "{error}");
}
