//! What to do next, for each way to fail.

use std::{io, path::PathBuf};

use omnitool_backup::{
    RestoreError,
    masking::{LoadMaskingError, MaskError},
    refresh::{PlanRefreshError, RefreshError, RefreshRecordError},
};
use omnitool_cli::Failure;
use omnitool_tool_registry::LoadToolsError;

const UNCHANGED: &str = "staging is as it was";

/// The program does not even try.
#[derive(Debug, thiserror::Error)]
enum RefusedError {
    #[error("personal data would be copied to staging as it is, and nobody has confirmed that")]
    Unconfirmed,
    #[error("cannot read the committed tool access {}", .file.display())]
    Access {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
}

pub(crate) fn unconfirmed() -> Failure {
    Failure::refused(RefusedError::Unconfirmed)
        .hint("nothing was changed; leave --unmasked out, or add --confirm if it is really meant")
}

pub(crate) fn of_access(file: PathBuf, source: io::Error) -> Failure {
    Failure::refused(RefusedError::Access { file, source }).hint(
        "nothing was changed; without it, users excluded in development would have access: \
         run this in the project's root, or name the file with --access",
    )
}

pub(crate) fn of_rules(error: LoadMaskingError) -> Failure {
    Failure::refused(error).hint("nothing was changed; correct these lines and run it again")
}

pub(crate) fn of_tools(error: LoadToolsError) -> Failure {
    Failure::refused(error).hint("nothing was changed; correct the definitions")
}

pub(crate) fn of_plan(error: PlanRefreshError) -> Failure {
    let hint = match &error {
        PlanRefreshError::TargetIsProduction { .. } | PlanRefreshError::TargetStamp { .. } => {
            "nothing was changed; DATABASE_URL or --database-url must name staging's database"
        }
        PlanRefreshError::SameDatabase { .. } | PlanRefreshError::DifferentSystems { .. } => {
            "nothing was changed; check SOURCE_DATABASE_URL and DATABASE_URL"
        }
        PlanRefreshError::SourceStamp { .. } => {
            "nothing was changed; name production with SOURCE_DATABASE_URL, or say with --source-env what is copied"
        }
        PlanRefreshError::NewerSource { .. } => {
            "nothing was changed; use the programs of the build that production runs, or a newer one"
        }
        PlanRefreshError::NewerTarget { .. } => {
            "nothing was changed; use the programs of the build that staging runs, or a newer one"
        }
        PlanRefreshError::Masking(_) => {
            "nothing was changed; say in data/masking.toml what becomes of each of them, then pass it with --masking \
             or build again"
        }
        PlanRefreshError::Read { .. } => {
            return Failure::failed(error).hint(
                "nothing was changed; check SOURCE_DATABASE_URL and DATABASE_URL, and that both databases can be reached",
            );
        }
        _ => {
            return Failure::failed(error)
                .hint("nothing was changed; settle the cause and run it again");
        }
    };
    Failure::refused(error).hint(hint)
}

pub(crate) fn of_refresh(error: RefreshError) -> Failure {
    let hint = match &error {
        RefreshError::Record(RefreshRecordError::Running { .. }) => {
            return Failure::refused(error).hint(format!(
                "{UNCHANGED}; see how far it is: sync-data-prod-to-staging --check-status"
            ));
        }
        RefreshError::Target(_) | RefreshError::Stale => {
            return Failure::refused(error)
                .hint(format!("{UNCHANGED}; look at the plan again: --dry-run"));
        }
        RefreshError::Mask(MaskError::Leak { .. }) => {
            return Failure::refused(error).hint(format!(
                "{UNCHANGED} and the copy is removed; somebody has put personal data into these columns: correct it there, or mask \
                 them, too, with a file of your own and --masking FILE"
            ));
        }
        RefreshError::Switch(RestoreError::Locked { .. }) => {
            format!("{UNCHANGED}; stop what writes to it and run this again")
        }
        RefreshError::Stopped { .. } => format!("{UNCHANGED} and the copy is removed"),
        RefreshError::Backup(_) => {
            format!(
                "{UNCHANGED}; without a backup there would be no way back, so nothing was copied"
            )
        }
        _ => format!("{UNCHANGED} and the copy is removed; settle the cause and run this again"),
    };
    Failure::failed(error).hint(hint)
}
