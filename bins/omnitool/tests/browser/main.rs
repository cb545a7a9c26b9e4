//! The app as people use it: in a real browser, with the programs beside it, on real databases.
//!
//! `cargo xtask test -p omnitool --test browser` brings what this needs: Chromium with its driver, and axe-core.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod accessibility;
mod account;
mod app;
mod chrome;
mod dashboard;
mod driver;
mod matrix;
mod pages;
mod report;
mod scenario;

use std::path::PathBuf;

/// What each made-up user of these tests has.
const PASSWORD: &str = "correct horse battery staple";

/// A program of the workspace, which `cargo xtask test` builds.
fn program(name: &str) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_omnitool")).with_file_name(name);
    assert!(
        program.is_file(),
        "{} is not built; run `cargo xtask test -p omnitool`, or `cargo build --workspace --bins` first",
        program.display()
    );
    program
}
