#![doc = include_str!("../README.md")]

mod author;
mod change;
mod query;
mod store;

pub use author::{Author, Origin};
pub use change::{
    Change, ChangeAccessError, ChangeOutcome, exclude, grant, grant_everyone, include, revoke,
    revoke_everyone,
};
pub use query::{
    Counts, QueryAccessError, Tool, User, count, may_use, may_use_by_name, tools_for,
    tools_for_by_name, users_of, users_of_by_name,
};
