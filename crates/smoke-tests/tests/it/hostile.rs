//! Whatever answers, a run ends in time, in little memory, and says what was wrong.

use std::{io::Write as _, time::Duration};

use omnitool_smoke_tests::{ErrorKind, Report, TestOutcome, run};

use crate::{
    impatient, options,
    server::{Reply, Server, healthy, redirect},
    test, with,
};

/// Tests an app whose homepage is `reply`; everything else is well.
fn with_homepage(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Report {
    let server = Server::start(move |request| match request.path.as_str() {
        "/" => reply(),
        _ => healthy(request),
    });
    run(&options(&server))
}

fn homepage_error(report: &Report) -> (ErrorKind, &str) {
    assert_eq!(with(report, TestOutcome::Failed), ["homepage"], "{report}");
    let homepage = test(report, "homepage");
    (homepage.kind.unwrap(), &homepage.message)
}

#[test]
fn an_app_that_never_answers_fails_within_the_deadline() {
    let server = Server::start(|_| Reply::Silence);
    let report = run(&impatient(&server));
    assert_eq!(with(&report, TestOutcome::Failed).len(), 6, "{report}");
    assert_eq!(test(&report, "homepage").kind, Some(ErrorKind::Timeout));
    assert!(report.duration_ms < 2 * report.timeout_ms, "{report}");
}

#[test]
fn one_page_that_never_answers_leaves_time_for_the_others() {
    let server = Server::start(|request| match request.path.as_str() {
        "/login" => Reply::Silence,
        _ => healthy(request),
    });
    let report = run(&impatient(&server));
    assert_eq!(with(&report, TestOutcome::Failed), ["login-page"], "{report}");
    assert_eq!(test(&report, "login-page").message, "no whole answer within 600 ms");
}

#[test]
fn a_body_that_drips_is_given_up() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => Reply::Endless {
            head: "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n",
            body: b".",
            pause: Duration::from_millis(5),
        },
        _ => healthy(request),
    });
    let report = run(&impatient(&server));
    assert_eq!(homepage_error(&report).0, ErrorKind::Timeout);
    assert_eq!(test(&report, "homepage").requests[0].status, Some(200));
    assert!(report.duration_ms < 2 * report.timeout_ms, "{report}");
}

#[test]
fn a_head_that_drips_is_given_up() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => Reply::Endless {
            head: "HTTP/1.1 200 OK\r\nx-long: ",
            body: b".",
            pause: Duration::from_millis(5),
        },
        _ => healthy(request),
    });
    assert_eq!(homepage_error(&run(&impatient(&server))).0, ErrorKind::Timeout);
}

#[test]
fn an_endless_body_is_given_up() {
    let report = with_homepage(|| Reply::Endless {
        head: "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n",
        body: &[b'x'; 1 << 16],
        pause: Duration::ZERO,
    });
    assert_eq!(homepage_error(&report), (ErrorKind::Content, "is larger than 4.0 MiB"));
}

#[test]
fn an_endless_head_is_given_up() {
    let report = with_homepage(|| Reply::Endless {
        head: "HTTP/1.1 200 OK\r\nx-long: ",
        body: &[b'x'; 1 << 12],
        pause: Duration::ZERO,
    });
    assert_eq!(homepage_error(&report).0, ErrorKind::Protocol);
}

#[test]
fn a_gzip_bomb_is_given_up() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 64 << 20]).unwrap();
    let bomb = encoder.finish().unwrap();
    let report = with_homepage(move || {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-encoding: gzip\r\n\
             content-length: {}\r\n\r\n",
            bomb.len()
        );
        Reply::Bytes([head.as_bytes(), &bomb].concat())
    });
    assert_eq!(homepage_error(&report), (ErrorKind::Content, "is larger than 4.0 MiB"));
}

#[test]
fn a_body_shorter_than_announced_fails() {
    let report = with_homepage(|| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 500\r\n\r\n";
        Reply::Bytes(format!("{head}<title>omnitool</title>").into())
    });
    let (kind, message) = homepage_error(&report);
    assert_eq!(kind, ErrorKind::Protocol);
    assert_eq!(message, "the connection was closed before the answer was complete");
}

#[test]
fn a_body_longer_than_announced_is_a_page_cut_short() {
    let report = with_homepage(|| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 10\r\n\r\n";
        Reply::Bytes(format!("{head}<!DOCTYPE html><title>omnitool</title>").into())
    });
    let (kind, message) = homepage_error(&report);
    assert_eq!(kind, ErrorKind::Content);
    assert_eq!(message, "answered 200, but has neither a title nor a heading");
}

#[test]
fn a_length_that_is_none_fails() {
    let report = with_homepage(|| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: many\r\n\r\n";
        Reply::Bytes(format!("{head}<title>omnitool</title>").into())
    });
    assert_eq!(homepage_error(&report).0, ErrorKind::Protocol);
}

#[test]
fn a_failed_answer_is_shown_without_its_secrets_and_no_longer_than_2_kib() {
    let body = format!("<h1>Internal Server Error</h1>{}", "x".repeat(4096));
    let report = with_homepage(move || crate::server::answer(404, "text/html", &body));
    assert_eq!(homepage_error(&report).0, ErrorKind::Status);
    let request = &test(&report, "homepage").requests[0];
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let shown = ["content-length: 4126", "content-type: text/html", "set-cookie: [redacted]"];
    assert_eq!(headers, shown);
    let body = request.body.as_deref().unwrap();
    assert!(body.len() == (2 << 10) + '…'.len_utf8() && body.ends_with("x…"), "{body}");
    assert_eq!(request.size, Some(4126));
}

#[test]
fn a_connection_closed_without_an_answer_fails() {
    let report = with_homepage(|| Reply::Bytes(Vec::new()));
    assert_eq!(homepage_error(&report).0, ErrorKind::Protocol);
}

#[test]
fn something_that_does_not_speak_http_fails() {
    let server = Server::start(|_| Reply::Bytes(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()));
    let report = run(&options(&server));
    assert_eq!(with(&report, TestOutcome::Failed).len(), 6, "{report}");
    assert_eq!(test(&report, "homepage").kind, Some(ErrorKind::Protocol), "{report}");
}

#[test]
fn endless_redirects_are_given_up() {
    let report = with_homepage(|| redirect("/"));
    assert_eq!(homepage_error(&report), (ErrorKind::Redirect, "redirects more than 10 times"));
}

#[test]
fn a_redirect_to_elsewhere_is_not_followed() {
    for (to, shown) in [
        ("https://u:p@example.com/x?token=t", "https://example.com/x"),
        ("//example.com/", "http://example.com/"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1/"),
    ] {
        let report = with_homepage(move || redirect(to));
        let message = format!("redirects to another site: {shown}");
        assert_eq!(homepage_error(&report), (ErrorKind::Redirect, message.as_str()));
    }
}

#[test]
fn a_redirect_without_a_target_fails() {
    let report =
        with_homepage(|| Reply::Bytes(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_vec()));
    assert_eq!(homepage_error(&report).1, "redirects without saying where to");
}

#[test]
fn what_an_answer_says_cannot_act_on_the_terminal() {
    let report = with_homepage(|| {
        let head = b"HTTP/1.1 500 X\r\ncontent-type: \x1b[31m\r\ncontent-length: 12\r\n\r\n";
        Reply::Bytes([head.as_slice(), b"a\x1b]0;owned\x07\n"].concat())
    });
    assert!(!report.to_string().contains('\u{1b}'), "{report}");
}

#[test]
fn a_page_with_very_many_assets_is_tested_by_the_first_ones() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => {
            let links: String =
                (0..80).map(|n| format!("<script src=/static/app.js?{n}></script>")).collect();
            crate::server::answer(200, "text/html", links)
        }
        path if path.starts_with("/static/app.js") => {
            crate::server::answer(200, "text/javascript", "1")
        }
        _ => healthy(request),
    });
    let report = run(&options(&server));
    let assets = test(&report, "static-assets");
    assert_eq!(assets.requests.len(), 52, "fifty of the homepage, two of the login page: {report}");
    assert_eq!(assets.message, "1 CSS, 51 JS, 30 beyond the limit not fetched");
}

#[test]
fn a_page_that_links_more_than_anybody_reads_leaves_the_time_to_fetch_some() {
    let page: String =
        (0..30_000).map(|n| format!("<script src=/static/app.js?{n}></script>")).collect();
    let server = Server::start(move |request| match request.path.as_str() {
        "/" => crate::server::answer(200, "text/html", format!("<title>t</title>{page}")),
        path if path.starts_with("/static/app.js") => {
            crate::server::answer(200, "text/javascript", "1")
        }
        _ => healthy(request),
    });
    let report = run(&options(&server));
    let assets = test(&report, "static-assets");
    assert_eq!(assets.message, "1 CSS, 51 JS, 950 beyond the limit not fetched", "{report}");
}
