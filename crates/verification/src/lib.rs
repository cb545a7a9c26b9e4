#![doc = include_str!("../README.md")]

mod assertion;
mod check;
mod report;
mod store;
mod verify;

pub use check::{
    AppAnswer, AppCheck, CHECKS, Check, EmptySelectionError, FindBackup, LastBackup, Selection,
    Severity, UnknownCheckError, find_check,
};
pub use report::{CheckReport, Detail, Elapsed, Finding, Outcome, Report, Status};
pub use verify::{Depth, Expectations, Subject, default_access_tests, verify, verify_against};
