//! Refreshes that come to their end, or show what they would do.

use diesel::connection::SimpleConnection as _;
use omnitool_backup::{Catalog, Kind};
use omnitool_database::migration;
use omnitool_environment::EnvironmentName;
use omnitool_testing::{Dialect, fixture};

use crate::{Site, TESTER, on_both};

fn catalog(site: &Site) -> Catalog {
    Catalog::new(&site.project.path().join("data/backups"), EnvironmentName::Staging)
}

fn staging_gets_productions_data_without_what_is_personal(site: &Site) {
    let output = site.run(&["--format", "json"]).success();
    let answer: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(answer["status"], "done");
    let summary = answer["summary"].as_str().unwrap();
    assert!(summary.starts_with("Refreshed staging: "), "{summary}");
    assert!(summary.ends_with(" rows copied, 2 of them masked, verified"), "{summary}");
    // The key is another one in each project, so that only the shape is known.
    let people: Vec<String> = site.people();
    assert!(people[0].starts_with("alice user-1-") && people[0].ends_with(" 0"), "{people:?}");
    assert!(people.iter().all(|line| line.contains("@example.invalid ! +999 ")), "{people:?}");
    assert_eq!(people.len(), 2);
    assert_eq!(site.stamp(), Some(EnvironmentName::Staging));
    assert_eq!(site.leftovers(), Vec::<String>::new());

    // One backup, of what was there before, and the way back works.
    let backups = catalog(site).list().unwrap().backups;
    assert_eq!(backups.len(), 1);
    assert_eq!(backups[0].kind, Kind::BeforeRefresh);
    assert_eq!(backups[0].rows["users"], 1);
    let undo = answer["undo"].as_str().unwrap();
    assert_eq!(undo, format!("rollback-migration --env staging --backup {}", backups[0].id));
}

fn an_exclusion_of_development_holds_after_the_refresh(site: &Site) {
    site.run(&[]).success();
    assert_eq!(site.access(), ["alice: Invoice Generator"]);
}

fn a_copy_that_lets_in_whom_the_access_tests_shut_out_is_not_put_in_place(site: &Site) {
    let assertion = "[[assert]]\nusers = [\"alice\"]\ntool = \"Invoice Generator\"\nhas = false\n\
                     because = \"alice must not\"\n";
    site.project.write("data/access_tests.toml", assertion);
    let stderr = site.run(&[]).failure(1);
    assert!(stderr.contains("Access assertions"), "{stderr}");
    assert_eq!(site.people(), [TESTER]);
}

fn masked_values_are_the_same_in_each_refresh(site: &Site) {
    site.run(&[]).success();
    let first = site.people();
    site.run(&[]).success();
    assert_eq!(site.people(), first);
}

fn a_dry_run_changes_nothing(site: &Site) {
    let before = bytes(site);
    let said = site.run(&["--dry-run"]).success();
    assert!(said.contains("Dry run: ") && said.contains("nothing was changed"), "{said}");
    assert_eq!(bytes(site), before);
    assert_eq!(site.people(), [TESTER]);
    assert!(!site.project.path().join("data/backups").exists());
    let record = site.state().join("refresh.json");
    assert!(!record.exists());
}

/// The databases' files, where they are files.
fn bytes(site: &Site) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for database in [&site.production, &site.staging] {
        let Some(path) = database.url().sqlite_path() else { continue };
        for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            let content = std::fs::read(&path).unwrap();
            // Readers make a log where there is none, and the map of it; they put nothing of the content there.
            if !path.to_string_lossy().ends_with("-shm") && !content.is_empty() {
                files.push((path.display().to_string(), content));
            }
        }
    }
    files.sort();
    files
}

fn without_masking_it_must_be_confirmed_and_is_recorded(site: &Site) {
    let refused = site.run(&["--unmasked"]).failure(1);
    assert!(refused.contains("nobody has confirmed that"), "{refused}");
    assert_eq!(site.people(), [TESTER]);

    let command = site.command(&["--unmasked", "--confirm", "--run-id", "run-7"]);
    let said = site.project.output(command).success();
    assert!(said.contains("PERSONAL DATA IS NOT MASKED"), "{said}");
    assert!(said.contains("personal data UNMASKED, verified"), "{said}");
    assert!(said.contains("[WARNING] Personal data in it is real"), "{said}");
    let people = site.people();
    // Credentials and sessions go in any case.
    assert_eq!(people[0], "alice alice.real@corp.example ! +49 170 5551 0");
    let status = site.run(&["--check-status"]).success();
    assert!(status.contains("UNMASKED") && status.contains("run:  run-7"), "{status}");
}

/// What staging is for: the next release's migrations on production's data.
fn a_production_of_an_older_build_is_migrated_on_the_way(site: &Site) {
    let reverted = migration::revert(&mut site.production.connection(), 2).unwrap();
    let said = site.run(&[]).success();
    assert!(reverted.iter().all(|name| said.contains(name)), "{said}");
    migration::check_current(&mut site.staging.connection()).unwrap();
    assert!(migration::check_current(&mut site.production.connection()).is_err());
}

fn the_status_says_how_the_last_one_ended(site: &Site) {
    assert_eq!(site.run(&["--check-status"]).success(), "There was no refresh yet\n");
    site.run(&[]).success();
    let status = site.run(&["--check-status"]).success();
    assert!(status.contains("came to its end and was verified"), "{status}");
    assert!(status.contains("data: masked"), "{status}");
    assert!(status.contains("what was there before: b"), "{status}");
}

on_both!(
    staging_gets_productions_data_without_what_is_personal,
    an_exclusion_of_development_holds_after_the_refresh,
    a_copy_that_lets_in_whom_the_access_tests_shut_out_is_not_put_in_place,
    masked_values_are_the_same_in_each_refresh,
    a_dry_run_changes_nothing,
    without_masking_it_must_be_confirmed_and_is_recorded,
    a_production_of_an_older_build_is_migrated_on_the_way,
    the_status_says_how_the_last_one_ended,
);

#[test]
fn a_running_app_sees_the_new_content() {
    let site = Site::new(Dialect::Sqlite);
    // Open before, during and after, as an app's connection is.
    let mut app = site.staging.connection();
    site.run(&[]).success();
    let names = crate::lines(&mut app, "SELECT username AS line FROM users ORDER BY id");
    assert_eq!(names, ["alice", "user_a"]);
    fixture::user(&mut app, "made_afterwards");
}

#[test]
fn what_was_written_meanwhile_is_in_the_backup() {
    let site = Site::new(Dialect::Sqlite);
    site.staging
        .connection()
        .batch_execute("UPDATE users SET email = 'written@staging.example'")
        .unwrap();
    site.run(&[]).success();
    let catalog = catalog(&site);
    let backup = catalog.list().unwrap().backups.remove(0);
    let bytes = std::fs::read(catalog.file(&backup)).unwrap();
    let wanted = b"written@staging.example";
    assert!(bytes.windows(wanted.len()).any(|window| window == wanted));
}

#[test]
fn the_plan_says_what_is_copied_masked_and_replaced() {
    let site = Site::new(Dialect::Sqlite);
    let said = site.run(&["--dry-run"]).success();
    let said = said
        .replace(&site.production.url().to_string(), "[PRODUCTION]")
        .replace(&site.staging.url().to_string(), "[STAGING]");
    // What changes with each migration, and with the size of a page.
    let changes = |line: &&str| !line.contains(", schema ") && !line.contains("migration_ledger");
    let said: Vec<&str> = said.lines().filter(changes).collect();
    let (_, said) = said.split_last().unwrap();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn the_help_shows_what_it_does() {
    let site = Site::new(Dialect::Sqlite);
    insta::assert_snapshot!(site.run(&["--help"]).success());
}

#[test]
fn no_file_of_staging_or_the_project_holds_what_was_masked() {
    let site = Site::new(Dialect::Sqlite);
    site.production.connection().batch_execute("ANALYZE").unwrap();
    site.run(&[]).success();
    let mut folders = vec![site.state(), site.project.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            for secret in ["corp.example", "argon2id", "session-token", "+49 170"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} in {}", path.display());
            }
        }
    }
}

#[test]
#[cfg(unix)]
fn what_it_keeps_beside_the_database_is_private() {
    use std::os::unix::fs::PermissionsExt as _;

    let site = Site::new(Dialect::Sqlite);
    site.run(&[]).success();
    for name in ["masking.key", "refresh.json", "refresh.lock"] {
        let mode = site.state().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn the_backup_of_what_was_there_is_encrypted_where_somebody_wants_that() {
    let site = Site::new(Dialect::Sqlite);
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    site.run(&["--encrypt-to", recipient]).success();
    let catalog = catalog(&site);
    let backup = catalog.list().unwrap().backups.remove(0);
    let bytes = std::fs::read(catalog.file(&backup)).unwrap();
    assert!(bytes.starts_with(b"age-encryption.org/v1"));
}

#[test]
fn without_variables_it_refreshes_what_the_environments_file_names() {
    let site = Site::new(Dialect::Sqlite);
    for (database, name) in [(&site.production, "production"), (&site.staging, "staging")] {
        // Nobody is connected, so that the file is all there is.
        let content = std::fs::read(database.url().sqlite_path().unwrap()).unwrap();
        site.project.write(&format!(".omnitool/{name}/omnitool.db"), content);
    }
    let mut command = site.project.command(crate::PROGRAM);
    command.args(["--tools", "data/tools.toml"]);
    let said = site.project.output(command).success();
    assert!(said.contains("to:   sqlite:.omnitool/staging/omnitool.db"), "{said}");
    assert!(said.contains("[SUCCESS] Refreshed staging"), "{said}");
    assert!(site.project.path().join(".omnitool/staging/refresh.json").exists());

    // Where there is no staging yet, it is made, and there is nothing to back up.
    std::fs::remove_dir_all(site.project.path().join(".omnitool/staging")).unwrap();
    std::fs::remove_dir_all(site.project.path().join("data/backups")).unwrap();
    let mut command = site.project.command(crate::PROGRAM);
    command.args(["--tools", "data/tools.toml"]);
    let said = site.project.output(command).success();
    assert!(said.contains("there is nothing there yet"), "{said}");
    assert!(!site.project.path().join("data/backups").exists(), "{said}");
}
