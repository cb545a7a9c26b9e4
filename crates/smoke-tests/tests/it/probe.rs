//! The probe user against made-up apps; the program's tests have it visit the real one.

use omnitool_smoke_tests::{ErrorKind, Options, ProbeUser, Report, Status, TestOutcome, run};

use crate::{
    options,
    server::{Reply, Request, Server, answer, healthy},
    test, with,
};

const PASSWORD: &str = "hunter2-and-more";

/// The answer to a form: on to another page, with a cookie.
fn on_to(path: &str, cookie: &str) -> Reply {
    Reply::Bytes(
        format!(
            "HTTP/1.1 303 See Other\r\nlocation: {path}\r\nset-cookie: {cookie}\r\ncontent-length: 0\r\n\r\n"
        )
        .into(),
    )
}

const LOGIN: &str = r#"<title>Log in</title><link rel=stylesheet href="/static/app.css">
    <form method="post" action="/login"><input type="hidden" name="form_token" value="t0ken">
    <input name="username"><input name="password" type="password"></form>"#;

const DASHBOARD: &str = r#"<title>Your tools</title>
    <form method="post" action="/logout"><input type="hidden" name="form_token" value="s0token"></form>
    <ul class="tools"><li><a href="/a">Alpha</a></li><li><a href="/b">Beta, the second</a></li></ul>"#;

/// An app that lets the probe user in as the real one does.
fn app(request: &Request) -> Reply {
    let logged_in = request.has_cookie("sid=open");
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/login") => {
            let length = LOGIN.len();
            Reply::Bytes(
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\
                     set-cookie: form=f0; Path=/\r\n\r\n{LOGIN}"
                )
                .into(),
            )
        }
        ("POST", "/login") => {
            let expected = format!("form_token=t0ken&username=probe&password={PASSWORD}");
            if !request.has_cookie("form=f0") {
                answer(403, "text/html", "<h1>Forbidden</h1>")
            } else if request.body == expected {
                on_to("/dashboard", "sid=open; Path=/")
            } else {
                let page = format!("{LOGIN}<p>no: {}", request.body);
                answer(401, "text/html", page)
            }
        }
        ("GET", "/dashboard") if logged_in => answer(200, "text/html", DASHBOARD),
        ("POST", "/logout") if logged_in && request.body == "form_token=s0token" => {
            on_to("/", "sid=closed; Path=/")
        }
        ("GET", "/dashboard") => on_to("/login", "x=y"),
        _ => healthy(request),
    }
}

fn user(password: &str, tools: &[&str]) -> ProbeUser {
    ProbeUser {
        username: "probe".to_owned(),
        password: password.to_owned().into(),
        tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
    }
}

fn report(server: &Server, user: ProbeUser) -> Report {
    run(&Options { probe_user: Some(user), ..options(server) })
}

/// The kind and the message of the probe user's test, the only one that failed.
fn failure(report: &Report) -> (ErrorKind, &str) {
    assert_eq!(with(report, TestOutcome::Failed), ["probe-user"], "{report}");
    let probe = test(report, "probe-user");
    (probe.kind.unwrap(), &probe.message)
}

const BOTH: [&str; 2] = ["Alpha", "Beta, the second"];

#[test]
fn a_user_logs_in_sees_the_tools_and_logs_out() {
    let server = Server::start(app);
    let report = report(&server, user(PASSWORD, &BOTH));
    assert_eq!(report.status, Status::Passed, "{report}");
    let probe = test(&report, "probe-user");
    assert_eq!(
        probe.message,
        "`probe` logged in, saw exactly the expected 2 tools, and logged out"
    );
    let steps: Vec<_> =
        probe.requests.iter().map(|request| (request.method, request.redirects.len())).collect();
    assert_eq!(steps, [("GET", 0), ("POST", 1), ("POST", 1)]);
    let paths: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths.iter().filter(|path| *path == "/logout").count(), 1);
}

#[test]
fn other_tools_fail_and_the_user_is_logged_out_all_the_same() {
    let server = Server::start(app);
    let report = report(&server, user(PASSWORD, &["Alpha", "Gamma"]));
    let message = "`probe` does not see: Gamma; sees but should not: Beta, the second";
    assert_eq!(failure(&report), (ErrorKind::Content, message));
    assert!(server.requests().iter().any(|request| request.path == "/logout"));
}

#[test]
fn a_refused_password_fails_and_is_shown_nowhere_though_the_app_says_it() {
    let server = Server::start(app);
    let report = report(&server, user("s3cret-and-wrong", &BOTH));
    let message = "the app refuses the user's name or password";
    assert_eq!(failure(&report), (ErrorKind::Status, message));
    let body = test(&report, "probe-user").requests[1].body.as_deref().unwrap();
    assert!(body.contains("password=[redacted]"), "{body}");
    let texts = [report.to_string(), format!("{report:?}"), report.junit(), report.github()];
    for text in texts {
        assert!(!text.contains("s3cret"), "{text}");
        assert!(!text.contains("sid=open"), "{text}");
    }
}

#[test]
fn who_is_still_logged_in_after_the_logout_is_told() {
    let server = Server::start(|request| match request.path.as_str() {
        "/logout" => on_to("/dashboard", "x=y"),
        _ => app(request),
    });
    let report = report(&server, user(PASSWORD, &BOTH));
    assert_eq!(failure(&report), (ErrorKind::Content, "still logged in after the logout"));
}

#[test]
fn a_login_that_leads_back_to_the_login_page_fails() {
    let server = Server::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/login") => on_to("/login", "x=y"),
        _ => app(request),
    });
    let report = report(&server, user(PASSWORD, &BOTH));
    let message = "after the login, nobody is logged in: there is no form to log out";
    assert_eq!(failure(&report), (ErrorKind::Content, message));
}

#[test]
fn the_password_is_sent_to_no_other_site_and_not_again_to_another_address() {
    let elsewhere = Server::start(healthy);
    let target = elsewhere.url();
    let server = Server::start(move |request| match request.path.as_str() {
        "/login" if request.method == "GET" => {
            answer(200, "text/html", LOGIN.replace("\"/login\"", &target))
        }
        _ => app(request),
    });
    let refused = report(&server, user(PASSWORD, &BOTH));
    let message = "a form leads to another site, so it was not sent";
    assert_eq!(failure(&refused), (ErrorKind::Content, message));

    let server = Server::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/login") => Reply::Bytes(
            b"HTTP/1.1 307 X\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
        _ => app(request),
    });
    let refused = report(&server, user(PASSWORD, &BOTH));
    assert_eq!(failure(&refused).0, ErrorKind::Redirect, "{refused}");
    assert!(elsewhere.requests().is_empty());
    assert!(server.requests().iter().all(|request| request.path != "/other"));
}

#[test]
fn a_login_that_fails_inside_the_app_is_a_server_error_and_not_tried_again() {
    let server = Server::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/login") => answer(503, "text/html", "<h1>Something went wrong</h1>"),
        _ => app(request),
    });
    let report = report(&server, user(PASSWORD, &BOTH));
    assert_eq!(with(&report, TestOutcome::Failed), ["server-errors", "probe-user"], "{report}");
    let sent = server.requests();
    assert_eq!(sent.iter().filter(|request| request.method == "POST").count(), 1);
}
