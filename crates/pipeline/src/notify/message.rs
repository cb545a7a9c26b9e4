//! What a webhook is told.

use std::fmt;

use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use serde::Serialize;
use serde_json::{Value, json};

use super::Service;
use crate::{ReleaseId, RunOutcome, StepId, Task, overview::duration};

/// How much of an error leaves the machine, in characters: its first line, and no more than this.
const LONGEST_ERROR: usize = 300;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Occasion {
    /// A run has started.
    Started,
    /// It has gone through.
    Succeeded,
    /// It has gone through, and something is worth a look.
    Warned,
    /// It has stopped.
    Failed,
}

/// As it stands in "was not told that …".
impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "the run started",
            Self::Succeeded => "the run succeeded",
            Self::Warned => "the run succeeded with warnings",
            Self::Failed => "the run failed",
        })
    }
}

/// What a webhook is told about a run. [`Service::Json`] gets exactly these fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// What it is about.
    pub occasion: Occasion,
    /// What the run is for.
    pub task: Task,
    /// The run.
    pub run: String,
    /// Who runs it.
    pub user: String,
    /// The environment.
    pub environment: EnvironmentName,
    /// The platform.
    pub platform: PlatformName,
    /// The release that it makes.
    pub release: ReleaseId,
    /// The release that served until then.
    pub replaces: Option<ReleaseId>,
    /// How long it took, in milliseconds, where it has ended.
    pub duration_ms: Option<u64>,
    /// The step that stopped it.
    pub step: Option<StepId>,
    /// The first line of why.
    pub error: Option<String>,
    /// Where it can be watched.
    pub link: Option<String>,
}

impl Message {
    /// The message about the end of the run that this one is the start of.
    #[must_use]
    pub fn ended(&self, outcome: &RunOutcome, duration_ms: u64) -> Self {
        let (occasion, step, error) = match outcome {
            RunOutcome::Done => (Occasion::Succeeded, None, None),
            RunOutcome::Warned => (Occasion::Warned, None, None),
            RunOutcome::Failed { step, error } => {
                (Occasion::Failed, Some(*step), Some(first(error)))
            }
        };
        Self { occasion, duration_ms: Some(duration_ms), step, error, ..self.clone() }
    }

    /// The body that `service` understands.
    #[must_use]
    pub fn body(&self, service: Service) -> Value {
        match service {
            Service::Slack => json!({ "text": self.text(&slack) }),
            // Nobody is called by a name that happens to be in an error.
            Service::Discord => {
                json!({ "content": self.text(&discord), "allowed_mentions": { "parse": [] } })
            }
            Service::Json => json!(self),
        }
    }

    fn text(&self, escape: &dyn Fn(&str) -> String) -> String {
        let Self { release, environment, platform, .. } = self;
        let took = self.duration_ms.map(|took| format!(" after {}", duration(took)));
        let took = took.unwrap_or_default();
        let on = match platform {
            PlatformName::Local => "",
            PlatformName::Heroku => " on Heroku",
        };
        let user = escape(&self.user);
        let what = format!("release {release} to {environment}{on}");
        let (now, then, noun) = match self.task {
            Task::Deploy => (
                format!("deploys {what}"),
                format!("deployed {what}"),
                format!("deployment of {what}"),
            ),
            Task::Rollback => (
                format!("rolls {environment}{on} back to release {release}"),
                format!("rolled {environment}{on} back to release {release}"),
                format!("rollback of {environment}{on} to release {release}"),
            ),
            Task::Rehearsal => (
                format!("rehearses release {release} for {environment}{on}"),
                format!("rehearsed release {release} for {environment}{on}"),
                format!("rehearsal of release {release} for {environment}{on}"),
            ),
        };
        let mut text = match self.occasion {
            Occasion::Started => format!("🚀 {user} {now}"),
            Occasion::Succeeded => format!("✅ {user} {then}{took}"),
            Occasion::Warned => format!("⚠️ {user} {then}{took}, with warnings"),
            Occasion::Failed => {
                let step = self.step.map_or("", StepId::as_str);
                format!("❌ {user}'s {noun} stopped in the step {step}{took}")
            }
        };
        for more in self.error.iter().chain(&self.link) {
            text.push('\n');
            text.push_str(&escape(more));
        }
        text
    }
}

fn first(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let end = line.char_indices().nth(LONGEST_ERROR).map_or(line.len(), |(at, _)| at);
    line[..end].to_owned()
}

/// Slack's own characters, as its documentation wants them escaped.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `text` without a meaning in Discord's Markdown.
fn discord(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "\\`*_~|>#[]()@<-".contains(c) && !text.starts_with("https://") {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
