#![doc = include_str!("../README.md")]

mod base_url;
mod certificate;
mod check;
mod client;
mod fetch;
mod header;
mod health;
mod html;
mod probe;
mod report;
mod run;
mod text;

pub use base_url::{BaseUrl, ParseBaseUrlError};
pub use certificate::{LoadRootsError, Roots};
pub use check::{TESTS, Test};
pub use fetch::ErrorKind;
pub use probe::{LoadProbeUserError, ProbeUser};
pub use report::{Attempt, Report, Request, Status, TestOutcome, TestReport};
pub use run::{Options, run};
