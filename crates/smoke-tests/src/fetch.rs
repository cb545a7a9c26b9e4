//! What came back from a request.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::OnceLock, time::Duration};

use serde::Serialize;

use crate::{
    base_url::shown,
    html::Document,
    text::{one_line, status_line},
};

/// A request with all its attempts and the last one's answer.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    /// `GET` or `POST`.
    pub(crate) method: &'static str,
    /// The address as it may be shown.
    pub(crate) url: String,
    /// Every attempt, the last one last.
    pub(crate) attempts: Vec<Attempted>,
    /// The addresses that the last attempt was sent on to, as they may be shown.
    pub(crate) redirects: Vec<String>,
    /// What came back, as far as it came.
    pub(crate) page: Option<Page>,
    /// Why not all of it came.
    pub(crate) error: Option<FetchError>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempted {
    /// When it began, after the start of the run.
    pub(crate) at: Duration,
    /// How long it took, redirects and body included.
    pub(crate) took: Duration,
    /// How it ended, in one line.
    pub(crate) outcome: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Where it came from, after redirects.
    pub(crate) url: url::Url,
    /// Its HTTP status.
    pub(crate) status: u16,
    /// Its headers as they may be shown, names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The beginning of its body, decompressed.
    pub(crate) body: Vec<u8>,
    /// How long the whole body is, or how much of it came.
    pub(crate) size: u64,
    /// The body as HTML, once somebody asked for that.
    pub(crate) document: OnceLock<Document>,
}

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct FetchError {
    /// Which kind of trouble it is.
    pub(crate) kind: ErrorKind,
    /// The trouble, in one line without secrets.
    pub(crate) message: String,
}

/// The kinds of trouble, from the network up to what a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The host's name has no address.
    Dns,
    /// Nothing listens at the address.
    Refused,
    /// There is no way to the address.
    Unreachable,
    /// No encrypted connection could be agreed on.
    Tls,
    /// The answer did not come, or not all of it, in the time there was.
    Timeout,
    /// What answers does not speak HTTP properly, or stops in the middle.
    Protocol,
    /// The answer sends elsewhere: to another site, or around in circles.
    Redirect,
    /// Another HTTP status than expected.
    Status,
    /// The status is as expected, the content is not.
    Content,
    /// All is as expected, but it took longer than allowed.
    Slow,
}

impl ErrorKind {
    /// The name as it stands in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::Content => "content",
            Self::Slow => "slow",
        }
    }

    /// What a person does about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Dns => "check the host's name, and that the domain points to the app",
            Self::Refused => "start the app, or read in its log why it stopped",
            Self::Unreachable => "check the network between here and the app",
            Self::Tls => "check the certificate (host name, expiry) and what stands before the app",
            Self::Timeout => {
                "look in the app's log for what it waits for; its database is a candidate"
            }
            Self::Protocol => {
                "check that it is the app which listens there, and its log for a crash"
            }
            Self::Redirect => "test the address that it sends to, or correct the app's own address",
            Self::Status => "look for this request in the app's log",
            Self::Content => "look at the page: the app answers, but not with what it should",
            Self::Slow => {
                "look in the app's log for what takes so long, or allow more with --max-latency"
            }
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Page {
    /// The media type without its parameters, in lower case.
    pub(crate) fn media_type(&self) -> Option<String> {
        let value = self.headers.get("content-type")?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body read as HTML, which is done once: a hostile page takes its time.
    pub(crate) fn document(&self) -> &Document {
        self.document.get_or_init(|| Document::parse(&self.text()))
    }
}

impl Fetch {
    /// The answer, when all of it came.
    pub(crate) fn complete(&self) -> Result<&Page, FetchError> {
        match (&self.error, &self.page) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(page)) => Ok(page),
            (None, None) => Err(FetchError::new(ErrorKind::Protocol, "there was no answer")),
        }
    }

    /// The status of the last answer, if there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.page.as_ref().map(|page| page.status)
    }

    /// How long the last attempt took.
    pub(crate) fn latency(&self) -> Duration {
        self.attempts.last().map(|attempt| attempt.took).unwrap_or_default()
    }

    /// How it ended, in one line.
    pub(crate) fn outcome(&self) -> String {
        match self.complete() {
            Ok(page) => status_line(page.status),
            Err(error) => error.message,
        }
    }
}

impl FetchError {
    pub(crate) fn new(kind: ErrorKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: one_line(message.as_ref()) }
    }
}

/// `url` as a redirect that leads away may be shown: without credentials and without its query, which may hold a token.
pub(crate) fn shown_elsewhere(url: &url::Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    one_line(&shown(&url))
}

#[cfg(test)]
impl Fetch {
    /// A fetch that was answered at once.
    pub(crate) fn answered(url: &str, status: u16, media_type: &str, body: &str) -> Self {
        let page = Page {
            url: url.parse().unwrap(),
            status,
            headers: BTreeMap::from([("content-type".to_owned(), media_type.to_owned())]),
            body: body.into(),
            size: body.len() as u64,
            document: OnceLock::new(),
        };
        let mut fetch = Self {
            method: "GET",
            url: url.to_owned(),
            attempts: Vec::new(),
            redirects: Vec::new(),
            page: Some(page),
            error: None,
        };
        fetch.attempted(30, 12);
        fetch
    }

    /// A fetch that was never answered.
    pub(crate) fn refused(url: &str) -> Self {
        let mut fetch = Self {
            method: "GET",
            url: url.to_owned(),
            attempts: Vec::new(),
            redirects: Vec::new(),
            page: None,
            error: Some(FetchError::new(ErrorKind::Refused, "connection refused")),
        };
        fetch.attempted(0, 1);
        fetch.attempted(50, 1);
        fetch.attempted(29_900, 1);
        fetch
    }

    fn attempted(&mut self, at: u64, took: u64) {
        let outcome = self.outcome();
        let (at, took) = (Duration::from_millis(at), Duration::from_millis(took));
        self.attempts.push(Attempted { at, took, outcome });
    }
}
