//! All SQL of this crate.

pub(crate) mod change;
pub(crate) mod history;
pub(crate) mod query;
