//! Whether production may be deployed to: the rules, apart from how their facts are found.

use omnitool_environment::FreezeWindow;

use crate::{DatabaseState, Rehearsed, Revision};

/// What the safety gate looks at.
#[derive(Clone, Debug)]
pub struct GateFacts {
    /// The commit that is checked out.
    pub revision: Option<Revision>,
    /// The branches that deployments come from and that contain the commit.
    pub branches: Vec<String>,
    /// The newest staging run that passed with what is checked out.
    pub staged: Option<Staged>,
    /// The freeze that now is in, where it is in one.
    pub frozen: Option<FreezeWindow>,
    /// Why it may happen all the same.
    pub freeze_override: Option<String>,
    /// Whether production has a database.
    pub database: DatabaseState,
    /// Whether a rehearsal is needed.
    pub rehearsal: RehearsalRule,
    /// The newest rehearsal of the artifact that went well.
    pub rehearsed: Option<Rehearsed>,
}

/// A staging run that passed, and its artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The run.
    pub run: String,
    /// The SHA-256 of the artifact.
    pub artifact: String,
    /// Whether the artifact is there.
    pub found: bool,
    /// The commit that it was packed from.
    pub commit: String,
}

/// Whether a rehearsal is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RehearsalRule {
    /// Nothing happens without one.
    Required,
    /// The caller wants none.
    NotRequired,
}

/// Why production is not deployed to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Objection {
    /// Nobody could say what is deployed.
    #[error("the project is no git working copy, so nobody could say what is deployed")]
    NoCommit,
    /// What is checked out is more than its commit.
    #[error("there are changes that are not in commit {commit}")]
    Modified {
        /// The commit, short.
        commit: String,
    },
    /// Nobody has merged the commit.
    #[error("commit {commit} is not in main")]
    NotMerged {
        /// The commit, short.
        commit: String,
    },
    /// Nobody has tried it.
    #[error("no staging run has passed with commit {commit} or one with the same files")]
    NotStaged {
        /// The commit, short.
        commit: String,
    },
    /// It was tried, and what was tried is gone.
    #[error("the artifact {artifact} that passed staging in run {run} is not there any more")]
    NoArtifact {
        /// Its SHA-256, short.
        artifact: String,
        /// The run.
        run: String,
    },
    /// It is not the time.
    #[error("production is {window}")]
    Frozen {
        /// The window.
        window: String,
    },
    /// Nobody has tried it on a copy of production's data.
    #[error("nobody has rehearsed the artifact {artifact} on a copy of production's database")]
    NotRehearsed {
        /// Its SHA-256, short.
        artifact: String,
    },
}

impl Objection {
    /// What settles it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoCommit => "deploy from a clone of the repository",
            Self::Modified { .. } => "commit or put away the changes (git status)",
            Self::NotMerged { .. } => "merge it into main, and deploy from there",
            Self::NotStaged { .. } | Self::NoArtifact { .. } => "cargo xtask deploy-staging",
            Self::Frozen { .. } => "wait, or say why not with --freeze-override REASON",
            Self::NotRehearsed { .. } => {
                "--no-require-rehearsal, or cargo xtask rehearse production"
            }
        }
    }
}

fn short(hash: &str, length: usize) -> String {
    hash.get(..length).unwrap_or(hash).to_owned()
}

impl GateFacts {
    /// All objections, not only the first one.
    #[must_use]
    pub fn objections(&self) -> Vec<Objection> {
        let mut all = Vec::new();
        match &self.revision {
            None => all.push(Objection::NoCommit),
            Some(Revision { commit, modified }) => {
                let commit = short(commit, 10);
                if *modified {
                    all.push(Objection::Modified { commit: commit.clone() });
                }
                if self.branches.is_empty() {
                    all.push(Objection::NotMerged { commit: commit.clone() });
                }
                if self.staged.is_none() {
                    all.push(Objection::NotStaged { commit });
                }
            }
        }
        if let (Some(window), None) = (&self.frozen, &self.freeze_override) {
            all.push(Objection::Frozen { window: window.to_string() });
        }
        if let Some(Staged { run, artifact, found, commit: _ }) = &self.staged {
            let artifact = short(artifact, 12);
            if !found {
                all.push(Objection::NoArtifact { artifact: artifact.clone(), run: run.clone() });
            }
            if self.needs_rehearsal() && self.rehearsed.is_none() {
                all.push(Objection::NotRehearsed { artifact });
            }
        }
        all
    }

    /// Whether there is something to rehearse on, and the caller does not want to go without.
    #[must_use]
    pub fn needs_rehearsal(&self) -> bool {
        self.rehearsal == RehearsalRule::Required && self.database == DatabaseState::Present
    }

    /// What speaks for the deployment, for the journal.
    #[must_use]
    pub fn evidence(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(Revision { commit, modified: false }) = &self.revision {
            let branches = self.branches.join(" and ");
            if !branches.is_empty() {
                all.push(format!("commit {} is in {branches}, without changes", short(commit, 10)));
            }
            if let Some(Staged { run, artifact, found: _, commit: staged }) = &self.staged {
                let same = if staged == commit {
                    String::new()
                } else {
                    format!(", with the same files from commit {}", short(staged, 10))
                };
                let artifact = short(artifact, 12);
                all.push(format!("artifact {artifact} passed staging in run {run}{same}"));
            }
        }
        if let (Some(window), Some(reason)) = (&self.frozen, &self.freeze_override) {
            all.push(format!("{window}; deployed all the same: {reason}"));
        }
        match (self.rehearsal, self.database) {
            (RehearsalRule::NotRequired, _) => {
                all.push("no rehearsal was required by whoever deploys".to_owned());
            }
            (RehearsalRule::Required, DatabaseState::Missing) => {
                all.push("there is no database yet, and so nothing to rehearse on".to_owned());
            }
            _ => {}
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> GateFacts {
        GateFacts {
            revision: Some(Revision { commit: "c".repeat(40), modified: false }),
            branches: vec!["main".to_owned()],
            staged: Some(Staged {
                run: "staged".to_owned(),
                artifact: "a".repeat(64),
                found: true,
                commit: "d".repeat(40),
            }),
            frozen: None,
            freeze_override: None,
            database: DatabaseState::Present,
            rehearsal: RehearsalRule::Required,
            rehearsed: Some(Rehearsed { run: "rehearsed".to_owned(), backup: "b001".to_owned() }),
        }
    }

    fn window() -> FreezeWindow {
        FreezeWindow {
            from: "2026-12-24T12:00:00Z".parse().unwrap(),
            until: "2027-01-02T00:00:00Z".parse().unwrap(),
            reason: "holidays".to_owned(),
        }
    }

    #[test]
    fn what_is_as_it_should_be_is_evidence() {
        assert_eq!(good().objections(), []);
        insta::assert_snapshot!(good().evidence().join("\n"), @r"
        commit cccccccccc is in main, without changes
        artifact aaaaaaaaaaaa passed staging in run staged, with the same files from commit dddddddddd
        ");
        let allowed = GateFacts {
            frozen: Some(window()),
            freeze_override: Some("a hole that is used".to_owned()),
            rehearsal: RehearsalRule::NotRequired,
            rehearsed: None,
            ..good()
        };
        assert_eq!(allowed.objections(), []);
        insta::assert_snapshot!(allowed.evidence()[2..].join("\n"), @r"
        frozen from 2026-12-24T12:00:00+00:00 until 2027-01-02T00:00:00+00:00: holidays; deployed all the same: a hole that is used
        no rehearsal was required by whoever deploys
        ");
    }

    #[test]
    fn each_thing_that_is_wrong_is_one_objection_with_what_settles_it() {
        let revision = |modified| Some(Revision { commit: "c".repeat(40), modified });
        let staged = |found| good().staged.map(|staged| Staged { found, ..staged });
        let cases = [
            GateFacts { revision: None, ..good() },
            GateFacts { revision: revision(true), ..good() },
            GateFacts { branches: vec![], ..good() },
            GateFacts { staged: None, ..good() },
            GateFacts { staged: staged(false), ..good() },
            GateFacts { frozen: Some(window()), ..good() },
            GateFacts { rehearsed: None, ..good() },
        ];
        let lines = cases.map(|facts| {
            let objections = facts.objections();
            assert_eq!(objections.len(), 1, "{objections:?}");
            format!("{}: {}", objections[0], objections[0].hint())
        });
        insta::assert_snapshot!(lines.join("\n"), @r"
        the project is no git working copy, so nobody could say what is deployed: deploy from a clone of the repository
        there are changes that are not in commit cccccccccc: commit or put away the changes (git status)
        commit cccccccccc is not in main: merge it into main, and deploy from there
        no staging run has passed with commit cccccccccc or one with the same files: cargo xtask deploy-staging
        the artifact aaaaaaaaaaaa that passed staging in run staged is not there any more: cargo xtask deploy-staging
        production is frozen from 2026-12-24T12:00:00+00:00 until 2027-01-02T00:00:00+00:00: holidays: wait, or say why not with --freeze-override REASON
        nobody has rehearsed the artifact aaaaaaaaaaaa on a copy of production's database: --no-require-rehearsal, or cargo xtask rehearse production
        ");
    }

    #[test]
    fn a_first_deployment_has_nothing_to_rehearse_on() {
        let facts = GateFacts { database: DatabaseState::Missing, rehearsed: None, ..good() };
        assert_eq!(facts.objections(), []);
    }
}
