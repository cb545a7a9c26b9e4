//! What programs answered besides their summaries, as far as reports show it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::Fact;

/// How many facts or checks of one answer are kept; all are counted. A journal must not grow with the data.
const MOST_KEPT: usize = 1000;
/// How long a text of a check may be, in characters.
const LONGEST_TEXT: usize = 2000;

/// One check of `verify-migration`, or one test of `smoke-tests`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// Its stable name.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// What was found, in one line.
    pub message: String,
    /// What to do about it, where it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// What it proves is so.
    Passed,
    /// There is something worth a look.
    Warned,
    /// It is not so.
    Failed,
    /// There was nothing to look at.
    Skipped,
    /// Nobody knows.
    #[serde(other)]
    CouldNotRun,
}

impl CheckOutcome {
    /// All, the worst first.
    pub(crate) const ALL: [Self; 5] =
        [Self::Failed, Self::CouldNotRun, Self::Warned, Self::Passed, Self::Skipped];

    /// The words for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warned => "warned",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::CouldNotRun => "could not run",
        }
    }
}

/// What an import did to who may use what, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessChanges {
    /// `merge`, `sync` or `overwrite`.
    pub mode: String,
    /// How many facts were added.
    pub added: u64,
    /// How many facts were removed.
    pub removed: u64,
    /// How many facts of the file were there already.
    pub present: u64,
    /// How many users of the file the environment does not have.
    pub unknown_users: u64,
    /// How many facts the environment has against the file.
    pub contradicting: u64,
    /// The first that were added.
    pub additions: Vec<AccessFact>,
    /// The first that were removed.
    pub removals: Vec<AccessFact>,
    /// The first that the environment has against the file.
    pub contradictions: Vec<Contradiction>,
}

/// One fact about who may use what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessFact {
    /// The tool.
    pub tool: String,
    /// The user, unless it is about everyone.
    pub user: Option<String>,
    /// What kind of fact it is.
    pub fact: AccessFactKind,
}

/// The kinds of fact about who may use what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessFactKind {
    /// This user may use the tool.
    Grant,
    /// Everyone may.
    Wildcard,
    /// This user must not, whatever else holds.
    Exclusion,
}

/// A fact that the environment has against the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// The fact.
    #[serde(flatten)]
    pub fact: AccessFact,
    /// The command that removes it.
    pub command: String,
}

/// The parts of an answer that reports show. All are optional: an answer without them is no worse.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(alias = "tests", deserialize_with = "list_of_checks")]
    checks: Vec<Check>,
    mode: Option<String>,
    added: Option<Counts>,
    removed: Counts,
    present: u64,
    unknown_user_count: u64,
    contradiction_count: u64,
    additions: Vec<AccessFact>,
    removals: Vec<AccessFact>,
    contradictions: Vec<Contradiction>,
}

#[derive(Deserialize)]
struct Check {
    id: String,
    name: Option<String>,
    outcome: CheckOutcome,
    message: Option<String>,
    #[serde(alias = "next")]
    repair: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    grants: u64,
    wildcards: u64,
    exclusions: u64,
}

impl Counts {
    const fn total(&self) -> u64 {
        self.grants + self.wildcards + self.exclusions
    }
}

/// Reads checks: a list of them, or the whole report of another program, which has the list.
pub(crate) fn list_of_checks<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Checks<T> {
        List(Vec<T>),
        Report { checks: Vec<T> },
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Checks::List(checks) | Checks::Report { checks }) => checks,
    })
}

/// What `document`, a program's answer without secrets, says besides its summary.
///
/// An answer of another form says nothing here; whether that is a failure is decided where its summary is read.
pub(crate) fn facts(document: &Value) -> Vec<Fact> {
    let Ok(answer) = Answer::deserialize(document) else { return Vec::new() };
    let Answer { checks, mode, added, .. } = &answer;
    let mut facts = Vec::new();
    if !checks.is_empty() {
        let text = |text: &str| text.chars().take(LONGEST_TEXT).collect::<String>();
        let checks = checks.iter().take(MOST_KEPT).map(|check| CheckResult {
            id: check.id.clone(),
            name: check.name.clone().unwrap_or_else(|| check.id.clone()),
            outcome: check.outcome,
            message: text(check.message.as_deref().unwrap_or_default()),
            repair: match check.outcome {
                CheckOutcome::Passed | CheckOutcome::Skipped => None,
                _ => check.repair.as_deref().map(text),
            },
        });
        facts.push(Fact::Checked { checks: checks.collect() });
    }
    if let (Some(mode), Some(added)) = (mode, added) {
        facts.push(Fact::AccessChanged {
            changes: AccessChanges {
                mode: mode.clone(),
                added: added.total(),
                removed: answer.removed.total(),
                present: answer.present,
                unknown_users: answer.unknown_user_count,
                contradicting: answer.contradiction_count,
                additions: answer.additions.into_iter().take(MOST_KEPT).collect(),
                removals: answer.removals.into_iter().take(MOST_KEPT).collect(),
                contradictions: answer.contradictions.into_iter().take(MOST_KEPT).collect(),
            },
        });
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_of(json: &str) -> Vec<Fact> {
        facts(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn checks_are_kept_with_what_to_do_where_they_did_not_pass() {
        let json = r#"{"summary":"s","elapsed_ms":1.5,"checks":[
            {"id":"database","name":"Database","severity":"critical","outcome":"passed","message":"SQLite at ***","repair":"start it","findings":[]},
            {"id":"tools","outcome":"failed","message":"Missing: A","repair":"sync-tools"},
            {"id":"new","outcome":"something-new","message":null}]}"#;
        insta::assert_snapshot!(serde_json::to_string_pretty(&facts_of(json)).unwrap(), @r#"
        [
          {
            "kind": "checked",
            "checks": [
              {
                "id": "database",
                "name": "Database",
                "outcome": "passed",
                "message": "SQLite at ***"
              },
              {
                "id": "tools",
                "name": "tools",
                "outcome": "failed",
                "message": "Missing: A",
                "repair": "sync-tools"
              },
              {
                "id": "new",
                "name": "new",
                "outcome": "could-not-run",
                "message": ""
              }
            ]
          }
        ]
        "#);
    }

    #[test]
    fn the_changes_of_an_import_are_kept() {
        let json = r#"{"summary":"s","mode":"merge","read":{"grants":2},"present":35,
            "added":{"grants":1,"wildcards":0,"exclusions":1},"removed":{"grants":0,"wildcards":0,"exclusions":0},
            "contradiction_count":1,"unknown_user_count":2,"removals":[],
            "additions":[{"tool":"A","user":"ann","fact":"grant"},{"tool":"A","user":null,"fact":"wildcard"}],
            "contradictions":[{"tool":"B","user":"bob","fact":"grant","command":"import …"}]}"#;
        let facts = facts_of(json);
        let [Fact::AccessChanged { changes }] = facts.as_slice() else { panic!("{facts:?}") };
        assert_eq!((changes.added, changes.contradicting, changes.unknown_users), (2, 1, 2));
        assert_eq!(changes.additions[1].user, None);
        assert_eq!(changes.contradictions[0].fact.fact, AccessFactKind::Grant);
        // What was written can be read back.
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Fact>>(&text).unwrap(), facts);
    }

    #[test]
    fn the_report_of_another_program_is_read_where_it_is() {
        let list = r#"[{"id":"tools","outcome":"passed","message":"as defined"}]"#;
        let report = format!(r#"{{"checks":{{"summary":"1 check","checks":{list}}}}}"#);
        assert_eq!(facts_of(&report), facts_of(&format!(r#"{{"checks":{list}}}"#)));
        assert_eq!(facts_of(&report).len(), 1);
        assert_eq!(facts_of(r#"{"checks":null}"#), []);
    }

    #[test]
    fn an_answer_of_another_form_says_nothing() {
        for json in ["7", "[]", "{}", r#"{"summary":"s"}"#, r#"{"checks":7}"#] {
            assert_eq!(facts_of(json), [], "{json}");
        }
    }

    #[test]
    fn a_journal_does_not_grow_with_the_data() {
        let check =
            r#"{"id":"c","outcome":"failed","message":"TEXT"}"#.replace("TEXT", &"é".repeat(5000));
        let json = format!(r#"{{"checks":[{}]}}"#, vec![check; 1200].join(","));
        let facts = facts_of(&json);
        let [Fact::Checked { checks }] = facts.as_slice() else { panic!("{}", facts.len()) };
        assert_eq!((checks.len(), checks[0].message.chars().count()), (1000, 2000));
    }
}
