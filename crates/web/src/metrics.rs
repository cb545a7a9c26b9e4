//! `/metrics`: what Prometheus asks.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::{
    app::{App, Front, Peer},
    error::PageError,
};

/// The upper bounds of the histogram's buckets, in milliseconds, and as Prometheus writes them, in seconds.
const BUCKETS: [(u64, &str); 8] = [
    (5, "0.005"),
    (10, "0.01"),
    (25, "0.025"),
    (50, "0.05"),
    (100, "0.1"),
    (250, "0.25"),
    (1000, "1"),
    (5000, "5"),
];

/// What the app counts since it started. Adding to it takes no lock.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 6],
    /// Answers up to each bound, and slower ones.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    server_errors: AtomicU64,
    logins: AtomicU64,
    failed_logins: AtomicU64,
}

impl Metrics {
    pub(crate) fn count_request(&self, status: StatusCode, time: Duration, is_failure: bool) {
        let class = usize::from(status.as_u16() / 100).min(self.answers.len() - 1);
        add(&self.answers[class], 1);
        let (millis, micros) = (time.as_millis(), time.as_micros());
        let at = BUCKETS.iter().position(|(bound, _)| millis < u128::from(*bound));
        add(&self.buckets[at.unwrap_or(BUCKETS.len())], 1);
        add(&self.micros, u64::try_from(micros).unwrap_or(u64::MAX));
        add(&self.server_errors, u64::from(is_failure));
    }

    pub(crate) fn count_login(&self, succeeded: bool) {
        add(if succeeded { &self.logins } else { &self.failed_logins }, 1);
    }

    pub(crate) fn server_errors(&self) -> u64 {
        self.server_errors.load(Ordering::Relaxed)
    }

    /// Prometheus' text format.
    fn text(&self, release: &str, busy_connections: usize) -> String {
        let mut text = String::new();
        let mut write = |name: &str, kind: &str, help: &str, lines: &[(String, String)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP omnitool_{name} {help}\n# TYPE omnitool_{name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(text, "omnitool_{name}{labels} {value}");
            }
        };
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let one = |number: &AtomicU64| [(String::new(), get(number).to_string())];
        let release = release.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let info = [(format!("{{release=\"{release}\"}}"), "1".to_owned())];
        write("build_info", "gauge", "The release that runs.", &info);
        let answers: Vec<(String, String)> = self
            .answers
            .iter()
            .enumerate()
            .skip(1)
            .map(|(class, number)| (format!("{{status=\"{class}xx\"}}"), get(number).to_string()))
            .collect();
        write("requests_total", "counter", "Answered requests by status.", &answers);
        write(
            "server_errors_total",
            "counter",
            "Requests that failed by the app's fault; probes are not counted.",
            &one(&self.server_errors),
        );
        let mut sum = 0;
        let mut histogram: Vec<(String, String)> = Vec::new();
        for (number, bound) in
            self.buckets.iter().zip(BUCKETS.iter().map(|(_, text)| *text).chain(["+Inf"]))
        {
            sum += get(number);
            histogram.push((format!("_bucket{{le=\"{bound}\"}}"), sum.to_string()));
        }
        let micros = get(&self.micros);
        let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        histogram.push(("_sum".to_owned(), seconds));
        histogram.push(("_count".to_owned(), sum.to_string()));
        write("request_seconds", "histogram", "How long answers took.", &histogram);
        write("logins_total", "counter", "Successful logins.", &one(&self.logins));
        write("failed_logins_total", "counter", "Refused logins.", &one(&self.failed_logins));
        let busy = [(String::new(), busy_connections.to_string())];
        write("database_connections_busy", "gauge", "Connections in use.", &busy);
        text
    }
}

/// For programs on this machine, and for whoever has the token. Others are told that there is no such page.
pub(crate) async fn metrics(
    State(app): State<App>,
    request: Request,
) -> Result<Response, PageError> {
    let settings = app.settings();
    // Behind a router, every connection may come from this machine.
    let is_local = settings.front == Front::Nothing
        && request.extensions().get::<Peer>().is_some_and(|peer| peer.0.ip().is_loopback());
    let has_token =
        settings.metrics_token.as_ref().is_some_and(|token| carries(request.headers(), token));
    if !(is_local || has_token) {
        return Err(PageError::NotFound);
    }
    let text = app.metrics().text(&settings.release, app.busy_connections());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Whether the request has the token, in a time that does not tell how much of it is right.
fn carries(headers: &HeaderMap, token: &SecretString) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given.and_then(|text| text.strip_prefix("Bearer ")).is_some_and(|given| {
        !token.expose_secret().is_empty()
            && Sha256::digest(given) == Sha256::digest(token.expose_secret())
    })
}

fn add(number: &AtomicU64, more: u64) {
    number.fetch_add(more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_can_read_what_was_counted() {
        let metrics = Metrics::default();
        metrics.count_request(StatusCode::OK, Duration::from_micros(7_500), false);
        metrics.count_request(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(9), true);
        metrics.count_login(true);
        insta::assert_snapshot!(metrics.text("0\"7", 2), @r#"
        # HELP omnitool_build_info The release that runs.
        # TYPE omnitool_build_info gauge
        omnitool_build_info{release="0\"7"} 1
        # HELP omnitool_requests_total Answered requests by status.
        # TYPE omnitool_requests_total counter
        omnitool_requests_total{status="1xx"} 0
        omnitool_requests_total{status="2xx"} 1
        omnitool_requests_total{status="3xx"} 0
        omnitool_requests_total{status="4xx"} 0
        omnitool_requests_total{status="5xx"} 1
        # HELP omnitool_server_errors_total Requests that failed by the app's fault; probes are not counted.
        # TYPE omnitool_server_errors_total counter
        omnitool_server_errors_total 1
        # HELP omnitool_request_seconds How long answers took.
        # TYPE omnitool_request_seconds histogram
        omnitool_request_seconds_bucket{le="0.005"} 0
        omnitool_request_seconds_bucket{le="0.01"} 1
        omnitool_request_seconds_bucket{le="0.025"} 1
        omnitool_request_seconds_bucket{le="0.05"} 1
        omnitool_request_seconds_bucket{le="0.1"} 1
        omnitool_request_seconds_bucket{le="0.25"} 1
        omnitool_request_seconds_bucket{le="1"} 1
        omnitool_request_seconds_bucket{le="5"} 1
        omnitool_request_seconds_bucket{le="+Inf"} 2
        omnitool_request_seconds_sum 9.007500
        omnitool_request_seconds_count 2
        # HELP omnitool_logins_total Successful logins.
        # TYPE omnitool_logins_total counter
        omnitool_logins_total 1
        # HELP omnitool_failed_logins_total Refused logins.
        # TYPE omnitool_failed_logins_total counter
        omnitool_failed_logins_total 0
        # HELP omnitool_database_connections_busy Connections in use.
        # TYPE omnitool_database_connections_busy gauge
        omnitool_database_connections_busy 2
        "#);
    }
}
