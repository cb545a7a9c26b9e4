//! How a program ends.

use std::{error::Error, fmt::Write as _, process::ExitCode};

use serde::{Serialize, ser::SerializeStruct};

/// A run that ended as it should, with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Done, or all checks passed: exit code 0.
    Done,
    /// The result is printed and it is bad, such as a critical check that failed: exit code 1.
    Failed,
    /// Changes are pending, where the caller asked to be told by exit code 3.
    ChangesPending,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Failed => Self::from(1),
            Outcome::ChangesPending => Self::from(3),
        }
    }
}

/// The kinds of failure, as `--format json` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureKind {
    /// Something that was tried did not work: exit code 1.
    Failed,
    /// It was not tried, for a reason that a person can settle: exit code 1.
    Refused,
    /// The flags make no sense together: exit code 2.
    Usage,
}

/// A run that did not do what it was asked: what, why, and what to do next.
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl Failure {
    /// Something that was tried did not work.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: FailureKind::Failed, error: error.into(), hint: None }
    }

    /// It was not tried, for a reason that a person can settle.
    pub fn refused(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: FailureKind::Refused, error: error.into(), hint: None }
    }

    /// The flags make no sense together.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: FailureKind::Usage, error: error.into(), hint: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Which kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The exit code that says so.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            FailureKind::Failed | FailureKind::Refused => 1,
            FailureKind::Usage => 2,
        })
    }

    fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut source = self.error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some libraries repeat their source in their own text; once is enough.
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            source = cause.source();
        }
        causes
    }

    /// The text for a person: the error, its causes one per line, and the hint.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("error: {}\n", self.error);
        for cause in self.causes() {
            let indented = cause.trim_end().replace('\n', "\n    ");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  caused by: {indented}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "\nhint: {hint}");
        }
        text
    }
}

/// An error is a failure of kind [`FailureKind::Failed`] unless the program says otherwise.
impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}

impl Serialize for Failure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Failure", 5)?;
        object.serialize_field("status", "failed")?;
        object.serialize_field("kind", &self.kind)?;
        object.serialize_field("error", &self.error.to_string())?;
        object.serialize_field("causes", &self.causes())?;
        object.serialize_field("hint", &self.hint)?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the database")]
    struct Outer(#[source] std::io::Error);

    fn failure() -> Failure {
        Failure::refused(Outer(std::io::Error::other("disk\nfull"))).hint("free some space")
    }

    #[test]
    fn a_failure_shows_its_whole_chain_and_the_hint() {
        insta::assert_snapshot!(failure().render(), @r"
        error: cannot open the database
          caused by: disk
            full

        hint: free some space
        ");
    }

    #[test]
    fn json_carries_the_kind() {
        insta::assert_snapshot!(
            serde_json::to_string(&failure()).unwrap(),
            @r#"{"status":"failed","kind":"refused","error":"cannot open the database","causes":["disk\nfull"],"hint":"free some space"}"#
        );
    }
}
