use omnitool_smoke_tests::{ErrorKind, Options, Status, TestOutcome, run};

use crate::{
    options,
    server::{Reply, Server, answer, health, healthy, redirect},
    test, with,
};

#[test]
fn a_healthy_app_passes_every_test() {
    let server = Server::start(healthy);
    let report = run(&options(&server));
    assert_eq!(report.status, Status::Passed, "{report}");
    assert_eq!(with(&report, TestOutcome::Passed).len(), 6, "{report}");
    assert_eq!(report.release.as_deref(), Some("0001"));
    let assets: Vec<_> = test(&report, "static-assets").requests.iter().collect();
    let paths: Vec<_> =
        assets.iter().map(|asset| asset.url.trim_start_matches(&server.url())).collect();
    assert_eq!(paths, ["static/app.css", "static/app.js"], "each linked asset, once");
}

#[test]
fn each_page_is_fetched_once() {
    let server = Server::start(healthy);
    assert_eq!(run(&options(&server)).status, Status::Passed);
    let mut paths: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    paths.sort();
    assert_eq!(paths, ["/", "/health", "/login", "/static/app.css", "/static/app.js"]);
}

#[test]
fn an_app_without_health_has_three_tests_skipped_and_says_why() {
    let server = Server::start(|request| match request.path.as_str() {
        "/health" => answer(404, "text/html", "no"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(report.status, Status::Passed, "{report}");
    assert_eq!(with(&report, TestOutcome::Skipped), ["health", "database", "server-errors"]);
    assert!(report.to_string().contains("[SKIP] 3 Health endpoint"), "{report}");
    assert!(test(&report, "database").message.contains("no /health (404)"));
}

#[test]
fn an_expected_release_cannot_be_proved_without_health() {
    let server = Server::start(|request| match request.path.as_str() {
        "/health" => answer(404, "text/html", "no"),
        _ => healthy(request),
    });
    let options = Options { expected_release: Some("0002".to_owned()), ..options(&server) };
    assert_eq!(with(&run(&options), TestOutcome::Failed), ["health"]);
}

#[test]
fn a_failing_homepage_fails_its_test_and_the_one_for_server_errors() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => answer(500, "text/html", "<h1>Internal Server Error</h1>"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(with(&report, TestOutcome::Failed), ["homepage", "server-errors"], "{report}");
    let homepage = test(&report, "homepage");
    assert_eq!(homepage.kind, Some(ErrorKind::Status));
    assert_eq!(homepage.requests[0].attempts.len(), 1, "a definite answer is not asked for again");
    assert_eq!(homepage.requests[0].body.as_deref(), Some("<h1>Internal Server Error</h1>"));
    assert!(!report.to_string().contains("cookie-secret"), "{report}");
}

#[test]
fn an_error_page_with_status_200_fails() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => answer(200, "text/html", "<title>Application Error</title>"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(with(&report, TestOutcome::Failed), ["homepage"], "{report}");
    assert_eq!(test(&report, "homepage").kind, Some(ErrorKind::Content));
}

#[test]
fn a_login_page_that_asks_for_no_password_fails() {
    let server = Server::start(|request| match request.path.as_str() {
        "/login" => answer(200, "text/html", r#"<script src="/static/app.js"></script>Hello"#),
        _ => healthy(request),
    });
    assert_eq!(with(&run(&options(&server)), TestOutcome::Failed), ["login-page"]);
}

#[test]
fn a_missing_asset_is_named() {
    let server = Server::start(|request| match request.path.as_str() {
        "/static/app.js" => answer(404, "text/html", "no"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(with(&report, TestOutcome::Failed), ["static-assets"]);
    assert_eq!(
        test(&report, "static-assets").message,
        "/static/app.js: answered 404 Not Found, expected 200"
    );
}

#[test]
fn an_asset_that_is_a_page_fails() {
    let server = Server::start(|request| match request.path.as_str() {
        "/static/app.css" => answer(200, "text/css", "<!DOCTYPE html><title>Home</title>"),
        "/static/app.js" => answer(200, "text/html", "x"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(
        test(&report, "static-assets").message,
        "/static/app.css: is HTML instead of CSS (and 1 more)"
    );
}

#[test]
fn pages_that_link_no_assets_fail() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => answer(200, "text/html", "<title>omnitool</title>"),
        "/login" => answer(200, "text/html", "<input type=password>"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(with(&report, TestOutcome::Failed), ["static-assets"]);
    assert_eq!(test(&report, "static-assets").message, "the pages link no CSS and no JS");
}

#[test]
fn an_unwell_database_fails_whatever_the_status() {
    let server = Server::start(|request| match request.path.as_str() {
        "/health" => answer(
            500,
            "application/json",
            r#"{"status":"failing","database":"unreachable","server_errors":0}"#,
        ),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(with(&report, TestOutcome::Failed), ["health", "database", "server-errors"]);
    assert_eq!(
        test(&report, "database").message,
        "the app says that its database is `unreachable`"
    );
}

#[test]
fn counted_server_errors_fail_and_uncounted_ones_are_skipped() {
    let document = r#"{"status":"ok","database":"ok","server_errors":2}"#;
    let server = Server::start(move |request| match request.path.as_str() {
        "/health" => answer(200, "application/json", document),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(with(&report, TestOutcome::Failed), ["server-errors"]);
    assert!(test(&report, "server-errors").message.starts_with("2 requests ended in a 5xx"));

    let server = Server::start(|request| match request.path.as_str() {
        "/health" => answer(200, "application/json", r#"{"status":"ok","database":"ok"}"#),
        _ => healthy(request),
    });
    assert_eq!(with(&run(&options(&server)), TestOutcome::Skipped), ["server-errors"]);
}

#[test]
fn a_redirect_within_the_site_is_followed_and_shown() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => redirect("/login?next=%2F"),
        "/login?next=%2F" => redirect("login"),
        _ => healthy(request),
    });
    let report = run(&options(&server));
    assert_eq!(report.status, Status::Passed, "{report}");
    let login = format!("{}login", server.url());
    let home = test(&report, "homepage");
    assert_eq!(home.requests[0].redirects, [format!("{login}?next=%2F"), login.clone()]);
    assert!(home.message.ends_with(&format!("redirected to {login}")), "{}", home.message);
}

#[test]
fn credentials_in_the_address_are_sent_with_every_request_and_never_shown() {
    let server = Server::start(|request| {
        let sent = "authorization: basic dgvzdgvyomh1bnrlcji=".to_owned();
        match request.path.as_str() {
            _ if !request.headers.contains(&sent) => answer(401, "text/html", "who?"),
            "/" => redirect("/login"),
            "/health" => health("0001"),
            "/static/app.js" => Reply::Bytes(b"HTTP/1.1 500 No\r\n\r\n".to_vec()),
            _ => healthy(request),
        }
    });
    let url = server.url().replace("//", "//tester:hunter2@");
    let options = Options { base_url: url.parse().unwrap(), ..options(&server) };
    let report = run(&options);
    assert_eq!(with(&report, TestOutcome::Failed), ["static-assets", "server-errors"], "{report}");
    for text in [report.to_string(), format!("{report:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
