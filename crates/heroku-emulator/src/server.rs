//! The HTTP server of both APIs, and of what they link to.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request as HttpRequest, Response,
    body::{Body, Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{Fault, FaultKind, Shared, answer::Answer, platform};

/// A request that was read to its end.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) segments: Vec<String>,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) raw: Vec<u8>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn range(&self) -> Option<&str> {
        self.header("range")
    }
}

/// The answer is lost on the wire.
#[derive(Debug)]
struct LostError;

impl std::fmt::Display for LostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer was asked to be lost")
    }
}

impl std::error::Error for LostError {}

/// Serves until `shared` ends.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.ended() => return,
        };
        let Ok((socket, _)) = accepted else { continue };
        let _ = socket.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            // A client that goes away ends its connection and nothing else.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: HttpRequest<Incoming>,
) -> Result<Response<Bytewise>, LostError> {
    let (parts, body) = request.into_parts();
    let raw = body.collect().await.map_err(|_| LostError)?.to_bytes().to_vec();
    let path = parts.uri.path().to_owned();
    let segments = path.split('/').filter(|segment| !segment.is_empty()).map(unescape).collect();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
    let request = Request {
        method: parts.method.to_string(),
        path,
        segments,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers,
        raw,
        body,
    };
    let answered = tokio::task::spawn_blocking(move || dispatch(&shared, &request)).await;
    let Ok(Reply { answer, drip }) = answered else { return Err(LostError) };
    let answer = answer.ok_or(LostError)?;
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(Bytewise::new(answer.body, drip)).map_err(|_| LostError)
}

fn unescape(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Reply {
    answer: Option<Answer>,
    drip: Option<Duration>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer: Some(answer), drip: None }
    }
}

fn dispatch(shared: &Arc<Shared>, request: &Request) -> Reply {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["__control", rest @ ..] => return control(shared, request, rest).into(),
        ["__blob", secret] => return blob(shared, request, secret).into(),
        ["__output", secret] => {
            let text = shared.world().outputs.get(*secret).cloned();
            return text
                .map_or_else(
                    || Answer::text(404, "text/plain", "not yet"),
                    |text| Answer::text(200, "text/plain", text),
                )
                .into();
        }
        ["__log", secret] => {
            let lines = shared.world().log_sessions.get(*secret).cloned().unwrap_or_default();
            let events: String = lines
                .iter()
                .enumerate()
                .map(|(id, line)| format!("id: {id}\ndata: {line}\n\n"))
                .collect();
            return Answer::text(200, "text/event-stream", events).into();
        }
        _ => {}
    }
    let fault = {
        let mut world = shared.world();
        world.requests.push(format!("{} {}", request.method, request.path));
        world.remaining = world.remaining.saturating_sub(1);
        world.faults.for_request(&request.method, &request.path)
    };
    match fault {
        Some(FaultKind::Status(429)) => {
            let mut answer = Answer::error(
                429,
                "rate_limit",
                "Your account reached the API rate limit\nPlease wait a few minutes before making new requests",
            );
            answer.headers.push(("Retry-After", "0".to_owned()));
            answer.into()
        }
        Some(FaultKind::Status(status)) => {
            Answer::error(status, "unavailable", "Asked to fail").into()
        }
        Some(FaultKind::LateStatus(status)) => {
            answer(shared, request);
            Answer::error(status, "unavailable", "Asked to fail").into()
        }
        Some(FaultKind::Html) => Answer::text(200, "application/json", "<h1>Not Found</h1>").into(),
        Some(FaultKind::LoseAnswer) => {
            answer(shared, request);
            Reply { answer: None, drip: None }
        }
        Some(FaultKind::Drip(pause)) => Reply {
            answer: Some(answer(shared, request)),
            drip: Some(Duration::from_millis(pause)),
        },
        _ => answer(shared, request).into(),
    }
}

fn answer(shared: &Arc<Shared>, request: &Request) -> Answer {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    if !is_authorized(shared, request) {
        return Answer::error(401, "unauthorized", "Invalid credentials provided.");
    }
    let mut answer = match path.first() {
        Some(&("client" | "postgres")) => crate::data::answer(shared, request, &path),
        _ => platform::answer(shared, request),
    };
    let remaining = shared.world().remaining;
    answer.headers.push(("RateLimit-Remaining", remaining.to_string()));
    answer
        .headers
        .push(("Request-Id", request.header("request-id").unwrap_or("emulator").to_owned()));
    answer
}

fn is_authorized(shared: &Shared, request: &Request) -> bool {
    let given = request.header("authorization").unwrap_or_default();
    given == format!("Bearer {}", shared.token)
        || given.strip_prefix("Basic ").is_some_and(|basic| basic == basic_auth(&shared.token))
}

/// `:TOKEN` in Base64, as older tools send it.
fn basic_auth(token: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in format!(":{token}").as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn blob(shared: &Arc<Shared>, request: &Request, secret: &str) -> Answer {
    match request.method.as_str() {
        "PUT" => {
            // The signature is of no token and no type.
            if request.header("authorization").is_some()
                || request.header("content-type").is_some_and(|text| !text.is_empty())
            {
                return Answer::text(
                    403,
                    "application/xml",
                    "<Error><Code>SignatureDoesNotMatch</Code></Error>",
                );
            }
            let file = shared.folder.join("blobs").join(secret);
            match std::fs::write(&file, &request.raw) {
                Ok(()) => {
                    shared.world().blobs.insert(secret.to_owned(), file);
                    Answer::text(200, "text/plain", "")
                }
                Err(error) => Answer::text(500, "text/plain", error.to_string()),
            }
        }
        _ => {
            let file = shared.world().blobs.get(secret).cloned();
            let bytes = file.and_then(|file| std::fs::read(file).ok());
            bytes.map_or_else(
                || Answer::text(404, "application/xml", "<Error/>"),
                |bytes| Answer::text(200, "application/octet-stream", bytes),
            )
        }
    }
}

fn control(shared: &Arc<Shared>, request: &Request, path: &[&str]) -> Answer {
    match (request.method.as_str(), path) {
        ("POST", ["faults"]) => match serde_json::from_value::<Fault>(request.body.clone()) {
            Ok(fault) => {
                shared.world().faults.add(fault);
                Answer::created(&json!({}))
            }
            Err(error) => Answer::invalid(&error.to_string()),
        },
        ("GET", ["faults"]) => Answer::ok(&json!(shared.world().faults.all())),
        ("DELETE", ["faults"]) => {
            shared.world().faults.clear();
            Answer::ok(&json!({}))
        }
        ("GET", ["requests"]) => Answer::ok(&json!(shared.world().requests)),
        ("DELETE", ["requests"]) => {
            shared.world().requests.clear();
            Answer::ok(&json!({}))
        }
        _ => Answer::not_found("control"),
    }
}

/// A body that comes at once, or byte by byte.
struct Bytewise {
    rest: Bytes,
    drip: Option<Duration>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    whole: Full<Bytes>,
}

impl Bytewise {
    fn new(body: Vec<u8>, drip: Option<Duration>) -> Self {
        let bytes = Bytes::from(body);
        let whole = Full::new(if drip.is_some() { Bytes::new() } else { bytes.clone() });
        Self { rest: bytes, drip, sleep: None, whole }
    }
}

impl Body for Bytewise {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(pause) = self.drip else { return Pin::new(&mut self.whole).poll_frame(context) };
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        match sleep.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.sleep = None;
                let byte = self.rest.split_to(1);
                Poll::Ready(Some(Ok(Frame::data(byte))))
            }
        }
    }
}
