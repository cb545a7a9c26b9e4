//! What to do about what went wrong.

use omnitool_cli::Failure;
use omnitool_database::ConnectError;
use omnitool_tool_access::{ImportError, Mode, SavedPlanError};
use omnitool_tool_registry::LoadToolsError;

/// The program does not even try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedError {
    /// Something would be removed, and nobody said so.
    #[error("this {} removes {removed} of the target's facts, which has to be confirmed", .mode.as_str())]
    Unconfirmed {
        /// The mode.
        mode: Mode,
        /// How many facts it removes.
        removed: u64,
    },
}

pub(crate) fn import_failure(error: ImportError) -> Failure {
    let (is_refused, hint) = match &error {
        ImportError::Read(_) => (
            false,
            "nothing was changed; correct the file, or export it again with export-tool-access",
        ),
        ImportError::UnknownTools { .. } => (
            true,
            "nothing was changed; run sync-tools first, or say in data/tools.toml ([deprecated]) what became of them",
        ),
        ImportError::UnknownUsers { .. } => {
            (true, "nothing was changed; create these users, or leave --strict out to skip them")
        }
        ImportError::UnknownFilter { .. } => (true, "nothing was changed; check --user and --tool"),
        ImportError::NoScope { .. } => (true, "nothing was changed; use --mode merge"),
        ImportError::NarrowedOverwrite => (true, "use --mode sync with --user and --tool"),
        ImportError::Production => (
            true,
            "nothing was changed; use --mode merge or sync, or pass --allow-production if this is really meant",
        ),
        ImportError::TooManyRemovals { .. } => (
            true,
            "nothing was changed; look at it with --dry-run --verbose, then allow it with --max-removals N",
        ),
        ImportError::Saved(SavedPlanError::Stale | SavedPlanError::Environment { .. }) => {
            (true, "nothing was changed; make a new plan with --plan-out and look at it")
        }
        ImportError::Saved(_) => (false, "nothing was changed; make a new plan with --plan-out"),
        _ => (false, "nothing was changed; settle the cause and run it again"),
    };
    let failure = if is_refused { Failure::refused(error) } else { Failure::failed(error) };
    failure.hint(hint)
}

pub(crate) fn tools_failure(error: LoadToolsError) -> Failure {
    Failure::failed(error).hint("nothing was changed; correct the file, or leave --tools out")
}

pub(crate) fn connect_failure(error: ConnectError) -> Failure {
    let hint = error.next_step();
    if error.is_refusal() { Failure::refused(error) } else { Failure::failed(error) }.hint(hint)
}
