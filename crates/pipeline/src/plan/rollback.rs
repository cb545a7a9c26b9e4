//! The plans that go back.

use super::{call, step, summary};
use crate::{
    Action, Home, Hook, OnFailure, Place, Plan, ReleaseId, Settings, Site, Situation, Step, StepId,
    Task, Todo,
};

/// What goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollbackChoice {
    /// An older release serves again.
    Code {
        /// That release.
        to: ReleaseId,
    },
    /// The newest migrations are undone.
    Schema {
        /// How many.
        count: u16,
    },
    /// The database is put back to a backup.
    Data {
        /// The backup; the newest verified one where none is named.
        backup: Option<String>,
    },
}

impl Plan {
    /// The plan that goes back as `choice` says. `place` is where the programs are that know the database's schema, and
    /// Heroku's backups where it has any.
    pub fn rollback(
        site: &Site,
        situation: &Situation,
        choice: &RollbackChoice,
        place: Place,
        hooks: &[Hook],
    ) -> Self {
        let serving = situation.serving.or(situation.newest);
        // A database on Heroku is reached from there.
        let at_database = match (&site.home, serving) {
            (Home::Heroku { .. }, Some(serving)) => Place::Release(serving),
            _ => place,
        };
        let (release, what, action) = match choice {
            RollbackChoice::Code { to } => (
                *to,
                format!("the code to release {to}"),
                Action::Activate { release: *to, way: None },
            ),
            RollbackChoice::Schema { count } => (
                serving.unwrap_or_else(|| ReleaseId::after(None)),
                format!("the schema by {count} migration{}", if *count == 1 { "" } else { "s" }),
                Action::Program(site.revert(at_database, *count)),
            ),
            RollbackChoice::Data { backup } => (
                serving.unwrap_or_else(|| ReleaseId::after(None)),
                format!("the data to {}", backup.as_deref().unwrap_or("the newest backup")),
                Action::Program(site.restore(place, backup.as_deref())),
            ),
        };
        // Letting an older release serve waits by itself.
        let settle = matches!(site.home, Home::Heroku { .. })
            && !matches!(choice, RollbackChoice::Code { .. });
        let actions = settle.then_some(Action::Settle).into_iter().chain([action]).collect();
        let mut steps = vec![step(StepId::Rollback, "go back", Todo::Run(actions))];
        match choice {
            RollbackChoice::Code { to } => {
                steps.push(call(StepId::Smoke, "check the running app", site.smoke(place, *to)));
            }
            // The checks are those of the newest code, whose schema this is no more.
            RollbackChoice::Schema { .. } => {}
            RollbackChoice::Data { .. } => {
                // A backup from before a migration is one whose schema these checks do not expect.
                steps.push(Step {
                    on_failure: OnFailure::Warn,
                    ..call(StepId::Verify, "check the database", site.verify(at_database))
                });
            }
        }
        steps.push(summary());
        Self {
            task: Task::Rollback,
            heading: format!(
                "Roll back {} on the {} platform: {what}",
                site.environment,
                site.platform()
            ),
            site: site.clone(),
            platform: site.platform(),
            situation: *situation,
            release,
            variables: site.variables(),
            steps,
            settings: Settings::default(),
        }
        .arranged(hooks)
    }
}
