//! What the caller of a deployment decided, as the journal keeps it.

use serde::{Deserialize, Serialize};

use crate::StepId;

/// What the caller of a deployment decided. A run that continues another one takes its settings over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// All tests run first.
    pub tests: bool,
    /// Staging gets a copy of production's data.
    pub refresh_data: bool,
    /// Why no backup is taken, where none is to be.
    pub skip_backup: Option<String>,
    /// Why this deployment may happen although the environment is frozen.
    pub freeze_override: Option<String>,
    /// The steps that are left out.
    pub skipped: Vec<SkippedStep>,
    /// A failure is followed by the way back.
    pub auto_rollback: bool,
    /// How a release gets to Heroku, where it goes there.
    #[serde(skip_serializing_if = "HerokuWay::is_default")]
    pub way: HerokuWay,
}

/// How a release gets to Heroku.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HerokuWay {
    /// The artifact is the slug; Heroku builds nothing.
    #[default]
    Slug,
    /// Heroku builds the sources.
    Build,
    /// It is what staging runs, through Heroku's pipeline.
    Promote,
}

impl HerokuWay {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A step that somebody wants left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedStep {
    /// The step.
    pub step: StepId,
    /// Why.
    pub reason: String,
}

/// A step that cannot be left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the step {step} cannot be left out: {why}")]
pub struct SkipStepError {
    /// The step.
    pub step: StepId,
    /// Why not.
    pub why: &'static str,
}

/// Says whether `step` may be left out with `--skip`.
///
/// # Errors
///
/// Fails for a step that all later ones build on, and for a backup, which has a flag of its own.
pub fn check_skippable(step: StepId) -> Result<(), SkipStepError> {
    let why = match step {
        StepId::Tests
        | StepId::Refresh
        | StepId::ImportAccess
        | StepId::Verify
        | StepId::Smoke
        | StepId::PruneBackups => return Ok(()),
        StepId::Backup => "say so with --skip-backup REASON",
        StepId::SafetyGate => "it is what makes a deployment one that was wanted",
        StepId::Summary => "it changes nothing",
        _ => "the steps after it need it",
    };
    Err(SkipStepError { step, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_that_nothing_builds_on_may_be_left_out() {
        let allowed: Vec<StepId> =
            StepId::ALL.into_iter().filter(|step| check_skippable(*step).is_ok()).collect();
        assert_eq!(
            allowed,
            [
                StepId::Tests,
                StepId::Refresh,
                StepId::ImportAccess,
                StepId::Verify,
                StepId::Smoke,
                StepId::PruneBackups
            ]
        );
        insta::assert_snapshot!(
            check_skippable(StepId::Backup).unwrap_err(),
            @"the step backup cannot be left out: say so with --skip-backup REASON"
        );
    }
}
