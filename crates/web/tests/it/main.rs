//! The app over HTTP, on real SQLite and PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod access;
mod account;
mod admin;
mod asset;
mod check;
mod dashboard;
mod form;
mod frame;
mod health;
mod login;
mod matrix;
mod metrics;
mod running;
mod user;
