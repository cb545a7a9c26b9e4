//! `cargo xtask test`.

mod browser;
pub(crate) mod debian;

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode, ExitStatus},
};

use clap::Args;
use omnitool_cli::Failure;

use self::browser::Browser;
use crate::{
    postgres::{self, Server},
    project::{Profile, Project},
};

/// The package whose tests open pages in a browser.
const PACKAGE_WITH_PAGES: &str = "omnitool";

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

/// Runs the tests with a server, and with a browser where a test opens pages.
pub(crate) fn test(project: &Project, arguments: &[OsString]) -> Result<ExitStatus, Failure> {
    let server = postgres::provide()?;
    let browser =
        if opens_pages(arguments) { Some(Browser::provide(project.root())?) } else { None };
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
    if let Some(browser) = &browser {
        browser.tell(&mut command);
    }
    Ok(command.status()?)
}

/// Whether the package whose tests open pages is among those that are tested.
fn opens_pages(arguments: &[OsString]) -> bool {
    let mut ours = arguments.iter().take_while(|argument| *argument != "--");
    let names = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        let name = argument.strip_prefix("--package=").or_else(|| argument.strip_prefix("-p"));
        name.unwrap_or(&argument) == PACKAGE_WITH_PAGES
    };
    !names_packages(arguments) || ours.any(names)
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

    #[test]
    fn a_browser_is_needed_for_the_app_alone() {
        let opens = |text: &str| {
            opens_pages(&text.split_whitespace().map(OsString::from).collect::<Vec<_>>())
        };
        assert!(opens("") && opens("-p omnitool --test browser") && opens("--package=omnitool"));
        assert!(opens("-p omnitool-cli -pomnitool"));
        assert!(!opens("-p omnitool-cli") && !opens("-p omnitool-cli -- omnitool"));
    }
}
