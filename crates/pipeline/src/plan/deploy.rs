//! The plans that put a new release on staging and on production.

use omnitool_environment::EnvironmentName;

use super::{call, step, summary};
use crate::{
    Action, CommandLine, DatabaseState, HerokuWay, Home, Hook, OnFailure, Place, Plan, ReleaseId,
    Settings, Site, Situation, Step, StepId, Task, Todo, When,
};

/// How many releases stay on the platform, besides the one that serves and the one before it.
pub const RELEASES_KEPT: usize = 5;

/// What the caller of a deployment decides.
#[derive(Clone, Debug, Default)]
pub struct DeployOptions {
    /// The command that runs the tests, where they are wanted.
    pub tests: Option<CommandLine>,
    /// The command that builds the programs, unless they are built already. Production builds nothing.
    pub build: Option<CommandLine>,
    /// The release's number, where it is not the next one: a promotion takes the one that staging has given it.
    pub release: Option<ReleaseId>,
    /// The rest of what the caller decided.
    pub settings: Settings,
    /// What runs around the steps.
    pub hooks: Vec<Hook>,
}

/// What the safety gate found before production is deployed to.
#[derive(Clone, Debug, Default)]
pub struct ProductionOptions {
    /// The SHA-256 of the artifact that passed staging. Without one nothing is deployed.
    pub artifact: Option<String>,
    /// What was found, and who approved.
    pub found: Vec<String>,
    /// The rehearsal that must have been made on the newest backup, where one is required.
    pub rehearsed: Option<Rehearsed>,
}

/// A rehearsal that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// Its run.
    pub run: String,
    /// The backup that it was made on.
    pub backup: String,
}

impl Plan {
    /// The plan that puts a new release on staging.
    pub fn staging(site: &Site, situation: &Situation, options: DeployOptions) -> Self {
        let DeployOptions { tests, build, release, settings, hooks } = options;
        let mut actions: Vec<Action> =
            build.into_iter().map(Action::Command).chain([Action::Pack]).collect();
        actions.extend(check_schema(site, situation, Place::Here));
        let build =
            step(StepId::Build, "build the programs and the release artifact", Todo::Run(actions));
        let refresh = if settings.refresh_data {
            Todo::Run(vec![Action::Program(site.refresh(Place::Here))])
        } else {
            Todo::Skip("not asked for with --refresh-data".to_owned())
        };
        let refresh = step(StepId::Refresh, "copy production's data", refresh);
        let before = vec![tests_step(tests), build];
        let steps = Steps { here: Place::Here, before, refresh: Some(refresh) };
        deploy(site, situation, release, steps, settings).arranged(&hooks)
    }

    /// The plan that puts the artifact that passed staging on production.
    pub fn production(
        site: &Site,
        situation: &Situation,
        options: DeployOptions,
        gate: ProductionOptions,
    ) -> Self {
        let DeployOptions { tests, build: _, release, settings, hooks } = options;
        let ProductionOptions { artifact, found, rehearsed } = gate;
        let here = Place::Artifact;
        let mut actions: Vec<Action> = found.into_iter().map(Action::Record).collect();
        let none = || Todo::Skip("no artifact has passed staging".to_owned());
        let build = match &artifact {
            Some(sha256) => {
                actions.push(Action::UseArtifact(sha256.clone()));
                actions.extend(check_schema(site, situation, here));
                if let Some(rehearsed) = rehearsed {
                    let list = site.list_backups(here);
                    actions.push(Action::RequireRehearsal { list, rehearsed });
                }
                Todo::Run(vec![Action::UseArtifact(sha256.clone())])
            }
            None => none(),
        };
        let before = vec![
            step(
                StepId::SafetyGate,
                "make sure that this deployment is wanted",
                Todo::Run(actions),
            ),
            tests_step(tests),
            step(StepId::Build, "use the artifact that passed staging", build),
        ];
        let steps = Steps { here, before, refresh: None };
        deploy(site, situation, release, steps, settings).arranged(&hooks)
    }
}

/// Before the backup: a schema that these programs cannot migrate needs none. On Heroku the release phase finds that out,
/// before it changes anything.
fn check_schema(site: &Site, situation: &Situation, here: Place) -> Option<Action> {
    let reaches_it = matches!(site.home, Home::Local { .. });
    let is_there = situation.database == DatabaseState::Present;
    (reaches_it && is_there).then(|| Action::Program(site.check_schema(here)))
}

fn tests_step(tests: Option<CommandLine>) -> Step {
    let todo = match tests {
        Some(command) => Todo::Run(vec![Action::Command(command)]),
        None => Todo::Skip("not asked for with --tests".to_owned()),
    };
    step(StepId::Tests, "run all tests", todo)
}

/// In what staging and production differ.
struct Steps {
    /// Where programs are that run on this machine.
    here: Place,
    /// What comes before the backup.
    before: Vec<Step>,
    /// A copy of production's data.
    refresh: Option<Step>,
}

/// What staging and production have in common.
fn deploy(
    site: &Site,
    situation: &Situation,
    release: Option<ReleaseId>,
    steps: Steps,
    settings: Settings,
) -> Plan {
    let Steps { here, before, refresh } = steps;
    let release = release.unwrap_or_else(|| ReleaseId::after(situation.newest));
    let there = Place::Release(release);
    let backup = match (situation.database, &settings.skip_backup) {
        (DatabaseState::Missing, _) => Todo::Skip("there is no database yet".to_owned()),
        (_, Some(reason)) => Todo::Skip(format!("left out with --skip-backup: {reason}")),
        _ => Todo::Run(vec![Action::Program(site.take_backup(here, release))]),
    };
    let mut steps = before;
    steps.push(step(StepId::Backup, "back up the database", backup));
    steps.extend(refresh);
    steps.extend([
        step(StepId::Config, "set the variables", Todo::Run(vec![Action::SetConfig])),
        release_step(site, release, settings.way),
        call(StepId::ImportAccess, "import who may use what", site.import_access(there)),
        call(StepId::Verify, "check the database", site.verify_imported(there)),
        call(StepId::Smoke, "check the running app", site.smoke(here, release)),
        // The new release serves and is checked by now; old backups that stay harm nobody.
        Step {
            on_failure: OnFailure::Warn,
            ..call(StepId::PruneBackups, "remove old backups", site.prune_backups(here))
        },
    ]);
    if settings.auto_rollback {
        steps.push(rollback_step(site, situation, here, release));
    }
    steps.push(summary());
    let over = match (situation.serving, situation.heroku.and_then(|heroku| heroku.serving)) {
        (Some(old), _) => format!("over release {old}"),
        (None, Some(version)) => format!("over v{version}, which omnitool did not make"),
        (None, None) => "where nothing serves".to_owned(),
    };
    let (environment, platform) = (site.environment, site.platform());
    Plan {
        task: Task::Deploy,
        heading: format!(
            "Deploy release {release} to {environment} on the {platform} platform, {over}"
        ),
        site: site.clone(),
        platform,
        situation: *situation,
        release,
        variables: site.variables(),
        steps,
        settings,
    }
}

fn release_step(site: &Site, release: ReleaseId, way: HerokuWay) -> Step {
    let there = Place::Release(release);
    let mut actions = Vec::new();
    match site.home {
        Home::Local { .. } => {
            actions.push(Action::Install { release, way: None });
            actions.push(Action::Program(site.migrate(there)));
            if site.environment != EnvironmentName::Production {
                // It refuses a database that has users, so it may always be asked.
                actions.push(Action::Program(site.create_demo_users(there)));
            }
            actions.push(Action::Program(site.program("omnitool", there, &["check"])));
            actions.push(Action::Activate { release, way: None });
        }
        // Its release phase migrates. Nobody makes demo users where everybody can visit.
        Home::Heroku { .. } => {
            actions.push(Action::Install { release, way: Some(way) });
            actions.push(Action::Activate { release, way: Some(way) });
        }
    }
    actions.push(Action::RemoveOldReleases { keep: RELEASES_KEPT });
    step(StepId::Release, "migrate the database, then serve the new release", Todo::Run(actions))
}

/// The code first: the old release works with the new schema, and the new one not with the old schema.
fn rollback_step(site: &Site, situation: &Situation, here: Place, release: ReleaseId) -> Step {
    let code = situation.serving.map(|to| Action::RollBackCode { from: release, to });
    let database = Action::RollBackDatabase(site.restore(here, None));
    Step {
        when: When::Failed,
        ..step(
            StepId::Rollback,
            "go back to how it was",
            Todo::Run(code.into_iter().chain([database]).collect()),
        )
    }
}
