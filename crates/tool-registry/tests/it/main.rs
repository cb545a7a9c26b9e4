//! The registry on real SQLite and PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod default_tool;
mod orphan;
mod plan;
mod retirement;
mod rule;
mod state;
mod sync;
