//! Messages to webhooks about runs: Slack, Discord, and plain JSON for anything else.
//!
//! A webhook's URL is a secret: who knows it can write into the channel. It is in no error, no message and no log here.
//! A message that cannot be sent is a warning, never a failure, and takes no noticeable time from the run.

mod message;

use std::{
    fmt,
    net::IpAddr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use omnitool_environment::Url;
use secrecy::{ExposeSecret as _, SecretString};
use ureq::Agent;

pub use self::message::{Message, Occasion};
use crate::{Event, Sink, WriteJournalError};

/// How long one message may take.
const LIMIT: Duration = Duration::from_secs(3);
/// How long the end of a run waits for all messages together.
const PATIENCE: Duration = Duration::from_secs(4);

/// What understands the messages at a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// Slack, and what takes the same messages (Mattermost, Rocket.Chat).
    Slack,
    /// Discord.
    Discord,
    /// Anything: the message's fields as one JSON document.
    Json,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slack => "Slack",
            Self::Discord => "Discord",
            Self::Json => "JSON",
        })
    }
}

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Webhook {
    service: Service,
    url: SecretString,
}

/// A URL that no message is sent to. It is not shown, since it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {service} webhook is not an https:// address")]
pub struct InvalidWebhookError {
    /// What it is for.
    pub service: Service,
}

impl Webhook {
    /// The webhook at `url`, which is one of `https:`; `http:` is only for this machine.
    ///
    /// # Errors
    ///
    /// Fails for any other text.
    pub fn new(service: Service, url: SecretString) -> Result<Self, InvalidWebhookError> {
        let allowed = Url::parse(url.expose_secret()).is_ok_and(|url| match url.scheme() {
            "https" => url.has_host(),
            "http" => url.host_str().is_some_and(is_this_machine),
            _ => false,
        });
        if allowed { Ok(Self { service, url }) } else { Err(InvalidWebhookError { service }) }
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Why a message did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {service} webhook was not told that {occasion}: {reason}")]
pub struct NotifyError {
    /// What understands the messages there.
    pub service: Service,
    /// What the message was about.
    pub occasion: Occasion,
    /// Why, without the URL.
    pub reason: String,
}

/// Tells webhooks about the run whose events it takes.
///
/// Each webhook has a thread of its own, which sends one message after the other.
#[derive(Debug)]
pub struct Notifier {
    lines: Vec<Line>,
    started: Option<Message>,
    link: Option<String>,
    /// The number of the line, and what came of its oldest message.
    results: mpsc::Receiver<(usize, Result<(), NotifyError>)>,
}

/// The way to one webhook's thread.
#[derive(Debug)]
struct Line {
    service: Service,
    messages: mpsc::Sender<Message>,
    /// What was given to the thread, and has no result yet, oldest first.
    waiting: Vec<Occasion>,
}

impl Notifier {
    /// Will tell `webhooks`, with a `link` to where the run can be watched.
    #[must_use]
    pub fn new(webhooks: Vec<Webhook>, link: Option<String>) -> Self {
        let (done, results) = mpsc::channel();
        let lines = webhooks.into_iter().enumerate().map(|(number, webhook)| {
            let (messages, waiting) = mpsc::channel::<Message>();
            let (done, service) = (done.clone(), webhook.service);
            thread::spawn(move || {
                let agent = agent();
                for message in waiting {
                    // Nobody waits any more: the run has ended and given up.
                    if done.send((number, send(&agent, &webhook, &message))).is_err() {
                        break;
                    }
                }
            });
            Line { service, messages, waiting: Vec::new() }
        });
        Self { lines: lines.collect(), started: None, link, results }
    }

    /// Takes one event of the run; most are nothing to tell anybody.
    pub fn tell(&mut self, event: &Event) {
        let message = match event {
            Event::RunStarted {
                run, user, environment, platform, release, replaces, task, ..
            } => {
                let message = Message {
                    occasion: Occasion::Started,
                    task: *task,
                    run: run.clone(),
                    user: user.clone(),
                    environment: *environment,
                    platform: *platform,
                    release: *release,
                    replaces: *replaces,
                    duration_ms: None,
                    step: None,
                    error: None,
                    link: self.link.clone(),
                };
                self.started = Some(message.clone());
                message
            }
            Event::RunEnded { outcome, duration_ms } => {
                let Some(started) = &self.started else { return };
                started.ended(outcome, *duration_ms)
            }
            _ => return,
        };
        for line in &mut self.lines {
            // A thread lives as long as its line.
            if line.messages.send(message.clone()).is_ok() {
                line.waiting.push(message.occasion);
            }
        }
    }

    /// Waits a moment for the messages that are still on their way, and says which did not arrive.
    #[must_use]
    pub fn finish(self) -> Vec<NotifyError> {
        let Self { mut lines, results, .. } = self;
        let deadline = Instant::now() + PATIENCE;
        let mut failed = Vec::new();
        while lines.iter().any(|line| !line.waiting.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((number, result)) = results.recv_timeout(left) else { break };
            if let Some(line) = lines.get_mut(number) {
                line.waiting.remove(0);
            }
            failed.extend(result.err());
        }
        // One warning per webhook is enough, and its last message says the most.
        let still = lines.iter().filter_map(|line| {
            let occasion = *line.waiting.last()?;
            let reason = "it did not answer before the run had ended".to_owned();
            Some(NotifyError { service: line.service, occasion, reason })
        });
        failed.extend(still);
        failed
    }
}

impl Sink for Notifier {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        self.tell(event);
        Ok(())
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .timeout_global(Some(LIMIT))
        // Somebody else's address is not the one that was configured.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .proxy(None)
        .user_agent(concat!("omnitool/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn send(agent: &Agent, webhook: &Webhook, message: &Message) -> Result<(), NotifyError> {
    let Webhook { service, url } = webhook;
    let reason = match agent.post(url.expose_secret()).send_json(message.body(*service)) {
        Ok(answer) if answer.status().is_success() => return Ok(()),
        Ok(answer) => format!("it answered with status {}", answer.status().as_u16()),
        Err(error) => reason(&error),
    };
    Err(NotifyError { service: *service, occasion: message.occasion, reason })
}

/// What went wrong, in words of ours: some of the client's own name the address.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("it did not answer within {} seconds", LIMIT.as_secs()),
        ureq::Error::HostNotFound => "its host is unknown".to_owned(),
        ureq::Error::ConnectionFailed => "it cannot be connected to".to_owned(),
        ureq::Error::Io(error) => format!("the connection failed ({})", error.kind()),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => "its certificate is not trusted".to_owned(),
        _ => "it cannot be talked to".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_https_or_on_this_machine_and_never_shown() {
        for (url, valid) in [
            ("https://hooks.example.com/services/T/B/hunter2", true),
            ("http://127.0.0.1:9/hunter2", true),
            ("http://[::1]:9/hunter2", true),
            ("http://localhost/hunter2", true),
            ("http://hooks.example.com/hunter2", false),
            ("http://localhost.example.com/hunter2", false),
            ("ftp://example.com/hunter2", false),
            ("hunter2", false),
            ("", false),
        ] {
            let webhook = Webhook::new(Service::Slack, url.into());
            assert_eq!(webhook.is_ok(), valid, "{url}");
            assert!(!format!("{webhook:?}").contains("hunter2"), "{webhook:?}");
        }
    }
}
