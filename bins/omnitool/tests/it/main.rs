//! The program as its users run it.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod check;
mod create_user;
mod explain;
mod help;
mod serve;

const PROGRAM: &str = env!("CARGO_BIN_EXE_omnitool");
