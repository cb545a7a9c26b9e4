//! What surrounds every request: its id, its time limit, its log line, error pages and security headers.

use std::{
    future::{Future as _, poll_fn},
    hash::{BuildHasher as _, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use tracing::Instrument as _;

use crate::{
    app::{App, Front, Peer},
    cookie::Scheme,
    error::{Explanation, PageError},
    page, token,
};

/// How long an answer may take.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Nothing but our own style sheet, script and icon; forms go only to us, and nobody frames us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const SECURITY_HEADERS: [(HeaderName, HeaderValue); 7] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // For browsers that do not know `frame-ancestors`.
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

pub(crate) async fn frame(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&app, request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (client, scheme) = app.origin(request.headers(), request.extensions().get::<Peer>());
    let span = tracing::error_span!("request", id);

    let mut response = match to_https(&app, &request) {
        Some(redirect) => redirect,
        None => answer(request, next).instrument(span.clone()).await,
    };
    add_error_page(&app, &mut response, &id);
    add_headers(response.headers_mut(), scheme, &id);

    let status = response.status();
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _entered = span.enter();
    let is_probe = matches!(&*path, "/health" | "/ready" | "/metrics");
    let frequent = is_probe || path.starts_with("/static/");
    // An unwell app says so at /health with a 503, which is no error of the app's.
    let is_failure = status.is_server_error() && !is_probe;
    app.metrics().count_request(status, started.elapsed(), is_failure);
    if is_failure {
        tracing::error!(%client, duration_ms, "{method} {path} answered {}", status.as_u16());
    } else if frequent {
        tracing::debug!(%client, duration_ms, "{method} {path} answered {}", status.as_u16());
    } else {
        tracing::info!(%client, duration_ms, "{method} {path} answered {}", status.as_u16());
    }
    response
}

/// Runs the request so that a panic is an answer, too; it ends with the connection. In this very task, since handing each
/// request to another thread costs more than most requests.
async fn answer(request: Request, next: Next) -> Response {
    let mut running = pin!(next.run(request));
    let guarded = poll_fn(|context| {
        // Nothing is used after a panic that could be half changed: the request's own future is dropped.
        catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context)))
            .map_or(Poll::Ready(Err(PageError::Panicked)), |poll| poll.map(Ok))
    });
    match tokio::time::timeout(TIME_LIMIT, guarded).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into_response(),
        Err(_) => PageError::TooSlow(TIME_LIMIT).into_response(),
    }
}

/// The router's id for the request where there is a router, else a random one.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    let given = match app.settings().front {
        Front::Nothing => None,
        Front::HerokuRouter => headers.get("x-request-id").and_then(|value| value.to_str().ok()),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match given.filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(plain)) {
        Some(id) => id.to_owned(),
        None => {
            // It only tells requests apart, also those of several processes: a keyed hash of their number does.
            static REQUESTS: AtomicU64 = AtomicU64::new(0);
            static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
            let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
            token::hex(&KEY.hash_one(number).to_be_bytes())
        }
    }
}

/// Sends a visitor who came to Heroku's router in clear text to the same page over TLS.
fn to_https(app: &App, request: &Request) -> Option<Response> {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let clear = app.settings().front == Front::HerokuRouter
        && text("x-forwarded-proto") == Some("http")
        && matches!(*request.method(), Method::GET | Method::HEAD);
    if !clear {
        return None;
    }
    let page = request.uri().path_and_query().map_or("/", |page| page.as_str());
    Some(Redirect::permanent(&format!("https://{}{page}", text("host")?)).into_response())
}

/// Gives an error that has no page one in the app's layout.
fn add_error_page(app: &App, response: &mut Response, id: &str) {
    let status = response.status();
    let typed = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let has_page = typed.is_some_and(|kind| !kind.starts_with("text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || has_page {
        return;
    }
    let explanation = response.extensions().get::<Explanation>().cloned();
    let explanation = explanation.unwrap_or_else(|| Explanation::of(status));
    let page = page::error(app.settings(), status, &explanation, id);
    *response.body_mut() = Body::from(page.into_string());
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
}

fn add_headers(headers: &mut HeaderMap, scheme: Scheme, id: &str) {
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, value);
    }
    if scheme == Scheme::Https {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    // Pages are of one visitor and one moment; assets say otherwise themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-request-id", id);
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware, routing::get};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use omnitool_environment::{DatabaseUrl, EnvironmentName};

    use super::*;
    use crate::app::Settings;

    async fn crash() -> StatusCode {
        panic!("on purpose")
    }

    /// The app, and its answer to a request of `path`, one of a few routes that misbehave.
    async fn answer_of(path: &str) -> (App, Response) {
        let url = DatabaseUrl::sqlite("none.db".as_ref());
        let app = App::new(Settings::new(EnvironmentName::Local, "0001", url));
        let router = Router::new()
            .route("/panics", get(crash))
            .route("/hangs", get(std::future::pending::<StatusCode>))
            .layer(middleware::from_fn_with_state(app.clone(), frame));
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        (app, response)
    }

    #[tokio::test]
    async fn a_panic_is_a_page_that_names_the_request_and_is_counted() {
        let (app, response) = answer_of("/panics").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(app.metrics().server_errors(), 1);
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let page = String::from_utf8(body.to_vec()).unwrap();
        assert!(page.contains("Something went wrong") && page.contains(&id), "{page}");
        assert!(!page.contains("on purpose"), "{page}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_given_up() {
        let started = tokio::time::Instant::now();
        let (app, response) = answer_of("/hangs").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(started.elapsed().as_secs(), TIME_LIMIT.as_secs());
        assert_eq!(app.metrics().server_errors(), 1);
    }
}
