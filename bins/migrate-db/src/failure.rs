//! What to do next, for each way to fail.

use omnitool_cli::Failure;
use omnitool_database::{OpenError, migration::MigrateError};
use omnitool_tool_registry::{LoadToolsError, PlanSyncError, SharedRoute, SyncToolsError};

pub(crate) fn of_load(error: LoadToolsError) -> Failure {
    Failure::refused(error).hint("correct the definitions; nothing was changed")
}

pub(crate) fn of_open(error: OpenError) -> Failure {
    let hint = match &error {
        OpenError::Missing { .. } => "run migrate-db with --env and no other flag to make it",
        OpenError::ClearText { .. } => {
            "use a build with the feature `tls`: cargo build --release --features tls"
        }
        _ => "check DATABASE_URL, and that the database can be reached and written",
    };
    Failure::failed(error).hint(hint)
}

pub(crate) fn of_migrate(error: MigrateError) -> Failure {
    match &error {
        MigrateError::Newer { .. } => Failure::refused(error)
            .hint("deploy the newer build, or restore a backup of this one's schema"),
        MigrateError::Changed { names } => {
            let version = names.first().and_then(|name| name.split('_').next()).unwrap_or_default();
            let hint = format!(
                "restore its text and write another migration; or, where both texts make the same schema: \
                 migrate-db --accept-changed {version}; or, in development, for the newest one: migrate-db --redo"
            );
            Failure::refused(error).hint(hint)
        }
        MigrateError::NotChanged { .. } => {
            Failure::refused(error).hint("see which changed: migrate-db --status")
        }
        MigrateError::OutOfOrder { .. } => Failure::refused(error)
            .hint("rename its folders, in both dialects, to a version after the newest"),
        MigrateError::Stale { .. } => {
            Failure::refused(error).hint("nothing was changed; run again to see the new plan")
        }
        MigrateError::Locked { .. } => Failure::failed(error)
            .hint("nothing was changed; wait until the other one ends, or longer: --lock-wait SECONDS"),
        MigrateError::Apply { .. } => Failure::failed(error).hint(
            "what the failed migration did is undone, unless it runs without a transaction; correct it and run again",
        ),
        MigrateError::Revert { .. } => Failure::failed(error)
            .hint("it is still applied; see where the database stands: migrate-db --status"),
        MigrateError::Orphans { .. } => {
            Failure::failed(error).hint("nothing was changed; correct the migration and run again")
        }
        _ => Failure::failed(error).hint(
            "what was not completed is undone; check that the database can be reached and written, and run again",
        ),
    }
}

pub(crate) fn of_sync(error: SyncToolsError) -> Failure {
    if let SyncToolsError::Plan(PlanSyncError::SharedRoutes(_)) = error {
        let next = SharedRoute::NEXT_STEP;
        return Failure::refused(error)
            .hint(format!("the schema is migrated, the tools are as they were; {next}"));
    }
    Failure::failed(error)
        .hint("the schema is migrated, the tools are as they were; run `sync-tools` to try again")
}
