use omnitool_smoke_tests::{ErrorKind, Options, Status, TestOutcome, run};

use crate::{
    impatient, options,
    server::{Server, answer, free_address, health, healthy},
    test, with,
};

#[test]
fn an_app_that_is_still_starting_is_waited_for() {
    let server = Server::start(|request| match (request.path.as_str(), request.earlier) {
        ("/health", 0) | ("/", 0) => answer(503, "text/html", "starting"),
        ("/health", 1) | ("/static/app.css", 0) => answer(502, "text/html", "starting"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(report.status, Status::Passed, "{report}");
    let outcomes: Vec<_> =
        report.startup.attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
    assert_eq!(outcomes, ["503 Service Unavailable", "502 Bad Gateway", "200 OK"]);
    assert_eq!(test(&report, "homepage").requests[0].attempts.len(), 2);
    assert!(report.to_string().contains("Waited for the app: 503 Service Unavailable, then 502"));
}

#[test]
fn the_release_before_is_waited_for_to_go_away() {
    let server = Server::start(|request| match (request.path.as_str(), request.earlier) {
        ("/health", earlier) => health(if earlier < 3 { "0001" } else { "0002" }),
        _ => healthy(request),
    });
    let options = Options { expected_release: Some("0002".to_owned()), ..options(&server) };
    let report = run(&options);
    assert_eq!(report.status, Status::Passed, "{report}");
    assert_eq!(report.startup.attempts.len(), 4);
    assert_eq!(report.startup.attempts[0].outcome, "release 0001 answers, expected 0002");
}

#[test]
fn a_release_that_never_comes_fails_every_test() {
    let server = Server::start(healthy);
    let options = Options { expected_release: Some("0002".to_owned()), ..impatient(&server) };
    let report = run(&options);
    assert_eq!(with(&report, TestOutcome::Failed).len(), 6, "{report}");
    assert_eq!(report.tests[0].kind, Some(ErrorKind::Content));
    let message = &report.tests[0].message;
    assert!(message.contains("release 0001 answers, expected 0002, still after"), "{message}");
}

#[test]
fn a_refused_connection_fails_every_test_within_the_deadline() {
    let server = Server::start(healthy);
    let base_url = format!("http://{}/", free_address()).parse().unwrap();
    let options = Options { base_url, ..impatient(&server) };
    let report = run(&options);
    assert_eq!(with(&report, TestOutcome::Failed).len(), 6, "{report}");
    assert_eq!(report.tests[0].kind, Some(ErrorKind::Refused));
    assert!(report.startup.attempts.len() > 2, "{report}");
    assert!(report.duration_ms < 2 * report.timeout_ms, "{report}");
}

#[test]
fn an_app_that_stays_unavailable_shows_its_answer() {
    let server = Server::start(|_| answer(503, "text/html", "<title>Application error</title>"));
    let report = run(&impatient(&server));
    assert_eq!(with(&report, TestOutcome::Failed).len(), 6, "{report}");
    assert_eq!(report.tests[0].kind, Some(ErrorKind::Status));
    assert!(report.to_string().contains("| <title>Application error</title>"), "{report}");
}

#[test]
fn an_app_that_finds_itself_unwell_is_tested_all_the_same() {
    let server = Server::start(|request| match request.path.as_str() {
        "/health" => answer(
            503,
            "application/json",
            r#"{"status":"failing","database":"unreachable","server_errors":0}"#,
        ),
        _ => healthy(request),
    });
    let report = run(&impatient(&server));
    let passed = ["homepage", "login-page", "static-assets"];
    assert_eq!(with(&report, TestOutcome::Passed), passed, "{report}");
    assert!(test(&report, "health").message.contains("its database is `unreachable`"));
    assert!(test(&report, "health").requests[0].attempts.len() > 1, "it may get well: {report}");
}

#[test]
fn a_host_without_an_address_is_told_apart_at_once() {
    // No name server is asked about a label that is too long.
    let url = format!("http://{}.invalid/", "a".repeat(70));
    let server = Server::start(healthy);
    let report = run(&Options { base_url: url.parse().unwrap(), ..options(&server) });
    assert_eq!(with(&report, TestOutcome::Failed).len(), 6, "{report}");
    assert_eq!(report.tests[0].kind, Some(ErrorKind::Dns), "{report}");
    assert_eq!(report.startup.attempts.len(), 1, "{report}");
}

#[test]
fn a_server_without_tls_is_told_apart() {
    let server = Server::start(healthy);
    let base_url = server.url().replace("http:", "https:").parse().unwrap();
    let report = run(&Options { base_url, ..options(&server) });
    assert_eq!(report.tests[0].kind, Some(ErrorKind::Tls), "{report}");
}

#[test]
fn an_old_process_that_answers_every_second_time_is_found() {
    let server = Server::start(|request| match (request.path.as_str(), request.earlier) {
        ("/health", 0) => health("0002"),
        ("/health", _) => health("0001"),
        _ => healthy(request),
    });
    let options = Options { expected_release: Some("0002".to_owned()), ..options(&server) };
    let report = run(&options);
    assert_eq!(with(&report, TestOutcome::Failed), ["health"], "{report}");
    let message = &test(&report, "health").message;
    assert_eq!(message, "release 0002 answered at first, but release 0001 at the end");
}

#[test]
fn attempts_are_numbered_and_timed() {
    let server = Server::start(|request| match (request.path.as_str(), request.earlier) {
        ("/health", 0..=2) => answer(503, "text/html", "starting"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    let attempts = &report.startup.attempts;
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    // The pauses grow: 50, 100 and 200 ms.
    let begun: Vec<_> = attempts.iter().map(|attempt| attempt.at_ms).collect();
    let pauses: Vec<_> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] >= 50 && pauses[1] >= 100 && pauses[2] >= 200, "{begun:?}");
}
