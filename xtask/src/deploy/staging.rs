//! `cargo xtask deploy-staging`.

use std::path::PathBuf;

use clap::Args;
use omnitool_cli::{Failure, Outcome, print};
use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use omnitool_pipeline::{
    DeployOptions, HerokuWay, Home, Plan, Settings, Site, check_required_data,
};

use super::{
    DeployArgs, deploy, hooks,
    session::{Session, tell_of_the_dead},
};
use crate::project::{Connections, Profile, Project, look, platform};

/// The flags of `cargo xtask deploy-staging`.
#[derive(Args, Debug)]
pub(crate) struct DeployStagingArgs {
    #[command(flatten)]
    common: DeployArgs,

    /// Replace staging's data by a masked copy of production's
    #[arg(long, conflicts_with = "resume")]
    refresh_data: bool,

    /// With --platform heroku: let Heroku build the commit's sources instead of uploading programs
    #[arg(long)]
    build: bool,

    /// Use these built programs instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// How the programs are built
    #[arg(long, value_enum, default_value = "release", conflicts_with = "programs")]
    profile: Profile,
}

/// Whom the programs have to be able to talk to. Those that go to Heroku have their database elsewhere.
const fn connections(site: &Site, built_there: bool) -> Connections {
    match site.home {
        Home::Heroku { .. } if !built_there => Connections::Encrypted,
        _ => Connections::Plain,
    }
}

/// Deploys to staging, or shows how.
pub(crate) fn run(project: &Project, args: &DeployStagingArgs) -> Result<Outcome, Failure> {
    args.common.check_skipped()?;
    if args.build && args.common.platform != PlatformName::Heroku {
        return Err(Failure::usage("--build is for --platform heroku"));
    }
    let site = project.site_on(EnvironmentName::Staging, args.common.platform)?;
    check_required_data(project.root())?;
    let freeze_override = args.common.check_freeze(project, site.environment)?;
    let hooks = hooks(project)?;
    let (build, programs) = match &args.programs {
        Some(folder) => (None, std::path::absolute(folder)?),
        None => {
            let build = project.build(args.profile, connections(&site, args.build))?;
            (Some(build), project.programs_folder(args.profile)?)
        }
    };
    let options = |before: Option<Settings>| {
        let mut settings = args.common.settings(before);
        settings.refresh_data |= args.refresh_data;
        if args.build {
            settings.way = HerokuWay::Build;
        }
        settings.freeze_override.clone_from(&freeze_override);
        let tests = args.common.tests_command(project, &settings);
        DeployOptions { tests, build, release: None, settings, hooks }
    };
    if args.common.plan {
        let situation = look(&*platform(&site)?)?;
        print(&Plan::staging(&site, &situation, options(None)).to_string())?;
        return Ok(Outcome::Done);
    }
    let session = Session::begin(project, &site, args.common.waiting())?;
    let looked = session.look()?;
    let stopped = args.common.stopped(&session)?;
    let plan = match &stopped {
        Some(stopped) => {
            Plan::staging(&site, &stopped.situation, options(Some(stopped.settings.clone())))
        }
        None => {
            tell_of_the_dead(&session)?;
            Plan::staging(&site, &looked, options(None))
        }
    };
    let continues = args.common.continuation(&session, &plan, stopped.as_ref())?;
    deploy(session, &plan, continues, programs)
}
