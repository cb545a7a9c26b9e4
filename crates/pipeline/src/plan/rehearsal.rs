//! The plan that tries a release's changes on a copy of the database that nobody sees.

use super::{call, step};
use crate::{
    Action, DatabaseState, Home, Place, Plan, ProgramCall, Purpose, ReleaseId, Settings, Site,
    Situation, StepId, Task, Todo,
};

/// What is rehearsed.
#[derive(Clone, Debug)]
pub struct RehearsalOptions {
    /// The SHA-256 of the artifact.
    pub artifact: String,
    /// The backup; the newest verified one where none is named.
    pub backup: Option<String>,
}

impl Plan {
    /// The plan that restores a backup of `live` into the database of `scratch` and does there what a deployment would do.
    ///
    /// `scratch` is the same environment with another database, which is empty or not there yet.
    pub fn rehearsal(
        live: &Site,
        scratch: &Site,
        situation: &Situation,
        options: RehearsalOptions,
    ) -> Self {
        let RehearsalOptions { artifact, backup } = options;
        let there = Place::Artifact;
        let kept = |call: ProgramCall| ProgramCall { purpose: Purpose::Answer, ..call };
        // The backups are the live database's, everything else is the scratch one's.
        let of_live = |call: ProgramCall| ProgramCall { variables: live.variables_here(), ..call };
        let restore = match (situation.database, &live.home) {
            (DatabaseState::Missing, _) => Todo::Skip(format!(
                "{} has no database yet, so an empty one it is",
                live.environment
            )),
            (DatabaseState::Present, Home::Local { .. }) => {
                let restore = Action::Program(scratch.restore(there, backup.as_deref()));
                let clear = scratch.drop_copy(there).map(Action::Program);
                Todo::Run(clear.into_iter().chain([restore]).collect())
            }
            (DatabaseState::Present, Home::Heroku { .. }) => {
                let mut call = of_live(live.restore_copy(there, backup.as_deref()));
                call.variables.extend(scratch.copy_variable());
                Todo::Run(vec![Action::Program(call)])
            }
        };
        let backup = match situation.database {
            DatabaseState::Missing => Todo::Skip("there is no database yet".to_owned()),
            DatabaseState::Present => Todo::Run(vec![Action::EnsureBackup {
                list: of_live(live.list_backups(there)),
                capture: of_live(live.take_manual_backup(there)),
            }]),
        };
        let steps = vec![
            step(
                StepId::Build,
                "use the artifact that passed staging",
                Todo::Run(vec![Action::UseArtifact(artifact)]),
            ),
            step(StepId::Backup, "make sure that there is a backup", backup),
            step(StepId::Restore, "make a scratch database from the newest backup", restore),
            step(
                StepId::Migrate,
                "migrate it, and say how long each statement took and what it locked",
                Todo::Run(vec![
                    Action::Program(kept(scratch.migrate_watched(there))),
                    Action::Program(kept(scratch.check_schema(there))),
                ]),
            ),
            call(StepId::SyncTools, "sync the tools once more", kept(scratch.sync_tools(there))),
            call(
                StepId::PlanAccess,
                "say what the import would change",
                kept(scratch.plan_access(there)),
            ),
            call(
                StepId::ImportAccess,
                "import who may use what",
                kept(scratch.import_access(there)),
            ),
            call(StepId::Verify, "check the database", kept(scratch.verify_imported(there))),
        ];
        let release = ReleaseId::after(situation.newest);
        Self {
            task: Task::Rehearsal,
            heading: format!(
                "Rehearse release {release} of {} on a copy of its database",
                live.environment
            ),
            site: scratch.clone(),
            platform: live.platform(),
            situation: *situation,
            release,
            variables: scratch.variables(),
            steps,
            // No hooks either: they are for what somebody sees.
            settings: Settings::default(),
        }
    }
}
