//! Plans, runs and the local platform, with real processes.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod fake;
mod github;
mod heroku;
mod html;
mod local;
mod notify;
mod plan;
mod runner;
mod scene;
mod suite;
