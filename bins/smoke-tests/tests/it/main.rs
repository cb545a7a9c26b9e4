//! The program as its users meet it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod app;
#[cfg(target_os = "linux")]
mod memory;
mod real_app;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::app::{App, healthy};

/// The program without anything inherited, in `folder`.
fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("smoke-tests"));
    command.env_clear().current_dir(folder).args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    program(folder.path(), arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn help_says_what_it_does_and_how() {
    insta::assert_snapshot!(text(&run(&["--help"]).stdout), @r#"
    Test a running app over HTTP: do its pages, its assets and its database answer as they should

    Usage: smoke-tests [OPTIONS]

    Options:
          --url <URL>
              The app's address [default: the environment's in data/environments.toml]

          --env <ENV>
              The environment whose app to test, where no --url is given
              
              [env: OMNITOOL_ENV=]
              [default: local]

          --platform <PLATFORM>
              The platform that the environment runs on: local or heroku
              
              [env: OMNITOOL_PLATFORM=]
              [default: local]

          --timeout <SECONDS>
              How long everything may take, waiting for the app included
              
              [default: 30]

          --max-latency <MS>
              How long one request may take, redirects included; a slower one fails its test

          --expect-release <ID>
              The release that must answer; an older one is waited for to go away

          --probe-user <FILE>
              Log in as the user that this file describes, and see exactly the tools that it lists

          --ca-file <FILE>
              Trust the certificates in this PEM file, and no public authority

          --format <FORMAT>
              How to print the report

              Possible values:
              - text:   For people
              - json:   One JSON document
              - junit:  JUnit XML, for CI systems
              - github: Annotations of a GitHub Actions run
              
              [default: text]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Tests: 1 homepage, 2 login page, 3 health endpoint, 4 static assets, 5 database, 6 no 5xx errors;
    7 TLS certificate, where the address is https; 8 the probe user's tools, where there is one.
    What the app does not offer is skipped and said so; everything else passes, warns or fails.

    The probe user's FILE is TOML: username = "probe" and tools = ["Email Templates"], exactly those
    that this user sees after the login. The password is read from OMNITOOL_PROBE_PASSWORD.

    Examples:
      smoke-tests --url http://localhost:5000
      smoke-tests --env staging --max-latency 2000
      smoke-tests --env production --platform heroku --expect-release v42 --format json
      smoke-tests --env staging --probe-user data/probe.toml --format junit > smoke-tests.xml

    Exit codes: 0 all passed, skipped or warned of, 1 one or more failed, 2 wrong usage
    "#);
}

#[test]
fn a_healthy_app_passes_with_exit_code_0() {
    let app = App::start(healthy);
    let output = run(&["--url", &app.url()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    let report = text(&output.stdout);
    assert_eq!(report.lines().filter(|line| line.starts_with("[PASS]")).count(), 6, "{report}");
    let closing = report.lines().last().unwrap();
    assert!(
        closing.starts_with("All smoke tests passed: 6 passed, 0 failed, 0 skipped in "),
        "{closing}"
    );
}

#[test]
fn json_carries_the_summary_in_one_line_and_every_test() {
    let app = App::start(healthy);
    let output = run(&["--url", &app.url(), "--format", "json"]);
    let report = json(&output);
    assert_eq!(report["status"], "passed");
    assert_eq!(report["release"], "0001");
    assert_eq!(report["tests"].as_array().unwrap().len(), 6);
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.starts_with("6 passed") && !summary.contains('\n'), "{summary}");
}

#[test]
fn the_environment_names_the_address_where_no_url_does() {
    let app = App::start(healthy);
    let folder = tempfile::tempdir().unwrap();
    let file = format!(
        "[local]\ndatabase_url = \"sqlite:x.db\"\nbase_url = \"http://127.0.0.1:9\"\n\
         [staging.local]\ndatabase_url = \"sqlite:y.db\"\nbase_url = \"{0}\"\n\
         [production.heroku]\napp = \"x\"\nbase_url = \"{0}\"\n",
        app.url()
    );
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/environments.toml"), file).unwrap();
    let flags = ["--env", "staging"];
    assert_eq!(program(folder.path(), &flags).output().unwrap().status.code(), Some(0));
    let output = program(folder.path(), &[])
        .env("OMNITOOL_ENV", "production")
        .env("OMNITOOL_PLATFORM", "heroku")
        .output();
    assert_eq!(output.unwrap().status.code(), Some(0));
    let output = program(folder.path(), &["--env", "production"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no section [production.local]"));
}

#[test]
fn an_app_that_starts_late_is_waited_for() {
    let address = free_address();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{address}/");
    let mut child = program(folder.path(), &["--url", &url])
        .env("RUST_LOG", "omnitool_smoke_tests=debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("connection refused")), "it tries before there is an app");
    let _app = App::start_at(address, healthy);
    log.for_each(drop);
    let mut report = String::new();
    child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{report}");
    assert!(report.contains("Waited for the app: connection refused"), "{report}");
}

#[test]
fn a_failing_homepage_fails_with_exit_code_1_and_shows_the_answer() {
    let app = App::start(|path| match path {
        "/" => (500, "text/html", "<h1>Internal Server Error</h1>"),
        _ => healthy(path),
    });
    let output = run(&["--url", &app.url()]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output.stdout);
    let line = report.lines().find(|line| line.starts_with("[FAIL] 1 Homepage loads")).unwrap();
    assert!(line.ends_with("status: answered 500 Internal Server Error, expected 200"), "{line}");
    assert!(report.contains("| <h1>Internal Server Error</h1>"), "{report}");
    assert!(report.contains("Smoke tests FAILED: 4 passed, 2 failed"), "{report}");
    assert!(!report.contains("cookie-secret"), "{report}");
}

#[test]
fn an_app_without_health_passes_with_skips() {
    let app = App::start(|path| match path {
        "/health" => (404, "text/plain", "no"),
        _ => healthy(path),
    });
    let output = run(&["--url", &app.url()]);
    assert_eq!(output.status.code(), Some(0));
    let report = text(&output.stdout);
    assert_eq!(report.lines().filter(|line| line.starts_with("[SKIP]")).count(), 3, "{report}");
}

#[test]
fn an_error_page_with_status_200_fails() {
    let app = App::start(|path| match path {
        "/login" => (200, "text/html", "<title>Something went wrong</title>"),
        _ => healthy(path),
    });
    let output = run(&["--url", &app.url(), "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    assert_eq!(report["tests"][1]["outcome"], "failed");
    assert_eq!(report["tests"][1]["kind"], "content");
}

#[test]
fn the_wrong_release_fails() {
    let app = App::start(healthy);
    let flags = ["--url", &app.url(), "--expect-release", "0002", "--timeout", "1"];
    let output = run(&flags);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output.stdout);
    assert!(report.contains("release 0001 answers, expected 0002"), "{report}");
    assert_eq!(run(&["--url", &app.url(), "--expect-release", "0001"]).status.code(), Some(0));
}

#[test]
fn where_nothing_listens_it_says_refused_and_ends_in_time() {
    let url = format!("http://{}/", free_address());
    let output = run(&["--url", &url, "--timeout", "1", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    assert!(report["duration_ms"].as_u64().unwrap() < 3000, "{report}");
    for test in report["tests"].as_array().unwrap() {
        assert_eq!(test["kind"], "refused", "{report}");
    }
}

#[test]
fn wrong_usage_has_exit_code_2_and_shows_no_password() {
    for flags in [
        &["--url", "ftp://tester:hunter2@h/"] as &[&str],
        &["--url", "tester:hunter2@h"],
        &["--url", "http://h/", "--timeout", "0"],
        &["--env", "qa"],
        &["unexpected"],
    ] {
        let output = run(flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(!text(&output.stderr).contains("hunter2"), "{flags:?}");
    }
}

#[test]
fn a_probe_user_needs_a_password_from_the_environment_and_a_file_that_describes_it() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--url", "http://127.0.0.1:9/", "--probe-user", "probe.toml"];
    let refused = |password: &str| {
        let output =
            program(folder.path(), &flags).env("OMNITOOL_PROBE_PASSWORD", password).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    insta::assert_snapshot!(refused(""), @r"
    error: the probe user's password is missing: OMNITOOL_PROBE_PASSWORD is not set, empty, or no text

    hint: set OMNITOOL_PROBE_PASSWORD to the password of the user in probe.toml
    ");
    let stderr = refused("hunter2");
    assert!(stderr.contains("cannot read the probe user's file"), "{stderr}");
    std::fs::write(folder.path().join("probe.toml"), "username = \"x\"\npassword = \"hunter2\"")
        .unwrap();
    let stderr = refused("hunter2");
    assert!(stderr.contains("unknown field `password`") && !stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn a_request_slower_than_allowed_fails() {
    let app = App::start(|path| {
        if path == "/login" {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        healthy(path)
    });
    let output = run(&["--url", &app.url(), "--max-latency", "500"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output.stdout);
    let line = report.lines().find(|line| line.starts_with("[FAIL] 2 Login page")).unwrap();
    assert!(line.contains("slow: http://") && line.ends_with("allowed 500 ms"), "{line}");
}

#[test]
fn junit_and_annotations_are_printed_instead_of_the_text() {
    let app = App::start(|path| match path {
        "/" => (500, "text/html", "<h1>Internal Server Error</h1>"),
        _ => healthy(path),
    });
    let junit = run(&["--url", &app.url(), "--format", "junit"]);
    assert_eq!(junit.status.code(), Some(1));
    let junit = text(&junit.stdout);
    assert!(
        junit.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites "),
        "{junit}"
    );
    assert!(junit.contains("tests=\"6\" failures=\"2\" skipped=\"0\""), "{junit}");
    let github = run(&["--url", &app.url(), "--format", "github"]);
    assert_eq!(github.status.code(), Some(1));
    let github = text(&github.stdout);
    assert!(github.contains("::error title=1 Homepage loads::answered 500"), "{github}");
}

#[test]
fn a_file_without_certificates_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--url", "https://127.0.0.1:9/", "--ca-file", "none.pem"];
    let output = program(folder.path(), &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot read the trusted certificates"));
}
