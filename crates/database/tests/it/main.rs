//! The database crate on real SQLite and PostgreSQL.

#![allow(clippy::unwrap_used, reason = "test code")]

mod drift;
mod ledger;
mod lock;
mod migration;
mod open;
mod pool;
mod run;
mod schema;
mod stamp;
mod tls;
mod transaction;
