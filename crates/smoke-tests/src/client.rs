//! Requests that end in bounded time and memory, whatever answers.

use std::{
    error::Error as _,
    io::{self, Read as _},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret as _, SecretString};
use ureq::{
    Agent,
    http::{Response, header::LOCATION},
    tls::TlsConfig,
};
use url::Url;

use crate::{
    base_url::{BaseUrl, is_same_site, shown},
    certificate::Roots,
    fetch::{Attempted, ErrorKind, Fetch, FetchError, Page, shown_elsewhere},
    header,
    text::{self, one_line, status_line},
};

/// The longest body that is read, after decompression.
pub(crate) const BODY_LIMIT: usize = 4 << 20;

/// How many redirects are followed.
const REDIRECT_LIMIT: usize = 10;

/// The first pause between two attempts; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// With less time than this left, another attempt would only fail for want of time.
const LEAST_TIME: Duration = Duration::from_millis(20);

/// Whether an answer is the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finality {
    /// It is.
    Final,
    /// The app is still starting, which shows in this.
    Starting(String),
}

/// What is sent.
#[derive(Clone, Copy)]
enum Sent<'a> {
    Get,
    /// A POST of this body, which may hold a password.
    Form(&'a SecretString),
}

impl Sent<'_> {
    const fn method(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Form(_) => "POST",
        }
    }
}

/// The client of one run. It keeps cookies, as one visitor's browser does.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    agent: Agent,
    base: &'a BaseUrl,
    started: Instant,
    deadline: Instant,
    per_request: Duration,
}

struct Answer {
    redirects: Vec<String>,
    page: Option<Page>,
    error: Option<FetchError>,
}

impl<'a> Client<'a> {
    /// A client for the app at `base` whose time is over after `timeout`.
    pub(crate) fn new(base: &'a BaseUrl, roots: &Roots, timeout: Duration) -> Self {
        let tls = TlsConfig::builder().root_certs(roots.for_client()).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A connection kept from an earlier request could lead to the release before.
            .max_idle_connections(0)
            .proxy(None)
            .user_agent(concat!("omnitool-smoke-tests/", env!("CARGO_PKG_VERSION")))
            .build();
        let started = Instant::now();
        Self {
            agent: config.new_agent(),
            base,
            started,
            deadline: started + timeout,
            // One that hangs must leave time for the others, of which no more than three follow each other.
            per_request: timeout / 3,
        }
    }

    /// A client in the same run that shares no cookie with this one.
    pub(crate) fn another_visitor(&self) -> Self {
        let agent = self.agent.config().clone().new_agent();
        let Self { agent: _, base, started, deadline, per_request } = *self;
        Self { agent, base, started, deadline, per_request }
    }

    /// When a request that begins now must have ended.
    pub(crate) fn request_end(&self) -> Instant {
        Instant::now() + self.per_request.min(self.remaining())
    }

    /// The time since the start of the run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Gets `url` and keeps up to `keep` bytes of its body, again and again until `finality` calls the answer final or
    /// the time is over.
    pub(crate) fn get(
        &self,
        url: &Url,
        keep: usize,
        finality: impl Fn(&Fetch) -> Finality,
    ) -> Fetch {
        let mut fetch = unsent(Sent::Get, url);
        let mut pause = FIRST_PAUSE;
        loop {
            let at = self.elapsed();
            let cut_short = self.remaining() < self.per_request;
            let Answer { redirects, page, error } = self.attempt(Sent::Get, url, keep);
            let took = self.elapsed().saturating_sub(at);
            let timeout = error.as_ref().filter(|error| error.kind == ErrorKind::Timeout);
            if let Some(timeout) = timeout.filter(|_| cut_short && !fetch.attempts.is_empty()) {
                // The deadline ended this one; what the one before found says more about the app.
                let outcome = timeout.message.clone();
                fetch.attempts.push(Attempted { at, took, outcome });
                return fetch;
            }
            fetch = Fetch { redirects, page, error, ..fetch };
            let finality = finality(&fetch);
            let outcome = match &finality {
                Finality::Final => fetch.outcome(),
                Finality::Starting(sign) => sign.clone(),
            };
            let number = fetch.attempts.len() + 1;
            tracing::debug!(
                url = fetch.url,
                attempt = number,
                ?took,
                outcome,
                "fetched {}",
                fetch.url
            );
            fetch.attempts.push(Attempted { at, took, outcome });
            if finality == Finality::Final || self.remaining() < LEAST_TIME {
                return fetch;
            }
            // Half of what is left, so that the last attempts come shortly before the end.
            thread::sleep(pause.min(self.remaining() / 2));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends a form once, since sending it again could do twice what it does, and follows where its answer leads.
    pub(crate) fn post(&self, url: &Url, form: &SecretString, keep: usize) -> Fetch {
        let sent = Sent::Form(form);
        let at = self.elapsed();
        let Answer { redirects, page, error } = self.attempt(sent, url, keep);
        let took = self.elapsed().saturating_sub(at);
        let mut fetch = Fetch { redirects, page, error, ..unsent(sent, url) };
        let outcome = fetch.outcome();
        tracing::debug!(url = fetch.url, ?took, outcome, "sent a form to {}", fetch.url);
        fetch.attempts.push(Attempted { at, took, outcome });
        fetch
    }

    fn attempt(&self, mut sent: Sent<'_>, url: &Url, keep: usize) -> Answer {
        let allowed = self.per_request.min(self.remaining());
        let end = Instant::now() + allowed;
        let mut url = url.clone();
        let mut redirects = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (page, error) = match self.exchange(sent, &url, left) {
                Err(error) => (None, Some(error)),
                Ok(mut response) => match self.redirect(sent, &url, &response, redirects.len()) {
                    Ok(Some(next)) => {
                        sent = Sent::Get;
                        redirects.push(one_line(&shown(&next)));
                        url = next;
                        continue;
                    }
                    Ok(None) => read_page(&url, &mut response, keep, None),
                    Err(error) => read_page(&url, &mut response, keep, Some(error)),
                },
            };
            let error = error.map(|error| with_time(error, allowed));
            return Answer { redirects, page, error };
        }
    }

    fn exchange(
        &self,
        sent: Sent<'_>,
        url: &Url,
        time: Duration,
    ) -> Result<Response<ureq::Body>, FetchError> {
        // Without any time left, the shortest possible is what ends at once.
        let time = Some(time.max(Duration::from_millis(1)));
        let answer = match sent {
            Sent::Get => self.agent.get(url.as_str()).config().timeout_global(time).build().call(),
            Sent::Form(form) => self
                .agent
                .post(url.as_str())
                .content_type("application/x-www-form-urlencoded")
                .config()
                .timeout_global(time)
                .build()
                .send(form.expose_secret()),
        };
        answer.map_err(|error| describe(url, error))
    }

    /// Where `response` sends to, if anywhere and if that may be followed.
    fn redirect(
        &self,
        sent: Sent<'_>,
        from: &Url,
        response: &Response<ureq::Body>,
        followed: usize,
    ) -> Result<Option<Url>, FetchError> {
        let status = response.status().as_u16();
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        if matches!((sent, status), (Sent::Form(_), 307 | 308)) {
            let text = "asks for the form to be sent to yet another address";
            return Err(FetchError::new(ErrorKind::Redirect, text));
        }
        let location = response.headers().get(LOCATION);
        let location = location.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let Some(mut to) = location.and_then(|location| from.join(&location).ok()) else {
            let text = "redirects without saying where to";
            return Err(FetchError::new(ErrorKind::Redirect, text));
        };
        if !is_same_site(from, &to) {
            let text = format!("redirects to another site: {}", shown_elsewhere(&to));
            return Err(FetchError::new(ErrorKind::Redirect, text));
        }
        if followed == REDIRECT_LIMIT {
            let text = format!("redirects more than {REDIRECT_LIMIT} times");
            return Err(FetchError::new(ErrorKind::Redirect, text));
        }
        to.set_fragment(None);
        self.base.authorize(&mut to);
        Ok(Some(to))
    }
}

/// A timeout says how long was waited.
fn with_time(error: FetchError, allowed: Duration) -> FetchError {
    match error.kind {
        ErrorKind::Timeout => {
            let text = format!("{} within {}", error.message, text::duration(allowed));
            FetchError::new(error.kind, text)
        }
        _ => error,
    }
}

/// What every request takes for an app that is still starting: nothing listens yet, or what stands before the app says
/// that it is not there yet.
pub(crate) fn is_up(fetch: &Fetch) -> Finality {
    match (&fetch.error, fetch.status()) {
        (Some(error), _) if error.kind == ErrorKind::Refused => {
            Finality::Starting(error.message.clone())
        }
        (None, Some(status @ (502 | 503))) => Finality::Starting(status_line(status)),
        _ => Finality::Final,
    }
}

fn unsent(sent: Sent<'_>, url: &Url) -> Fetch {
    Fetch {
        method: sent.method(),
        url: one_line(&shown(url)),
        attempts: Vec::new(),
        redirects: Vec::new(),
        page: None,
        error: None,
    }
}

fn read_page(
    url: &Url,
    response: &mut Response<ureq::Body>,
    keep: usize,
    error: Option<FetchError>,
) -> (Option<Page>, Option<FetchError>) {
    let mut page = Page {
        url: url.clone(),
        status: response.status().as_u16(),
        headers: header::shown(response.headers()),
        body: Vec::new(),
        size: 0,
        document: OnceLock::new(),
    };
    let body = read_body(url, response.body_mut(), &mut page, keep);
    // Of two troubles the first one counts.
    (Some(page), error.or(body.err()))
}

fn read_body(
    url: &Url,
    body: &mut ureq::Body,
    page: &mut Page,
    keep: usize,
) -> Result<(), FetchError> {
    let mut reader = body.as_reader();
    let mut buffer = [0; 16 << 10];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) => return Err(describe(url, ureq::Error::from(error))),
        };
        let wanted = keep.saturating_sub(page.body.len()).min(read);
        page.body.extend_from_slice(&buffer[..wanted]);
        page.size += read as u64;
        if page.size > BODY_LIMIT as u64 {
            let text = format!("is larger than {}", text::size(BODY_LIMIT as u64));
            return Err(FetchError::new(ErrorKind::Content, text));
        }
    }
}

/// Tells the kinds of trouble apart.
fn describe(url: &Url, error: ureq::Error) -> FetchError {
    use ErrorKind as Kind;
    let (kind, message) = match error {
        ureq::Error::HostNotFound => (Kind::Dns, no_address(url)),
        ureq::Error::Timeout(ureq::Timeout::RecvBody) => {
            (Kind::Timeout, "the answer did not end".to_owned())
        }
        ureq::Error::Timeout(_) => (Kind::Timeout, "no whole answer".to_owned()),
        ureq::Error::Io(error) => describe_io(url, &error),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
            (Kind::Tls, format!("no encrypted connection: {error}"))
        }
        error => (Kind::Protocol, format!("not a proper HTTP answer: {error}")),
    };
    FetchError::new(kind, message)
}

pub(crate) fn describe_io(url: &Url, error: &io::Error) -> (ErrorKind, String) {
    use ErrorKind as Kind;
    match error.kind() {
        io::ErrorKind::ConnectionRefused => (Kind::Refused, "connection refused".to_owned()),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => (Kind::Unreachable, error.to_string()),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            (Kind::Timeout, "no whole answer".to_owned())
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            (Kind::Protocol, "the connection was closed before the answer was complete".to_owned())
        }
        // The TLS library hands its errors through as invalid data.
        io::ErrorKind::InvalidData if url.scheme() == "https" => {
            (Kind::Tls, format!("no encrypted connection: {error}"))
        }
        // The standard library has no kind for a failed lookup, only this text.
        _ if error.to_string().starts_with("failed to lookup address") => {
            (Kind::Dns, format!("{}: {error}", no_address(url)))
        }
        _ => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            (Kind::Protocol, format!("{error}{cause}"))
        }
    }
}

pub(crate) fn no_address(url: &Url) -> String {
    format!("the host `{}` has no address", url.host_str().unwrap_or_default())
}
