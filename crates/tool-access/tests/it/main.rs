//! Access on real SQLite and PostgreSQL.

mod change;
mod explain;
mod export;
mod file;
mod import;
mod property;
mod saved;
mod world;
