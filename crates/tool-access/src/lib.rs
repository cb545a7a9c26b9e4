#![doc = include_str!("../README.md")]

mod author;
mod change;
mod explain;
mod export;
mod facts;
mod file;
mod import;
mod name;
mod query;
mod store;

pub use author::{Author, Origin};
pub use change::{
    Change, ChangeAccessError, ChangeOutcome, exclude, grant, grant_defaults, grant_everyone,
    include, revoke, revoke_everyone,
};
pub use explain::{
    DeletedTool, ExplainError, Explanation, FactSource, HistoryEntry, Reason, explain,
};
pub use export::{Comparison, Difference, Export, ExportError, Exported, Fact, FactKind};
pub use file::{
    DEFAULT_FOLDER, FORMAT, FactList, FileHeader, FileLayout, FileProblem, ReadAccessFileError,
    VERSION, default_file,
};
pub use import::{
    Approval, Contradiction, ForeignKeyCheck, ImportError, ImportPlan, ImportRequest, Mode,
    OverwriteProduction, RemovalLimit, Replacement, ResolvedTool, SavedPlan, SavedPlanError, Shown,
    Skipped, UnknownUsers, apply_saved_plan, plan_import, run_import, save_import_plan,
};
pub use query::{
    Counts, QueryAccessError, Tool, User, count, may_use, may_use_by_name, tools_for,
    tools_for_by_name, users_of, users_of_by_name,
};
pub use store::lock::lock_facts;
