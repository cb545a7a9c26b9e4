//! `--adopt`: brings a database of the Python system under our migrations.

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
    #[error("there is no backup of this PostgreSQL database")]
    NoBackup,
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
    let backup = match target.database_url.sqlite_path() {
        Some(file) => adoption::back_up(conn, file, &plan).map_err(failure_of)?,
        None if args.backup_taken => Backup::Elsewhere,
        None => {
            return Err(Failure::refused(RefuseError::NoBackup).hint(
                "take one and say so: pg_dump --format=custom --file=before-adoption.dump …; then add --backup-taken",
            ));
        }
    };
    if let Backup::File { path, .. } = &backup {
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
        backup: match backup {
            Backup::File { path, .. } => Some(path),
            Backup::Elsewhere => None,
        },
    };
    say(&adopted.to_string())?;
    Ok(adopted)
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
