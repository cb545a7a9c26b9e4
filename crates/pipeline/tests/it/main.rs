//! Plans, runs and the local platform, with real processes.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod fake;
mod local;
mod plan;
mod runner;
mod suite;
