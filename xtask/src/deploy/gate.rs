//! What the safety gate has to know, found with git and in the journals.

use std::fmt;

use omnitool_cli::Failure;
use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use omnitool_pipeline::{
    GateFacts, HerokuWay, History, Objection, RehearsalRule, Rehearsed, Revision, RunRecord,
    Situation, Staged, Task,
};

use crate::project::Project;

/// Production is not deployed to.
#[derive(Debug)]
pub(crate) struct RefusedError {
    pub(crate) objections: Vec<Objection>,
    /// Where production runs.
    pub(crate) platform: PlatformName,
}

impl fmt::Display for RefusedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "production is not deployed to")?;
        for objection in &self.objections {
            write!(f, "\n  {objection}\n    -> {}", objection.hint())?;
            // Where it names a command, that is one for the default platform.
            if self.platform == PlatformName::Heroku && objection.hint().contains("cargo xtask") {
                write!(f, " --platform heroku")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for RefusedError {}

/// What the caller of a production deployment says that the gate has to know.
pub(crate) struct Asked {
    pub(crate) freeze_override: Option<String>,
    pub(crate) rehearsal: RehearsalRule,
    /// What staging runs goes on as it is, wherever it was built.
    pub(crate) promoted: bool,
}

/// Finds out all that the gate has to know. Nothing is changed.
pub(crate) fn facts(
    project: &Project,
    platform: PlatformName,
    situation: &Situation,
    asked: Asked,
) -> Result<GateFacts, Failure> {
    let revision = project.revision();
    let branches = revision.as_ref().map(|found| project.main_branches_with(&found.commit));
    let staged = match &revision {
        Some(revision) => staged(project, platform, asked.promoted, revision)?,
        None => None,
    };
    let rehearsed = match &staged {
        Some(staged) => rehearsed(project, platform, &staged.artifact)?,
        None => None,
    };
    let Asked { freeze_override, rehearsal, promoted: _ } = asked;
    Ok(GateFacts {
        branches: branches.unwrap_or_default(),
        revision,
        staged,
        frozen: project.freeze(EnvironmentName::Production)?,
        freeze_override,
        database: situation.database,
        rehearsal,
        rehearsed,
    })
}

/// The runs of an environment on a platform.
fn runs(
    project: &Project,
    environment: EnvironmentName,
    platform: PlatformName,
) -> Result<Vec<RunRecord>, Failure> {
    let folder = project.root().join(".omnitool").join(environment.as_str()).join("runs");
    let mut runs = History::read(&folder)?.runs;
    runs.retain(|run| run.platform == platform);
    Ok(runs)
}

/// The newest staging run that passed with the files of `revision`. A merge makes another commit of the same files. What
/// Heroku has built of them can only be promoted: the artifact is another build.
pub(crate) fn staged(
    project: &Project,
    platform: PlatformName,
    promoted: bool,
    revision: &Revision,
) -> Result<Option<Staged>, Failure> {
    let tree = project.tree_of(&revision.commit);
    let found = runs(project, EnvironmentName::Staging, platform)?
        .iter()
        .rev()
        .filter(|run| run.passed())
        .find_map(|run| {
            let RunRecord {
                run,
                artifact: Some(artifact),
                artifact_revision: Some(packed),
                settings,
                ..
            } = run
            else {
                return None;
            };
            let same = packed.commit == revision.commit
                || (tree.is_some() && project.tree_of(&packed.commit) == tree);
            let built_there = settings.way == HerokuWay::Build;
            (same && !packed.modified && (promoted || !built_there)).then(|| Staged {
                run: run.clone(),
                artifact: artifact.clone(),
                found: project.artifacts().join(format!("{artifact}.tar.gz")).is_file(),
                commit: packed.commit.clone(),
            })
        });
    Ok(found)
}

/// The rehearsal of the artifact that went well on the newest backup.
fn rehearsed(
    project: &Project,
    platform: PlatformName,
    artifact: &str,
) -> Result<Option<Rehearsed>, Failure> {
    let found = runs(project, EnvironmentName::Production, platform)?
        .into_iter()
        .filter(|run| {
            run.task == Task::Rehearsal
                && run.went_through()
                && run.artifact.as_deref() == Some(artifact)
        })
        .filter_map(|run| Some(Rehearsed { run: run.run, backup: run.backup? }))
        // Ids have a number of equal length until there are a thousand.
        .max_by_key(|one| (one.backup.len(), one.backup.clone()));
    Ok(found)
}
