#![doc = include_str!("../README.md")]

mod advice;
mod connection;
pub mod migration;
mod open;
pub mod pool;
pub mod schema;
pub mod stamp;
mod transaction;

pub use connection::{AnyConnection, Dialect, MultiBackend};
pub use open::{ConnectError, Mode, OpenError, connect, open, sqlite_uri};
pub use transaction::{read_snapshot, try_lock, write_transaction};
