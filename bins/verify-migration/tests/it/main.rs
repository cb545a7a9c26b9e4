//! The program, as its users run it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod application;
mod expected;
mod help;
mod program;
mod repair;
mod run;
