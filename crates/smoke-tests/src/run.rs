//! One run: wait for the app, fetch everything side by side, judge.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use url::Url;

use crate::{
    BaseUrl, ProbeUser, Report, Roots, TESTS,
    base_url::is_same_site,
    certificate::validity,
    check::{Asset, Evidence, Unfetched},
    client::{BODY_LIMIT, Client, Finality, is_up},
    fetch::{ErrorKind, Fetch, FetchError},
    health::Health,
    html::AssetKind,
    probe,
    report::{Budget, RunFacts, TestReport},
    text,
};

/// The longest health document; of assets, too, this much is kept to be shown.
const SMALL_BODY: usize = 64 << 10;

/// How many of the assets that a page links are fetched.
const ASSET_LIMIT: usize = 50;

/// How many of them are fetched at the same time.
const ASSET_CONNECTIONS: usize = 4;

/// What to test.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the app is.
    pub base_url: BaseUrl,
    /// How long everything may take, waiting for the app included. One request may take a third of it.
    pub timeout: Duration,
    /// The id of the release that must answer; any may where there is none.
    pub expected_release: Option<String>,
    /// How long one request may take, redirects and body included; what is over it fails. Waiting for the app to start
    /// does not count.
    pub max_latency: Option<Duration>,
    /// The authorities that may have signed the app's certificate.
    pub roots: Roots,
    /// The user to log in as, if any.
    pub probe_user: Option<ProbeUser>,
}

impl Options {
    /// How long everything may take where nothing else is said, after the workflow guide.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// The options to test the app at `base_url`, with nothing else asked for.
    #[must_use]
    pub fn new(base_url: BaseUrl) -> Self {
        Self {
            base_url,
            timeout: Self::TIMEOUT,
            expected_release: None,
            max_latency: None,
            roots: Roots::default(),
            probe_user: None,
        }
    }
}

/// Tests the app.
///
/// It always returns a report, and at the latest when the time is over: an app that never answers has failed all tests.
#[must_use]
pub fn run(options: &Options) -> Report {
    let client = Client::new(&options.base_url, &options.roots, options.timeout);
    let health_url = options.base_url.page("health");
    let expected = options.expected_release.as_deref();
    let first = client.get(&health_url, SMALL_BODY, |fetch| answers(fetch, expected));
    let release = Health::read(&first).ok().and_then(|health| health.release);
    let mut facts = RunFacts { options, release, startup: &first, certificate: None };
    let tests = TESTS.iter().filter(|test| (test.applies)(options));
    let tests = match not_ready(&first, options) {
        Some(error) => tests.map(|test| TestReport::not_run(test, &error)).collect(),
        None => {
            let evidence = collect(&client, options, &first);
            facts.certificate = evidence.certificate.as_ref().and_then(|left| left.clone().ok());
            let mut budget = Budget::new(options.max_latency);
            tests.map(|test| TestReport::judged(test, &evidence, &mut budget)).collect()
        }
    };
    let mut report = Report::new(facts, tests, client.elapsed());
    if let Some(user) = &options.probe_user {
        report.rewrite(&|text| user.redact(text));
    }
    report
}

/// Whether the app itself has answered, and as the release that is expected.
fn answers(fetch: &Fetch, expected: Option<&str>) -> Finality {
    let health = Health::read(fetch).unwrap_or_default();
    match (expected, health.release) {
        (Some(expected), Some(release)) if release != expected => {
            Finality::Starting(format!("release {release} answers, expected {expected}"))
        }
        // Whoever says its status and its database is the app, and up, though unwell.
        _ if health.status.is_some() && health.database.is_some() => Finality::Final,
        _ => is_up(fetch),
    }
}

/// Why nothing can be tested, if so.
fn not_ready(first: &Fetch, options: &Options) -> Option<FetchError> {
    let waited = text::duration(options.timeout);
    if let Finality::Starting(sign) = answers(first, options.expected_release.as_deref()) {
        let kind = match (&first.error, is_up(first)) {
            (Some(error), _) => error.kind,
            (None, Finality::Starting(_)) => ErrorKind::Status,
            (None, Finality::Final) => ErrorKind::Content,
        };
        return Some(FetchError::new(kind, format!("{sign}, still after {waited}")));
    }
    let error = first.error.as_ref()?;
    matches!(error.kind, ErrorKind::Dns | ErrorKind::Unreachable | ErrorKind::Tls)
        .then(|| error.clone())
}

fn collect(client: &Client<'_>, options: &Options, first: &Fetch) -> Evidence {
    let fetched = Mutex::default();
    // Each page's assets follow as soon as the page is there: another page may take all the time there is.
    let page = |path: &str| {
        let page = client.get(&options.base_url.page(path), BODY_LIMIT, is_up);
        fetch_assets(client, &page, &fetched);
        page
    };
    let base = &options.base_url;
    let (home, login, health, certificate, visit) = thread::scope(|scope| {
        let login = scope.spawn(|| page("login"));
        let health = scope.spawn(|| settled_health(client, options, first));
        let certificate = base.is_encrypted().then(|| {
            scope.spawn(|| validity(&base.page(""), &options.roots, client.request_end()))
        });
        let visit = options
            .probe_user
            .as_ref()
            .map(|user| scope.spawn(move || probe::visit(client, base, user)));
        (page(""), join(login), join(health), certificate.map(join), visit.map(join))
    });
    // Where there is no such document, a second look finds none either.
    let closing = (options.expected_release.is_some() && health.status() != Some(404))
        .then(|| client.get(&base.page("health"), SMALL_BODY, is_up));
    let fetched = fetched.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (assets, unfetched) = in_page_order(&[&home, &login], fetched);
    let expected_release = options.expected_release.clone();
    Evidence {
        home,
        login,
        health,
        assets,
        unfetched,
        expected_release,
        closing,
        certificate,
        visit,
    }
}

/// The health document that counts: the first, unless the app found itself unwell, which may pass.
fn settled_health(client: &Client<'_>, options: &Options, first: &Fetch) -> Fetch {
    if is_up(first) == Finality::Final {
        return first.clone();
    }
    let later = client.get(&options.base_url.page("health"), SMALL_BODY, is_up);
    let attempts = first.attempts.iter().cloned().chain(later.attempts).collect();
    Fetch { attempts, ..later }
}

/// The assets that are fetched or being fetched, by their address.
type Fetched = BTreeMap<Url, Option<Fetch>>;

/// Fetches the assets that `page` links and that nobody else fetches.
fn fetch_assets(client: &Client<'_>, page: &Fetch, fetched: &Mutex<Fetched>) {
    let lock = || fetched.lock().unwrap_or_else(PoisonError::into_inner);
    let claim = |url: &Url| match lock().entry(url.clone()) {
        Entry::Occupied(_) => false,
        Entry::Vacant(vacant) => {
            vacant.insert(None);
            true
        }
    };
    let mut wanted: Vec<Url> =
        links(page).into_iter().filter_map(|(_, linked)| linked.ok()).take(ASSET_LIMIT).collect();
    wanted.retain(claim);
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(url) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let fetch = client.get(url, SMALL_BODY, is_up);
            lock().insert(url.clone(), Some(fetch));
        }
    };
    thread::scope(|scope| {
        for _ in 0..wanted.len().min(ASSET_CONNECTIONS) {
            scope.spawn(work);
        }
    });
}

/// The stylesheets and scripts that a page links, each once.
fn links(page: &Fetch) -> Vec<(AssetKind, Result<Url, Unfetched>)> {
    // An error page's links say nothing of the app's own.
    let Some(page) = page.complete().ok().filter(|page| page.status == 200) else {
        return Vec::new();
    };
    let mut links: Vec<(AssetKind, Result<Url, Unfetched>)> = Vec::new();
    for (kind, url) in page.document().assets(&page.url) {
        let link = match url {
            Err(address) => Err(Unfetched::Malformed(address)),
            Ok(url) if !is_same_site(&page.url, &url) => Err(Unfetched::Elsewhere),
            Ok(url) => Ok(url),
        };
        if link.is_err() || links.iter().all(|(_, known)| *known != link) {
            links.push((kind, link));
        }
    }
    links
}

/// The assets in the order in which the pages link them, and why the others are missing.
fn in_page_order(pages: &[&Fetch], mut fetched: Fetched) -> (Vec<Asset>, Vec<Unfetched>) {
    let mut assets = Vec::new();
    let mut unfetched = Vec::new();
    let mut seen = BTreeSet::new();
    for (kind, link) in pages.iter().flat_map(|page| links(page)) {
        match link {
            Err(why) => unfetched.push(why),
            Ok(url) if !seen.insert(url.clone()) => {}
            Ok(url) => match fetched.remove(&url).flatten() {
                Some(fetch) => assets.push(Asset { kind, fetch }),
                None => unfetched.push(Unfetched::BeyondLimit),
            },
        }
    }
    (assets, unfetched)
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
