//! What the safety gate has to know, found with git and in the journals.

use std::fmt;

use omnitool_cli::Failure;
use omnitool_environment::EnvironmentName;
use omnitool_pipeline::{
    GateFacts, History, LocalPlatform, Objection, RehearsalRule, Rehearsed, Revision, RunRecord,
    Situation, Staged, Task,
};

use crate::project::Project;

/// Production is not deployed to.
#[derive(Debug)]
pub(crate) struct RefusedError(pub(crate) Vec<Objection>);

impl fmt::Display for RefusedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "production is not deployed to")?;
        for objection in &self.0 {
            write!(f, "\n  {objection}\n    -> {}", objection.hint())?;
        }
        Ok(())
    }
}

impl std::error::Error for RefusedError {}

/// What the caller of a production deployment says that the gate has to know.
pub(crate) struct Asked {
    pub(crate) freeze_override: Option<String>,
    pub(crate) rehearsal: RehearsalRule,
}

/// Finds out all that the gate has to know. Nothing is changed.
pub(crate) fn facts(
    project: &Project,
    situation: &Situation,
    asked: Asked,
) -> Result<GateFacts, Failure> {
    let revision = project.revision();
    let branches = revision.as_ref().map(|found| project.main_branches_with(&found.commit));
    let staged = match &revision {
        Some(revision) => staged(project, revision)?,
        None => None,
    };
    let rehearsed = match &staged {
        Some(staged) => rehearsed(project, &staged.artifact)?,
        None => None,
    };
    let Asked { freeze_override, rehearsal } = asked;
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

pub(crate) fn history(project: &Project, environment: EnvironmentName) -> Result<History, Failure> {
    let site = project.site(environment)?;
    Ok(History::read(&LocalPlatform::folder(project.root(), &site).join("runs"))?)
}

/// The newest staging run that passed with the files of `revision`. A merge makes another commit of the same files.
pub(crate) fn staged(project: &Project, revision: &Revision) -> Result<Option<Staged>, Failure> {
    let tree = project.tree_of(&revision.commit);
    let history = history(project, EnvironmentName::Staging)?;
    let found = history.runs.iter().rev().filter(|run| run.passed()).find_map(|run| {
        let RunRecord { run, artifact: Some(artifact), artifact_revision: Some(packed), .. } = run
        else {
            return None;
        };
        let same = packed.commit == revision.commit
            || (tree.is_some() && project.tree_of(&packed.commit) == tree);
        (same && !packed.modified).then(|| Staged {
            run: run.clone(),
            artifact: artifact.clone(),
            found: project.artifacts().join(format!("{artifact}.tar.gz")).is_file(),
            commit: packed.commit.clone(),
        })
    });
    Ok(found)
}

/// The rehearsal of the artifact that went well on the newest backup.
fn rehearsed(project: &Project, artifact: &str) -> Result<Option<Rehearsed>, Failure> {
    let history = history(project, EnvironmentName::Production)?;
    let found = history
        .runs
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
