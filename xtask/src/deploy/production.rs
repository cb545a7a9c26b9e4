//! `cargo xtask deploy-production`.

use std::io::IsTerminal as _;

use chrono::{SecondsFormat, Utc};
use clap::Args;
use omnitool_cli::{Failure, Outcome, confirm_phrase, print};
use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use omnitool_pipeline::{
    DeployOptions, GateFacts, HerokuWay, Home, LocalPlatform, Plan, ProductionOptions,
    RehearsalRule, ReleaseId, Settings, Site, Situation,
};

use super::{
    DeployArgs, Stopped, deploy,
    gate::{self, Asked, RefusedError},
    hooks,
    session::{Session, tell_of_the_dead},
};
use crate::project::{Project, look, platform, user};

/// What has to be typed.
const PHRASE: &str = "DEPLOY PRODUCTION";

/// The flags of `cargo xtask deploy-production`.
#[derive(Args, Debug)]
pub(crate) struct DeployProductionArgs {
    #[command(flatten)]
    common: DeployArgs,

    /// The confirmation that is else typed: "DEPLOY PRODUCTION"
    #[arg(long, value_name = "PHRASE")]
    confirm: Option<String>,

    /// With --platform heroku: promote what staging runs through Heroku's pipeline, instead of uploading the artifact
    #[arg(long)]
    promote: bool,

    /// Whether a rehearsal on a copy of production's newest backup is needed
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    require_rehearsal: bool,

    /// Deploy without a rehearsal, as --require-rehearsal=false
    #[arg(long, conflicts_with = "require_rehearsal")]
    no_require_rehearsal: bool,
}

impl DeployProductionArgs {
    fn rehearsal(&self, stopped: Option<&Stopped>) -> RehearsalRule {
        // A run that is continued has passed this; its own backup is newer than the rehearsal's by now.
        if self.require_rehearsal && !self.no_require_rehearsal && stopped.is_none() {
            RehearsalRule::Required
        } else {
            RehearsalRule::NotRequired
        }
    }

    /// Confirms at once where nobody can type; else that is asked for when all else is clear.
    fn confirm_now(&self) -> Result<Option<String>, Failure> {
        let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if self.common.plan || (self.confirm.is_none() && can_ask) {
            return Ok(None);
        }
        confirm(self.confirm.as_deref())?;
        Ok(Some(approved("with --confirm")))
    }
}

fn confirm(given: Option<&str>) -> Result<(), Failure> {
    confirm_phrase(PHRASE, given).map_err(|error| {
        Failure::refused(error)
            .hint(format!("nothing was changed; scripts pass --confirm \"{PHRASE}\", and --plan shows what would happen"))
    })
}

fn approved(how: &str) -> String {
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("approved by {} {how} at {now}", user())
}

/// Deploys to production, or shows how.
pub(crate) fn run(project: &Project, args: &DeployProductionArgs) -> Result<Outcome, Failure> {
    args.common.check_skipped()?;
    if args.promote && args.common.platform != PlatformName::Heroku {
        return Err(Failure::usage("--promote is for --platform heroku"));
    }
    let site = project.site_on(EnvironmentName::Production, args.common.platform)?;
    if args.common.plan {
        return show(project, &site, args);
    }
    let approval = args.confirm_now()?;
    let session = Session::begin(project, &site, args.common.waiting())?;
    let looked = session.look()?;
    let stopped = args.common.stopped(&session)?;
    let situation = stopped.as_ref().map_or(looked, |stopped| stopped.situation);
    let facts = facts(project, &situation, args, stopped.as_ref())?;
    let objections = facts.objections();
    if !objections.is_empty() {
        let platform = site.platform();
        return Err(
            Failure::refused(RefusedError { objections, platform }).hint("nothing was changed")
        );
    }
    if stopped.is_none() {
        tell_of_the_dead(&session)?;
    }
    let approval = match approval {
        Some(approval) => approval,
        None => {
            let before = stopped.as_ref().map(|stopped| stopped.settings.clone());
            print(
                &plan(project, &site, &situation, args, &facts, before, Vec::new())?.to_string(),
            )?;
            confirm(None)?;
            approved("on the terminal")
        }
    };
    let before = stopped.as_ref().map(|stopped| stopped.settings.clone());
    let plan = plan(project, &site, &situation, args, &facts, before, vec![approval])?;
    let continues = args.common.continuation(&session, &plan, stopped.as_ref())?;
    let programs = match (&site.home, &facts.staged) {
        (Home::Heroku { .. }, Some(staged)) => {
            project.artifacts().join(&staged.artifact).join("bin")
        }
        _ => LocalPlatform::folder(project.root(), &site).join("current/bin"),
    };
    deploy(session, &plan, continues, programs)
}

/// Prints the plan, and what speaks against it.
fn show(project: &Project, site: &Site, args: &DeployProductionArgs) -> Result<Outcome, Failure> {
    let situation = look(&*platform(site)?)?;
    let facts = facts(project, &situation, args, None)?;
    let to_approve = vec![format!("to be approved by typing {PHRASE}, or with --confirm")];
    print(&plan(project, site, &situation, args, &facts, None, to_approve)?.to_string())?;
    let objections = facts.objections();
    if !objections.is_empty() {
        let platform = site.platform();
        print(&format!("\nAs things are, {}\n", RefusedError { objections, platform }))?;
    }
    Ok(Outcome::Done)
}

/// The number of what staging runs.
fn promoted(project: &Project) -> Result<ReleaseId, Failure> {
    let staging = project.site_on(EnvironmentName::Staging, PlatformName::Heroku)?;
    let serving = look(&*platform(&staging)?)?.serving;
    serving.ok_or_else(|| {
        Failure::refused(NothingToPromoteError)
            .hint("cargo xtask deploy-staging --platform heroku; nothing was changed")
    })
}

/// Staging runs nothing that could be promoted.
#[derive(Debug, thiserror::Error)]
#[error("staging on Heroku runs no release of omnitool")]
struct NothingToPromoteError;

fn facts(
    project: &Project,
    situation: &Situation,
    args: &DeployProductionArgs,
    stopped: Option<&Stopped>,
) -> Result<GateFacts, Failure> {
    let asked = Asked {
        freeze_override: args.common.freeze_override.clone(),
        rehearsal: args.rehearsal(stopped),
        promoted: args.promote
            || stopped.is_some_and(|stopped| stopped.settings.way == HerokuWay::Promote),
    };
    gate::facts(project, args.common.platform, situation, asked)
}

fn plan(
    project: &Project,
    site: &Site,
    situation: &Situation,
    args: &DeployProductionArgs,
    facts: &GateFacts,
    before: Option<Settings>,
    approval: Vec<String>,
) -> Result<Plan, Failure> {
    let mut settings = args.common.settings(before);
    settings.freeze_override = facts.frozen.as_ref().and_then(|_| facts.freeze_override.clone());
    let tests = args.common.tests_command(project, &settings);
    if args.promote {
        settings.way = HerokuWay::Promote;
    }
    let release = match settings.way {
        HerokuWay::Promote => Some(promoted(project)?),
        _ => None,
    };
    let hooks = hooks(project)?;
    let options = DeployOptions { tests, build: None, release, settings, hooks };
    let rehearsed = facts.rehearsed.clone().filter(|_| facts.needs_rehearsal());
    let gate = ProductionOptions {
        artifact: facts.staged.as_ref().map(|staged| staged.artifact.clone()),
        found: facts.evidence().into_iter().chain(approval).collect(),
        rehearsed,
    };
    Ok(Plan::production(site, situation, options, gate))
}
