//! Short HTTP checks of a running app.

use std::{
    convert::Infallible,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use omnitool_cli::{Failure, Format, Outcome, Program, environments, print, print_json, spinner};
use omnitool_environment::{EnvironmentName, Platform};
use omnitool_smoke_tests::{BaseUrl, Options, ParseBaseUrlError, ProbeUser, Roots, Status};

const EXAMPLES: &str = "\
Tests: 1 homepage, 2 login page, 3 health endpoint, 4 static assets, 5 database, 6 no 5xx errors;
7 TLS certificate, where the address is https; 8 the probe user's tools, where there is one.
What the app does not offer is skipped and said so; everything else passes, warns or fails.

The probe user's FILE is TOML: username = \"probe\" and tools = [\"Email Templates\"], exactly those
that this user sees after the login. The password is read from OMNITOOL_PROBE_PASSWORD.

Examples:
  smoke-tests --url http://localhost:5000
  smoke-tests --env staging --max-latency 2000
  smoke-tests --env production --platform heroku --expect-release v42 --format json
  smoke-tests --env staging --probe-user data/probe.toml --format junit > smoke-tests.xml

Exit codes: 0 all passed, skipped or warned of, 1 one or more failed, 2 wrong usage";

/// Holds the probe user's password, which must not be seen in a process list.
const PROBE_PASSWORD: &str = "OMNITOOL_PROBE_PASSWORD";

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

    /// How long one request may take, redirects included; a slower one fails its test
    #[arg(long, value_name = "MS")]
    max_latency: Option<NonZeroU32>,

    /// The release that must answer; an older one is waited for to go away
    #[arg(long, value_name = "ID")]
    expect_release: Option<String>,

    /// Log in as the user that this file describes, and see exactly the tools that it lists
    #[arg(long, value_name = "FILE")]
    probe_user: Option<PathBuf>,

    /// Trust the certificates in this PEM file, and no public authority
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// How to print the report
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

/// How the report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// JUnit XML, for CI systems
    Junit,
    /// Annotations of a GitHub Actions run
    Github,
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

/// There is a probe user, but no password to log in with.
#[derive(Debug, thiserror::Error)]
#[error("the probe user's password is missing: {PROBE_PASSWORD} is not set, empty, or no text")]
struct MissingPasswordError;

impl Program for Args {
    fn format(&self) -> Format {
        match self.format {
            ReportFormat::Json => Format::Json,
            ReportFormat::Text | ReportFormat::Junit | ReportFormat::Github => Format::Text,
        }
    }
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    let options = options(&args)?;
    let progress = spinner(&format!("Testing {}", options.base_url));
    let report = omnitool_smoke_tests::run(&options);
    progress.finish_and_clear();
    match args.format {
        ReportFormat::Text => print(&report.to_string())?,
        ReportFormat::Json => print_json(&report)?,
        ReportFormat::Junit => print(&report.junit())?,
        ReportFormat::Github => print(&report.github())?,
    }
    Ok(match report.status {
        Status::Passed => Outcome::Done,
        Status::Failed => Outcome::Failed,
    })
}

fn options(args: &Args) -> Result<Options, Failure> {
    let roots = match &args.ca_file {
        Some(file) => Roots::load(file).map_err(Failure::usage)?,
        None => Roots::default(),
    };
    let milliseconds = |number: NonZeroU32| Duration::from_millis(number.get().into());
    Ok(Options {
        timeout: Duration::from_secs(args.timeout.get().into()),
        expected_release: args.expect_release.clone(),
        max_latency: args.max_latency.map(milliseconds),
        roots,
        probe_user: args.probe_user.as_deref().map(probe_user).transpose()?,
        ..Options::new(base_url(args)?)
    })
}

fn probe_user(file: &Path) -> Result<ProbeUser, Failure> {
    let password = std::env::var(PROBE_PASSWORD).ok().filter(|password| !password.is_empty());
    let password = password.ok_or_else(|| {
        Failure::usage(MissingPasswordError)
            .hint(format!("set {PROBE_PASSWORD} to the password of the user in {}", file.display()))
    })?;
    ProbeUser::load(file, password.into()).map_err(|error| {
        Failure::usage(error).hint("write username = \"…\" and tools = [\"…\"] into it, in TOML")
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
