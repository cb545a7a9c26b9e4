//! Short HTTP checks of a running app.

use std::{convert::Infallible, num::NonZeroU32, process::ExitCode, str::FromStr, time::Duration};

use clap::Parser;
use omnitool_cli::{Failure, Format, Outcome, Program, environments, print, print_json, spinner};
use omnitool_environment::{EnvironmentName, Platform};
use omnitool_smoke_tests::{BaseUrl, Options, ParseBaseUrlError, Status};

const EXAMPLES: &str = "\
Tests: 1 homepage, 2 login page, 3 health endpoint, 4 static assets, 5 database, 6 no 5xx errors.
What the app does not offer is skipped and said so; everything else passes or fails.

Examples:
  smoke-tests --url http://localhost:5000
  smoke-tests --env staging
  smoke-tests --env production --platform heroku --expect-release v42 --format json

Exit codes: 0 all passed or skipped, 1 one or more failed, 2 wrong usage";

/// Test a running app over HTTP: do its pages, its assets and its database answer as they should
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// The app's address [default: the environment's in data/environments.toml]
    #[arg(long, value_name = "URL")]
    url: Option<UncheckedUrl>,

    /// The environment whose app to test, where no --url is given
    #[arg(long, env = "OMNITOOL_ENV", value_name = "ENV", default_value = "local")]
    env: EnvironmentName,

    /// The platform that the environment runs on: local or heroku
    #[arg(long, env = "OMNITOOL_PLATFORM", value_name = "PLATFORM", default_value = "local")]
    platform: Platform,

    /// How long everything may take, waiting for the app included
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    timeout: NonZeroU32,

    /// The release that must answer; an older one is waited for to go away
    #[arg(long, value_name = "ID")]
    expect_release: Option<String>,

    /// How to print the report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A URL that clap must not parse, since it would print a bad one with its password.
#[derive(Clone)]
struct UncheckedUrl(String);

impl FromStr for UncheckedUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// The flag is no address of an app.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the address from --url")]
struct InvalidUrlError(#[source] ParseBaseUrlError);

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    let options = Options {
        base_url: base_url(&args)?,
        timeout: Duration::from_secs(args.timeout.get().into()),
        expected_release: args.expect_release,
    };
    let progress = spinner(&format!("Testing {}", options.base_url));
    let report = omnitool_smoke_tests::run(&options);
    progress.finish_and_clear();
    match args.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    Ok(match report.status {
        Status::Passed => Outcome::Done,
        Status::Failed => Outcome::Failed,
    })
}

fn base_url(args: &Args) -> Result<BaseUrl, Failure> {
    const HINT: &str = "pass the app's address, such as --url http://localhost:5000";
    if let Some(UncheckedUrl(text)) = &args.url {
        return text.parse().map_err(|error| Failure::usage(InvalidUrlError(error)).hint(HINT));
    }
    let environments = environments().map_err(|error| Failure::failed(error).hint(HINT))?;
    let url = environments
        .base_url(args.env, args.platform)
        .map_err(|error| Failure::usage(error).hint(HINT))?;
    Ok(url.as_str().parse()?)
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
