//! Steps and their actions, as data.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{CommandLine, HerokuWay, Hook, Rehearsed, ReleaseId, Variable, command::quoted};

/// The stable name of a step, as it stands in flags, journals and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepId {
    /// Whether this deployment may happen at all.
    SafetyGate,
    /// The project's tests.
    Tests,
    /// The programs and the artifact.
    Build,
    /// A backup becomes a scratch database: only in rehearsals.
    Restore,
    /// A backup of the database before anything changes.
    Backup,
    /// A copy of production's data.
    Refresh,
    /// The variables that programs get.
    Config,
    /// The schema, without a release: only in rehearsals.
    Migrate,
    /// The tools once more, which must change nothing: only in rehearsals.
    SyncTools,
    /// The new release: its migrations, then its code.
    Release,
    /// What the import would change: only in rehearsals.
    PlanAccess,
    /// Who may use what.
    ImportAccess,
    /// The checks of the database.
    Verify,
    /// The checks of the running app.
    Smoke,
    /// Old backups go.
    PruneBackups,
    /// The way back: a plan of its own, or what `--auto-rollback` does after a failure.
    Rollback,
    /// What happened, whatever happened.
    Summary,
}

impl StepId {
    /// All steps, in the order that they run.
    pub const ALL: [Self; 17] = [
        Self::SafetyGate,
        Self::Tests,
        Self::Build,
        Self::Restore,
        Self::Backup,
        Self::Refresh,
        Self::Config,
        Self::Migrate,
        Self::SyncTools,
        Self::Release,
        Self::PlanAccess,
        Self::ImportAccess,
        Self::Verify,
        Self::Smoke,
        Self::PruneBackups,
        Self::Rollback,
        Self::Summary,
    ];

    /// The name as it stands in flags, journals and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SafetyGate => "safety-gate",
            Self::Tests => "tests",
            Self::Build => "build",
            Self::Restore => "restore",
            Self::Backup => "backup",
            Self::Refresh => "refresh",
            Self::Config => "config",
            Self::Migrate => "migrate",
            Self::SyncTools => "sync-tools",
            Self::Release => "release",
            Self::PlanAccess => "plan-access",
            Self::ImportAccess => "import-access",
            Self::Verify => "verify",
            Self::Smoke => "smoke",
            Self::PruneBackups => "prune-backups",
            Self::Rollback => "rollback",
            Self::Summary => "summary",
        }
    }
}

/// A text that names no step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown step `{given}` (known: {})", StepId::ALL.map(StepId::as_str).join(", "))]
pub struct ParseStepIdError {
    /// What was given instead.
    pub given: String,
}

impl FromStr for StepId {
    type Err = ParseStepIdError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|id| id.as_str() == given)
            .ok_or_else(|| ParseStepIdError { given: given.to_owned() })
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// What it does, for people.
    pub summary: String,
    /// Its actions, or why it has none.
    pub todo: Todo,
    /// What a failure of it means for the run.
    pub on_failure: OnFailure,
    /// When it runs.
    pub when: When,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Todo {
    /// These actions, in this order.
    Run(Vec<Action>),
    /// Nothing, for a reason.
    Skip(String),
}

/// What a step's failure means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The run stops.
    Stop,
    /// The run goes on, and says so.
    Warn,
}

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// When all steps before it went well.
    AllWell,
    /// Whatever happened.
    Always,
    /// When a step before it failed, and nobody interrupted the run.
    Failed,
}

/// One thing that a step does. Everything that is decided is decided in here, before the first action runs.
#[derive(Clone, Debug)]
pub enum Action {
    /// Runs a command on this machine.
    Command(CommandLine),
    /// Writes down what was found before the plan was made.
    Record(String),
    /// Runs somebody's program around a step.
    Hook(Hook),
    /// Packs the release artifact, unless its input is unchanged.
    Pack,
    /// Finds the artifact with this SHA-256, and unpacks its programs for this machine.
    UseArtifact(String),
    /// Refuses unless a rehearsal of the artifact went well on the newest backup that the call lists.
    RequireRehearsal {
        /// Lists the backups.
        list: ProgramCall,
        /// The newest rehearsal of the artifact that went well.
        rehearsed: Rehearsed,
    },
    /// Takes a backup where there is none.
    EnsureBackup {
        /// Lists the backups.
        list: ProgramCall,
        /// Takes one.
        capture: ProgramCall,
    },
    /// Waits until no release that was begun can come to serve, or change the database, by itself any more.
    Settle,
    /// Sets the plan's variables where they differ.
    SetConfig,
    /// Puts the artifact on the platform as a release that does not serve yet.
    Install {
        /// The release.
        release: ReleaseId,
        /// How it gets to Heroku, where it goes there.
        way: Option<HerokuWay>,
    },
    /// Runs one of omnitool's programs.
    Program(ProgramCall),
    /// Makes a release the one that serves.
    Activate {
        /// The release.
        release: ReleaseId,
        /// How it gets to Heroku, where it goes there.
        way: Option<HerokuWay>,
    },
    /// Where the release that the run makes serves: makes the one before it serve again.
    RollBackCode {
        /// The release that the run makes.
        from: ReleaseId,
        /// The one that served before it.
        to: ReleaseId,
    },
    /// Where the run has changed the database: puts its backup back. The backup's id is added to the call.
    RollBackDatabase(ProgramCall),
    /// Removes the releases older than the newest ones.
    RemoveOldReleases {
        /// How many stay, at least.
        keep: usize,
    },
    /// Says what the run has changed.
    Summarize,
}

/// A call of one of omnitool's programs, which answers with a JSON document.
#[derive(Clone, Debug)]
pub struct ProgramCall {
    /// The program.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it runs.
    pub place: Place,
    /// What it gets besides the variables of the environment.
    pub variables: Vec<Variable>,
    /// What the run needs it for.
    pub purpose: Purpose,
    /// How long it may take.
    pub limit: Duration,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine, from the built programs.
    Here,
    /// On this machine, from the artifact.
    Artifact,
    /// Where the new release is, from the release.
    Release(ReleaseId),
}

impl Place {
    /// Whether it is this machine, whatever the platform.
    pub(crate) const fn is_here(self) -> bool {
        matches!(self, Self::Here | Self::Artifact)
    }
}

/// What a run needs a program for, and so what it keeps of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It looks and changes nothing that a rollback would have to restore.
    Look,
    /// It changes the database.
    ChangeDatabase,
    /// It makes the first users where there are none; their passwords are shown once and written nowhere.
    CreateUsers,
    /// It takes the backup that a rollback would restore, or names the one that a rehearsal is made on.
    TakeBackup,
    /// It compares the database's schema with its own migrations; one that it cannot migrate is a failure.
    CheckSchema,
    /// It lists the backups.
    ListBackups,
    /// It restores a backup, which it names.
    Restore,
    /// Its whole answer is wanted. Whatever it changes is no part of the environment.
    Answer,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => write!(f, "$ {command}"),
            Self::Record(text) => write!(f, "note: {text}"),
            Self::Hook(hook) => write!(f, "{hook}"),
            Self::Pack => f.write_str("pack the programs and data/ into the release artifact"),
            Self::UseArtifact(sha256) => {
                write!(f, "use the artifact {} as it is", sha256.get(..12).unwrap_or(sha256))
            }
            Self::RequireRehearsal { list, rehearsed } => {
                let Rehearsed { run, backup } = rehearsed;
                write!(
                    f,
                    "{list}: no verified backup may be newer than {backup} of rehearsal {run}"
                )
            }
            Self::EnsureBackup { list, capture } => {
                write!(f, "{list}: where there is no good one, {capture}")
            }
            Self::Settle => f.write_str("wait for the release phases and builds that go on"),
            Self::SetConfig => f.write_str("set the variables that differ"),
            Self::Install { release, way } => match way {
                None => write!(f, "unpack the artifact as release {release}"),
                Some(HerokuWay::Slug) => {
                    write!(f, "upload the artifact as the slug of release {release}")
                }
                Some(HerokuWay::Build) => write!(f, "upload the sources of release {release}"),
                Some(HerokuWay::Promote) => {
                    write!(f, "make sure that staging runs the artifact, as release {release}")
                }
            },
            Self::Program(call) => write!(f, "{call}"),
            Self::Activate { release, way } => {
                let how = match way {
                    None => {
                        return write!(
                            f,
                            "switch to release {release}: stop the app that serves, start the new one"
                        );
                    }
                    Some(HerokuWay::Slug) => "release the slug",
                    Some(HerokuWay::Build) => "build the sources",
                    Some(HerokuWay::Promote) => "promote what staging runs",
                };
                write!(
                    f,
                    "{how}: the release phase runs migrate-db; then wait until all dynos run release {release}"
                )
            }
            Self::RollBackCode { from, to } => {
                write!(f, "where release {from} serves: switch back to release {to}")
            }
            Self::RollBackDatabase(call) => {
                write!(f, "where the database was changed: {call} --backup ID")
            }
            Self::RemoveOldReleases { keep } => {
                write!(f, "remove releases older than the newest {keep}")
            }
            Self::Summarize => f.write_str("say what has changed, and how to go back"),
        }
    }
}

impl fmt::Display for ProgramCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$ {}", self.program)?;
        for argument in &self.arguments {
            write!(f, " {}", quoted(argument))?;
        }
        match self.place {
            Place::Here => Ok(()),
            Place::Artifact => f.write_str("   (from the artifact)"),
            Place::Release(release) => write!(f, "   (in release {release})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_serialize_as_they_are_named() {
        for id in StepId::ALL {
            assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
            assert_eq!(id.as_str().parse(), Ok(id));
        }
    }
}
