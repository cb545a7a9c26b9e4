//! One HTTP call: made, repeated where that does no harm, looked at before it is believed.

use std::{
    io::Read as _,
    thread,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret as _;
use serde::{Serialize, de::DeserializeOwned};
use ureq::{
    Agent, Body,
    http::{HeaderMap, Request, Response},
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::{CallName, HerokuError, Pace, Settings};

/// No answer of the APIs comes near this.
const MOST_BYTES: u64 = 16 << 20;
/// How much of an answer is shown that makes no sense.
const SHOWN_BYTES: usize = 200;

/// A client of Heroku's APIs for one token.
///
/// There are three kinds of calls. Reads and writes that say how things should be are repeated until they are answered.
/// Calls that create something are never blindly repeated: where an answer is lost, the client looks for the new thing
/// first.
#[derive(Debug)]
pub struct Heroku {
    pub(crate) agent: Agent,
    pub(crate) settings: Settings,
}

/// Which of the two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Platform,
    Data,
}

/// A call that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) api: Api,
    pub(crate) method: &'static str,
    pub(crate) segments: Vec<String>,
    pub(crate) query: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

pub(crate) const V3: &str = "application/vnd.heroku+json; version=3";
pub(crate) const V3_SDK: &str = "application/vnd.heroku+json; version=3.sdk";

impl Call {
    /// A call of `method` to the path that `segments` make; each is escaped.
    pub(crate) fn new(api: Api, method: &'static str, segments: &[&str]) -> Self {
        let segments = segments.iter().map(|&segment| segment.to_owned()).collect();
        Self { api, method, segments, query: "", accept: V3, headers: Vec::new(), body: None }
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("our bodies are maps with text keys"));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) const fn sdk(mut self) -> Self {
        self.accept = V3_SDK;
        self
    }

    pub(crate) const fn query(mut self, query: &'static str) -> Self {
        self.query = query;
        self
    }

    pub(crate) fn name(&self) -> CallName {
        CallName { method: self.method, path: format!("/{}", self.segments.join("/")) }
    }
}

/// An answer that was read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// How one attempt went.
enum Attempt {
    Answered(Answer),
    /// The server has never seen it.
    NotSent(ureq::Error),
    /// It may have seen it.
    Lost(ureq::Error),
}

impl Heroku {
    /// A client; connects to nobody yet.
    ///
    /// # Errors
    ///
    /// Fails where the certificates in the settings are none.
    pub fn new(settings: Settings) -> Result<Self, HerokuError> {
        let roots = match settings.roots.as_slice() {
            [] => RootCerts::WebPki,
            pem => {
                let mut certificates = Vec::new();
                for item in parse_pem(pem) {
                    if let PemItem::Certificate(certificate) =
                        item.map_err(|error| HerokuError::Roots(Box::new(error)))?
                    {
                        certificates.push(certificate);
                    }
                }
                RootCerts::new_with_certs(&certificates)
            }
        };
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(settings.pace.call_timeout))
            // Whoever needs a proxy says so in the settings of the machine, not behind the back of this crate.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("omnitool/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, settings })
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.settings.pace
    }

    /// Makes a call that does no harm when it is made twice, until it is answered.
    pub(crate) fn repeat<T: DeserializeOwned>(&self, call: &Call) -> Result<T, HerokuError> {
        parse(call, &self.repeat_raw(call)?.body)
    }

    /// As [`repeat`](Self::repeat), for answers whose body does not matter.
    pub(crate) fn repeat_raw(&self, call: &Call) -> Result<Answer, HerokuError> {
        let mut tries = Tries::new(call, self.pace());
        loop {
            match self.attempt(call) {
                Attempt::Answered(answer) if (200..300).contains(&answer.status) => {
                    return Ok(answer);
                }
                Attempt::Answered(answer) => tries.after(answer)?,
                Attempt::NotSent(error) | Attempt::Lost(error) => tries.after_silence(error)?,
            }
        }
    }

    /// All items of a list, page by page. `range` is the first `Range`, such as `version ..; max=15, order=desc`.
    pub(crate) fn list<T: DeserializeOwned>(
        &self,
        call: &Call,
        range: Option<&str>,
    ) -> Result<Vec<T>, HerokuError> {
        let mut items = Vec::new();
        let mut range = range.map(str::to_owned);
        loop {
            let mut page = call.clone();
            if let Some(range) = &range {
                page = page.header("Range", range);
            }
            let answer = self.repeat_raw(&page)?;
            let more: Vec<T> = parse(call, &answer.body)?;
            let is_last = answer.status != 206 || more.is_empty();
            items.extend(more);
            match answer.headers.get("Next-Range").and_then(|range| range.to_str().ok()) {
                Some(next) if !is_last && range.as_deref() != Some(next) => {
                    range = Some(next.to_owned());
                }
                _ => return Ok(items),
            }
        }
    }

    /// Makes a call that creates something. Where its answer is lost, `find` looks whether the new thing is there; the
    /// call is made again only where Heroku has certainly not seen it, or where nothing new is found.
    pub(crate) fn create<T: DeserializeOwned>(
        &self,
        call: &Call,
        find: &mut dyn FnMut() -> Result<Option<T>, HerokuError>,
    ) -> Result<T, HerokuError> {
        let mut tries = Tries::new(call, self.pace());
        loop {
            let (in_doubt, next) = match self.attempt(call) {
                Attempt::Answered(answer) if (200..300).contains(&answer.status) => {
                    match parse(call, &answer.body) {
                        Ok(created) => return Ok(created),
                        // It was done, and only the answer is broken.
                        Err(error) => return find()?.ok_or(error),
                    }
                }
                Attempt::Answered(answer) => {
                    // A gateway may have given up on a server that goes on.
                    (answer.status >= 500, tries.after(answer))
                }
                Attempt::NotSent(error) => (false, tries.after_silence(error)),
                Attempt::Lost(error) => (true, tries.after_silence(error)),
            };
            if in_doubt && let Some(created) = find()? {
                tracing::info!("the answer to {} was lost; what it created was found", call.name());
                return Ok(created);
            }
            next?;
        }
    }

    fn attempt(&self, call: &Call) -> Attempt {
        let name = call.name();
        tracing::debug!("{name}");
        let started = Instant::now();
        let sent = self.request(call).and_then(|request| self.agent.run(request));
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!("{name}: {error}");
                return if is_unsent(&error) {
                    Attempt::NotSent(error)
                } else {
                    Attempt::Lost(error)
                };
            }
        };
        let status = response.status().as_u16();
        tracing::debug!("{name}: {status} after {} ms", started.elapsed().as_millis());
        let headers = response.headers().clone();
        for warning in ["X-Heroku-Warning", "Warning-Message"] {
            if let Some(warning) = headers.get(warning).and_then(|value| value.to_str().ok()) {
                tracing::warn!("Heroku warns: {warning}");
            }
        }
        match read(response) {
            Ok(body) => Attempt::Answered(Answer { status, headers, body }),
            Err(error) => Attempt::Lost(error),
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Vec<u8>>, ureq::Error> {
        let mut url = match call.api {
            Api::Platform => self.settings.api.clone(),
            Api::Data => self.settings.data.clone(),
        };
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(&call.segments);
        }
        url.set_query(Some(call.query).filter(|query| !query.is_empty()));
        let bearer = format!("Bearer {}", self.settings.token.expose_secret());
        let mut request = Request::builder()
            .method(call.method)
            .uri(url.as_str())
            .header("Accept", call.accept)
            .header("Authorization", bearer);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if call.body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        Ok(request.body(call.body.clone().unwrap_or_default())?)
    }

    /// The body of an address with a signature in it. No token is sent there, and the address is shown nowhere.
    pub(crate) fn open_signed(&self, url: &str, what: &str) -> Result<Response<Body>, HerokuError> {
        let call = CallName { method: "GET", path: what.to_owned() };
        let response = self.agent.get(url).call().map_err(|source| HerokuError::NoAnswer {
            call: call.clone(),
            attempts: 1,
            source: Box::new(without_address(source)),
        })?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response);
        }
        let body = read(response).unwrap_or_default();
        Err(refusal(call, status, &body))
    }
}

/// Errors of bad addresses show the address.
pub(crate) fn without_address(error: ureq::Error) -> ureq::Error {
    match error {
        ureq::Error::BadUri(_) => ureq::Error::BadUri("***".to_owned()),
        error => error,
    }
}

fn read(response: Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    let mut body = Vec::new();
    response
        .into_body()
        .into_with_config()
        .limit(MOST_BYTES)
        .reader()
        .read_to_end(&mut body)
        .map_err(ureq::Error::from)?;
    Ok(body)
}

/// Whether the server cannot have seen the request.
fn is_unsent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::BadUri(_)
        | ureq::Error::Tls(_)
        | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

/// Counts attempts of one call, and waits between them.
struct Tries<'a> {
    call: &'a Call,
    pace: &'a Pace,
    attempts: u32,
    pause: Duration,
    rate_limit_pause: Duration,
    rate_limited: Duration,
}

impl<'a> Tries<'a> {
    const fn new(call: &'a Call, pace: &'a Pace) -> Self {
        Self {
            call,
            pace,
            attempts: 0,
            pause: pace.first_pause,
            rate_limit_pause: pace.rate_limit_pause,
            rate_limited: Duration::ZERO,
        }
    }

    /// Waits before the next attempt, or says that there is none.
    fn after(&mut self, answer: Answer) -> Result<(), HerokuError> {
        let Answer { status, headers, body } = answer;
        match status {
            429 => self.wait_for_rate_limit(&headers),
            408 | 425 | 500..=599 => {
                self.attempts += 1;
                if self.attempts >= self.pace.attempts {
                    return Err(HerokuError::Unavailable {
                        call: self.call.name(),
                        status,
                        attempts: self.attempts,
                        body: begins(&body),
                    });
                }
                self.sleep();
                Ok(())
            }
            _ => Err(refusal(self.call.name(), status, &body)),
        }
    }

    fn after_silence(&mut self, error: ureq::Error) -> Result<(), HerokuError> {
        self.attempts += 1;
        if self.attempts >= self.pace.attempts || matches!(error, ureq::Error::BadUri(_)) {
            return Err(HerokuError::NoAnswer {
                call: self.call.name(),
                attempts: self.attempts,
                source: Box::new(without_address(error)),
            });
        }
        self.sleep();
        Ok(())
    }

    fn sleep(&mut self) {
        thread::sleep(self.pause);
        self.pause *= 2;
    }

    /// Such a call was not looked at, so it may be made again whatever it creates.
    fn wait_for_rate_limit(&mut self, headers: &HeaderMap) -> Result<(), HerokuError> {
        let asked = headers
            .get("Retry-After")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let pause = asked.unwrap_or(self.rate_limit_pause);
        self.rate_limit_pause *= 2;
        if self.rate_limited + pause > self.pace.rate_limit_patience {
            return Err(HerokuError::RateLimited {
                call: self.call.name(),
                waited: self.rate_limited,
            });
        }
        tracing::info!("Heroku's rate limit: waiting {} s", pause.as_secs());
        thread::sleep(pause);
        self.rate_limited += pause;
        Ok(())
    }
}

/// What Heroku says with an error. It may be HTML that is labelled as JSON.
fn refusal(call: CallName, status: u16, body: &[u8]) -> HerokuError {
    #[derive(serde::Deserialize)]
    struct Refusal {
        id: Option<String>,
        message: Option<String>,
    }
    let (id, message) = match serde_json::from_slice(body) {
        Ok(Refusal { id, message }) => (id, message),
        Err(_) => (None, None),
    };
    HerokuError::Refused {
        call,
        status,
        id: id.unwrap_or_else(|| "without an id".to_owned()),
        message: message.map_or_else(|| begins(body), |text| one_line(&text)),
    }
}

pub(crate) fn parse<T: DeserializeOwned>(call: &Call, body: &[u8]) -> Result<T, HerokuError> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if !matches!(first, Some(b'{' | b'[' | b'"' | b't' | b'f' | b'n')) {
        return Err(HerokuError::NotJson { call: call.name(), begins: begins(body) });
    }
    serde_json::from_slice(body).map_err(|source| {
        if source.is_data() {
            // Most of these errors quote the value that is wrong, which may be a secret.
            let text = source.to_string();
            let problem = match text.starts_with("missing field") {
                true => text,
                false => format!("line {}, column {}", source.line(), source.column()),
            };
            HerokuError::Unexpected { call: call.name(), problem }
        } else {
            HerokuError::NotJson {
                call: call.name(),
                begins: "a JSON document that is cut off or broken".to_owned(),
            }
        }
    })
}

/// The start of an answer, for an error message: only where it is no JSON, which could hold secrets.
fn begins(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]);
    match text.trim_start().chars().next() {
        None => "nothing".to_owned(),
        Some('{' | '[') => "a JSON document".to_owned(),
        Some(_) => one_line(&text),
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
