#![doc = include_str!("../README.md")]

mod base_url;
mod check;
mod client;
mod fetch;
mod health;
mod html;
mod report;
mod run;
mod text;

pub use base_url::{BaseUrl, ParseBaseUrlError};
pub use check::{TESTS, Test};
pub use fetch::ErrorKind;
pub use report::{Attempt, Report, Request, Status, TestOutcome, TestReport};
pub use run::{Options, run};
