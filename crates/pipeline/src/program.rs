//! Calls of omnitool's programs, which answer with one JSON document on stdout.

use std::{fmt, path::Path, process::ExitStatus, time::Duration};

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    CommandLine, Fact, PlatformError, ProgramCall, Purpose, Variable, Watch, answer,
    process::{self, Finished, RunCommandError, Stdout},
};

/// What a program answered.
#[derive(Debug)]
pub struct ProgramOutput {
    /// What it did, in one line.
    pub summary: String,
    /// What is worth a look although it did it.
    pub warnings: Vec<String>,
    /// The backup that it took, where the call was for one.
    pub backup: Option<String>,
    /// The users that it made, where the call was for that.
    pub credentials: Vec<Credential>,
    /// The backups that it listed, where the call was for that.
    pub backups: Vec<ListedBackup>,
    /// Its whole answer, where the call was for that.
    pub document: Option<Value>,
    /// What it found and changed, as far as reports show it.
    pub facts: Vec<Fact>,
}

impl ProgramOutput {
    fn new(summary: String) -> Self {
        Self {
            summary,
            warnings: Vec::new(),
            backup: None,
            credentials: Vec::new(),
            backups: Vec::new(),
            document: None,
            facts: Vec::new(),
        }
    }
}

/// A backup as `backup-database list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ListedBackup {
    /// Its id, such as `b003`.
    pub id: String,
    /// Why it was taken.
    pub kind: String,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
    /// The release that it was taken before.
    pub release: Option<String>,
    /// Says when it was found to be good; `None` where it was not.
    verified: Option<Value>,
}

impl ListedBackup {
    /// Whether it is a good one, and none that a rollback took for safety.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.verified.is_some() && self.kind != "before-rollback"
    }

    /// The number in its id, by which backups are in order.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        backup_number(&self.id)
    }
}

/// The number in a backup's id.
pub(crate) fn backup_number(id: &str) -> Option<u32> {
    id.strip_prefix('b')?.parse().ok()
}

/// A user that was just made. The password is shown once, and written nowhere.
#[derive(Debug)]
pub struct Credential {
    /// The name to log in with.
    pub username: String,
    /// The password to log in with.
    pub password: SecretString,
    /// Whether the user may manage the others.
    pub is_admin: bool,
}

/// Why a program did not do what it was called for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunProgramError {
    /// The program was not built, or is not in the release.
    #[error("the program {program} is not in {folder}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Where it should be.
        folder: String,
    },
    /// It could not be run to its end.
    #[error(transparent)]
    Run(#[from] RunCommandError),
    /// It failed, and said why.
    #[error("{program} failed: {message}{}", tail_text(.found))]
    Failed {
        /// The program.
        program: &'static str,
        /// What it says.
        message: String,
        /// What it found, where its answer is a bad result and no error; else the last lines of its stderr.
        found: Vec<String>,
        /// The causes that it gives, outermost first.
        #[source]
        causes: Option<Box<Cause>>,
        /// What it says to do next.
        hint: Option<String>,
        /// What it found, as far as reports show it.
        facts: Vec<Fact>,
    },
    /// The platform could not run it.
    #[error(transparent)]
    Platform(Box<PlatformError>),
    /// Nobody knows how it ended.
    #[error("it is not known how {program} ended in {dyno}: {why}")]
    Unknown {
        /// The program.
        program: &'static str,
        /// Where it ran.
        dyno: String,
        /// What is known.
        why: String,
    },
    /// It ended without an answer that can be understood.
    #[error("{program} ended with {status} and no answer{}", tail_text(.tail))]
    NoAnswer {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its stderr.
        tail: Vec<String>,
    },
}

impl RunProgramError {
    /// Whether the program may have done something.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        !matches!(self, Self::Missing { .. } | Self::Platform(_))
    }

    /// Whether it may still run.
    #[must_use]
    pub const fn may_go_on(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

impl From<PlatformError> for RunProgramError {
    fn from(error: PlatformError) -> Self {
        Self::Platform(Box::new(error))
    }
}

/// A cause that a program gave for its failure.
#[derive(Debug)]
pub struct Cause {
    text: String,
    next: Option<Box<Self>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|next| next as _)
    }
}

/// What every program's answer has. The rest of the document is the program's own.
#[derive(Deserialize)]
struct Answer {
    summary: Option<String>,
    kind: Option<String>,
    error: Option<String>,
    #[serde(default)]
    causes: Vec<String>,
    hint: Option<String>,
    id: Option<String>,
    #[serde(default)]
    users: Vec<User>,
    #[serde(default, alias = "tests", deserialize_with = "answer::list_of_checks")]
    checks: Vec<Check>,
    /// The whole document, for what only some programs say.
    #[serde(skip)]
    document: Value,
}

/// What `migrate-db --status` says about a schema.
#[derive(Deserialize)]
struct Schema {
    #[serde(default)]
    unknown: Vec<String>,
    #[serde(default)]
    changed: Vec<String>,
    #[serde(default)]
    out_of_order: Vec<String>,
}

impl Schema {
    /// Why these programs cannot migrate it, where they cannot.
    fn problems(self) -> Vec<String> {
        let Self { unknown, changed, out_of_order } = self;
        [
            ("the database belongs to a newer build: this one does not know", unknown),
            ("changed since it was applied:", changed),
            ("comes before one that is applied already:", out_of_order),
        ]
        .into_iter()
        .filter(|(_, migrations)| !migrations.is_empty())
        .map(|(what, migrations)| format!("{what} {}", migrations.join(", ")))
        .collect()
    }
}

/// What `backup-database list` says.
#[derive(Deserialize)]
struct Backups {
    backups: Vec<ListedBackup>,
}

/// What `rollback-migration` says.
#[derive(Deserialize)]
struct Restored {
    plan: RestorePlan,
}

#[derive(Deserialize)]
struct RestorePlan {
    target: RestoreTarget,
}

#[derive(Deserialize)]
struct RestoreTarget {
    label: String,
}

/// One check of a report.
#[derive(Deserialize)]
struct Check {
    id: String,
    outcome: Option<CheckOutcome>,
    message: Option<String>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum CheckOutcome {
    Warned,
    Failed,
    CouldNotRun,
    #[serde(other)]
    Fine,
}

impl Check {
    /// What is worth telling, where the check ended as one of `outcomes`.
    fn tell(self, outcomes: &[CheckOutcome]) -> Option<String> {
        let Self { id, outcome, message } = self;
        let told = outcome.is_some_and(|outcome| outcomes.contains(&outcome));
        told.then(|| match message {
            Some(message) => format!("{id}: {message}"),
            None => id,
        })
    }
}

#[derive(Deserialize)]
struct User {
    username: String,
    password: Option<String>,
    #[serde(default)]
    is_admin: bool,
}

/// Runs `call` with the programs of the folder `programs`, working in `folder`.
///
/// # Errors
///
/// Fails where the program is missing, fails, or does not answer.
pub fn run_program(
    call: &ProgramCall,
    programs: &Path,
    folder: &Path,
    variables: &[Variable],
    watch: &mut Watch<'_>,
) -> Result<ProgramOutput, RunProgramError> {
    let ProgramCall { program, arguments, place: _, variables: own, purpose, limit } = call;
    let limit: Duration = *limit;
    let path = programs.join(program);
    if !path.is_file() {
        return Err(RunProgramError::Missing { program, folder: programs.display().to_string() });
    }
    let command = CommandLine::new(path, folder)
        .arguments(arguments.iter().cloned())
        .variables(variables.iter().chain(own).cloned());
    let Finished { status, stdout, stderr_tail } =
        process::run(&command, Stdout::Keep, Some(limit), watch)?;
    // No program shows a secret; should one do it all the same, it ends here.
    let text = command.redact(&String::from_utf8_lossy(&stdout));
    understand_answer(program, *purpose, status, &text, stderr_tail)
}

/// What the answer `text` of a program means that ended with `status`.
pub(crate) fn understand_answer(
    program: &'static str,
    purpose: Purpose,
    status: ExitStatus,
    text: &str,
    tail: Vec<String>,
) -> Result<ProgramOutput, RunProgramError> {
    parse_answer(text)
        .and_then(|answer| understand(program, purpose, status.success(), answer, &tail))
        .unwrap_or(Err(RunProgramError::NoAnswer { program, status, tail }))
}

fn parse_answer(text: &str) -> Option<Answer> {
    let document: Value = serde_json::from_str(text).ok()?;
    let answer = Answer::deserialize(&document).ok()?;
    Some(Answer { document, ..answer })
}

/// What only some programs say.
fn part<T: DeserializeOwned>(document: &Value) -> Option<T> {
    T::deserialize(document).ok()
}

/// What `answer` means, or `None` where it lacks what the call was for.
fn understand(
    program: &'static str,
    purpose: Purpose,
    success: bool,
    answer: Answer,
    stderr_tail: &[String],
) -> Option<Result<ProgramOutput, RunProgramError>> {
    let Answer { summary, kind, error, causes, hint, id, users, checks, document } = answer;
    let facts = answer::facts(&document);
    if !success {
        let bad = [CheckOutcome::Failed, CheckOutcome::CouldNotRun];
        let mut found: Vec<String> =
            checks.into_iter().filter_map(|check| check.tell(&bad)).collect();
        // A program prints its error to stderr, too; once is enough.
        if found.is_empty() && error.is_none() {
            found = stderr_tail.to_vec();
        }
        let message = error.or(summary)?;
        // Demo users are only for a database that has none; the program decides that in one transaction.
        if purpose == Purpose::CreateUsers && kind.as_deref() == Some("refused") {
            return Some(Ok(ProgramOutput::new(message)));
        }
        let causes =
            causes.into_iter().rev().fold(None, |next, text| Some(Box::new(Cause { text, next })));
        return Some(Err(RunProgramError::Failed { program, message, found, causes, hint, facts }));
    }
    let mut output = ProgramOutput { facts, ..ProgramOutput::new(summary?) };
    let warned = [CheckOutcome::Warned];
    output.warnings = checks.into_iter().filter_map(|check| check.tell(&warned)).collect();
    match purpose {
        Purpose::Look | Purpose::ChangeDatabase => {}
        Purpose::Answer => output.document = Some(document),
        Purpose::ListBackups => output.backups = part::<Backups>(&document)?.backups,
        Purpose::Restore => output.backup = Some(part::<Restored>(&document)?.plan.target.label),
        Purpose::CheckSchema => {
            let found = part::<Schema>(&document)?.problems();
            if !found.is_empty() {
                let message = "these programs cannot migrate this database".to_owned();
                let hint = Some(
                    "nothing was changed; deploy a commit that has all migrations of the database"
                        .to_owned(),
                );
                return Some(Err(RunProgramError::Failed {
                    program,
                    message,
                    found,
                    causes: None,
                    hint,
                    facts: Vec::new(),
                }));
            }
        }
        // Without its id nobody could say how to roll back.
        Purpose::TakeBackup => output.backup = Some(id?),
        Purpose::CreateUsers => {
            output.credentials = users
                .into_iter()
                .filter_map(|User { username, password, is_admin }| {
                    Some(Credential { username, password: password?.into(), is_admin })
                })
                .collect();
        }
    }
    Some(Ok(output))
}

/// The end of a program's stderr as it is quoted in an error.
pub(crate) fn tail_text(tail: &[String]) -> String {
    if tail.is_empty() { String::new() } else { format!(":\n{}", tail.join("\n")) }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn answered(purpose: Purpose, success: bool, json: &str) -> Option<String> {
        let answer = parse_answer(json).unwrap();
        understand("program", purpose, success, answer, &["a line".to_owned()]).map(|result| {
            match result {
                Ok(output) => output.summary,
                Err(error) => match error.source() {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                },
            }
        })
    }

    #[test]
    fn a_failure_carries_the_program_s_own_words() {
        let json = r#"{"status":"failed","kind":"failed","error":"cannot migrate","causes":["disk full"],"hint":null}"#;
        assert_eq!(
            answered(Purpose::Look, false, json).unwrap(),
            "program failed: cannot migrate: disk full"
        );
        // A failed check is a result, so it has a summary and no error.
        let json = r#"{"summary":"1 of 8 checks failed"}"#;
        assert_eq!(
            answered(Purpose::Look, false, json).unwrap(),
            "program failed: 1 of 8 checks failed:\na line"
        );
    }

    #[test]
    fn the_checks_that_failed_are_named_and_those_that_warned_are_warnings() {
        let json = r#"{"summary":"3 checks","checks":[
            {"id":"tools","outcome":"failed","message":"Missing: A"},
            {"id":"app","outcome":"could-not-run","message":"no app"},
            {"id":"defaults","outcome":"warned","message":"1 user"},
            {"id":"tables","outcome":"passed","message":"ok"}]}"#;
        assert_eq!(
            answered(Purpose::Look, false, json).unwrap(),
            "program failed: 3 checks:\ntools: Missing: A\napp: no app"
        );
        let answer = parse_answer(json).unwrap();
        let output = understand("program", Purpose::Look, true, answer, &[]).unwrap().unwrap();
        assert_eq!(output.warnings, ["defaults: 1 user"]);
    }

    #[test]
    fn a_rollback_s_checks_are_a_report_of_their_own() {
        let json = r#"{"summary":"Rolled back","plan":{"target":{"label":"b001"}},"checks":{"summary":"1 check","checks":[{"id":"a","outcome":"passed"}]}}"#;
        assert_eq!(answered(Purpose::Restore, true, json).unwrap(), "Rolled back");
    }

    #[test]
    fn only_demo_users_may_be_refused() {
        let json = r#"{"status":"failed","kind":"refused","error":"the database has users"}"#;
        let accepted = answered(Purpose::CreateUsers, false, json).unwrap();
        assert_eq!(accepted, "the database has users");
        let failed = answered(Purpose::ChangeDatabase, false, json).unwrap();
        assert_eq!(failed, "program failed: the database has users");
    }

    #[test]
    fn an_answer_without_what_was_asked_for_is_none() {
        assert_eq!(answered(Purpose::TakeBackup, true, r#"{"summary":"done"}"#), None);
        assert_eq!(answered(Purpose::Look, true, "{}"), None);
    }

    #[test]
    fn a_schema_that_cannot_be_migrated_is_a_failure() {
        let json =
            r#"{"summary":"6 applied","unknown":["2030"],"changed":[],"out_of_order":["2020_a"]}"#;
        insta::assert_snapshot!(answered(Purpose::CheckSchema, true, json).unwrap(), @r"
        program failed: these programs cannot migrate this database:
        the database belongs to a newer build: this one does not know 2030
        comes before one that is applied already: 2020_a
        ");
        let json = r#"{"summary":"6 applied","unknown":[]}"#;
        assert_eq!(answered(Purpose::CheckSchema, true, json).unwrap(), "6 applied");
        // What is a problem there may be anything elsewhere.
        let json = r#"{"summary":"ok","unknown":3,"backups":true}"#;
        assert_eq!(answered(Purpose::ChangeDatabase, true, json).unwrap(), "ok");
    }

    #[test]
    fn passwords_are_kept_apart_and_never_shown() {
        let json = r#"{"summary":"made 1 user","users":[{"username":"ann","password":"hunter2","is_admin":true}]}"#;
        let answer = parse_answer(json).unwrap();
        let output =
            understand("omnitool", Purpose::CreateUsers, true, answer, &[]).unwrap().unwrap();
        assert!(!format!("{output:?}").contains("hunter2"));
        assert_eq!(output.credentials[0].password.expose_secret(), "hunter2");
    }
}
