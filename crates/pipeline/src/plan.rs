//! What a run will do, before it does any of it.

use std::{fmt, path::PathBuf, time::Duration};

use omnitool_environment::{DatabaseUrl, EnvironmentName, Platform as PlatformName, Url};
use sha2::{Digest as _, Sha256};

use crate::{
    Action, CommandLine, OnFailure, Place, ProgramCall, Purpose, ReleaseId, Situation, Step,
    StepId, Todo, Variable, When, artifact::hex,
};

/// How many releases stay on the platform, besides the one that serves and the one before it.
pub const RELEASES_KEPT: usize = 5;
/// How many backups stay.
const BACKUPS_KEPT: usize = 10;
/// How long a program may take. It is far more than any of them needs, and ends a run that nobody watches.
const PROGRAM_LIMIT: Duration = Duration::from_secs(600);

/// The environment that a plan is for.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name.
    pub environment: EnvironmentName,
    /// What it runs on.
    pub platform: PlatformName,
    /// The project's root, an absolute path.
    pub root: PathBuf,
    /// Where its app answers.
    pub base_url: Url,
    /// Its database; a SQLite path is absolute.
    pub database_url: DatabaseUrl,
}

impl Site {
    /// The variables that its programs get.
    #[must_use]
    pub fn variables(&self) -> Vec<Variable> {
        let port = self.base_url.port_or_known_default().unwrap_or(80);
        vec![
            Variable::plain("OMNITOOL_ENV", self.environment.as_str()),
            Variable::secret("DATABASE_URL", self.database_url.expose()),
            Variable::plain("PORT", port.to_string()),
        ]
    }

    fn program(&self, program: &'static str, place: Place, arguments: &[&str]) -> ProgramCall {
        let common = ["--env", self.environment.as_str(), "--format", "json"];
        ProgramCall {
            program,
            arguments: arguments.iter().chain(&common).map(|&text| text.to_owned()).collect(),
            place,
            variables: Vec::new(),
            purpose: Purpose::Look,
            limit: PROGRAM_LIMIT,
        }
    }

    /// Pending schema migrations, then the tools.
    #[must_use]
    pub fn migrate(&self, place: Place) -> ProgramCall {
        ProgramCall {
            purpose: Purpose::ChangeDatabase,
            ..self.program("migrate-db", place, &["--tools", "data/tools.toml"])
        }
    }

    /// Demo users, where there are no users.
    #[must_use]
    pub fn create_demo_users(&self, place: Place) -> ProgramCall {
        ProgramCall {
            purpose: Purpose::CreateUsers,
            ..self.program("omnitool", place, &["create-user", "--demo-users"])
        }
    }

    /// The committed export of who may use what.
    #[must_use]
    pub fn import_access(&self, place: Place) -> ProgramCall {
        const SOURCE: &str = "data/tool_access_exports/local_tool_access.json";
        ProgramCall {
            purpose: Purpose::ChangeDatabase,
            ..self.program("import-tool-access", place, &["--source", SOURCE, "--mode", "merge"])
        }
    }

    fn backup(&self, arguments: &[&str]) -> ProgramCall {
        let folder = self.root.join("data/backups");
        let folder = folder.to_string_lossy();
        let all: Vec<&str> = ["--folder", &*folder].iter().chain(arguments).copied().collect();
        self.program("backup-database", Place::Here, &all)
    }
}

/// What the caller of a staging deployment decides.
#[derive(Clone, Debug)]
pub struct StagingOptions {
    /// The command that runs the tests, where they are wanted.
    pub tests: Option<CommandLine>,
    /// The command that builds the programs, unless they are built already.
    pub build: Option<CommandLine>,
}

/// All steps of a run.
#[derive(Clone, Debug)]
#[must_use]
pub struct Plan {
    site: Site,
    release: ReleaseId,
    replaces: Option<ReleaseId>,
    variables: Vec<Variable>,
    steps: Vec<Step>,
}

impl Plan {
    /// The plan that puts a new release on staging.
    pub fn staging(site: &Site, situation: &Situation, options: StagingOptions) -> Self {
        let Situation { serving, newest, database } = situation;
        let release = ReleaseId::after(*newest);
        let there = Place::Release(release);
        let StagingOptions { tests, build } = options;
        let tests = match tests {
            Some(command) => Todo::Run(vec![Action::Command(command)]),
            None => Todo::Skip("not asked for with --tests".to_owned()),
        };
        let build =
            build.into_iter().map(Action::Command).chain([Action::Pack]).collect::<Vec<Action>>();
        let backup = match database {
            DatabaseState::Missing => Todo::Skip("there is no database yet".to_owned()),
            DatabaseState::Present => Todo::Run(vec![Action::Program(ProgramCall {
                purpose: Purpose::TakeBackup,
                ..site.backup(&[
                    "capture",
                    "--kind",
                    "before-deploy",
                    "--release",
                    &release.to_string(),
                ])
            })]),
        };
        let deploy = vec![
            Action::Install(release),
            Action::Program(site.migrate(there)),
            // It refuses a database that has users, so it may always be asked.
            Action::Program(site.create_demo_users(there)),
            Action::Program(site.program("omnitool", there, &["check"])),
            Action::Activate(release),
            Action::RemoveOldReleases { keep: RELEASES_KEPT },
        ];
        let smoke = site.program(
            "smoke-tests",
            Place::Here,
            &[
                "--url",
                site.base_url.as_str().trim_end_matches('/'),
                "--timeout",
                "30",
                "--expect-release",
                &release.to_string(),
            ],
        );
        let prune = site.backup(&["prune", "--keep", &BACKUPS_KEPT.to_string()]);
        let one = |call: ProgramCall| Todo::Run(vec![Action::Program(call)]);
        let steps = vec![
            step(StepId::Tests, "run all tests", tests),
            step(StepId::Build, "build the programs and the release artifact", Todo::Run(build)),
            step(StepId::Backup, "back up the database", backup),
            step(
                StepId::Refresh,
                "copy production's data",
                Todo::Skip("not asked for with --refresh-data".to_owned()),
            ),
            step(StepId::Config, "set the variables", Todo::Run(vec![Action::SetConfig])),
            step(
                StepId::Release,
                "migrate the database, then serve the new release",
                Todo::Run(deploy),
            ),
            step(StepId::ImportAccess, "import who may use what", one(site.import_access(there))),
            step(
                StepId::Verify,
                "check the database",
                one(site.program("verify-migration", there, &[])),
            ),
            step(StepId::Smoke, "check the running app", one(smoke)),
            // The new release serves and is checked by now; old backups that stay harm nobody.
            Step {
                on_failure: OnFailure::Warn,
                ..step(StepId::PruneBackups, "remove old backups", one(prune))
            },
            Step {
                when: When::Always,
                ..step(StepId::Summary, "sum up", Todo::Run(vec![Action::Summarize]))
            },
        ];
        Self { site: site.clone(), release, replaces: *serving, variables: site.variables(), steps }
    }

    /// The environment that it is for.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The release that it makes.
    #[must_use]
    pub fn release(&self) -> ReleaseId {
        self.release
    }

    /// The release that serves until then.
    #[must_use]
    pub fn replaces(&self) -> Option<ReleaseId> {
        self.replaces
    }

    /// The variables that all programs get.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The steps, in the order that they run.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A hash of everything that decides what `step` does, except for the artifact and the database.
    #[must_use]
    pub fn fingerprint(&self, step: &Step) -> String {
        let mut hasher = Sha256::new();
        // Secrets are replaced in this text, so a hash of it tells nothing about them.
        hasher.update(step_text(step).as_bytes());
        for variable in &self.variables {
            hasher.update(format!("\n{variable}").as_bytes());
        }
        hex(&hasher.finalize())
    }
}

/// Whether the environment has a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// There is none; the first migration makes it.
    Missing,
    /// There is one, or only opening it would tell.
    Present,
}

fn step(id: StepId, summary: &str, todo: Todo) -> Step {
    Step { id, summary: summary.to_owned(), todo, on_failure: OnFailure::Stop, when: When::AllWell }
}

/// The plan as `--plan` prints it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site, release, replaces, variables, steps } = self;
        let Site { environment, platform, root, base_url, database_url: _ } = site;
        write!(f, "Deploy release {release} to {environment} on the {platform} platform")?;
        match replaces {
            Some(old) => write!(f, ", over release {old}")?,
            None => write!(f, ", where nothing serves")?,
        }
        writeln!(f, "\n  address    {base_url}")?;
        writeln!(f, "  project    {}", root.display())?;
        write!(f, "  variables ")?;
        for variable in variables {
            write!(f, " {variable}")?;
        }
        writeln!(f, " OMNITOOL_RELEASE={release}\n")?;
        for step in steps {
            f.write_str(&step_text(step))?;
        }
        Ok(())
    }
}

fn step_text(step: &Step) -> String {
    let Step { id, summary, todo, on_failure, when } = step;
    let mut text = format!("{id:<14} {summary}");
    match on_failure {
        OnFailure::Stop => {}
        OnFailure::Warn => text.push_str(" (a failure is a warning)"),
    }
    match when {
        When::AllWell => {}
        When::Always => text.push_str(" (always)"),
    }
    text.push('\n');
    match todo {
        Todo::Run(actions) => {
            for action in actions {
                text.push_str(&format!("               {action}\n"));
            }
        }
        Todo::Skip(reason) => text.push_str(&format!("               skipped: {reason}\n")),
    }
    text
}
