//! Who is told of a run besides the journal and the terminal: GitHub Actions, webhooks, and whoever opens its page.
//!
//! None of it can fail a run: what does not work is said in a line.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use fs_err as fs;
use omnitool_cli::{Failure, print};
use omnitool_pipeline::{
    Notifier, Record, Service, Sink, Variable, Webhook, annotations, masks, read_journal,
    step_summary, write_report,
};

use crate::project::Project;

/// The webhooks, by the variables that hold their URLs. A URL is a secret.
const WEBHOOKS: [(&str, Service); 3] = [
    ("OMNITOOL_SLACK_WEBHOOK", Service::Slack),
    ("OMNITOOL_DISCORD_WEBHOOK", Service::Discord),
    ("OMNITOOL_WEBHOOK", Service::Json),
];

/// What the environment variables say about who is told.
#[derive(Debug)]
struct Config {
    webhooks: Vec<Webhook>,
    /// What is wrong with them.
    notes: Vec<String>,
    /// The secrets in them.
    secrets: Vec<Variable>,
    /// Whether GitHub Actions reads what is printed.
    is_github: bool,
    /// Where GitHub Actions wants a summary.
    summary: Option<PathBuf>,
    /// Where the run can be watched.
    link: Option<String>,
}

impl Config {
    fn new(lookup: impl Fn(&str) -> Option<String>) -> Self {
        // GitHub sets what a secret that does not exist should have been to nothing.
        let lookup = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let (mut webhooks, mut notes, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
        for (name, service) in WEBHOOKS {
            let Some(url) = lookup(name) else { continue };
            secrets.push(Variable::secret(name, url.clone()));
            match Webhook::new(service, url.trim().into()) {
                Ok(webhook) => webhooks.push(webhook),
                Err(error) => notes.push(format!("{error}; see {name}")),
            }
        }
        let is_github = lookup("GITHUB_ACTIONS").as_deref() == Some("true");
        let run = ["GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"].map(&lookup);
        let link = match run {
            [Some(server), Some(repository), Some(run)] if is_github => {
                Some(format!("{server}/{repository}/actions/runs/{run}"))
            }
            _ => None,
        };
        let summary = lookup("GITHUB_STEP_SUMMARY").map(PathBuf::from);
        Self { webhooks, notes, secrets, is_github, summary, link }
    }
}

/// Tells others of a run.
pub(crate) struct Telling {
    notifier: Notifier,
    notes: Vec<String>,
    /// What GitHub needs to hear before it reads commands again.
    resume: Option<String>,
    summary: Option<PathBuf>,
}

impl Telling {
    /// Begins, before anything of the run is printed: GitHub hides the secret ones of `variables` from here on.
    pub(crate) fn begin(variables: &[Variable]) -> Result<Self, Failure> {
        let Config { webhooks, notes, secrets, is_github, summary, link } =
            Config::new(|name| std::env::var(name).ok());
        let mut resume = None;
        if is_github {
            print(&masks(&secrets))?;
            print(&masks(variables))?;
            // What programs print is no command to GitHub, whatever it looks like.
            let token = token();
            print(&format!("::stop-commands::{token}\n"))?;
            resume = Some(format!("::{token}::\n"));
        }
        Ok(Self { notifier: Notifier::new(webhooks, link), notes, resume, summary })
    }

    /// Takes the events of the run.
    pub(crate) fn sink(&mut self) -> &mut dyn Sink {
        &mut self.notifier
    }

    /// Ends, after the last event, and returns where to look and what did not work, as text.
    pub(crate) fn finish(self, project: &Project, journal: &Path) -> Result<String, Failure> {
        let Self { notifier, mut notes, resume, summary } = self;
        notes.extend(notifier.finish().iter().map(ToString::to_string));
        let mut text = String::new();
        match write_report(journal) {
            Ok(report) => {
                text.push_str(&format!("  {:<10} {}\n", "report", project.shown(&report)));
            }
            Err(error) => notes.push(format!("there is no report: {}", chain(&error))),
        }
        let records = read_journal(journal).unwrap_or_default();
        if let Some(file) = summary
            && let Err(error) = append(&file, &step_summary(&records))
        {
            notes.push(format!("GitHub has no summary: {error}"));
        }
        if let Some(resume) = resume {
            print(&resume)?;
            print(&annotated(&records, &notes))?;
        }
        text.extend(notes.iter().map(|note| format!("  note       {note}\n")));
        Ok(text)
    }
}

fn annotated(records: &[Record], notes: &[String]) -> String {
    // Notes are ours and have neither line breaks nor secrets.
    let notes = notes.iter().map(|note| format!("::warning::{note}\n"));
    annotations(records) + &notes.collect::<String>()
}

fn append(file: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    fs::OpenOptions::from_options(options).open(file)?.write_all(text.as_bytes())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Something that no program can guess: the keys of a hash map's hasher are random.
fn token() -> String {
    let part = || RandomState::new().build_hasher().finish();
    format!("omnitool-{:016x}{:016x}", part(), part())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Config {
        Config::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nobody_is_told_unless_somebody_says_so() {
        let Config { webhooks, notes, secrets, is_github, summary, link } =
            config(&[("OMNITOOL_WEBHOOK", " "), ("GITHUB_RUN_ID", "7")]);
        assert!(webhooks.is_empty() && notes.is_empty() && secrets.is_empty());
        assert!(!is_github && summary.is_none() && link.is_none());
    }

    #[test]
    fn a_webhook_that_cannot_be_one_is_named_by_its_variable_only() {
        let config = config(&[("OMNITOOL_SLACK_WEBHOOK", "hooks.example.com/hunter2")]);
        let note = "the Slack webhook is not an https:// address; see OMNITOOL_SLACK_WEBHOOK";
        assert_eq!(config.notes, [note]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn on_github_a_message_links_to_the_run() {
        let config = config(&[
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "a/b"),
            ("GITHUB_RUN_ID", "7"),
            ("OMNITOOL_DISCORD_WEBHOOK", "https://discord.example.com/hunter2"),
        ]);
        assert_eq!(config.link.as_deref(), Some("https://github.com/a/b/actions/runs/7"));
        assert_eq!(config.webhooks.len(), 1);
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(token(), token());
    }
}
