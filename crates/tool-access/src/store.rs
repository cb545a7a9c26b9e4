//! All SQL of this crate.

pub(crate) mod change;
mod copy;
pub(crate) mod facts;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod lock;
pub(crate) mod query;
pub(crate) mod stage;
