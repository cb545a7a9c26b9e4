//! The program as its users run it.

mod check;
mod create_user;
mod explain;
mod help;
mod serve;

const PROGRAM: &str = env!("CARGO_BIN_EXE_omnitool");
