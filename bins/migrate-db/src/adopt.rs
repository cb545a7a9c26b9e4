//! `--adopt`: brings a database of the Python system under our migrations.

use std::{
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use omnitool_cli::{Failure, Format, Target, confirm_phrase, print};
use omnitool_database::{
    AnyConnection,
    migration::adoption::{self, AdoptError, Adoption, Backup, Orphans},
};
use omnitool_environment::EnvironmentName;

use crate::{Args, failure, report::Adopted};

/// Why a database is neither migrated nor adopted.
#[derive(Debug, thiserror::Error)]
enum RefuseError {
    #[error("this database was made by the Python system and is not under our migrations yet")]
    Python,
    #[error("cannot back up this PostgreSQL database")]
    NoBackup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Refuses a database of the Python system, which migrations would fail on.
pub(crate) fn refuse(conn: &mut AnyConnection) -> Result<(), Failure> {
    if adoption::recognise(conn)? {
        return Err(Failure::refused(RefuseError::Python).hint(
            "nothing was changed; to take it over with all its rows: migrate-db --adopt --env ENV",
        ));
    }
    Ok(())
}

/// Checks, backs up and converts the database.
pub(crate) fn adopt(
    conn: &mut AnyConnection,
    target: &Target,
    environment: EnvironmentName,
    args: &Args,
) -> Result<Adopted, Failure> {
    let plan = Adoption::plan(conn).map_err(failure_of)?;
    let say = |text: &str| if args.format == Format::Text { print(text) } else { Ok(()) };
    say(&plan.to_string())?;
    let orphans = if args.prune_orphans { Orphans::Prune } else { Orphans::Refuse };
    if orphans == Orphans::Refuse && !plan.orphans.is_empty() {
        return Err(failure_of(AdoptError::Orphans { orphans: plan.orphans }));
    }
    if environment == EnvironmentName::Production {
        confirm_phrase("ADOPT PRODUCTION", args.confirm.as_deref())
            .map_err(|error| Failure::refused(error).hint("nothing was changed"))?;
    }
    let (backup, path) = back_up(conn, target, environment, &plan, args)?;
    if let Some(path) = &path {
        say(&format!("Backed up to {}\n", path.display()))?;
    }
    plan.apply(conn, &backup, orphans, &args.options()).map_err(failure_of)?;
    let adopted = Adopted {
        revision: plan.revision,
        users: plan.users,
        tools: plan.tools,
        grants: plan.grants,
        duplicates: plan.duplicates,
        left_out: plan.orphans,
        notes: plan.notes,
        backup: path,
    };
    say(&adopted.to_string())?;
    Ok(adopted)
}

/// Backs the database up; says where to, unless the user has a backup already.
fn back_up(
    conn: &mut AnyConnection,
    target: &Target,
    environment: EnvironmentName,
    plan: &Adoption,
    args: &Args,
) -> Result<(Backup, Option<PathBuf>), Failure> {
    if let Some(file) = target.database_url.sqlite_path() {
        let backup = adoption::back_up(conn, file, plan).map_err(failure_of)?;
        let path = match &backup {
            Backup::File { path, .. } => Some(path.clone()),
            Backup::Elsewhere => None,
        };
        return Ok((backup, path));
    }
    if args.backup_taken {
        return Ok((Backup::Elsewhere, None));
    }
    let path = dump(target, environment).map_err(|error| {
        Failure::refused(RefuseError::NoBackup(error)).hint(
            "nothing was changed; or take one yourself and say so: pg_dump --format=custom \
             --file=before-adoption.dump …; then add --backup-taken",
        )
    })?;
    Ok((Backup::Elsewhere, Some(path)))
}

/// Dumps a PostgreSQL database among its environment's backups, and reads the dump again.
fn dump(
    target: &Target,
    environment: EnvironmentName,
) -> Result<PathBuf, Box<dyn std::error::Error + Send + Sync>> {
    let store = omnitool_backup::for_url(&target.database_url)?;
    let folder = Path::new(omnitool_backup::DEFAULT_FOLDER).join(environment.as_str());
    fs_err::create_dir_all(&folder)?;
    let time = chrono::Utc::now().format("%Y%m%dT%H%M%SZ");
    let path = folder.join(format!("before-adoption-{time}-{}.dump", store.name()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    fs_err::OpenOptions::from_options(options).open(&path)?;
    let done = store
        .copy_to(&path, &mut |_| {})
        .map_err(Into::into)
        .and_then(|_| store.inspect(&path).map_err(Into::into));
    match done {
        Ok(_) => Ok(path),
        Err(error) => {
            // What is no good backup must not look like one.
            let _ = fs_err::remove_file(&path);
            Err(error)
        }
    }
}

fn failure_of(error: AdoptError) -> Failure {
    match error {
        AdoptError::Migrate(error) => failure::of_migrate(error),
        AdoptError::NotPython => Failure::refused(error).hint("run migrate-db without --adopt"),
        AdoptError::Unmappable { .. } => Failure::refused(error)
            .hint("nothing was changed; correct these in the database, or move them out of it, and run again"),
        AdoptError::Orphans { .. } => Failure::refused(error)
            .hint("nothing was changed; to leave them out (the backup keeps them), add --prune-orphans"),
        AdoptError::Changed => {
            Failure::refused(error).hint("nothing was adopted; stop the app and run again")
        }
        error => Failure::failed(error).hint("the database is as it was"),
    }
}
