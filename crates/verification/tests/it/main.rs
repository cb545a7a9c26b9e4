//! The checks on real SQLite and PostgreSQL: start clean, break one thing, expect exactly that finding.

#![allow(clippy::unwrap_used, reason = "test code")]

mod access;
mod database;
mod report;
mod setup;
mod tools;
