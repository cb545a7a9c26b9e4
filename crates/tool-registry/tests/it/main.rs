//! The registry on real SQLite and PostgreSQL.

mod default_tool;
mod orphan;
mod plan;
mod retirement;
mod rule;
mod state;
mod sync;
