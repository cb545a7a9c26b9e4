//! The tests: what each looks at, and how it judges that.

use std::time::Duration;

use url::Url;

use crate::{
    Options, certificate,
    fetch::{ErrorKind, Fetch, FetchError, Page},
    health::Health,
    html::{AssetKind, Document, error_page},
    probe::Visit,
    text::{count, one_line, size, status_line},
};

/// A smoke test.
///
/// The workflow guide has the first six.
#[derive(Debug)]
#[non_exhaustive]
pub struct Test {
    /// Its number.
    pub number: u8,
    /// Its stable name for programs.
    pub id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// What is true when it passes.
    pub proves: &'static str,
    /// Whether it is part of a run with these options.
    pub(crate) applies: fn(&Options) -> bool,
    /// What it looks at.
    pub(crate) requests: for<'a> fn(&'a Evidence) -> Vec<&'a Fetch>,
    /// How it judges; it looks at nothing but the evidence.
    pub(crate) judge: fn(&Evidence) -> Verdict,
}

/// All tests in their order.
pub static TESTS: [Test; 8] = [
    Test {
        number: 1,
        id: "homepage",
        name: "Homepage loads",
        proves: "a visitor gets the homepage and no error page",
        applies: always,
        requests: |evidence| vec![&evidence.home],
        judge: homepage,
    },
    Test {
        number: 2,
        id: "login-page",
        name: "Login page loads",
        proves: "a visitor gets a page to log in on",
        applies: always,
        requests: |evidence| vec![&evidence.login],
        judge: login_page,
    },
    Test {
        number: 3,
        id: "health",
        name: "Health endpoint",
        proves: "the app finds itself well, and is the release that was deployed",
        applies: always,
        requests: |evidence| std::iter::once(&evidence.health).chain(&evidence.closing).collect(),
        judge: health,
    },
    Test {
        number: 4,
        id: "static-assets",
        name: "Static assets load",
        proves: "the stylesheets and scripts that the pages link are there",
        applies: always,
        requests: |evidence| evidence.assets.iter().map(|asset| &asset.fetch).collect(),
        judge: static_assets,
    },
    Test {
        number: 5,
        id: "database",
        name: "Database connectivity",
        proves: "the app reaches its database",
        applies: always,
        requests: |evidence| vec![&evidence.health],
        judge: database,
    },
    Test {
        number: 6,
        id: "server-errors",
        name: "No recent 5xx errors",
        proves: "no request has failed inside the app since it started",
        applies: always,
        requests: |evidence| {
            let seen = seen_server_errors(evidence);
            if seen.is_empty() { vec![latest_health(evidence)] } else { seen }
        },
        judge: server_errors,
    },
    Test {
        number: 7,
        id: "certificate",
        name: "TLS certificate",
        proves: "the certificate is valid, and for a while",
        applies: |options| options.base_url.is_encrypted(),
        requests: |_| Vec::new(),
        judge: certificate,
    },
    Test {
        number: 8,
        id: "probe-user",
        name: "Probe user's tools",
        proves: "a user can log in, sees exactly the expected tools, and can log out",
        applies: |options| options.probe_user.is_some(),
        requests: |evidence| evidence.visit.iter().flat_map(|visit| &visit.fetches).collect(),
        judge: probe_user,
    },
];

/// Everything that was fetched.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) home: Fetch,
    pub(crate) login: Fetch,
    pub(crate) health: Fetch,
    pub(crate) assets: Vec<Asset>,
    /// Linked assets that were not fetched, each with the reason.
    pub(crate) unfetched: Vec<Unfetched>,
    pub(crate) expected_release: Option<String>,
    /// The health document after everything else, where a release is expected.
    pub(crate) closing: Option<Fetch>,
    /// How long the certificate is still valid, where there is one.
    pub(crate) certificate: Option<Result<Duration, FetchError>>,
    /// What the probe user found, where there is one.
    pub(crate) visit: Option<Visit>,
}

/// A linked stylesheet or script.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) kind: AssetKind,
    pub(crate) fetch: Fetch,
}

/// Why a linked asset was not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfetched {
    /// It is on another site, whose health is not this app's.
    Elsewhere,
    /// There are too many.
    BeyondLimit,
    /// Its address is none.
    Malformed(String),
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed(String),
    /// It passes, but not for long.
    Warned {
        message: String,
        next: &'static str,
    },
    Skipped(String),
    Failed(FetchError),
}

type Judged = Result<String, FetchError>;

impl From<Judged> for Verdict {
    fn from(judged: Judged) -> Self {
        match judged {
            Ok(message) => Self::Passed(message),
            Err(error) => Self::Failed(error),
        }
    }
}

fn always(_: &Options) -> bool {
    true
}

const NO_HEALTH: &str = "the app has no /health (404)";

fn content(message: impl AsRef<str>) -> FetchError {
    FetchError::new(ErrorKind::Content, message)
}

fn status(page: &Page, add: &str) -> FetchError {
    let text = format!("answered {}, expected 200{add}", status_line(page.status));
    FetchError::new(ErrorKind::Status, text)
}

/// The parsed page, when it is an HTML page with status 200 that is no error page.
pub(crate) fn html_page(fetch: &Fetch) -> Result<(&Page, &Document), FetchError> {
    let page = fetch.complete()?;
    if page.status != 200 {
        return Err(status(page, ""));
    }
    let media_type = page.media_type().unwrap_or_else(|| "of no type".to_owned());
    if !matches!(media_type.as_str(), "text/html" | "application/xhtml+xml") {
        return Err(content(format!("answered 200, but is {media_type} instead of text/html")));
    }
    let text = page.text();
    if text.trim().is_empty() {
        return Err(content("answered 200, but is empty"));
    }
    let document = page.document();
    match error_page(document, &text) {
        Some(said) => {
            Err(content(format!("answered 200, but is an error page: \"{}\"", one_line(&said))))
        }
        None => Ok((page, document)),
    }
}

fn loaded(fetch: &Fetch, page: &Page, document: &Document) -> String {
    let title = match document.title.as_str() {
        "" => String::new(),
        title => format!(" \"{}\"", one_line(title)),
    };
    let via = match fetch.redirects.last() {
        Some(last) => format!(", redirected to {last}"),
        None => String::new(),
    };
    format!("{}{title}, {}{via}", status_line(page.status), size(page.size))
}

fn homepage(evidence: &Evidence) -> Verdict {
    let judge = || {
        let (page, document) = html_page(&evidence.home)?;
        if document.title.is_empty() && document.headings.is_empty() {
            return Err(content("answered 200, but has neither a title nor a heading"));
        }
        Ok(loaded(&evidence.home, page, document))
    };
    judge().into()
}

fn login_page(evidence: &Evidence) -> Verdict {
    let judge = || {
        let (page, document) = html_page(&evidence.login)?;
        if !document.password_field {
            return Err(content("answered 200, but has no field for a password"));
        }
        Ok(loaded(&evidence.login, page, document))
    };
    judge().into()
}

fn health(evidence: &Evidence) -> Verdict {
    let expected = evidence.expected_release.as_deref();
    match (evidence.health.status(), expected) {
        (Some(404), None) => Verdict::Skipped(NO_HEALTH.to_owned()),
        (Some(404), Some(expected)) => {
            let text = format!("{NO_HEALTH}, so whether release {expected} answers cannot be told");
            Verdict::Failed(FetchError::new(ErrorKind::Status, text))
        }
        _ => judge_health(&evidence.health, expected)
            .and_then(|message| match (&evidence.closing, expected) {
                // Of several processes or of an old release that goes away, each may have answered once.
                (Some(closing), Some(expected)) => judge_closing(closing, expected, message),
                _ => Ok(message),
            })
            .into(),
    }
}

fn judge_health(fetch: &Fetch, expected: Option<&str>) -> Judged {
    let page = fetch.complete()?;
    let health = Health::read(fetch);
    if page.status != 200 {
        let says = health.ok().and_then(|health| health.database);
        let says = says.map(|says| format!("; it says that its database is `{says}`"));
        return Err(status(page, &says.unwrap_or_default()));
    }
    let Health { status, release, database, server_errors: _ } = health?;
    match status.as_deref() {
        Some("ok") => {}
        Some(other) => return Err(content(format!("says that its status is `{other}`"))),
        None => return Err(content("does not say its status")),
    }
    let database = database.ok_or_else(|| content("does not report its database"))?;
    let says = match (release, expected) {
        (Some(release), Some(expected)) if release != expected => {
            return Err(content(format!("release {release} answers, expected {expected}")));
        }
        (None, Some(expected)) => {
            return Err(content(format!("does not say its release, expected {expected}")));
        }
        (Some(release), _) => format!("release {release}, "),
        (None, None) => String::new(),
    };
    Ok(format!("{}, {says}database {database}", status_line(page.status)))
}

fn judge_closing(closing: &Fetch, expected: &str, message: String) -> Judged {
    match Health::read(closing)?.release {
        Some(release) if release == expected => Ok(message),
        other => {
            let other = other.unwrap_or_else(|| "without a name".to_owned());
            Err(content(format!(
                "release {expected} answered at first, but release {other} at the end"
            )))
        }
    }
}

fn latest_health(evidence: &Evidence) -> &Fetch {
    evidence.closing.as_ref().unwrap_or(&evidence.health)
}

fn static_assets(evidence: &Evidence) -> Verdict {
    let of_kind = |kind| evidence.assets.iter().filter(|asset| asset.kind == kind).count();
    let left_out = |reason| evidence.unfetched.iter().filter(|why| **why == reason).count();
    let mut failures: Vec<FetchError> =
        evidence.assets.iter().filter_map(|asset| judge_asset(asset).err()).collect();
    failures.extend(evidence.unfetched.iter().filter_map(|why| match why {
        Unfetched::Malformed(address) => {
            Some(content(format!("a page links to `{address}`, which is no address")))
        }
        Unfetched::Elsewhere | Unfetched::BeyondLimit => None,
    }));
    if let Some(first) = failures.first() {
        let more = match failures.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        return Verdict::Failed(FetchError::new(first.kind, format!("{}{more}", first.message)));
    }
    if evidence.assets.is_empty() {
        return Verdict::Failed(no_assets(evidence));
    }
    let mut parts = vec![format!("{} CSS, {} JS", of_kind(AssetKind::Css), of_kind(AssetKind::Js))];
    for (number, what) in [
        (left_out(Unfetched::Elsewhere), "on another site not fetched"),
        (left_out(Unfetched::BeyondLimit), "beyond the limit not fetched"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    Verdict::Passed(parts.join(", "))
}

fn no_assets(evidence: &Evidence) -> FetchError {
    // Without a page nothing is known of its links: the page's own trouble is the cause.
    match [&evidence.home, &evidence.login].into_iter().find_map(|page| html_page(page).err()) {
        Some(error) => {
            let text = format!("no page to find assets on: {}", error.message);
            FetchError::new(error.kind, text)
        }
        None if evidence.unfetched.is_empty() => content("the pages link no CSS and no JS"),
        None => content("the pages link CSS and JS on other sites only"),
    }
}

fn judge_asset(asset: &Asset) -> Result<(), FetchError> {
    let Asset { kind, fetch } = asset;
    let at = |error: FetchError| {
        let place =
            Url::parse(&fetch.url).map_or_else(|_| fetch.url.clone(), |url| url.path().to_owned());
        FetchError::new(error.kind, format!("{place}: {}", error.message))
    };
    let page = fetch.complete().map_err(at)?;
    if page.status != 200 {
        return Err(at(status(page, "")));
    }
    let media_type = page.media_type().unwrap_or_else(|| "of no type".to_owned());
    if !kind.accepts(&media_type) {
        return Err(at(content(format!("is {media_type} instead of {}", kind.name()))));
    }
    if page.size == 0 {
        return Err(at(content("is empty")));
    }
    // A page in place of the asset, from a catch-all route that keeps the asked-for type.
    if page.text().trim_start().starts_with('<') {
        return Err(at(content(format!("is HTML instead of {}", kind.name()))));
    }
    Ok(())
}

fn database(evidence: &Evidence) -> Verdict {
    let health = &evidence.health;
    if health.status() == Some(404) {
        return Verdict::Skipped(format!("{NO_HEALTH}, so the database's state is not known"));
    }
    match (Health::read(health).map(|health| health.database), health.status()) {
        (Ok(Some(state)), _) if state != "ok" => {
            Verdict::Failed(content(format!("the app says that its database is `{state}`")))
        }
        (Ok(Some(_)), Some(200)) => {
            Verdict::Passed("the app says that its database is ok".to_owned())
        }
        (Ok(_), Some(200)) => Verdict::Failed(content("not known: /health does not report it")),
        (Ok(_), _) => {
            Verdict::Failed(unknown(FetchError::new(ErrorKind::Status, health.outcome())))
        }
        (Err(error), _) => Verdict::Failed(unknown(error)),
    }
}

fn unknown(error: FetchError) -> FetchError {
    FetchError::new(error.kind, format!("not known, since /health failed: {}", error.message))
}

/// The requests of this run that ended in a 5xx, those that were repeated while the app started not counted.
fn seen_server_errors(evidence: &Evidence) -> Vec<&Fetch> {
    let Evidence { home, login, health, assets, closing, visit, .. } = evidence;
    [home, login, health]
        .into_iter()
        .chain(assets.iter().map(|asset| &asset.fetch))
        .chain(closing)
        .chain(visit.iter().flat_map(|visit| &visit.fetches))
        .filter(|fetch| fetch.status().is_some_and(|status| status >= 500))
        .collect()
}

fn server_errors(evidence: &Evidence) -> Verdict {
    let seen = seen_server_errors(evidence);
    if let Some(first) = seen.first() {
        let text = format!(
            "{} of these tests ended in a 5xx; the first: {} answered {}",
            count(seen.len(), "request"),
            first.url,
            first.outcome()
        );
        return Verdict::Failed(FetchError::new(ErrorKind::Status, text));
    }
    let health = latest_health(evidence);
    if health.status() == Some(404) {
        return Verdict::Skipped(format!("{NO_HEALTH}, so nobody counts them"));
    }
    match Health::read(health) {
        Ok(Health { server_errors: Some(0), .. }) => {
            Verdict::Passed("none since the app started".to_owned())
        }
        Ok(Health { server_errors: Some(number), .. }) => {
            let number = count(usize::try_from(number).unwrap_or(usize::MAX), "request");
            Verdict::Failed(FetchError::new(
                ErrorKind::Status,
                format!("{number} ended in a 5xx since the app started"),
            ))
        }
        Ok(_) => Verdict::Skipped("/health does not count them".to_owned()),
        Err(error) => Verdict::Failed(unknown(error)),
    }
}

fn certificate(evidence: &Evidence) -> Verdict {
    match &evidence.certificate {
        Some(Ok(left)) => match certificate::judge(*left) {
            Ok(message) => Verdict::Passed(message),
            Err(message) => Verdict::Warned { message, next: certificate::RENEW },
        },
        Some(Err(error)) => Verdict::Failed(error.clone()),
        None => Verdict::Skipped("the address is not encrypted".to_owned()),
    }
}

fn probe_user(evidence: &Evidence) -> Verdict {
    match &evidence.visit {
        Some(visit) => visit.verdict.clone().into(),
        None => Verdict::Skipped("no user to log in as".to_owned()),
    }
}
