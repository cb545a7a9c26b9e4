//! What a run found, for people and for programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    time::Duration,
};

use serde::Serialize;

use crate::{
    Options, Test,
    check::{Evidence, Verdict},
    fetch::{ErrorKind, Fetch, FetchError},
    text::{self, count},
};

/// How much of a failed answer's body is shown, in bytes.
const SHOWN_BODY: usize = 2 << 10;

/// How many of a failed test's requests the text shows; JSON has them all.
const SHOWN_REQUESTS: usize = 3;

/// The report of a run. `Display` is the text for people.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The result in one line.
    pub summary: String,
    /// Whether the app passed.
    pub status: Status,
    /// The address that was tested, without credentials.
    pub url: String,
    /// The release that answered, where the app says it.
    pub release: Option<String>,
    /// The release that had to answer.
    pub expected_release: Option<String>,
    /// How long the run was allowed to take, in milliseconds.
    pub timeout_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How the app was waited for.
    pub startup: Request,
    /// Every test, in order.
    pub tests: Vec<TestReport>,
}

/// Whether the app passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every test passed or was skipped.
    Passed,
    /// A test failed.
    Failed,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestOutcome {
    /// What it proves is so.
    Passed,
    /// It is not, or could not be found out.
    Failed,
    /// The app does not offer what the test looks at.
    Skipped,
}

/// One test of a run.
#[derive(Clone, Debug, Serialize)]
pub struct TestReport {
    /// Its number in the workflow guide.
    pub number: u8,
    /// Its stable name.
    pub id: &'static str,
    /// Its name in the workflow guide.
    pub name: &'static str,
    /// How it ended.
    pub outcome: TestOutcome,
    /// The kind of trouble, where it failed.
    pub kind: Option<ErrorKind>,
    /// What was found, or why it failed or was skipped, in one line.
    pub message: String,
    /// What to do about it, where it failed.
    pub next: Option<&'static str>,
    /// The latency of its slowest request, in milliseconds.
    pub duration_ms: u64,
    /// What it looked at; empty where it was not run.
    pub requests: Vec<Request>,
}

/// A request and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// Always `GET`.
    pub method: &'static str,
    /// The address, without credentials.
    pub url: String,
    /// Every attempt, the last one last.
    pub attempts: Vec<Attempt>,
    /// Where the last attempt was sent on to.
    pub redirects: Vec<String>,
    /// The HTTP status of the last attempt.
    pub status: Option<u16>,
    /// The kind of trouble, where no whole answer came.
    pub error: Option<ErrorKind>,
    /// How many bytes of body came, after decompression.
    pub size: Option<u64>,
    /// The answer's headers that may be shown; only where the test failed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<&'static str, String>,
    /// The first 2 KiB of the body, made harmless; only where the test failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// One attempt of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// When it began, in milliseconds after the start of the run.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How it ended, in one line.
    pub outcome: String,
}

/// What a report is made of besides its tests.
pub(crate) struct RunFacts<'a> {
    pub(crate) options: &'a Options,
    pub(crate) release: Option<String>,
    pub(crate) startup: &'a Fetch,
}

/// Whether to show what came back.
#[derive(Clone, Copy)]
enum Detail {
    Answer,
    Outline,
}

impl Report {
    pub(crate) fn new(facts: RunFacts<'_>, tests: Vec<TestReport>, took: Duration) -> Self {
        let RunFacts { options, release, startup } = facts;
        let failed = tests.iter().any(|test| test.outcome == TestOutcome::Failed);
        let unrun = tests.iter().all(|test| test.requests.is_empty());
        Self {
            summary: summary(&tests, release.as_deref(), took),
            status: if failed { Status::Failed } else { Status::Passed },
            url: options.base_url.to_string(),
            release,
            expected_release: options.expected_release.as_deref().map(text::one_line),
            timeout_ms: milliseconds(options.timeout),
            duration_ms: milliseconds(took),
            startup: Request::new(startup, if unrun { Detail::Answer } else { Detail::Outline }),
            tests,
        }
    }

    /// Whether the app could not be tested at all.
    fn is_unrun(&self) -> bool {
        self.tests.iter().all(|test| test.requests.is_empty())
    }
}

fn summary(tests: &[TestReport], release: Option<&str>, took: Duration) -> String {
    let with = |outcome| tests.iter().filter(move |test| test.outcome == outcome);
    let number = |outcome| with(outcome).count();
    let mut line = format!(
        "{} passed, {} failed, {} skipped in {}",
        number(TestOutcome::Passed),
        number(TestOutcome::Failed),
        number(TestOutcome::Skipped),
        text::duration(took)
    );
    if let Some(release) = release {
        // Writing to a string cannot fail.
        let _ = write!(line, ", release {release}");
    }
    if let Some(first) = with(TestOutcome::Failed).next() {
        let _ = write!(line, "; {}: {}", first.name, first.message);
    }
    line
}

impl TestReport {
    /// The test's judgement of what was fetched.
    pub(crate) fn judged(test: &Test, evidence: &Evidence) -> Self {
        let fetches = (test.requests)(evidence);
        let slowest = fetches.iter().map(|fetch| fetch.latency()).max().unwrap_or_default();
        let (outcome, message, kind) = match (test.judge)(evidence) {
            Verdict::Passed(message) => (TestOutcome::Passed, message, None),
            Verdict::Skipped(message) => (TestOutcome::Skipped, message, None),
            Verdict::Failed(error) => (TestOutcome::Failed, error.message, Some(error.kind)),
        };
        let detail = match outcome {
            TestOutcome::Failed => Detail::Answer,
            TestOutcome::Passed | TestOutcome::Skipped => Detail::Outline,
        };
        Self {
            number: test.number,
            id: test.id,
            name: test.name,
            outcome,
            kind,
            message,
            next: kind.map(ErrorKind::advice),
            duration_ms: milliseconds(slowest),
            requests: fetches.into_iter().map(|fetch| Request::new(fetch, detail)).collect(),
        }
    }

    /// The test, failed because the app cannot be tested at all.
    pub(crate) fn not_run(test: &Test, error: &FetchError) -> Self {
        Self {
            number: test.number,
            id: test.id,
            name: test.name,
            outcome: TestOutcome::Failed,
            kind: Some(error.kind),
            message: format!("not run: {}", error.message),
            next: Some(error.kind.advice()),
            duration_ms: 0,
            requests: Vec::new(),
        }
    }
}

impl Request {
    fn new(fetch: &Fetch, detail: Detail) -> Self {
        let Fetch { url, attempts, redirects, page, error } = fetch;
        let shown = match detail {
            Detail::Answer => page.as_ref(),
            Detail::Outline => None,
        };
        let attempts = attempts.iter().map(|attempt| Attempt {
            at_ms: milliseconds(attempt.at),
            duration_ms: milliseconds(attempt.took),
            outcome: attempt.outcome.clone(),
        });
        Self {
            method: "GET",
            url: url.clone(),
            attempts: attempts.collect(),
            redirects: redirects.clone(),
            status: fetch.status(),
            error: error.as_ref().map(|error| error.kind),
            size: page.as_ref().map(|page| page.size),
            headers: shown.map(|page| page.headers.iter().cloned().collect()).unwrap_or_default(),
            body: shown.map(|page| text::excerpt(&page.body, SHOWN_BODY)),
        }
    }

    /// Whether there is more to tell than that it went well at once.
    fn has_trouble(&self) -> bool {
        self.error.is_some() || self.status != Some(200)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Smoke tests of {}", self.url)?;
        if self.startup.attempts.len() > 1 {
            writeln!(f, "Waited for the app: {}", attempts(&self.startup.attempts))?;
        }
        writeln!(f)?;
        let mut told = BTreeSet::new();
        for test in &self.tests {
            test.write_line(f)?;
            // Where no test was run, all of them have the same reason, which is told once.
            if !self.is_unrun() {
                test.write_trouble(f, &mut told)?;
            }
        }
        if self.is_unrun() {
            writeln!(f)?;
            self.startup.write_answer(f)?;
            if let Some(next) = self.tests.iter().find_map(|test| test.next) {
                writeln!(f, "       next:     {next}")?;
            }
        }
        let closing = match self.status {
            Status::Passed => "All smoke tests passed",
            Status::Failed => "Smoke tests FAILED",
        };
        writeln!(f, "\n{closing}: {}", self.summary)
    }
}

impl TestReport {
    fn write_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, name, outcome, kind, message, duration_ms, .. } = self;
        let mark = match outcome {
            TestOutcome::Passed => "PASS",
            TestOutcome::Failed => "FAIL",
            TestOutcome::Skipped => "SKIP",
        };
        let time = text::duration(Duration::from_millis(*duration_ms));
        let kind = kind.map(|kind| format!("{kind}: ")).unwrap_or_default();
        writeln!(f, "[{mark}] {number} {name:<21} {time:>8}  {kind}{message}")
    }

    /// Writes the answers in trouble; those of the addresses in `told` stand further up already.
    fn write_trouble<'a>(
        &'a self,
        f: &mut fmt::Formatter<'_>,
        told: &mut BTreeSet<&'a str>,
    ) -> fmt::Result {
        let Some(next) = self.next else { return Ok(()) };
        let (troubled, fine): (Vec<&Request>, Vec<&Request>) =
            self.requests.iter().partition(|request| request.has_trouble());
        // Where no request failed, the content did, of which the first is an example.
        let shown = if troubled.is_empty() { fine } else { troubled };
        for request in shown.iter().take(SHOWN_REQUESTS) {
            if told.insert(&request.url) {
                request.write_answer(f)?;
            } else {
                writeln!(f, "       request:  {} {} (see above)", request.method, request.url)?;
            }
        }
        if shown.len() > SHOWN_REQUESTS {
            let more = count(shown.len() - SHOWN_REQUESTS, "more request");
            writeln!(f, "       … and {more}")?;
        }
        writeln!(f, "       next:     {next}")
    }
}

impl Request {
    fn write_answer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "       request:  {} {}", self.method, self.url)?;
        for redirect in &self.redirects {
            writeln!(f, "       sent to:  {redirect}")?;
        }
        writeln!(f, "       attempts: {}", attempts(&self.attempts))?;
        for (name, value) in &self.headers {
            writeln!(f, "       header:   {name}: {value}")?;
        }
        for line in self.body.iter().flat_map(|body| body.lines()) {
            writeln!(f, "       | {line}")?;
        }
        Ok(())
    }
}

/// The attempts in one line: equal ones that follow each other are told once.
fn attempts(attempts: &[Attempt]) -> String {
    let runs: Vec<String> = attempts
        .chunk_by(|one, next| one.outcome == next.outcome)
        .map(|run| match run {
            [] => String::new(),
            [one] => one.outcome.clone(),
            [first, .., last] => {
                let from = text::duration(Duration::from_millis(first.at_ms));
                let until = text::duration(Duration::from_millis(last.at_ms));
                format!("{} ({} times, from {from} to {until})", first.outcome, run.len())
            }
        })
        .collect();
    runs.join(", then ")
}

#[cfg(test)]
mod tests {
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
        }
    }

    fn options() -> Options {
        Options {
            base_url: AT.parse().unwrap(),
            timeout: Duration::from_secs(30),
            expected_release: None,
        }
    }

    fn report(evidence: &Evidence) -> Report {
        let release = Some("0001".to_owned());
        let facts = RunFacts { options: &options(), release, startup: &evidence.health };
        let tests = TESTS.iter().map(|test| TestReport::judged(test, evidence)).collect();
        Report::new(facts, tests, Duration::from_millis(48))
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
               | ::error::x�[2J
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
        let tests = TESTS.iter().map(|test| TestReport::not_run(test, &error)).collect();
        let facts = RunFacts { options: &options(), release: None, startup: &startup };
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
          "startup": {
            "method": "GET",
            "url": "http://127.0.0.1:5001/health",
            "attempts": [
              {
                "at_ms": 30,
                "duration_ms": 12,
                "outcome": "200 OK"
              }
            ],
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
                      "at_ms": 30,
                      "duration_ms": 12,
                      "outcome": "200 OK"
                    }
                  ],
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
                      "at_ms": 30,
                      "duration_ms": 12,
                      "outcome": "200 OK"
                    }
                  ],
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
}
