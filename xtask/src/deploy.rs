//! `cargo xtask deploy-staging`.

use std::{error::Error, fmt, path::PathBuf};

use chrono::Utc;
use clap::Args;
use omnitool_cli::{Failure, Interrupt, Outcome, print};
use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use omnitool_pipeline::{
    Aftermath, ArtifactSource, CommandLine, Event, Executor, Journal, LocalPlatform, Plan,
    ReleaseId, RunError, RunFailure, RunInfo, RunReport, Sink, Site, StagingOptions, StepId,
    WriteJournalError, check_required_data, next_steps, run as run_plan, standing,
};

use crate::{
    project::{Profile, Project, look, user},
    terminal::{Terminal, heading, next_text, print_credentials, seconds, standing_text},
};

/// The flags of `cargo xtask deploy-staging`.
#[derive(Args, Debug)]
pub(crate) struct DeployStagingArgs {
    /// Show all steps and stop
    #[arg(long)]
    plan: bool,

    /// Run all tests first
    #[arg(long)]
    tests: bool,

    /// Where staging runs: local or heroku
    #[arg(long, env = "OMNITOOL_PLATFORM", default_value = "local", value_name = "PLATFORM")]
    platform: PlatformName,

    /// Use these built programs instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// How the programs are built
    #[arg(long, value_enum, default_value = "release", conflicts_with = "programs")]
    profile: Profile,
}

/// A deployment that stopped.
#[derive(Debug)]
struct StoppedError {
    step: StepId,
    source: RunError,
}

impl fmt::Display for StoppedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the deployment stopped in the step {}", self.step)
    }
}

impl Error for StoppedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Deploys to staging, or shows how.
pub(crate) fn run(project: &Project, args: &DeployStagingArgs) -> Result<Outcome, Failure> {
    if args.platform == PlatformName::Heroku {
        return Err(Failure::refused("this version cannot deploy to Heroku")
            .hint("leave out --platform and OMNITOOL_PLATFORM to deploy on this machine"));
    }
    let site = project.site(EnvironmentName::Staging)?;
    check_required_data(project.root())?;
    let (build, programs) = match &args.programs {
        Some(folder) => (None, std::path::absolute(folder)?),
        None => (Some(project.build(args.profile)?), project.programs_folder(args.profile)?),
    };
    let tests =
        args.tests.then(|| CommandLine::new("cargo", project.root()).arguments(["xtask", "test"]));
    let options = StagingOptions { tests, build };
    let platform = LocalPlatform::new(&site)?;
    if args.plan {
        let plan = Plan::staging(&site, &look(&platform)?, options);
        print(&plan.to_string())?;
        return Ok(Outcome::Done);
    }
    deploy(project, &site, platform, options, programs)
}

fn deploy(
    project: &Project,
    site: &Site,
    mut platform: LocalPlatform,
    options: StagingOptions,
    programs: PathBuf,
) -> Result<Outcome, Failure> {
    let folder = LocalPlatform::folder(project.root(), site);
    let id = format!("{}-{}", Utc::now().format("%Y%m%d-%H%M%S"), std::process::id());
    let _lock = project.lock(&folder, &id)?;
    let plan = Plan::staging(site, &look(&platform)?, options);
    let interrupt = Interrupt::install()?;
    let mut sink =
        Both { journal: Journal::create(&folder.join("runs"), &id)?, terminal: Terminal::new() };
    print(&first_line(&plan))?;

    let log = platform.app().log().to_owned();
    let source = ArtifactSource {
        programs: programs.clone(),
        root: project.root().to_owned(),
        revision: project.revision(),
    };
    let artifacts = project.root().join(".omnitool/artifacts");
    let mut executor = Executor::new(&plan, &id, &mut platform, source, artifacts);
    let info = RunInfo { run: id, user: user() };
    let report = run_plan(&plan, &info, &mut executor, &mut sink, &|| interrupt.is_set());
    let (aftermath, serving) = executor.finish();

    let Both { journal, terminal } = sink;
    terminal.finish()?;
    // First, since nothing else can show them again.
    print_credentials(&aftermath)?;
    let places = format!(
        "{}  {:<10} {}\n  {:<10} {}\n",
        heading("Where to look"),
        "log",
        project.shown(&log),
        "journal",
        project.shown(journal.path()),
    );
    print(&ending(&plan, &report, &aftermath, serving, &places, &programs))?;
    let RunReport { failure, .. } = report;
    failure.map_or(Ok(Outcome::Done), |failure| Err(stopped(failure)))
}

fn first_line(plan: &Plan) -> String {
    let site = plan.site();
    let over = match plan.replaces() {
        Some(old) => format!("over release {old}"),
        None => "where nothing serves".to_owned(),
    };
    format!(
        "Deploying release {} to {} on the {} platform, {over}\n\n",
        plan.release(),
        site.environment,
        site.platform
    )
}

/// What is printed after the steps.
fn ending(
    plan: &Plan,
    report: &RunReport,
    aftermath: &Aftermath,
    serving: Option<ReleaseId>,
    places: &str,
    programs: &std::path::Path,
) -> String {
    let RunReport { steps: _, failure, duration } = report;
    let took = seconds(*duration);
    let mut text = match failure {
        None => heading(&format!(
            "Release {} serves at {} after {took}",
            plan.release(),
            plan.site().base_url
        )),
        Some(_) => heading(&format!("Stopped after {took}; this is where everything stands")),
    };
    text.push_str(&standing_text(&standing(plan, aftermath, serving)));
    text.push_str(places);
    text.push_str(&heading("What to do next"));
    text.push_str(&next_text(&next_steps(plan, aftermath, failure.as_ref(), programs)));
    text
}

fn stopped(failure: RunFailure) -> Failure {
    let RunFailure { step, error } = failure;
    let hint = match &error {
        RunError::Action(error) => error.hint().map(ToOwned::to_owned),
        _ => None,
    };
    let failure = Failure::failed(StoppedError { step, source: error });
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The journal first: what is printed has been written.
struct Both {
    journal: Journal,
    terminal: Terminal,
}

impl Sink for Both {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        self.journal.emit(event)?;
        self.terminal.emit(event)
    }
}
