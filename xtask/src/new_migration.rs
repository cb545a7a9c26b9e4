//! `cargo xtask new-migration`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use clap::Args;
use fs_err as fs;
use omnitool_cli::{Failure, Outcome, print};

use crate::project::Project;

const DIALECTS: [&str; 2] = ["sqlite", "postgres"];

/// The flags of `cargo xtask new-migration`.
#[derive(Args, Debug)]
pub(crate) struct NewMigrationArgs {
    /// What it does, as words joined by underscores
    #[arg(value_parser = parse_name)]
    name: String,
}

fn parse_name(text: &str) -> Result<String, String> {
    let words = text.split('_');
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if text.len() > 60 {
        Err("it has more than 60 characters".to_owned())
    } else if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !words.clone().all(is_word) {
        Err("it must be lower-case words joined by underscores, such as add_users_phone_number"
            .to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// Makes the migration's files for both dialects.
pub(crate) fn run(project: &Project, args: &NewMigrationArgs) -> Result<Outcome, Failure> {
    let migrations = project.root().join("migrations");
    for file in create(&migrations, &args.name, Utc::now())? {
        print(&format!("created {}\n", project.shown(&file)))?;
    }
    print(
        "\nNext:\n  \
         write the four files, and the change in crates/database/src/schema.rs\n  \
         OMNITOOL_BLESS=1 cargo xtask test -p omnitool-database the_schema_expected\n  \
         cargo xtask lint-migrations\n  \
         cargo xtask test -p omnitool-database\n",
    )?;
    Ok(Outcome::Done)
}

fn create(migrations: &Path, name: &str, now: DateTime<Utc>) -> Result<Vec<PathBuf>, Failure> {
    let existing = existing(migrations)?;
    if let Some(taken) =
        existing.iter().find(|folder| folder.split_once('_').is_some_and(|(_, rest)| rest == name))
    {
        return Err(Failure::refused(format!("there is a migration of this name: {taken}"))
            .hint("choose a name that says what is different"));
    }
    let newest = existing.iter().filter_map(|folder| version(folder)).max().unwrap_or_default();
    let folder = format!("{}_{name}", dashed(next(newest, now)));
    let mut files = Vec::new();
    for dialect in DIALECTS {
        let folder = migrations.join(dialect).join(&folder);
        fs::create_dir(&folder)?;
        for (file, text) in [("up.sql", up(dialect)), ("down.sql", DOWN.to_owned())] {
            let path = folder.join(file);
            fs::File::create_new(&path)?.write_all(text.as_bytes())?;
            files.push(path);
        }
    }
    Ok(files)
}

fn existing(migrations: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for dialect in DIALECTS {
        for entry in fs::read_dir(migrations.join(dialect))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The digits of a migration's name, as a number.
fn version(folder: &str) -> Option<u64> {
    folder.split('_').next()?.replace('-', "").parse().ok()
}

/// This second, so that two people who make one on the same day get different versions; always after the newest.
fn next(newest: u64, now: DateTime<Utc>) -> u64 {
    let this_second: u64 = now.format("%Y%m%d%H%M%S").to_string().parse().unwrap_or_default();
    this_second.max(newest + 1)
}

fn dashed(version: u64) -> String {
    let digits = format!("{version:014}");
    format!("{}-{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..8], &digits[8..])
}

fn up(dialect: &str) -> String {
    let own = match dialect {
        "sqlite" => {
            "-- A column's type or constraint changes only by rebuilding the table: make a new one, copy, drop, rename, with\n\
             -- `run_in_transaction = false` in a metadata.toml beside this file, so that foreign keys are not enforced meanwhile.\n"
        }
        _ => {
            "-- An index on a table that has rows is made CONCURRENTLY, in a migration of its own, with\n\
             -- `run_in_transaction = false` in a metadata.toml beside this file; its statements must bear being run again.\n"
        }
    };
    format!(
        "-- What changes, and why: (write it here)\n\
         --\n\
         -- The release before this one serves while this runs, and goes on serving if the new one does not come up.\n\
         -- Safe then: a new table or view; a new column that is nullable or has a constant default; a new index.\n\
         -- Not in the same release: dropping, renaming or narrowing what the old release reads; NOT NULL or a constraint\n\
         -- on what it writes. First a release that no longer needs it, then this, with its reason in lint-exceptions.toml.\n\
         {own}\
         TODO: this is no SQL, so that it is not forgotten;\n"
    )
}

const DOWN: &str = "-- Undoes the schema; what the rows held is gone.\nTODO: this is no SQL, so that it is not forgotten;\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(existing: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for dialect in DIALECTS {
            for name in existing {
                fs::create_dir_all(folder.path().join(dialect).join(name)).unwrap();
            }
        }
        folder
    }

    fn now() -> DateTime<Utc> {
        "2026-11-24T08:15:30Z".parse().unwrap()
    }

    #[test]
    fn both_dialects_get_the_same_version_of_this_second() {
        let folder = folders(&["2026-11-23-000008_add_users_phone_number"]);
        let files = create(folder.path(), "add_tools_icon", now()).unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|file| file.strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "sqlite/2026-11-24-081530_add_tools_icon/up.sql",
                "sqlite/2026-11-24-081530_add_tools_icon/down.sql",
                "postgres/2026-11-24-081530_add_tools_icon/up.sql",
                "postgres/2026-11-24-081530_add_tools_icon/down.sql",
            ]
        );
        assert!(fs::read_to_string(&files[0]).unwrap().contains("goes on serving"));
    }

    #[test]
    fn versions_never_collide_and_only_grow() {
        let folder = folders(&["2999-12-31-235959_from_the_future"]);
        for (name, version) in [("a", "2999-12-31-235960_a"), ("b", "2999-12-31-235961_b")] {
            create(folder.path(), name, now()).unwrap();
            assert!(folder.path().join("sqlite").join(version).is_dir());
        }
        assert!(create(folder.path(), "a", now()).is_err(), "the name is taken");
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            "Add",
            "add users",
            "add-users",
            "add__users",
            "_add",
            "add_",
            "9lives",
            "ä",
            "../x",
            &"a".repeat(61),
        ] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
        assert!(parse_name("add_users_phone_number2").is_ok());
    }
}
