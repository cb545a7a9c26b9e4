//! What a run found, for people and for programs.

mod github;
mod junit;
#[cfg(test)]
mod tests;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use serde::Serialize;

use crate::{
    Options, Test, certificate,
    check::{Evidence, Verdict},
    fetch::{ErrorKind, Fetch, FetchError},
    text::{duration, excerpt, one_line},
};

/// How much of a failed answer's body is shown, in bytes.
const SHOWN_BODY: usize = 2 << 10;

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
    /// How long one request was allowed to take, in milliseconds.
    pub max_latency_ms: Option<u64>,
    /// The whole days for which the app's certificate is still valid.
    pub certificate_days_left: Option<u64>,
    /// How the app was waited for.
    pub startup: Request,
    /// Every test, in order.
    pub tests: Vec<TestReport>,
}

/// Whether the app passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every test passed, was warned of or was skipped.
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
    /// It is so, but not for long.
    Warned,
    /// It is not, or could not be found out.
    Failed,
    /// The app does not offer what the test looks at.
    Skipped,
}

/// One test of a run.
#[derive(Clone, Debug, Serialize)]
pub struct TestReport {
    /// Its number.
    pub number: u8,
    /// Its stable name.
    pub id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// How it ended.
    pub outcome: TestOutcome,
    /// The kind of trouble, where it failed.
    pub kind: Option<ErrorKind>,
    /// What was found, or why it failed, was warned of or was skipped, in one line.
    pub message: String,
    /// What to do about it, where it failed or was warned of.
    pub next: Option<&'static str>,
    /// The latency of its slowest request, in milliseconds.
    pub duration_ms: u64,
    /// What it looked at; empty where it was not run.
    pub requests: Vec<Request>,
}

/// A request and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// `GET`, or `POST` of a form.
    pub method: &'static str,
    /// The address, without credentials.
    pub url: String,
    /// Every attempt, the last one last.
    pub attempts: Vec<Attempt>,
    /// How long the last attempt took, redirects and body included, in milliseconds.
    pub latency_ms: u64,
    /// Where the last attempt was sent on to.
    pub redirects: Vec<String>,
    /// The HTTP status of the last attempt.
    pub status: Option<u16>,
    /// The kind of trouble, where no whole answer came.
    pub error: Option<ErrorKind>,
    /// How many bytes of body came, after decompression.
    pub size: Option<u64>,
    /// The answer's headers, those that may hold a secret without their values; only where the test failed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The first 2 KiB of the body, control characters escaped; only where the test failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// One attempt of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: usize,
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
    /// How long the certificate is still valid.
    pub(crate) certificate: Option<Duration>,
}

/// How long a request may take, and which ones are known to have taken longer.
#[derive(Debug)]
pub(crate) struct Budget {
    allowed: Option<Duration>,
    told: BTreeSet<String>,
}

impl Budget {
    pub(crate) fn new(allowed: Option<Duration>) -> Self {
        Self { allowed, told: BTreeSet::new() }
    }

    /// The first of `fetches` that took too long. Several tests may look at one request: it fails the first of them.
    fn exceeded(&mut self, fetches: &[&Fetch]) -> Option<FetchError> {
        let allowed = self.allowed?;
        let slow = fetches.iter().filter(|fetch| fetch.latency() > allowed);
        let mut news =
            slow.filter(|fetch| self.told.insert(format!("{} {}", fetch.method, fetch.url)));
        let first = news.next()?;
        let more = match news.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let (took, allowed) = (duration(first.latency()), duration(allowed));
        let text = format!("{} took {took}, allowed {allowed}{more}", first.url);
        Some(FetchError::new(ErrorKind::Slow, text))
    }
}

/// Whether to show what came back.
#[derive(Clone, Copy)]
enum Detail {
    Answer,
    Outline,
}

impl Report {
    pub(crate) fn new(facts: RunFacts<'_>, tests: Vec<TestReport>, took: Duration) -> Self {
        let RunFacts { options, release, startup, certificate } = facts;
        let failed = tests.iter().any(|test| test.outcome == TestOutcome::Failed);
        let unrun = tests.iter().all(|test| test.requests.is_empty());
        Self {
            summary: summary(&tests, release.as_deref(), took),
            status: if failed { Status::Failed } else { Status::Passed },
            url: options.base_url.to_string(),
            release,
            expected_release: options.expected_release.as_deref().map(one_line),
            timeout_ms: milliseconds(options.timeout),
            duration_ms: milliseconds(took),
            max_latency_ms: options.max_latency.map(milliseconds),
            certificate_days_left: certificate.map(certificate::days),
            startup: Request::new(startup, if unrun { Detail::Answer } else { Detail::Outline }),
            tests,
        }
    }

    /// Rewrites every text that the app had a part in.
    pub(crate) fn rewrite(&mut self, rewritten: &dyn Fn(&str) -> String) {
        self.summary = rewritten(&self.summary);
        self.startup.rewrite(rewritten);
        for test in &mut self.tests {
            test.message = rewritten(&test.message);
            for request in &mut test.requests {
                request.rewrite(rewritten);
            }
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
    let warned = match number(TestOutcome::Warned) {
        0 => String::new(),
        warned => format!(", {warned} warned"),
    };
    let mut line = format!(
        "{} passed, {} failed, {} skipped{warned} in {}",
        number(TestOutcome::Passed),
        number(TestOutcome::Failed),
        number(TestOutcome::Skipped),
        duration(took)
    );
    if let Some(release) = release {
        // Writing to a string cannot fail.
        let _ = write!(line, ", release {release}");
    }
    if let Some(first) = with(TestOutcome::Failed).chain(with(TestOutcome::Warned)).next() {
        let _ = write!(line, "; {}: {}", first.name, first.message);
    }
    line
}

impl TestReport {
    /// The test's judgement of what was fetched, and of how long that took.
    pub(crate) fn judged(test: &Test, evidence: &Evidence, budget: &mut Budget) -> Self {
        let fetches = (test.requests)(evidence);
        let slowest = fetches.iter().map(|fetch| fetch.latency()).max().unwrap_or_default();
        let failed =
            |error: FetchError| (TestOutcome::Failed, error.message, Some(error.kind), None);
        let (outcome, message, kind, next) = match (test.judge)(evidence) {
            // What is wrong with an answer says more than that it was slow.
            Verdict::Failed(error) => failed(error),
            verdict => match (budget.exceeded(&fetches), verdict) {
                (Some(error), _) | (None, Verdict::Failed(error)) => failed(error),
                (None, Verdict::Passed(message)) => (TestOutcome::Passed, message, None, None),
                (None, Verdict::Skipped(message)) => (TestOutcome::Skipped, message, None, None),
                (None, Verdict::Warned { message, next }) => {
                    (TestOutcome::Warned, message, None, Some(next))
                }
            },
        };
        let detail = match outcome {
            TestOutcome::Failed => Detail::Answer,
            TestOutcome::Passed | TestOutcome::Warned | TestOutcome::Skipped => Detail::Outline,
        };
        Self {
            number: test.number,
            id: test.id,
            name: test.name,
            outcome,
            kind,
            message,
            next: next.or(kind.map(ErrorKind::advice)),
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
        let Fetch { method, url, attempts, redirects, page, error } = fetch;
        let shown = match detail {
            Detail::Answer => page.as_ref(),
            Detail::Outline => None,
        };
        let attempts = attempts.iter().zip(1..).map(|(attempt, number)| Attempt {
            number,
            at_ms: milliseconds(attempt.at),
            duration_ms: milliseconds(attempt.took),
            outcome: attempt.outcome.clone(),
        });
        Self {
            method,
            url: url.clone(),
            attempts: attempts.collect(),
            latency_ms: milliseconds(fetch.latency()),
            redirects: redirects.clone(),
            status: fetch.status(),
            error: error.as_ref().map(|error| error.kind),
            size: page.as_ref().map(|page| page.size),
            headers: shown.map(|page| page.headers.clone()).unwrap_or_default(),
            body: shown.map(|page| excerpt(&page.body, SHOWN_BODY)),
        }
    }

    fn rewrite(&mut self, rewritten: &dyn Fn(&str) -> String) {
        let Self { url, attempts, redirects, headers, body, .. } = self;
        let outcomes = attempts.iter_mut().map(|attempt| &mut attempt.outcome);
        let texts = outcomes.chain(redirects).chain(headers.values_mut()).chain(body);
        for text in texts.chain([url]) {
            *text = rewritten(text);
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
