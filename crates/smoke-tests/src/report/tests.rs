//! Reports of made-up evidence.

use super::*;
use crate::{TESTS, check::Asset, html::AssetKind};

const AT: &str = "http://127.0.0.1:5001/";

fn at(path: &str) -> String {
    format!("{AT}{path}")
}

fn evidence() -> Evidence {
    let login = "<title>Log in</title><input type=password>";
    let health = r#"{"status":"ok","release":"0001","database":"ok","server_errors":0}"#;
    Evidence {
        home: Fetch::answered(AT, 200, "text/html", "<title>omnitool</title>"),
        login: Fetch::answered(&at("login"), 200, "text/html", login),
        health: Fetch::answered(&at("health"), 200, "application/json", health),
        assets: vec![Asset {
            kind: AssetKind::Css,
            fetch: Fetch::answered(&at("app.css"), 200, "text/css", "a {}"),
        }],
        unfetched: Vec::new(),
        expected_release: None,
        closing: None,
        certificate: None,
        visit: None,
    }
}

fn options() -> Options {
    Options::new(AT.parse().unwrap())
}

fn facts<'a>(options: &'a Options, startup: &'a Fetch) -> RunFacts<'a> {
    RunFacts { options, release: Some("0001".to_owned()), startup, certificate: None }
}

fn report_within(evidence: &Evidence, allowed: Option<Duration>) -> Report {
    let options = options();
    let facts = facts(&options, &evidence.health);
    let mut budget = Budget::new(allowed);
    let six = TESTS.iter().filter(|test| (test.applies)(&options));
    let tests = six.map(|test| TestReport::judged(test, evidence, &mut budget)).collect();
    Report::new(facts, tests, Duration::from_millis(48))
}

fn report(evidence: &Evidence) -> Report {
    report_within(evidence, None)
}

/// A report with everything in it: a pass, a warning, a skip and two failures.
fn mixed_report() -> Report {
    let mut evidence = evidence();
    evidence.home =
        Fetch::answered(AT, 500, "text/html", "<h1>100% & \u{1b}[2J</h1>\n::error::x\n");
    evidence.health = Fetch::answered(&at("health"), 404, "text/html", "");
    evidence.certificate = Some(Ok(Duration::from_secs(13 * 86_400)));
    let options = Options { base_url: "https://h/".parse().unwrap(), ..options() };
    let mut budget = Budget::new(None);
    let tests = TESTS.iter().filter(|test| (test.applies)(&options));
    let tests = tests.map(|test| TestReport::judged(test, &evidence, &mut budget)).collect();
    Report::new(facts(&options, &evidence.health), tests, Duration::from_millis(48))
}

#[test]
fn a_healthy_app_fits_a_few_lines() {
    insta::assert_snapshot!(report(&evidence()), @r#"
    Smoke tests of http://127.0.0.1:5001/

    [PASS] 1 Homepage loads           12 ms  200 OK "omnitool", 23 bytes
    [PASS] 2 Login page loads         12 ms  200 OK "Log in", 42 bytes
    [PASS] 3 Health endpoint          12 ms  200 OK, release 0001, database ok
    [PASS] 4 Static assets load       12 ms  1 CSS, 0 JS
    [PASS] 5 Database connectivity    12 ms  the app says that its database is ok
    [PASS] 6 No recent 5xx errors     12 ms  none since the app started

    All smoke tests passed: 6 passed, 0 failed, 0 skipped in 48 ms, release 0001
    "#);
}

#[test]
fn a_failure_shows_the_request_the_answer_and_what_to_do() {
    let body = "<h1>Internal Server Error</h1>\n::error::x\u{1b}[2J\n";
    let mut evidence = evidence();
    evidence.home = Fetch::answered(AT, 500, "text/html", body);
    evidence.home.redirects = vec![at("start")];
    evidence.home.attempts =
        Fetch::refused(AT).attempts.into_iter().chain(evidence.home.attempts).collect();
    evidence.health = Fetch::answered(&at("health"), 404, "text/html", "");
    insta::assert_snapshot!(report(&evidence), @r#"
    Smoke tests of http://127.0.0.1:5001/

    [FAIL] 1 Homepage loads           12 ms  status: answered 500 Internal Server Error, expected 200
           request:  GET http://127.0.0.1:5001/
           sent to:  http://127.0.0.1:5001/start
           attempts: connection refused (3 times, from 0 ms to 29.9 s), then 500 Internal Server Error
           header:   content-type: text/html
           | <h1>Internal Server Error</h1>
           | ::error::x\u{1b}[2J
           next:     look for this request in the app's log
    [PASS] 2 Login page loads         12 ms  200 OK "Log in", 42 bytes
    [SKIP] 3 Health endpoint          12 ms  the app has no /health (404)
    [PASS] 4 Static assets load       12 ms  1 CSS, 0 JS
    [SKIP] 5 Database connectivity    12 ms  the app has no /health (404), so the database's state is not known
    [FAIL] 6 No recent 5xx errors     12 ms  status: 1 request of these tests ended in a 5xx; the first: http://127.0.0.1:5001/ answered 500 Internal Server Error
           request:  GET http://127.0.0.1:5001/ (see above)
           next:     look for this request in the app's log

    Smoke tests FAILED: 2 passed, 2 failed, 2 skipped in 48 ms, release 0001; Homepage loads: answered 500 Internal Server Error, expected 200
    "#);
}

#[test]
fn an_app_that_cannot_be_tested_has_its_reason_told_once() {
    let startup = Fetch::refused(&at("health"));
    let error = startup.error.clone().unwrap();
    let tests = TESTS.iter().take(6).map(|test| TestReport::not_run(test, &error)).collect();
    let options = options();
    let facts = RunFacts { release: None, ..facts(&options, &startup) };
    let report = Report::new(facts, tests, Duration::from_millis(29_950));
    insta::assert_snapshot!(report, @r#"
    Smoke tests of http://127.0.0.1:5001/
    Waited for the app: connection refused (3 times, from 0 ms to 29.9 s)

    [FAIL] 1 Homepage loads            0 ms  refused: not run: connection refused
    [FAIL] 2 Login page loads          0 ms  refused: not run: connection refused
    [FAIL] 3 Health endpoint           0 ms  refused: not run: connection refused
    [FAIL] 4 Static assets load        0 ms  refused: not run: connection refused
    [FAIL] 5 Database connectivity     0 ms  refused: not run: connection refused
    [FAIL] 6 No recent 5xx errors      0 ms  refused: not run: connection refused

           request:  GET http://127.0.0.1:5001/health
           attempts: connection refused (3 times, from 0 ms to 29.9 s)
           next:     start the app, or read in its log why it stopped

    Smoke tests FAILED: 0 passed, 6 failed, 0 skipped in 29.9 s; Homepage loads: not run: connection refused
    "#);
}

#[test]
fn json_has_the_same_facts_for_programs() {
    let mut evidence = evidence();
    evidence.login = Fetch::answered(&at("login"), 200, "text/html", "<h1>Error</h1>");
    let mut report = report(&evidence);
    report.tests.truncate(2);
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap(), @r#"
    {
      "summary": "5 passed, 1 failed, 0 skipped in 48 ms, release 0001; Login page loads: answered 200, but is an error page: \"Error\"",
      "status": "failed",
      "url": "http://127.0.0.1:5001/",
      "release": "0001",
      "expected_release": null,
      "timeout_ms": 30000,
      "duration_ms": 48,
      "max_latency_ms": null,
      "certificate_days_left": null,
      "startup": {
        "method": "GET",
        "url": "http://127.0.0.1:5001/health",
        "attempts": [
          {
            "number": 1,
            "at_ms": 30,
            "duration_ms": 12,
            "outcome": "200 OK"
          }
        ],
        "latency_ms": 12,
        "redirects": [],
        "status": 200,
        "error": null,
        "size": 66
      },
      "tests": [
        {
          "number": 1,
          "id": "homepage",
          "name": "Homepage loads",
          "outcome": "passed",
          "kind": null,
          "message": "200 OK \"omnitool\", 23 bytes",
          "next": null,
          "duration_ms": 12,
          "requests": [
            {
              "method": "GET",
              "url": "http://127.0.0.1:5001/",
              "attempts": [
                {
                  "number": 1,
                  "at_ms": 30,
                  "duration_ms": 12,
                  "outcome": "200 OK"
                }
              ],
              "latency_ms": 12,
              "redirects": [],
              "status": 200,
              "error": null,
              "size": 23
            }
          ]
        },
        {
          "number": 2,
          "id": "login-page",
          "name": "Login page loads",
          "outcome": "failed",
          "kind": "content",
          "message": "answered 200, but is an error page: \"Error\"",
          "next": "look at the page: the app answers, but not with what it should",
          "duration_ms": 12,
          "requests": [
            {
              "method": "GET",
              "url": "http://127.0.0.1:5001/login",
              "attempts": [
                {
                  "number": 1,
                  "at_ms": 30,
                  "duration_ms": 12,
                  "outcome": "200 OK"
                }
              ],
              "latency_ms": 12,
              "redirects": [],
              "status": 200,
              "error": null,
              "size": 14,
              "headers": {
                "content-type": "text/html"
              },
              "body": "<h1>Error</h1>"
            }
          ]
        }
      ]
    }
    "#);
}

#[test]
fn what_is_slower_than_allowed_fails_the_first_test_that_looks_at_it() {
    let allowed = Duration::from_millis(11);
    let report = report_within(&evidence(), Some(allowed));
    let slow: Vec<_> =
        report.tests.iter().filter(|test| test.kind == Some(ErrorKind::Slow)).collect();
    assert_eq!(
        slow.iter().map(|test| test.id).collect::<Vec<_>>(),
        ["homepage", "login-page", "health", "static-assets"]
    );
    assert_eq!(slow[0].message, "http://127.0.0.1:5001/ took 12 ms, allowed 11 ms");
    assert_eq!(report.status, Status::Failed);
    let allowed = Duration::from_millis(12);
    assert_eq!(report_within(&evidence(), Some(allowed)).status, Status::Passed);
}

#[test]
fn another_release_at_the_end_fails() {
    let mut evidence = evidence();
    evidence.expected_release = Some("0001".to_owned());
    let closing = r#"{"status":"ok","release":"0000","database":"ok","server_errors":0}"#;
    let mut closing = Fetch::answered(&at("health"), 200, "application/json", closing);
    closing.attempts[0].at = Duration::from_millis(90);
    evidence.closing = Some(closing);
    let report = report(&evidence);
    assert_eq!(
        report.tests[2].message,
        "release 0001 answered at first, but release 0000 at the end"
    );
    assert_eq!(report.tests[2].requests.len(), 2);
    assert!(!report.to_string().contains("see above"), "the same address, two answers: {report}");
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning() {
    insta::assert_snapshot!(mixed_report(), @r#"
    Smoke tests of https://h/

    [FAIL] 1 Homepage loads           12 ms  status: answered 500 Internal Server Error, expected 200
           request:  GET http://127.0.0.1:5001/
           attempts: 500 Internal Server Error
           header:   content-type: text/html
           | <h1>100% & \u{1b}[2J</h1>
           | ::error::x
           next:     look for this request in the app's log
    [PASS] 2 Login page loads         12 ms  200 OK "Log in", 42 bytes
    [SKIP] 3 Health endpoint          12 ms  the app has no /health (404)
    [PASS] 4 Static assets load       12 ms  1 CSS, 0 JS
    [SKIP] 5 Database connectivity    12 ms  the app has no /health (404), so the database's state is not known
    [FAIL] 6 No recent 5xx errors     12 ms  status: 1 request of these tests ended in a 5xx; the first: http://127.0.0.1:5001/ answered 500 Internal Server Error
           request:  GET http://127.0.0.1:5001/ (see above)
           next:     look for this request in the app's log
    [WARN] 7 TLS certificate           0 ms  valid for 13 more days; less than 14
           next:     renew the certificate, or find out why that does not happen by itself

    Smoke tests FAILED: 2 passed, 2 failed, 2 skipped, 1 warned in 48 ms, release 0001; Homepage loads: answered 500 Internal Server Error, expected 200
    "#);
}

#[test]
fn junit_has_a_case_for_each_test() {
    insta::assert_snapshot!(mixed_report().junit(), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="smoke-tests" tests="7" failures="2" skipped="2" time="0.048">
      <testsuite name="smoke-tests" tests="7" failures="2" skipped="2" time="0.048">
        <testcase classname="smoke-tests.homepage" name="1 Homepage loads" time="0.012">
          <failure type="status" message="answered 500 Internal Server Error, expected 200">request:  GET http://127.0.0.1:5001/
    attempts: 500 Internal Server Error
    header:   content-type: text/html
    | &lt;h1&gt;100% &amp; \u{1b}[2J&lt;/h1&gt;
    | ::error::x
    next:     look for this request in the app&apos;s log</failure>
        </testcase>
        <testcase classname="smoke-tests.login-page" name="2 Login page loads" time="0.012">
          <system-out>200 OK &quot;Log in&quot;, 42 bytes</system-out>
        </testcase>
        <testcase classname="smoke-tests.health" name="3 Health endpoint" time="0.012">
          <skipped message="the app has no /health (404)"/>
        </testcase>
        <testcase classname="smoke-tests.static-assets" name="4 Static assets load" time="0.012">
          <system-out>1 CSS, 0 JS</system-out>
        </testcase>
        <testcase classname="smoke-tests.database" name="5 Database connectivity" time="0.012">
          <skipped message="the app has no /health (404), so the database&apos;s state is not known"/>
        </testcase>
        <testcase classname="smoke-tests.server-errors" name="6 No recent 5xx errors" time="0.012">
          <failure type="status" message="1 request of these tests ended in a 5xx; the first: http://127.0.0.1:5001/ answered 500 Internal Server Error">request:  GET http://127.0.0.1:5001/ (see above)
    next:     look for this request in the app&apos;s log</failure>
        </testcase>
        <testcase classname="smoke-tests.certificate" name="7 TLS certificate" time="0.000">
          <system-out>valid for 13 more days; less than 14
    next:     renew the certificate, or find out why that does not happen by itself</system-out>
        </testcase>
        <system-out>2 passed, 2 failed, 2 skipped, 1 warned in 48 ms, release 0001; Homepage loads: answered 500 Internal Server Error, expected 200</system-out>
      </testsuite>
    </testsuites>
    "#);
}

#[test]
fn github_gets_annotations_and_nothing_that_an_answer_says_becomes_a_command() {
    insta::assert_snapshot!(mixed_report().github(), @r#"
    [FAIL] 1 Homepage loads           12 ms  status: answered 500 Internal Server Error, expected 200
    ::error title=1 Homepage loads::answered 500 Internal Server Error, expected 200%0Arequest:  GET http://127.0.0.1:5001/%0Aattempts: 500 Internal Server Error%0Aheader:   content-type: text/html%0A| <h1>100%25 & \u{1b}[2J</h1>%0A| ::error::x%0Anext:     look for this request in the app's log
    [PASS] 2 Login page loads         12 ms  200 OK "Log in", 42 bytes
    [SKIP] 3 Health endpoint          12 ms  the app has no /health (404)
    [PASS] 4 Static assets load       12 ms  1 CSS, 0 JS
    [SKIP] 5 Database connectivity    12 ms  the app has no /health (404), so the database's state is not known
    [FAIL] 6 No recent 5xx errors     12 ms  status: 1 request of these tests ended in a 5xx; the first: http://127.0.0.1:5001/ answered 500 Internal Server Error
    ::error title=6 No recent 5xx errors::1 request of these tests ended in a 5xx; the first: http://127.0.0.1:5001/ answered 500 Internal Server Error%0Arequest:  GET http://127.0.0.1:5001/ (see above)%0Anext:     look for this request in the app's log
    [WARN] 7 TLS certificate           0 ms  valid for 13 more days; less than 14
    ::warning title=7 TLS certificate::valid for 13 more days; less than 14%0Anext:     renew the certificate, or find out why that does not happen by itself
    2 passed, 2 failed, 2 skipped, 1 warned in 48 ms, release 0001; Homepage loads: answered 500 Internal Server Error, expected 200
    "#);
}
