#![doc = include_str!("../README.md")]

mod definition;
mod lint;
pub mod plan;
mod route;
mod store;
mod sync;

pub use definition::{Definitions, Deprecation, LoadToolsError, Resolution, ToolDefinition};
pub use lint::{Problem, ProblemKind, Problems, RESERVED_ROUTES, is_hidden};
pub use plan::{DefaultTools, Options, Orphans, PlanSyncError, SyncPlan, plan};
pub use route::{SharedRoute, SharedRoutes};
pub use sync::{SyncToolsError, sync};
