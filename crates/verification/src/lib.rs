#![doc = include_str!("../README.md")]

mod check;
mod report;
mod store;
mod verify;

pub use check::{
    AppAnswer, AppCheck, CHECKS, Check, EmptySelectionError, Selection, Severity,
    UnknownCheckError, find_check,
};
pub use report::{CheckReport, Detail, Elapsed, Finding, Outcome, Report, Status};
pub use verify::{Depth, Subject, verify};
