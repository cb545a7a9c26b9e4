use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use omnitool_testing::{Dialect, TestDatabase};
use omnitool_web::Front;

use crate::running::{PASSWORD, Running, user};

fn database() -> TestDatabase {
    TestDatabase::migrated(Dialect::Sqlite)
}

#[test]
fn every_answer_has_the_security_headers() {
    let db = database();
    let app = Running::start(&db);
    for path in ["/", "/login", "/dashboard", "/health", "/static/app.css", "/nothing"] {
        let answer = app.visitor().get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
        assert_eq!(answer.header("strict-transport-security"), None);
        assert_eq!(answer.header("x-request-id").unwrap().len(), 16);
    }
}

#[test]
fn pages_are_not_kept_and_hold_no_inline_script_or_style() {
    let db = database();
    user(&db, "alice");
    let app = Running::start(&db);
    let alice = app.log_in("alice");
    for answer in [app.visitor().get("/"), app.visitor().get("/login"), alice.get("/dashboard")] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(!answer.body.contains("<style") && !answer.body.contains(" style="));
        assert!(!answer.body.contains("<script>") && !answer.body.contains(" onclick="));
    }
}

#[test]
fn an_unknown_page_is_a_page_in_the_layout() {
    let db = database();
    let app = Running::start(&db);
    let answer = app.visitor().get("/%3Cscript%3Ealert(1)");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        answer.body.contains("There is no such page") && answer.body.contains("/static/app.css")
    );
    assert!(!answer.body.contains("alert"), "{}", answer.body);
}

#[test]
fn herokus_router_is_believed_only_where_it_stands() {
    let db = database();
    user(&db, "alice");
    let https = [("x-forwarded-proto", "https"), ("x-request-id", "from-the-router")];
    let direct = Running::start(&db).visitor().get_with("/login", &https);
    assert!(!direct.cookies()[0].contains("Secure"), "{:?}", direct.cookies());
    assert_ne!(direct.header("x-request-id"), Some("from-the-router"));

    let app = Running::behind(&db, Front::HerokuRouter);
    let page = app.visitor().get_with("/login", &https);
    assert!(page.cookies()[0].starts_with("__Host-omnitool_local_form="), "{:?}", page.cookies());
    assert!(page.cookies()[0].ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"));
    assert_eq!(page.header("strict-transport-security"), Some("max-age=31536000"));
    assert_eq!(page.header("x-request-id"), Some("from-the-router"));

    let cookie = page.cookies()[0].split(';').next().unwrap().to_owned();
    let fields = [("form_token", page.form_token()), ("username", "alice"), ("password", PASSWORD)];
    let headers = [("x-forwarded-proto", "https"), ("cookie", &*cookie)];
    let answer = app.visitor().post_with("/login", &fields, &headers);
    let session =
        answer.cookies().into_iter().find(|c| c.contains("_session=")).unwrap().to_owned();
    assert!(session.starts_with("__Host-omnitool_local_session="), "{session}");
    assert!(
        session.ends_with("; Max-Age=43200; Path=/; HttpOnly; SameSite=Lax; Secure"),
        "{session}"
    );

    let clear = [("x-forwarded-proto", "http"), ("host", "app.example")];
    let answer = app.visitor().get_with("/login?next=/x", &clear);
    assert_eq!(
        (answer.status, answer.location()),
        (308, Some("https://app.example/login?next=/x"))
    );
}

#[test]
fn attempts_behind_the_router_are_counted_by_the_address_that_it_saw() {
    let db = database();
    user(&db, "alice");
    let app = Running::behind(&db, Front::HerokuRouter);
    let visitor = app.visitor();
    let token = visitor.get("/login").form_token().to_owned();
    let fields = [("form_token", &*token), ("username", "alice"), ("password", "wrong")];
    let from =
        |chain: &str| visitor.post_with("/login", &fields, &[("x-forwarded-for", chain)]).status;
    for number in 0..10 {
        // What the visitor claims comes first and changes nothing.
        assert_eq!(from(&format!("10.0.0.{number}, 203.0.113.7")), 401);
    }
    assert_eq!(from("10.0.0.99, 203.0.113.7"), 429);
    // Nor does a line of its own.
    let lines = [("x-forwarded-for", "10.0.0.99"), ("x-forwarded-for", "203.0.113.7")];
    assert_eq!(visitor.post_with("/login", &fields, &lines).status, 429);
    assert_eq!(from("203.0.113.8"), 401);
}

#[test]
fn a_request_that_is_under_way_is_answered_before_the_end() {
    let db = database();
    let app = Running::start(&db);
    let mut slow = TcpStream::connect(app.address).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(slow, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // The connection is kept open by its client; the app ends nevertheless, and at once.
    let started = std::time::Instant::now();
    let address = app.address;
    drop(app);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("</html>"));
    assert!(TcpStream::connect(address).is_err());
}
