//! The project's own commands. Run them as `cargo xtask COMMAND`.
//!
//! They build and run the programs of this workspace and link no database, so that they are there in seconds.

mod arrows;
mod bench;
mod ci;
mod deploy;
mod deployments;
mod dev;
mod dist;
mod doctor;
mod heroku_conformance;
mod lint_migrations;
mod lint_workflows;
mod new_migration;
mod postgres;
mod project;
mod rehearse;
mod rollback;
mod stop;
mod terminal;
mod test;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use omnitool_cli::{Format, Outcome, Program};

use crate::project::Project;

const EXAMPLES: &str = "\
Examples:
  cargo xtask deploy-staging          build, migrate, serve and check a release on this machine
  cargo xtask deploy-staging --plan   show what that would do
  cargo xtask deploy-staging --platform heroku
                                      the same on Heroku, with a token in HEROKU_API_KEY
  cargo xtask dev                     the app with demo data, until Ctrl-C
  cargo xtask test                    all tests, on SQLite and PostgreSQL
  cargo xtask test -p omnitool-cli    some tests; arguments go to `cargo test`

Exit codes: 0 done, 1 failed or refused, 2 wrong usage; `test` exits as `cargo test` does";

/// omnitool's own commands: deployments, tests, checks
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Xtask {
    /// The project's root [default: where this program was built]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put a new release on staging: the whole pipeline, in order
    DeployStaging(deploy::staging::DeployStagingArgs),
    /// Put the release that passed staging on production: the whole pipeline, in order
    DeployProduction(deploy::production::DeployProductionArgs),
    /// Try on a copy of production's newest backup what a deployment would do to it
    Rehearse(rehearse::RehearseArgs),
    /// Go back: say what code, schema and data would each lose, and do the one that is chosen
    Rollback(rollback::RollbackArgs),
    /// Show runs: all, one, or how two differ
    Deployments(deployments::DeploymentsArgs),
    /// Serve the app with demo data from this working copy, until Ctrl-C
    Dev(dev::DevArgs),
    /// Stop an environment's app on this machine
    Stop(stop::StopArgs),
    /// Run all tests, with a PostgreSQL server
    Test(test::TestArgs),
    /// Measure the programs beside the raw limits
    Bench(bench::BenchArgs),
    /// Make the files of a new migration, for both dialects
    NewMigration(new_migration::NewMigrationArgs),
    /// Check that PostgreSQL's migrations neither block the app nor break the release that still serves
    LintMigrations,
    /// Check that the workflows are valid and safe, and their scripts sound
    LintWorkflows,
    /// Build the programs and pack the release artifact
    Dist(dist::DistArgs),
    /// Look for what is missing or wrong here and on Heroku, each with its repair; changes nothing
    Doctor(doctor::DoctorArgs),
    /// Prove the emulated Heroku by Heroku's own command line tool, where Node.js is
    HerokuConformance,
    /// Run what must hold before a change lands: format, lints, docs, dependency arrows, tests
    Ci,
}

impl Program for Xtask {
    fn format(&self) -> Format {
        match &self.command {
            Command::Deployments(args) => args.format(),
            Command::Dist(args) => args.format(),
            Command::Doctor(args) => args.format(),
            _ => Format::Text,
        }
    }
}

fn main() -> ExitCode {
    // `cargo test` has exit codes of its own, and whoever runs it through this program expects them.
    let mut passed_on = None;
    let code = omnitool_cli::run(|Xtask { root, command }| {
        let project = Project::open(root)?;
        match command {
            Command::DeployStaging(args) => deploy::staging::run(&project, &args),
            Command::DeployProduction(args) => deploy::production::run(&project, &args),
            Command::Rehearse(args) => rehearse::run(&project, &args),
            Command::Rollback(args) => rollback::run(&project, &args),
            Command::Deployments(args) => deployments::run(&project, &args),
            Command::Dev(args) => dev::run(&project, &args),
            Command::Stop(args) => stop::run(&project, &args),
            Command::Test(args) => {
                passed_on = Some(test::run(&project, &args)?);
                Ok(Outcome::Done)
            }
            Command::Bench(args) => bench::run(&project, &args),
            Command::NewMigration(args) => new_migration::run(&project, &args),
            Command::LintMigrations => lint_migrations::run(&project),
            Command::LintWorkflows => lint_workflows::run(&project),
            Command::Dist(args) => dist::run(&project, &args),
            Command::Doctor(args) => doctor::run(&project, &args),
            Command::HerokuConformance => heroku_conformance::run(&project),
            Command::Ci => ci::run(&project),
        }
    });
    passed_on.unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_make_sense_together() {
        Xtask::command().debug_assert();
    }
}
