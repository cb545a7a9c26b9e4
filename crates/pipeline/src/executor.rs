//! Performs actions: on this machine, or through the platform.

use std::path::PathBuf;

use crate::{
    Action, Artifact, ArtifactSource, CommandLine, ConfigChange, Credential, Origin,
    PackArtifactError, Place, Plan, Platform, PlatformError, ProgramCall, ProgramOutput, Purpose,
    ReleaseId, RunProgramError, Variable, Watch,
    artifact::remove_old_artifacts,
    pack_artifact,
    process::{self, Finished, RunCommandError, Stdout},
    program::{run_program, tail_text},
};

/// Performs the actions of a plan.
pub trait Execute {
    /// Performs `action`, and says what it did.
    ///
    /// # Errors
    ///
    /// Fails where the action does.
    fn perform(&mut self, action: &Action, watch: &mut Watch<'_>)
    -> Result<Performed, ActionError>;
}

/// What an action did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Performed {
    /// It, in one line.
    pub evidence: String,
    /// What is worth a look although it did it.
    pub warnings: Vec<String>,
}

impl From<String> for Performed {
    fn from(evidence: String) -> Self {
        Self { evidence, warnings: Vec::new() }
    }
}

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// A command could not be run to its end.
    #[error(transparent)]
    Command(#[from] RunCommandError),
    /// A command ran and failed.
    #[error("`{command}` ended with {status}{}", tail_text(.tail))]
    CommandFailed {
        /// The command, without secrets.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines of its stderr.
        tail: Vec<String>,
    },
    /// A program failed.
    #[error(transparent)]
    Program(#[from] RunProgramError),
    /// There is no artifact.
    #[error(transparent)]
    Pack(#[from] PackArtifactError),
    /// The platform did not do what was asked.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A release was to be installed before the artifact was packed.
    #[error("no artifact was packed, so release {release} cannot be installed")]
    NoArtifact {
        /// The release.
        release: ReleaseId,
    },
}

impl ActionError {
    /// What the program that failed says to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Program(RunProgramError::Failed { hint, .. }) => hint.as_deref(),
            _ => None,
        }
    }
}

/// What a run has learned and changed so far.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// The artifact.
    pub artifact: Option<Artifact>,
    /// The backup that was taken before anything changed.
    pub backup: Option<String>,
    /// What happened to the database, in order.
    pub database: Vec<DatabaseChange>,
    /// The users that were made.
    pub credentials: Vec<Credential>,
}

/// A program that changes the database was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseChange {
    /// The program.
    pub program: &'static str,
    /// What it said, or that it failed.
    pub result: Result<String, String>,
}

/// Performs the actions of a plan for real.
pub struct Executor<'a> {
    platform: &'a mut dyn Platform,
    source: ArtifactSource,
    artifacts: PathBuf,
    variables: Vec<Variable>,
    run: String,
    aftermath: Aftermath,
}

impl<'a> Executor<'a> {
    /// Will perform the actions of `plan` on `platform`, with an artifact from `source` that is kept in the folder
    /// `artifacts`. Programs learn the id `run`, so that what they write down can name it.
    pub fn new(
        plan: &Plan,
        run: &str,
        platform: &'a mut dyn Platform,
        source: ArtifactSource,
        artifacts: PathBuf,
    ) -> Self {
        Self {
            platform,
            source,
            artifacts,
            variables: plan.variables().to_vec(),
            run: run.to_owned(),
            aftermath: Aftermath::default(),
        }
    }

    /// What was learned and changed, and which release serves now.
    #[must_use]
    pub fn finish(self) -> (Aftermath, Option<ReleaseId>) {
        let serving = self.platform.serving();
        (self.aftermath, serving)
    }

    fn program(
        &mut self,
        call: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<Performed, ActionError> {
        let variables = vec![Variable::plain("OMNITOOL_RUN_ID", &self.run)];
        let call = &ProgramCall { variables, ..call.clone() };
        let result = match call.place {
            Place::Release(release) => self.platform.run_program(release, call, watch),
            Place::Here => {
                let root = &self.source.root;
                run_program(call, &self.source.programs, root, &self.variables, watch)
            }
        };
        let may_have_changed = match (call.purpose, &result) {
            (Purpose::Look | Purpose::TakeBackup, _) => false,
            (Purpose::ChangeDatabase, _) | (Purpose::CreateUsers, Err(_)) => true,
            (Purpose::CreateUsers, Ok(output)) => !output.credentials.is_empty(),
        };
        if may_have_changed {
            let result = match &result {
                Ok(output) => Ok(output.summary.clone()),
                Err(error) => Err(error.to_string()),
            };
            self.aftermath.database.push(DatabaseChange { program: call.program, result });
        }
        let ProgramOutput { summary, warnings, backup, credentials } = result?;
        self.aftermath.backup = backup.or(self.aftermath.backup.take());
        self.aftermath.credentials.extend(credentials);
        Ok(Performed { evidence: summary, warnings })
    }

    fn summary(&self) -> String {
        let serving = match self.platform.serving() {
            Some(release) => format!("release {release} serves"),
            None => "nothing serves".to_owned(),
        };
        match &self.aftermath.backup {
            Some(backup) => format!("{serving}; backup {backup} is from before this run"),
            None => serving,
        }
    }
}

impl Execute for Executor<'_> {
    fn perform(
        &mut self,
        action: &Action,
        watch: &mut Watch<'_>,
    ) -> Result<Performed, ActionError> {
        let evidence = match action {
            Action::Program(call) => return self.program(call, watch),
            Action::Command(command) => run_command(command, watch)?,
            Action::Pack => {
                let artifact = pack_artifact(&self.source, &self.artifacts)?;
                let text = artifact_text(&artifact);
                self.aftermath.artifact = Some(artifact);
                text
            }
            Action::SetConfig => {
                let change = self.platform.set_config(&self.variables)?;
                config_text(&change)
            }
            Action::Install(release) => {
                let release = *release;
                let artifact =
                    self.aftermath.artifact.as_ref().ok_or(ActionError::NoArtifact { release })?;
                self.platform.install(release, artifact)?;
                format!("release {release} unpacked")
            }
            Action::Activate(release) => self.platform.activate(*release, watch)?,
            Action::RemoveOldReleases { keep } => {
                let removed = self.platform.remove_old_releases(*keep)?;
                if let Some(artifact) = &self.aftermath.artifact {
                    remove_old_artifacts(&self.artifacts, artifact, *keep)?;
                }
                match removed.as_slice() {
                    [] => "no old release to remove".to_owned(),
                    removed => {
                        let names: Vec<String> = removed.iter().map(ToString::to_string).collect();
                        format!("old releases removed: {}", names.join(", "))
                    }
                }
            }
            Action::Summarize => self.summary(),
        };
        Ok(evidence.into())
    }
}

/// Runs `command` and takes the last line that it printed as what it did.
fn run_command(command: &CommandLine, watch: &mut Watch<'_>) -> Result<String, ActionError> {
    let Finished { status, stdout: _, stderr_tail } =
        process::run(command, Stdout::Report, None, watch)?;
    if status.success() {
        let last = stderr_tail.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
        Ok(last.unwrap_or("done").to_owned())
    } else {
        Err(ActionError::CommandFailed {
            command: command.without_variables(),
            status,
            tail: stderr_tail,
        })
    }
}

fn artifact_text(artifact: &Artifact) -> String {
    let Artifact { file: _, sha256, size, revision, origin } = artifact;
    let origin = match origin {
        Origin::Packed => "packed",
        Origin::Reused => "unchanged",
    };
    let megabytes = (size + 50_000) / 100_000;
    let mut text = format!(
        "artifact {} {origin}, {}.{} MB",
        sha256.get(..12).unwrap_or(sha256),
        megabytes / 10,
        megabytes % 10
    );
    if let Some(revision) = revision {
        let commit = revision.commit.get(..10).unwrap_or(&revision.commit);
        text.push_str(&format!(", commit {commit}"));
        if revision.modified {
            text.push_str(" with changes");
        }
    }
    text
}

fn config_text(change: &ConfigChange) -> String {
    let ConfigChange { set, unchanged } = change;
    match set.as_slice() {
        [] => format!("nothing to set, {unchanged} unchanged"),
        set => format!("set {}; {unchanged} unchanged", set.join(", ")),
    }
}
