//! The database crate on real SQLite and PostgreSQL.

mod migration;
mod open;
mod schema;
mod stamp;
mod transaction;
