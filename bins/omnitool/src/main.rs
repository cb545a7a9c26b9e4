//! The app, and what its operators need around it.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod check;
mod create_user;
mod deployments;
mod explain;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use omnitool_cli::{Failure, Format, LevelFilter, Outcome, Program, TargetArgs};
use omnitool_database::ConnectError;

const EXAMPLES: &str = "\
Examples:
  omnitool serve --env local
  omnitool check --env staging --format json
  omnitool create-user alice --email alice@example.com
  omnitool create-user --demo-users --env local
  omnitool explain user_a \"Invoice Generator\"

Exit codes: 0 done, or the app could serve; 1 failed or refused, 2 wrong usage";

/// The app: people log in and see the tools that they may use
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    target: TargetArgs,

    /// How to print the result
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,

    /// The name of the dyno, which Heroku sets
    #[arg(long, global = true, env = "DYNO", hide = true)]
    dyno: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    CreateUser(create_user::Args),
    Explain(explain::Args),
}

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }

    fn log_level(&self) -> LevelFilter {
        match self.command {
            // The log of requests is what the app is watched by.
            Command::Serve(_) => LevelFilter::INFO,
            Command::Check(_) | Command::CreateUser(_) | Command::Explain(_) => LevelFilter::WARN,
        }
    }
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    let Args { command, target, format, dyno } = args;
    match command {
        Command::Serve(args) => serve::run(args, &target, format, dyno.as_deref()),
        Command::Check(args) => check::run(&args, &target, format),
        Command::CreateUser(args) => create_user::run(args, &target, format, dyno.as_deref()),
        Command::Explain(args) => explain::run(&args, &target, format),
    }
}

/// A database that cannot be worked on, with what to do about it.
fn connect_failure(error: ConnectError) -> Failure {
    let hint = error.next_step();
    let failure = if error.is_refusal() { Failure::refused(error) } else { Failure::failed(error) };
    failure.hint(hint)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }
}
