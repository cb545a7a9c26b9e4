use std::{thread, time::Duration};

use omnitool_smoke_tests::{ErrorKind, Options, TestOutcome, run};

use crate::{
    options,
    server::{Server, healthy},
    test, with,
};

const ALLOWED: Duration = Duration::from_millis(700);

#[test]
fn a_request_that_takes_longer_than_allowed_fails_its_test() {
    let server = Server::start(|request| {
        if request.path == "/login" {
            thread::sleep(ALLOWED);
        }
        healthy(request)
    });
    let report = run(&Options { max_latency: Some(ALLOWED), ..options(&server) });
    assert_eq!(with(&report, TestOutcome::Failed), ["login-page"], "{report}");
    let login = test(&report, "login-page");
    assert_eq!(login.kind, Some(ErrorKind::Slow));
    assert!(login.message.ends_with("ms, allowed 700 ms"), "{}", login.message);
    assert!(login.requests[0].latency_ms >= 700, "{report}");
    assert_eq!(report.max_latency_ms, Some(700));
}
