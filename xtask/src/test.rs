//! `cargo xtask test`.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode, ExitStatus},
};

use clap::Args;
use omnitool_cli::Failure;

use crate::{
    postgres::{self, Server},
    project::{Profile, Project},
};

/// The flags of `cargo xtask test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// Arguments for `cargo test` [default: --workspace]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Runs all tests, or those that the arguments name, and returns the exit code of `cargo test`.
pub(crate) fn run(project: &Project, args: &TestArgs) -> Result<ExitCode, Failure> {
    let status = test(project, &args.arguments)?;
    Ok(match status.code().map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    })
}

/// Runs the tests with a server.
pub(crate) fn test(project: &Project, arguments: &[OsString]) -> Result<ExitStatus, Failure> {
    let server = postgres::provide()?;
    // With `--workspace`, cargo would ignore the packages that are named.
    let (selection, built): (&[&str], &str) = if names_packages(arguments) {
        (&[], "--bins")
    } else {
        (&["--workspace"], "--all-targets")
    };
    // Tests of whole deployments run the programs, which `cargo test` builds only for tests of their own package.
    let mut build = project.cargo();
    build.args(["build", "--locked", "--workspace", built]);
    let status = build.status()?;
    if !status.success() {
        return Ok(status);
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(project.programs_folder(Profile::Dev)?.join("with-postgres"));
    command.current_dir(project.root()).arg(cargo).args(["test", "--locked"]);
    command.args(selection).args(arguments);
    with_server(&mut command, &server);
    Ok(command.status()?)
}

/// Whether the arguments of cargo, up to those of the tests themselves, choose packages.
fn names_packages(arguments: &[OsString]) -> bool {
    let ours = arguments.iter().take_while(|argument| *argument != "--");
    ours.map(|argument| argument.to_string_lossy())
        .any(|argument| argument.starts_with("--package") || argument.starts_with("-p"))
}

/// Puts the server's programs where the tests look for them.
fn with_server(command: &mut Command, server: &Server) {
    if let Server::Programs(folder) = server {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder.clone()).chain(env::split_paths(&path));
        // A folder with a colon in its name cannot be on the path; it is then found without it or not at all.
        if let Ok(path) = env::join_paths(folders) {
            command.env("PATH", path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_before_the_arguments_of_the_tests() {
        let named = |text: &str| {
            names_packages(&text.split_whitespace().map(OsString::from).collect::<Vec<_>>())
        };
        assert!(named("-p omnitool-cli") && named("--package=x some_test"));
        assert!(!named("some_test --no-fail-fast") && !named("some_test -- -p"));
    }
}
