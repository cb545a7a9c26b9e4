//! The app's state and its routes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts},
    http::{HeaderMap, request::Parts},
    middleware,
    routing::{get, post},
};
use omnitool_database::{
    AnyConnection,
    pool::{self, Pool},
};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_tool_registry::Definitions;
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    account, admin, asset,
    attempts::Attempts,
    cookie::{self, Kind, Scheme},
    deployment::Deployments,
    error::PageError,
    form::Destination,
    frame, handler, health,
    metrics::{self, Metrics},
    page::Login,
    session::{self, Admin, Viewer},
    store,
    token::Token,
    viewers::Viewers,
    workers::Workers,
};

/// The greatest request body; the longest form is a login.
const BODY_LIMIT: usize = 64 << 10;
/// Connections to the database. SQLite needs no more; the smallest PostgreSQL plans have 20 for everybody.
const CONNECTIONS: u32 = 8;
/// How many of them change something at a time.
const WRITERS: usize = 4;
/// How long a request waits for a connection.
pub(crate) const CONNECTION_WAIT: Duration = Duration::from_millis(1500);

/// What the app has to know about itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The environment, shown on each page unless it is production.
    pub environment: EnvironmentName,
    /// The release that runs, as `/health` says it.
    pub release: String,
    /// The app's database.
    pub database_url: DatabaseUrl,
    /// What stands between the app and its visitors.
    pub front: Front,
    /// The tools' definitions, which say what is deprecated; without them nothing is said about that.
    pub definitions: Option<Definitions>,
    /// The folder with the environments' committed export files, which the access matrix is compared with.
    pub access_files: Option<PathBuf>,
    /// Reads what the page of deployments shows.
    pub deployments: Option<Arc<dyn Deployments>>,
    /// Whoever knows it may read `/metrics` from elsewhere than this machine.
    pub metrics_token: Option<SecretString>,
}

impl Settings {
    /// An app that talks to its visitors directly and reads nothing but its database.
    #[must_use]
    pub fn new(
        environment: EnvironmentName,
        release: impl Into<String>,
        database_url: DatabaseUrl,
    ) -> Self {
        Self {
            environment,
            release: release.into(),
            database_url,
            front: Front::Nothing,
            definitions: None,
            access_files: None,
            deployments: None,
            metrics_token: None,
        }
    }
}

/// What stands between the app and its visitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Nothing: addresses are those of the connections, and nothing is encrypted.
    Nothing,
    /// Heroku's router, whose headers say the visitor's address, the scheme, and the request's id.
    HerokuRouter,
}

/// The app: cheap to clone, all clones are one.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    settings: Settings,
    pool: Pool,
    /// As many as there are connections.
    database: Workers,
    /// A permit for each that may change something. The rest is there for who only reads, while changes wait for others.
    writers: Arc<Semaphore>,
    hasher: Workers,
    /// For what takes much memory.
    heavy: Workers,
    attempts: Attempts,
    /// A password hash of the Python system, if anybody had one when the first login was tried.
    old_hash: OnceLock<Option<String>>,
    viewers: Viewers,
    metrics: Metrics,
}

/// A request's visitor, as far as the request alone tells.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) scheme: Scheme,
    pub(crate) address: IpAddr,
    /// The session that the browser claims to have.
    pub(crate) session: Option<Token>,
    /// What forms are tied to where there is no session.
    pub(crate) form: Option<Token>,
}

/// Where the connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl App {
    /// The app. It connects to its database when it first needs it.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let pool = pool::new(&settings.database_url, CONNECTIONS, CONNECTION_WAIT);
        // Half of the cores, so that logins leave the other half to everything else.
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1);
        Self(Arc::new(Inner {
            settings,
            pool,
            database: Workers::new("database", CONNECTIONS as usize),
            writers: Arc::new(Semaphore::new(WRITERS)),
            hasher: Workers::new("hasher", cores),
            heavy: Workers::new("heavy", 1),
            attempts: Attempts::default(),
            old_hash: OnceLock::new(),
            viewers: Viewers::default(),
            metrics: Metrics::default(),
        }))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn environment(&self) -> EnvironmentName {
        self.0.settings.environment
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.0.attempts
    }

    pub(crate) fn viewers(&self) -> &Viewers {
        &self.0.viewers
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// A hash of the Python system, which refused logins check as well. Looked for once, since it reads all users where
    /// there is none.
    pub(crate) fn old_hash(&self, conn: &mut AnyConnection) -> diesel::QueryResult<Option<String>> {
        if let Some(known) = self.0.old_hash.get() {
            return Ok(known.clone());
        }
        let found = store::find_old_hash(conn)?;
        Ok(self.0.old_hash.get_or_init(|| found).clone())
    }

    /// How many connections to the database are in use.
    pub(crate) fn busy_connections(&self) -> usize {
        self.0.database.busy()
    }

    /// Runs `body` with a connection, on a thread that may block.
    pub(crate) async fn database<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut AnyConnection) -> Result<T, PageError> + Send + 'static,
    ) -> Result<T, PageError> {
        let app = self.clone();
        let work = move || {
            let mut conn = app.0.pool.get()?;
            let done = body(&mut conn);
            if done.as_ref().is_err_and(PageError::is_the_databases) {
                conn.look_after_failure();
            }
            done
        };
        self.0.database.run(work).await?
    }

    /// [`App::database`] for a body that changes something, also inside of [`App::with_admin`]: its caller holds this as
    /// long as it waits for the body.
    pub(crate) async fn turn_to_write(&self) -> Result<OwnedSemaphorePermit, PageError> {
        Ok(Arc::clone(&self.0.writers).acquire_owned().await?)
    }

    /// Ends when no query is under way any more.
    pub(crate) async fn queries_finished(&self) {
        self.0.database.finished().await;
    }

    /// Runs `body` with a connection and whoever is logged in, if anybody is.
    pub(crate) async fn with_visitor<T: Send + 'static>(
        &self,
        visit: &Visit,
        body: impl FnOnce(&mut AnyConnection, Option<Viewer>) -> Result<T, PageError> + Send + 'static,
    ) -> Result<T, PageError> {
        let token = visit.session.clone();
        self.database(move |conn| {
            let viewer = match &token {
                Some(token) => session::find(conn, token)?,
                None => None,
            };
            body(conn, viewer)
        })
        .await
    }

    /// Runs `body` with a connection and the admin who is logged in. Others learn nothing about the page but that it is
    /// not for them. A body that writes asks again by [`Admin::check`], since it may have waited for others.
    pub(crate) async fn with_admin<T: Send + 'static>(
        &self,
        visit: &Visit,
        here: Destination,
        body: impl FnOnce(&mut AnyConnection, &Admin) -> Result<T, PageError> + Send + 'static,
    ) -> Result<(Login, T), PageError> {
        let session = visit.session.clone();
        self.with_visitor(visit, |conn, viewer| {
            let (Some(viewer), Some(session)) = (viewer, session) else {
                return Err(PageError::LoginNeeded(here));
            };
            if !viewer.is_admin {
                return Err(PageError::Forbidden);
            }
            let admin = Admin { viewer, session };
            let result = body(conn, &admin)?;
            let form_token = admin.session.form_token();
            Ok((Login { viewer: admin.viewer, form_token }, result))
        })
        .await
    }

    /// Runs `body`, which hashes a password, when its turn has come.
    pub(crate) async fn hash<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PageError> {
        self.0.hasher.run(body).await
    }

    /// Runs `body`, which takes much memory, when no other such thing runs.
    pub(crate) async fn one_at_a_time<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PageError> {
        self.0.heavy.run(body).await
    }

    /// The address and scheme of the visitor: the connection's, or what a trusted router says.
    pub(crate) fn origin(&self, headers: &HeaderMap, peer: Option<&Peer>) -> (IpAddr, Scheme) {
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        if self.0.settings.front == Front::Nothing {
            return (peer, Scheme::Http);
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // The router appends to what the visitor claims, so only the last address of the last line is true.
        let mut lists = headers.get_all("x-forwarded-for").into_iter();
        let address = lists
            .next_back()
            .and_then(|list| list.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        let scheme = match text("x-forwarded-proto") {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        (address.unwrap_or(peer), scheme)
    }
}

impl FromRequestParts<App> for Visit {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let (address, scheme) = app.origin(&parts.headers, parts.extensions.get());
        let read = |kind| cookie::read(&parts.headers, app.environment(), kind, scheme);
        Ok(Self { scheme, address, session: read(Kind::Session), form: read(Kind::Form) })
    }
}

/// All routes with everything around them.
pub(crate) fn router(app: &App) -> Router {
    Router::new()
        .route("/", get(handler::home))
        .route("/login", get(handler::login_page).post(handler::log_in))
        .route("/logout", post(handler::log_out))
        .route("/dashboard", get(handler::dashboard))
        .route("/account", get(account::show))
        .route("/account/password", post(account::change_password))
        .merge(admin::routes())
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/static/{name}", get(asset::asset))
        // The tools' routes are in the database.
        .fallback_service(get(handler::tool).with_state(app.clone()))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(app.clone(), frame::frame))
        .with_state(app.clone())
}
