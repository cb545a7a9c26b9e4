//! The checks on real SQLite and PostgreSQL: start clean, break one thing, expect exactly that finding.

#![allow(clippy::unwrap_used, reason = "test code")]

mod access;
mod assertions;
mod backup;
mod database;
mod drift;
mod expected;
mod report;
mod setup;
mod sharing;
mod tools;
