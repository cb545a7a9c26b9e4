#![doc = include_str!("../README.md")]
// This crate is test code: a failure here is a failed test, and a panic is how to say so.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "test code")]

pub mod bench;
mod database;
mod dump;
pub mod fixture;
mod postgres;
mod project;

pub use database::TestDatabase;
pub use dump::dump;
pub use omnitool_database::Dialect;
pub use postgres::{PostgresServer, SERVER_URL_VARIABLE};
pub use project::{CommandOutput, TestProject, write_program};

/// Makes two tests of each named function `fn(TestDatabase)`: one on SQLite, one on PostgreSQL.
///
/// The database is migrated and stamped `local`.
#[macro_export]
macro_rules! on_both_databases {
    ($($check:ident),+ $(,)?) => {
        $(
            mod $check {
                #[test]
                fn sqlite() {
                    super::$check($crate::TestDatabase::migrated($crate::Dialect::Sqlite));
                }

                #[test]
                fn postgres() {
                    super::$check($crate::TestDatabase::migrated($crate::Dialect::Postgres));
                }
            }
        )+
    };
}
