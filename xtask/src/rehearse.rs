//! `cargo xtask rehearse production`.

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use fs_err as fs;
use omnitool_cli::{Failure, Outcome, print, write_atomically};
use omnitool_environment::{DatabaseUrl, EnvironmentName, Platform as PlatformName};
use omnitool_pipeline::{
    AccessFact, AccessFactKind, Aftermath, CheckOutcome, Contradiction, DatabaseState, Home,
    LocalPlatform, Place, Plan, RehearsalOptions, RunProgramError, RunReport, Site, StepOutcome,
    StepReport, Stream, Task, Watch, run_program,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    deploy::{
        gate,
        session::{Ran, Session},
        stopped,
    },
    project::Project,
    terminal::{heading, seconds},
};

/// Names the PostgreSQL database to rehearse in, where production's is one. A variable, since it may hold a password.
const SCRATCH_URL: &str = "OMNITOOL_REHEARSAL_DATABASE_URL";

/// How many lines of each kind are printed.
const SHOWN: usize = 20;

/// The flags of `cargo xtask rehearse`.
#[derive(Args, Debug)]
pub(crate) struct RehearseArgs {
    /// The environment: production
    #[arg(value_parser = ["production"])]
    environment: String,

    /// Rehearse on this backup [default: the newest verified one; where there is none, one is taken]
    #[arg(long, value_name = "ID")]
    backup: Option<String>,

    /// Where production runs: local or heroku
    #[arg(long, env = "OMNITOOL_PLATFORM", default_value = "local", value_name = "PLATFORM")]
    platform: PlatformName,

    /// Wait while another run holds the environment, at most this many seconds [default: as long as it takes]
    #[arg(long, value_name = "SECONDS", require_equals = true)]
    wait: Option<Option<u64>>,
}

/// Why nothing was rehearsed.
#[derive(Debug, thiserror::Error)]
enum RehearseError {
    #[error("the project is no git working copy, so nobody could say what is rehearsed")]
    NoCommit,
    #[error("no staging run has passed with commit {commit} or one with the same files")]
    NotStaged { commit: String },
    #[error(
        "production's database is on PostgreSQL, and {SCRATCH_URL} names no database to rehearse in"
    )]
    NoScratch,
    #[error("{SCRATCH_URL} names no PostgreSQL database")]
    NotPostgres,
    #[error("{SCRATCH_URL} names production's own database")]
    Live,
}

/// All that a rehearsal found, as a file for programs and for whoever looks closer. It may hold personal data.
#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    version: u32,
    run: &'a str,
    passed: bool,
    artifact: &'a str,
    backup: Option<&'a str>,
    duration_ms: u128,
    steps: Vec<StepTimes<'a>>,
    /// What each program answered, in order: migrations with their times, the access plan, every finding.
    answers: Vec<Answer<'a>>,
}

#[derive(Serialize)]
struct StepTimes<'a> {
    step: &'static str,
    outcome: &'a StepOutcome,
    duration_ms: u128,
    evidence: &'a [String],
}

#[derive(Serialize)]
struct Answer<'a> {
    program: &'static str,
    answer: &'a serde_json::Value,
}

/// A folder for the scratch database, which goes whatever happens.
struct Scratch {
    folder: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What could not be removed is removed by the next rehearsal.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Scratch {
    /// The folder, and nothing of rehearsals that died: they hold a copy of production's data.
    fn make(environment: &Path) -> Result<Self, Failure> {
        let folder = environment.join("rehearsals/scratch");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let scratch = Self { folder };
        fs::set_permissions(&scratch.folder, std::fs::Permissions::from_mode(0o700))?;
        Ok(scratch)
    }
}

/// Rehearses, and says what was found.
pub(crate) fn run(project: &Project, args: &RehearseArgs) -> Result<Outcome, Failure> {
    let live = project.site_on(EnvironmentName::Production, args.platform)?;
    let artifact = artifact(project, args.platform)?;
    let session =
        Session::begin(project, &live, args.wait.map(|limit| limit.map(Duration::from_secs)))?;
    let situation = session.look()?;
    if args.platform == PlatformName::Heroku && situation.database == DatabaseState::Missing {
        print(
            "Production has no database yet, so there is nothing to rehearse on, and no need to.\n",
        )?;
        return Ok(Outcome::Done);
    }
    let environment = LocalPlatform::folder(project.root(), &live);
    let scratch = Scratch::make(&environment)?;
    let site =
        Site { home: Home::Local { database_url: scratch_url(&live, &scratch)? }, ..live.clone() };
    let options = RehearsalOptions { artifact: artifact.clone(), backup: args.backup.clone() };
    let plan = Plan::rehearsal(&live, &site, &situation, options);
    print(&format!("{}\n\n", plan.heading()))?;
    let programs = project.artifacts().join(&artifact).join("bin");
    let ran = session.run(&plan, None, &programs);
    // However the run ended: it holds production's data.
    let dropped = drop_copy(&site, &programs);
    drop(scratch);
    let ran = ran?;

    let file = environment.join("rehearsals").join(format!("{}.json", ran.id));
    write_report(&file, &artifact, &ran)?;
    let found = found(&ran.aftermath.documents);
    let Ran { report: RunReport { failure, duration, steps }, places, .. } = ran;
    let took = seconds(duration);
    let text = match &failure {
        None => format!("The rehearsal went well, in {took}"),
        Some(_) => format!("The rehearsal stopped after {took}; production was not touched"),
    };
    let warned = steps.iter().filter(|step| matches!(step.outcome, StepOutcome::Warned { .. }));
    print(&format!(
        "{found}{}  {:<10} {}\n  {:<10} {}\n{places}",
        heading(&text),
        "findings",
        warned.count() + usize::from(failure.is_some()),
        "report",
        project.shown(&file)
    ))?;
    match failure {
        Some(failure) => Err(stopped(Task::Rehearsal, failure)),
        None => dropped.map(|()| Outcome::Done),
    }
}

/// Drops the database that was rehearsed in: it holds a copy of production's data.
fn drop_copy(scratch: &Site, programs: &Path) -> Result<(), Failure> {
    let Some(call) = scratch.drop_copy(Place::Artifact) else { return Ok(()) };
    let mut ignore = |_: Stream, _: &str| {};
    let mut watch = Watch::new(&|| false, &mut ignore);
    let folder = programs.parent().unwrap_or(programs);
    match run_program(&call, programs, folder, &scratch.variables_here(), &mut watch) {
        Ok(_) => Ok(()),
        // It was not unpacked, so that it did nothing either.
        Err(RunProgramError::Missing { .. }) => Ok(()),
        Err(error) => Err(Failure::failed(error).hint(format!(
            "drop the database that {SCRATCH_URL} names: it holds a copy of production's data"
        ))),
    }
}

/// The parts of the programs' answers that are printed; all of them are in the report.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    statements: Vec<Statement>,
    status: String,
    additions: Vec<AccessFact>,
    contradictions: Vec<Contradiction>,
    #[serde(deserialize_with = "checks")]
    checks: Vec<Check>,
}

/// A statement of a migration.
#[derive(Deserialize)]
struct Statement {
    sql: String,
    locks: Vec<String>,
    held_ms: u64,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    outcome: CheckOutcome,
    message: String,
}

/// Programs may answer with checks of another kind.
fn checks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Check>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// What the migrations lock, what changes of who may use what, and what the checks found.
fn found(documents: &[(&'static str, serde_json::Value)]) -> String {
    let (mut locks, mut access, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    for (_, document) in documents {
        let Ok(found) = Found::deserialize(document) else { continue };
        for Statement { sql, locks: taken, held_ms } in found.statements {
            locks.extend(
                taken.iter().map(|lock| format!("{lock}, held for {held_ms} ms by: {sql}")),
            );
        }
        // A dry run's; the import itself does what its plan said.
        if found.status == "pending" {
            access.extend(found.additions.iter().map(|fact| format!("+ {}", fact_text(fact))));
            access.extend(found.contradictions.iter().map(|one| {
                format!("! {} is against the file; {}", fact_text(&one.fact), one.command)
            }));
        }
        let bad =
            |check: &Check| !matches!(check.outcome, CheckOutcome::Passed | CheckOutcome::Skipped);
        findings.extend(
            found.checks.into_iter().filter(bad).map(|check| {
                format!("{} {}: {}", check.name, check.outcome.as_str(), check.message)
            }),
        );
    }
    let parts = [
        ("What the migrations lock", locks),
        ("What changes of who may use what", access),
        ("What the checks found", findings),
    ];
    parts.into_iter().map(|(title, lines)| listed(title, &lines)).collect()
}

fn fact_text(AccessFact { tool, user, fact }: &AccessFact) -> String {
    let user = user.as_deref().unwrap_or_default();
    match fact {
        AccessFactKind::Grant => format!("{tool}: {user} granted"),
        AccessFactKind::Wildcard => format!("{tool}: for everyone"),
        AccessFactKind::Exclusion => format!("{tool}: {user} excluded"),
    }
}

/// The first of `lines` below a heading; nothing where there are none.
fn listed(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = heading(title);
    for line in lines.iter().take(SHOWN) {
        // Names come from files and databases of others.
        let line: String =
            line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        text.push_str(&format!("  {line}\n"));
    }
    if lines.len() > SHOWN {
        text.push_str(&format!("  and {} more, in the report\n", lines.len() - SHOWN));
    }
    text
}

/// The artifact that a deployment to production would release.
fn artifact(project: &Project, platform: PlatformName) -> Result<String, Failure> {
    let Some(revision) = project.revision() else {
        return Err(
            Failure::refused(RehearseError::NoCommit).hint("rehearse in a clone of the repository")
        );
    };
    let commit = revision.commit.get(..10).unwrap_or(&revision.commit).to_owned();
    let of = |promoted| gate::staged(project, platform, promoted, &revision);
    let staged = match of(false)? {
        // What Heroku has built is promoted, and has the programs of this artifact.
        None => of(true)?,
        found => found,
    };
    match staged {
        Some(staged) if staged.found => Ok(staged.artifact),
        _ => {
            let flag = match platform {
                PlatformName::Local => "",
                PlatformName::Heroku => " --platform heroku",
            };
            Err(Failure::refused(RehearseError::NotStaged { commit })
                .hint(format!("cargo xtask deploy-staging{flag}")))
        }
    }
}

fn scratch_url(live: &Site, scratch: &Scratch) -> Result<DatabaseUrl, Failure> {
    let live = match &live.home {
        Home::Local { database_url } if database_url.sqlite_path().is_some() => {
            return Ok(DatabaseUrl::sqlite(&scratch.folder.join("omnitool.db")));
        }
        Home::Local { database_url } => Some(database_url),
        // The name, by which alone it may be dropped, tells it from production's.
        Home::Heroku { .. } => None,
    };
    let given = env::var(SCRATCH_URL).ok().filter(|url| !url.trim().is_empty());
    let Some(url) = given else {
        return Err(Failure::refused(RehearseError::NoScratch).hint(format!(
            "set {SCRATCH_URL} to a database on a PostgreSQL server of yours, such as \
             postgres://me@localhost/omnitool_rehearsal: it is made, and dropped afterwards"
        )));
    };
    let url: DatabaseUrl = url.parse().map_err(Failure::refused)?;
    if url.sqlite_path().is_some() {
        return Err(Failure::refused(RehearseError::NotPostgres).hint("nothing was changed"));
    }
    if live.is_some_and(|live| url.expose() == live.expose()) {
        return Err(Failure::refused(RehearseError::Live)
            .hint("name another database; nothing was changed"));
    }
    Ok(url)
}

fn write_report(file: &Path, artifact: &str, ran: &Ran) -> Result<(), Failure> {
    let Ran { id, report, aftermath, .. } = ran;
    let RunReport { steps, failure, duration } = report;
    let Aftermath { backup, documents, .. } = aftermath;
    let report = Report {
        format: "omnitool.rehearsal",
        version: 1,
        run: id,
        passed: failure.is_none(),
        artifact,
        backup: backup.as_deref(),
        duration_ms: duration.as_millis(),
        steps: steps
            .iter()
            .map(|StepReport { id, outcome, duration, evidence }| StepTimes {
                step: id.as_str(),
                outcome,
                duration_ms: duration.as_millis(),
                evidence,
            })
            .collect(),
        answers: documents.iter().map(|(program, answer)| Answer { program, answer }).collect(),
    };
    let mut text = serde_json::to_vec_pretty(&report)?;
    text.push(b'\n');
    Ok(write_atomically(file, |out| out.write_all(&text))?)
}
