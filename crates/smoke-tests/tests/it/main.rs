//! The library against loopback servers, friendly and hostile.

#![allow(clippy::unwrap_used, reason = "test code")]

mod healthy;
mod hostile;
mod latency;
mod probe;
mod server;
mod starting;
mod tls;

use std::time::Duration;

use omnitool_smoke_tests::{Options, Report, TestOutcome, TestReport};

use crate::server::Server;

/// The options to test `server`, with so much time that only a hanging test runs out of it.
fn options(server: &Server) -> Options {
    Options::new(server.url().parse().unwrap())
}

/// `options` for a run that is meant to run out of time.
fn impatient(server: &Server) -> Options {
    Options { timeout: Duration::from_millis(1800), ..options(server) }
}

fn test<'a>(report: &'a Report, id: &str) -> &'a TestReport {
    report.tests.iter().find(|test| test.id == id).unwrap()
}

/// The ids of the tests that ended in `outcome`.
fn with(report: &Report, outcome: TestOutcome) -> Vec<&'static str> {
    report.tests.iter().filter(|test| test.outcome == outcome).map(|test| test.id).collect()
}
