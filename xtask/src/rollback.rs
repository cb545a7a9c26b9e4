//! `cargo xtask rollback`.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use clap::Args;
use omnitool_cli::{Failure, Outcome, confirm_phrase, print};
use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use omnitool_heroku::{Heroku, OneOff, RunOutcome};
use omnitool_pipeline::{
    Home, LocalPlatform, Place, Plan, Platform, ProgramCall, Purpose, ReleaseId, RollbackChoice,
    Site, Situation, Stream, Watch, run_program,
};
use serde::Deserialize;

use crate::{
    deploy::{finish, hooks, session::Session},
    project::{Profile, Project, heroku_settings, platform},
    terminal::heading,
};

/// The flags of `cargo xtask rollback`.
#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    /// The environment: staging or production
    environment: EnvironmentName,

    /// Let the release that served before serve again
    #[arg(long, group = "choice")]
    code: bool,

    /// Undo the migrations that the release before does not know
    #[arg(long, group = "choice")]
    schema: bool,

    /// Put the database back to a backup
    #[arg(long, group = "choice")]
    data: bool,

    /// With --schema: undo this many migrations instead
    #[arg(long, value_name = "N", requires = "schema", value_parser = clap::value_parser!(u16).range(1..))]
    migrations: Option<u16>,

    /// With --data: this backup [default: the newest verified one]
    #[arg(long, value_name = "ID", requires = "data")]
    backup: Option<String>,

    /// Where the environment runs: local or heroku
    #[arg(long, env = "OMNITOOL_PLATFORM", default_value = "local", value_name = "PLATFORM")]
    platform: PlatformName,

    /// With --platform heroku: the folder with the built programs that restore backups [default: the release build's]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// The confirmation that is else typed, such as "ROLLBACK PRODUCTION"
    #[arg(long, value_name = "PHRASE")]
    confirm: Option<String>,

    /// Wait while another run holds the environment, at most this many seconds [default: as long as it takes]
    #[arg(long, value_name = "SECONDS", require_equals = true)]
    wait: Option<Option<u64>>,
}

/// There is nothing to go back from.
#[derive(Debug, thiserror::Error)]
#[error("there is no release of {environment} on the {platform} platform")]
struct NoReleaseError {
    environment: EnvironmentName,
    platform: PlatformName,
}

/// What was chosen cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("{what} of {environment} cannot be rolled back: {reason}")]
struct ImpossibleError {
    what: &'static str,
    environment: EnvironmentName,
    reason: String,
}

/// One way back.
struct Way {
    what: &'static str,
    choice: Result<RollbackChoice, String>,
    /// What is lost, line by line.
    loses: Vec<String>,
}

/// Looks at an environment for what the ways back would lose.
struct Looking<'a> {
    site: &'a Site,
    platform: Box<dyn Platform>,
    current: ReleaseId,
    previous: Option<ReleaseId>,
    folder: PathBuf,
    /// The built programs, where they are needed.
    programs: PathBuf,
    /// Where the environment is there.
    heroku: Option<Heroku>,
    is_stopped: &'a dyn Fn() -> bool,
}

/// How long a program in a dyno may take that only looks.
const LOOK: Duration = Duration::from_secs(120);

/// Says what each way back loses, and goes the chosen one.
pub(crate) fn run(project: &Project, args: &RollbackArgs) -> Result<Outcome, Failure> {
    let environment = args.environment;
    if environment == EnvironmentName::Local {
        return Err(Failure::usage(
            "there are no releases of local; see migrate-db --down and rollback-migration",
        ));
    }
    let site = project.site_on(environment, args.platform)?;
    let mut session =
        Session::begin(project, &site, args.wait.map(|limit| limit.map(Duration::from_secs)))?;
    if args.code || args.schema || args.data {
        session.settle()?;
    }
    let situation = session.look()?;
    let Some(current) = situation.serving.or(situation.newest) else {
        let platform = args.platform;
        return Err(Failure::refused(NoReleaseError { environment, platform }).hint(format!(
            "deploy one: cargo xtask deploy-{environment}{}",
            site.platform_flag()
        )));
    };
    let platform = platform(&site)?;
    let previous = platform.previous()?;
    let folder = LocalPlatform::folder(project.root(), &site);
    let (place, programs) = match site.home {
        Home::Local { .. } => (Place::Release(current), folder.join("current/bin")),
        Home::Heroku { .. } => (Place::Here, programs(project, args)?),
    };
    let heroku = match site.home {
        Home::Local { .. } => None,
        Home::Heroku { .. } => Some(Heroku::new(heroku_settings()?)?),
    };
    let is_stopped = &|| session.is_interrupted();
    let mut looking =
        Looking { site: &site, platform, current, previous, folder, programs, heroku, is_stopped };
    let ways =
        [looking.code(), looking.schema(args.migrations), looking.data(args.backup.as_deref())];
    print(&shown(environment, &situation, &ways))?;
    let chosen =
        [args.code, args.schema, args.data].into_iter().zip(ways).find(|(wanted, _)| *wanted);
    let Some((_, Way { what, choice, loses: _ })) = chosen else {
        print("\nNothing was changed. Choose one with --code, --schema or --data.\n")?;
        return Ok(Outcome::Done);
    };
    let choice = choice.map_err(|reason| {
        Failure::refused(ImpossibleError { what, environment, reason }).hint("nothing was changed")
    })?;
    let phrase = format!("ROLLBACK {}", environment.as_str().to_uppercase());
    confirm_phrase(&phrase, args.confirm.as_deref())
        .map_err(|error| Failure::refused(error).hint("nothing was changed"))?;
    let hooks = hooks(project)?;
    let plan = Plan::rollback(&site, &situation, &choice, place, &hooks);
    let programs = looking.programs;
    print(&format!("\n{}\n\n", plan.heading()))?;
    let ran = session.run(&plan, None, &programs)?;
    finish(&plan, ran, &programs)
}

/// The folder with the programs that restore Heroku's backups from here.
fn programs(project: &Project, args: &RollbackArgs) -> Result<PathBuf, Failure> {
    match &args.programs {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => project.programs_folder(Profile::Release),
    }
}

fn shown(environment: EnvironmentName, situation: &Situation, ways: &[Way]) -> String {
    let mut text = match situation.serving {
        Some(serving) => {
            format!("Release {serving} of {environment} serves. What each way back would lose:\n")
        }
        None => format!("Nothing of {environment} serves. What each way back would lose:\n"),
    };
    for Way { what, choice, loses } in ways {
        let does = match choice {
            Ok(RollbackChoice::Code { to }) => format!("release {to} serves again"),
            Ok(RollbackChoice::Schema { count: 1 }) => "the newest migration is undone".to_owned(),
            Ok(RollbackChoice::Schema { count }) => {
                format!("the newest {count} migrations are undone")
            }
            Ok(RollbackChoice::Data { backup }) => {
                format!(
                    "the database is put back to {}",
                    backup.as_deref().unwrap_or("the newest backup")
                )
            }
            Err(reason) => format!("not possible: {reason}"),
        };
        text.push_str(&heading(&format!("--{what}: {does}")));
        for line in loses {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

/// What `migrate-db --status` says.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    unknown: Vec<String>,
}

/// What `rollback-migration --dry-run` says.
#[derive(Deserialize)]
struct DataPlan {
    plan: DataPlanDetails,
}

#[derive(Deserialize)]
struct DataPlanDetails {
    target: DataTarget,
    /// Not known for every backup on Heroku.
    losses: Option<Vec<TableLoss>>,
    /// Why they are not known.
    losses_unknown: Option<String>,
    minutes_since: Option<i64>,
}

#[derive(Deserialize)]
struct DataTarget {
    label: String,
    release: Option<String>,
    #[serde(default)]
    pending_migrations: usize,
}

#[derive(Deserialize)]
struct TableLoss {
    table: String,
    now: Option<u64>,
    then: Option<u64>,
}

impl Looking<'_> {
    /// The migrations of the database that the release before the current one does not know.
    fn unknown_to_previous(&mut self) -> Result<(ReleaseId, Vec<String>), String> {
        let previous = self
            .previous
            .ok_or_else(|| format!("no release served before release {}", self.current))?;
        if let Home::Heroku { .. } = self.site.home {
            return Err("on Heroku only the release that serves runs programs".to_owned());
        }
        let call = self.site.check_schema(Place::Release(previous));
        let status: Status = self.ask(previous, call)?;
        Ok((previous, status.unknown))
    }

    fn code(&mut self) -> Way {
        let what = "code";
        match self.unknown_to_previous() {
            Err(reason) if self.previous.is_none() => {
                Way { what, choice: Err(reason), loses: vec![] }
            }
            Err(reason) => {
                let loses =
                    vec![format!("its programs do not say whether they know the schema: {reason}")];
                let to = self.previous.unwrap_or(self.current);
                Way { what, choice: Ok(RollbackChoice::Code { to }), loses }
            }
            Ok((to, unknown)) => {
                let mut loses = vec![format!("what release {} brought; no data", self.current)];
                if !unknown.is_empty() {
                    loses.push(format!(
                        "release {to} then works with a newer schema, without knowing {}",
                        unknown.join(", ")
                    ));
                }
                Way { what, choice: Ok(RollbackChoice::Code { to }), loses }
            }
        }
    }

    fn schema(&mut self, wanted: Option<u16>) -> Way {
        let what = "schema";
        let count =
            match wanted {
                Some(count) => Ok(count),
                None if matches!(self.site.home, Home::Heroku { .. }) => Err(
                    "on Heroku only the release that serves runs programs, so say how many: --migrations N".to_owned(),
                ),
                None => self.unknown_to_previous().and_then(|(previous, unknown)| {
                    match u16::try_from(unknown.len()) {
                        Ok(0) => {
                            Err(format!("release {previous} knows every migration of the database"))
                        }
                        Ok(count) => Ok(count),
                        Err(_) => Err("too many migrations".to_owned()),
                    }
                }),
            };
        match count.and_then(|count| Ok((count, self.lost_by_reverting(count)?))) {
            Err(reason) => Way { what, choice: Err(reason), loses: vec![] },
            Ok((count, mut loses)) => {
                loses.push(match self.site.home {
                    Home::Local { .. } => format!(
                        "release {} may not work with it: roll back the code first",
                        self.current
                    ),
                    // Only its programs know how to undo them.
                    Home::Heroku { .. } => format!(
                        "release {} may not work with it: roll back the code right after",
                        self.current
                    ),
                });
                Way { what, choice: Ok(RollbackChoice::Schema { count }), loses }
            }
        }
    }

    /// What `migrate-db --down` says before it asks. Nobody answers, so it does nothing.
    fn lost_by_reverting(&self, count: u16) -> Result<Vec<String>, String> {
        let (said, errors) = match &self.site.home {
            Home::Local { .. } => self.revert_here(count)?,
            Home::Heroku { app, .. } => self.revert_in_a_dyno(app, count)?,
        };
        let lines: Vec<String> =
            said.lines().filter(|line| line.starts_with("Will ")).map(ToOwned::to_owned).collect();
        if lines.is_empty() {
            return Err(errors.lines().next().unwrap_or("migrate-db says nothing").to_owned());
        }
        Ok(lines)
    }

    /// What it prints, and what it prints to stderr.
    fn revert_here(&self, count: u16) -> Result<(String, String), String> {
        let release = self.folder.join("releases").join(self.current.to_string());
        let mut command = Command::new(release.join("bin/migrate-db"));
        command
            .args(["--env", self.site.environment.as_str(), "--down", &count.to_string()])
            .current_dir(&release)
            .envs(
                self.site
                    .variables()
                    .iter()
                    .map(|one| (one.name().to_owned(), one.expose().to_owned())),
            )
            .stdin(Stdio::null());
        let output = command.output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr)))
    }

    /// The same, where a console has one stream for both.
    fn revert_in_a_dyno(&self, app: &str, count: u16) -> Result<(String, String), String> {
        let Some(heroku) = &self.heroku else { return Err("there is no Heroku".to_owned()) };
        let count = count.to_string();
        let arguments =
            ["bin/migrate-db", "--env", self.site.environment.as_str(), "--down", &count];
        let command = OneOff { arguments: &arguments, variables: &[], size: None, limit: LOOK };
        let mut said = Vec::new();
        let outcome = heroku
            .run_until(app, &command, &mut |bytes| said.extend_from_slice(bytes), self.is_stopped)
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&said).replace('\r', "");
        match outcome {
            RunOutcome::Exited(_) => Ok((said.clone(), said)),
            RunOutcome::Unknown { dyno, why } => {
                Err(format!("it is not known how migrate-db ended in {dyno}: {why}"))
            }
        }
    }

    fn data(&mut self, backup: Option<&str>) -> Way {
        let what = "data";
        let place = match self.site.home {
            Home::Local { .. } => Place::Release(self.current),
            Home::Heroku { .. } => Place::Here,
        };
        let mut call = self.site.plan_restore(place);
        call.arguments
            .extend(backup.iter().flat_map(|id| ["--backup".to_owned(), (*id).to_owned()]));
        match self.ask::<DataPlan>(self.current, call) {
            Err(reason) => Way { what, choice: Err(reason), loses: vec![] },
            Ok(DataPlan { plan }) => {
                let DataPlanDetails { target, losses, losses_unknown, minutes_since } = plan;
                let mut loses = Vec::new();
                if let Some(minutes) = minutes_since {
                    loses.push(format!("what was written in the last {minutes} minutes"));
                }
                if let (None, Some(reason)) = (&losses, losses_unknown) {
                    loses.push(format!("how many rows that is, nobody knows: {reason}"));
                }
                for TableLoss { table, now, then } in losses.unwrap_or_default() {
                    let count = |rows: Option<u64>| {
                        rows.map_or_else(|| "no table".to_owned(), |rows| rows.to_string())
                    };
                    loses.push(format!("{table}: {} rows now, {} then", count(now), count(then)));
                }
                if target.pending_migrations > 0 {
                    loses.push(format!(
                        "its schema is older by {} migrations; it was taken before release {}",
                        target.pending_migrations,
                        target.release.as_deref().unwrap_or("(unknown)")
                    ));
                }
                Way { what, choice: Ok(RollbackChoice::Data { backup: Some(target.label) }), loses }
            }
        }
    }

    /// Runs a program of `release` that only looks.
    fn ask<T: for<'de> Deserialize<'de>>(
        &mut self,
        release: ReleaseId,
        call: ProgramCall,
    ) -> Result<T, String> {
        let variables = self.site.variables_here();
        let call = ProgramCall { purpose: Purpose::Answer, ..call };
        let mut ignore = |_: Stream, _: &str| {};
        let mut watch = Watch::new(self.is_stopped, &mut ignore);
        let output = match call.place {
            Place::Release(_) => {
                let call = ProgramCall { variables, ..call.clone() };
                self.platform.run_program(release, &call, &mut watch)
            }
            _ => run_program(&call, &self.programs, &self.site.root, &variables, &mut watch),
        };
        let output = output.map_err(|error| error.to_string())?;
        serde_json::from_value(output.document.unwrap_or_default())
            .map_err(|error| format!("{} answers something else: {error}", call.program))
    }
}
