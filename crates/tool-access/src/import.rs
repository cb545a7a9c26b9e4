//! File → database.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use omnitool_database::{AnyConnection, read_snapshot, write_transaction};
use omnitool_environment::EnvironmentName;

use crate::{Author, Counts, FactKind, Origin, file::ReadAccessFileError, store};

pub(crate) mod plan;
mod resolve;
mod saved;

pub use plan::{Contradiction, ForeignKeyCheck, ImportPlan, ResolvedTool, Shown, Skipped};
pub use saved::{SavedPlan, SavedPlanError};

/// How long an import waits for others who change facts, in all.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// What an import may do to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Adds what the target lacks; removes nothing, ever.
    #[default]
    Merge,
    /// Also removes what the target has against the file, inside the file's scope.
    Sync,
    /// Also removes everything that is not in the file.
    Overwrite,
}

impl Mode {
    /// The name, as a flag has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Sync => "sync",
            Self::Overwrite => "overwrite",
        }
    }
}

/// What to do about users whom the target does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownUsers {
    /// Their facts are skipped and counted: users differ between environments.
    #[default]
    Skip,
    /// The import is refused.
    Refuse,
}

/// Whether production's facts may be overwritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverwriteProduction {
    /// No: production has users that no file has heard of.
    #[default]
    Refuse,
    /// Yes.
    Allow,
}

/// How many facts a sync may remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemovalLimit {
    /// A quarter of what the target has in the file's scope, and at least 10.
    #[default]
    Quarter,
    /// So many.
    Facts(u64),
    /// So many of a hundred of what the target has in the file's scope.
    Percent(u8),
}

impl RemovalLimit {
    /// How many facts may be removed where the scope has `facts`.
    #[must_use]
    pub fn of(self, facts: u64) -> u64 {
        match self {
            Self::Quarter => (facts / 4).max(10),
            Self::Facts(limit) => limit,
            Self::Percent(percent) => facts.saturating_mul(percent.into()) / 100,
        }
    }
}

/// What became of a tool under an older name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// It is now called so.
    RenamedTo(String),
    /// It is gone, and its facts with it.
    Deleted,
}

/// What to import, and how.
pub struct ImportRequest<'a> {
    /// The file.
    pub file: &'a Path,
    /// What may be done to the target.
    pub mode: Mode,
    /// What to do about users whom the target does not have.
    pub unknown_users: UnknownUsers,
    /// How many facts a sync may remove. An explicit limit holds for an overwrite, too.
    pub removals: RemovalLimit,
    /// Whether production may be overwritten.
    pub overwrite_production: OverwriteProduction,
    /// Only facts of these users, where any are named.
    pub only_users: &'a [String],
    /// Only facts of these tools, where any are named.
    pub only_tools: &'a [String],
    /// Only facts of this kind, where one is named.
    pub only_kind: Option<FactKind>,
    /// What became of a tool that the target does not have under this name.
    pub replacement: &'a dyn Fn(&str) -> Option<Replacement>,
    /// Is told how many more bytes were read.
    pub progress: &'a dyn Fn(u64),
}

impl std::fmt::Debug for ImportRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportRequest")
            .field("file", &self.file)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl<'a> ImportRequest<'a> {
    /// A merge of `file` that skips unknown users and knows no older names.
    #[must_use]
    pub fn merge(file: &'a Path) -> Self {
        Self {
            file,
            mode: Mode::Merge,
            unknown_users: UnknownUsers::Skip,
            removals: RemovalLimit::Quarter,
            overwrite_production: OverwriteProduction::Refuse,
            only_users: &[],
            only_tools: &[],
            only_kind: None,
            replacement: &|_| None,
            progress: &|_| {},
        }
    }
}

/// Why nothing was imported; the target is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read or contradicts itself.
    #[error("cannot read the export")]
    Read(#[from] ReadAccessFileError),
    /// Tools that neither exist nor ever did.
    #[error("{}{} names tools that the target does not have: {}", .file.display(), .line.map_or_else(String::new, |line| format!(", line {line},")), plan::list(tools, *.count))]
    UnknownTools {
        /// The file.
        file: PathBuf,
        /// The line of the first of them.
        line: Option<usize>,
        /// The first of them.
        tools: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// `--strict`, and there are users whom the target does not have.
    #[error("{} names users that the target does not have: {}", .file.display(), plan::list(users, *.count))]
    UnknownUsers {
        /// The file.
        file: PathBuf,
        /// The first of them.
        users: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// A flag names somebody or something that is neither in the file nor in the target.
    #[error("there is no {what} `{name}` in the file or the target")]
    UnknownFilter {
        /// User or tool.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The file has no scope, so that it does not say what should be removed.
    #[error("{} has no scope ({reason}), so it can only be merged{}", .file.display(), if *.can_overwrite { " or used to overwrite" } else { "" })]
    NoScope {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: &'static str,
        /// Whether it can overwrite.
        can_overwrite: bool,
    },
    /// An overwrite of a part.
    #[error("an overwrite replaces everything and cannot be narrowed to users or tools")]
    NarrowedOverwrite,
    /// Production is not overwritten by default.
    #[error(
        "production is not overwritten: it has users and facts that no other environment knows"
    )]
    Production,
    /// More would be removed than allowed.
    #[error("this {} would remove {removed} of the {scope} facts that the target has in the file's scope, and at most {limit} may be removed", .mode.as_str())]
    TooManyRemovals {
        /// The mode.
        mode: Mode,
        /// How many would be removed.
        removed: u64,
        /// How many facts the target has in the scope.
        scope: u64,
        /// How many may be removed.
        limit: u64,
    },
    /// The plan cannot be saved.
    #[error("cannot write the plan {}", .file.display())]
    WritePlan {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The caller looked at the plan and said no.
    #[error("not confirmed; nothing was changed")]
    NotApproved,
    /// The saved plan cannot be used.
    #[error(transparent)]
    Saved(#[from] SavedPlanError),
    /// The database refused.
    #[error("cannot import into the database")]
    Database(#[from] diesel::result::Error),
}

/// What the caller says to a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Do it.
    Apply,
    /// Leave everything as it is.
    Stop,
}

/// What an import would do. Nothing can be written meanwhile: on PostgreSQL the transaction is read-only, and a SQLite
/// connection may be opened for reading.
///
/// ```
/// # use std::path::Path;
/// # use omnitool_database::AnyConnection;
/// # use omnitool_environment::EnvironmentName;
/// use omnitool_tool_access::{ImportError, ImportRequest, Shown, plan_import};
///
/// fn preview(conn: &mut AnyConnection) -> Result<String, ImportError> {
///     let merge = ImportRequest::merge(Path::new("data/tool_access_exports/local_tool_access.json"));
///     Ok(plan_import(conn, EnvironmentName::Staging, &merge)?.text(Shown::Everything))
/// }
/// ```
///
/// # Errors
///
/// Fails where the import itself would.
pub fn plan_import(
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    request: &ImportRequest<'_>,
) -> Result<ImportPlan, ImportError> {
    check_request(environment, request)?;
    store::stage::create(conn)?;
    let plan = read_snapshot(conn, |conn| resolve::plan(conn, environment, request))?;
    store::stage::remove(conn)?;
    Ok(plan)
}

/// [`plan_import`], whose changes are also written to `out` so that exactly they can be applied later.
///
/// ```
/// # use std::path::Path;
/// # use omnitool_database::AnyConnection;
/// # use omnitool_environment::EnvironmentName;
/// use omnitool_tool_access::{ImportError, ImportPlan, ImportRequest, Mode, save_import_plan};
///
/// fn save(conn: &mut AnyConnection, out: &mut Vec<u8>) -> Result<ImportPlan, ImportError> {
///     let merge = ImportRequest::merge(Path::new("access.json"));
///     let sync = ImportRequest { mode: Mode::Sync, ..merge };
///     save_import_plan(conn, EnvironmentName::Staging, &sync, out)
/// }
/// ```
///
/// # Errors
///
/// Fails where the import itself would, or `out` cannot be written.
pub fn save_import_plan(
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    request: &ImportRequest<'_>,
    out: &mut dyn std::io::Write,
) -> Result<ImportPlan, ImportError> {
    check_request(environment, request)?;
    store::stage::create(conn)?;
    let plan = read_snapshot(conn, |conn| {
        let plan = resolve::plan(conn, environment, request)?;
        plan.check_limit(request.removals)?;
        saved::write(conn, &plan, out)?;
        Ok::<_, ImportError>(plan)
    })?;
    store::stage::remove(conn)?;
    Ok(plan)
}

/// Imports in one transaction. `approve` sees the plan before anything is written.
///
/// ```
/// # use std::path::Path;
/// # use omnitool_database::AnyConnection;
/// # use omnitool_environment::EnvironmentName;
/// use omnitool_tool_access::{Approval, ImportError, ImportPlan, ImportRequest, run_import};
///
/// /// Merges, unless the file names users whom the target does not have.
/// fn deploy(conn: &mut AnyConnection) -> Result<ImportPlan, ImportError> {
///     let merge = ImportRequest::merge(Path::new("access.json"));
///     run_import(conn, EnvironmentName::Staging, &merge, None, |plan| match plan.unknown_user_count {
///         0 => Approval::Apply,
///         _ => Approval::Stop,
///     })
/// }
/// ```
///
/// # Errors
///
/// Fails where the file, the request or the database is wrong, or `approve` says no; the target is then as it was.
pub fn run_import(
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    request: &ImportRequest<'_>,
    run_id: Option<String>,
    approve: impl FnOnce(&ImportPlan) -> Approval,
) -> Result<ImportPlan, ImportError> {
    check_request(environment, request)?;
    store::stage::create(conn)?;
    write(conn, |conn| {
        let plan = resolve::plan(conn, environment, request)?;
        plan.check_limit(request.removals)?;
        if approve(&plan) == Approval::Stop {
            return Err(ImportError::NotApproved);
        }
        apply(conn, &plan, run_id)?;
        Ok(plan)
    })
}

/// Applies a saved plan, in one transaction and only where the target's facts are those that it was made from.
///
/// ```
/// # use std::path::Path;
/// # use omnitool_database::AnyConnection;
/// # use omnitool_environment::EnvironmentName;
/// use omnitool_tool_access::{ImportError, ImportPlan, OverwriteProduction, SavedPlan, apply_saved_plan};
///
/// fn apply(conn: &mut AnyConnection) -> Result<ImportPlan, ImportError> {
///     let saved = SavedPlan::load(Path::new("plan.json"))?;
///     let run_id = Some("run-0007".to_owned());
///     apply_saved_plan(conn, EnvironmentName::Staging, &saved, OverwriteProduction::Refuse, run_id)
/// }
/// ```
///
/// # Errors
///
/// Fails where the plan is another environment's, the target's facts changed since, or the database refuses.
pub fn apply_saved_plan(
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    saved: &SavedPlan,
    overwrite_production: OverwriteProduction,
    run_id: Option<String>,
) -> Result<ImportPlan, ImportError> {
    check_production(environment, saved.plan().mode, overwrite_production)?;
    store::stage::create(conn)?;
    write(conn, |conn| {
        let plan = saved.stage(conn, environment)?;
        apply(conn, &plan, run_id)?;
        Ok(plan)
    })
}

/// Runs `body` in a transaction in which nobody else changes facts.
fn write(
    conn: &mut AnyConnection,
    body: impl FnOnce(&mut AnyConnection) -> Result<ImportPlan, ImportError>,
) -> Result<ImportPlan, ImportError> {
    store::import::prepare(conn)?;
    let result = write_transaction(conn, |conn| {
        store::lock::lock_facts(conn, LONGEST_WAIT)?;
        body(conn)
    });
    let restored = store::import::restore(conn);
    let plan = result?;
    restored?;
    store::stage::remove(conn)?;
    Ok(plan)
}

fn check_request(
    environment: EnvironmentName,
    request: &ImportRequest<'_>,
) -> Result<(), ImportError> {
    let is_narrowed = !request.only_users.is_empty()
        || !request.only_tools.is_empty()
        || request.only_kind.is_some();
    if request.mode == Mode::Overwrite && is_narrowed {
        return Err(ImportError::NarrowedOverwrite);
    }
    check_production(environment, request.mode, request.overwrite_production)
}

fn check_production(
    environment: EnvironmentName,
    mode: Mode,
    overwrite: OverwriteProduction,
) -> Result<(), ImportError> {
    if mode == Mode::Overwrite
        && environment == EnvironmentName::Production
        && overwrite == OverwriteProduction::Refuse
    {
        return Err(ImportError::Production);
    }
    Ok(())
}

/// Writes what is staged. The history comes first, as it reads the same tables.
fn apply(
    conn: &mut AnyConnection,
    plan: &ImportPlan,
    run_id: Option<String>,
) -> Result<(), ImportError> {
    if plan.is_empty() {
        return Ok(());
    }
    let author = Author {
        file_sha256: Some(plan.file_sha256.clone()),
        run_id,
        ..Author::program("import-tool-access", Origin::Import)
    };
    let run = store::history::insert_run(conn, &author)?;
    let removes = plan.removed != Counts::default();
    store::import::apply(conn, run, plan.sources, plan.foreign_keys, removes)?;
    Ok(())
}
