//! Access on real SQLite and PostgreSQL.

#![allow(clippy::unwrap_used, reason = "test code")]

mod change;
mod counts;
mod explain;
mod export;
mod file;
mod import;
mod property;
mod saved;
mod together;
mod world;
