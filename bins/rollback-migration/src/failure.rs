//! What went wrong, and what to do next.

use omnitool_backup::{
    CatalogError, FindEnvironmentError, PlanRollbackError, RestoreError, UnsealError,
    UnsupportedDatabaseError, VerifyError,
};
use omnitool_cli::Failure;
use omnitool_environment::EnvironmentName;

pub(crate) fn unsupported(error: UnsupportedDatabaseError) -> Failure {
    Failure::refused(error).hint("write it behind the host: postgres://user@host/NAME")
}

pub(crate) fn environment(error: FindEnvironmentError) -> Failure {
    match error {
        FindEnvironmentError::Unsupported(error) => unsupported(error),
        error => Failure::refused(error).hint("name the environment, such as --env staging"),
    }
}

pub(crate) fn plan(error: PlanRollbackError, environment: EnvironmentName) -> Failure {
    let list = format!("backup-database --env {environment} list");
    match error {
        PlanRollbackError::Catalog(CatalogError::NotFound { .. })
        | PlanRollbackError::NoBackup { .. }
        | PlanRollbackError::NothingToUndo { .. } => {
            Failure::refused(error).hint(format!("nothing was changed; see what there is: {list}"))
        }
        PlanRollbackError::Unseal(UnsealError::NoIdentity { .. })
        | PlanRollbackError::Verify(VerifyError::Unseal(UnsealError::NoIdentity { .. })) => {
            Failure::refused(error)
                .hint("nothing was changed; name the file with the age identity: --identity FILE")
        }
        PlanRollbackError::System { .. } => Failure::refused(error)
            .hint(format!("nothing was changed; choose a backup of this database: {list}")),
        PlanRollbackError::Newer { .. } => Failure::refused(error)
            .hint("nothing was changed; use the rollback-migration of the release that took it"),
        PlanRollbackError::Stamp { stamped, .. } => Failure::refused(error)
            .hint(format!("nothing was changed; --env {stamped} is what this database is")),
        PlanRollbackError::LiveForeign => Failure::refused(error)
            .hint("nothing was changed; name the right database with --database-url"),
        PlanRollbackError::Live(_) => Failure::failed(error).hint(
            "nothing was changed; where the file is damaged, move it away together with its -wal and -shm, \
             and run this again: the backup is then restored into a new file",
        ),
        error => Failure::failed(error)
            .hint(format!("nothing was changed; choose another backup: {list}")),
    }
}

pub(crate) fn restore(error: RestoreError, environment: EnvironmentName) -> Failure {
    const UNCHANGED: &str = "the database is as it was";
    match error {
        RestoreError::Running { .. } => {
            Failure::refused(error).hint(format!("{UNCHANGED}; wait until it has ended"))
        }
        RestoreError::Server { .. } => {
            Failure::failed(error).hint(format!("{UNCHANGED} and serving"))
        }
        RestoreError::Unfit { .. } => Failure::refused(error).hint(format!(
            "{UNCHANGED}; choose another backup, or restore it anyway: --skip-checks REASON"
        )),
        RestoreError::Locked { .. } => Failure::failed(error)
            .hint(format!("{UNCHANGED}; stop what writes to it and run this again")),
        RestoreError::Safety(_) => Failure::failed(error).hint(format!(
            "{UNCHANGED}; without a safety backup there would be no way back, so nothing was restored"
        )),
        RestoreError::Journal { .. } => Failure::refused(error)
            .hint(format!("{UNCHANGED}; move it to a local disk, where SQLite can use shared memory")),
        error => Failure::failed(error).hint(format!(
            "{UNCHANGED}; is there room beside it? backup-database --env {environment} list shows the backups"
        )),
    }
}
