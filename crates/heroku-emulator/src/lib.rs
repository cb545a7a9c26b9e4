#![doc = include_str!("../README.md")]

mod addons;
mod answer;
mod console;
mod data;
mod fault;
mod platform;
mod postgres;
mod process;
mod router;
mod server;
mod storage;
mod world;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use url::Url;

pub use crate::fault::{Fault, FaultKind};
use crate::{
    postgres::Server,
    world::{App, Coupling, Pipeline, World, uuid},
};

/// What an emulator is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The token that it accepts.
    pub token: String,
    /// A PostgreSQL server on which databases may be made; without one there are no add-ons.
    pub postgres: Option<Url>,
    /// What the token may do, as the API says it; the emulator refuses nothing for it.
    pub scope: Vec<String>,
    /// The port on the loopback address; any free one where it is 0.
    pub port: u16,
    /// How long a console waits after its greeting. Heroku's own tool loses output that comes with it.
    pub greeting_pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: "test-token".to_owned(),
            postgres: None,
            scope: vec!["global".to_owned()],
            port: 0,
            greeting_pause: Duration::from_millis(300),
        }
    }
}

/// An emulated Heroku that ends with this value.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) struct Shared {
    pub(crate) folder: PathBuf,
    pub(crate) server: Option<Server>,
    pub(crate) token: String,
    pub(crate) scope: Vec<String>,
    pub(crate) greeting_pause: Duration,
    /// Slugs are unpacked one at a time.
    pub(crate) unpacking: Mutex<()>,
    temporary: Mutex<Option<tempfile::TempDir>>,
    world: Mutex<World>,
    address: OnceLock<SocketAddr>,
    console: OnceLock<SocketAddr>,
    storage: OnceLock<SocketAddr>,
    authority: String,
    end: AtomicBool,
    ended: tokio::sync::Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", address_of(&self.address))
    }

    pub(crate) fn console(&self) -> SocketAddr {
        address_of(&self.console)
    }

    pub(crate) fn storage(&self) -> SocketAddr {
        address_of(&self.storage)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.load(Ordering::SeqCst)
    }

    pub(crate) async fn ended(&self) {
        while !self.has_ended() {
            self.ended.notified().await;
        }
    }

    pub(crate) fn add_app(self: &Arc<Self>, name: &str) -> io::Result<()> {
        let id = uuid();
        let router = router::serve(Arc::clone(self), id.clone())?;
        self.world().apps.push(App {
            id: id.clone(),
            name: name.to_owned(),
            maintenance: false,
            config: std::collections::BTreeMap::new(),
            old_database: None,
            releases: Vec::new(),
            slugs: Vec::new(),
            builds: Vec::new(),
            formation: std::collections::BTreeMap::new(),
            dynos: Vec::new(),
            log: Vec::new(),
            next_dyno: 0,
            router,
            created_at: chrono::Utc::now(),
        });
        self.release(&id, "Initial release", None, None);
        Ok(())
    }
}

fn address_of(cell: &OnceLock<SocketAddr>) -> SocketAddr {
    *cell.get().expect("everything listens before the first request is answered")
}

/// A certificate for this machine's own names, and the authority that signed it.
fn certificates() -> Result<(ServerConfig, String), Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "heroku-emulator");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(leaf.der().to_vec())],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )?;
    Ok((config, authority.pem()))
}

impl Emulator {
    /// Starts one on the loopback address.
    ///
    /// # Errors
    ///
    /// Fails where it cannot listen, or has no place for files.
    pub fn start(options: Options) -> io::Result<Self> {
        let temporary = tempfile::Builder::new().prefix("heroku-emulator-").tempdir()?;
        let folder = temporary.path().to_owned();
        std::fs::create_dir_all(folder.join("blobs"))?;
        std::fs::create_dir_all(folder.join("slugs"))?;
        let (tls, authority) = certificates().map_err(io::Error::other)?;
        let tls = Arc::new(tls);
        let shared = Arc::new(Shared {
            folder,
            server: options.postgres.map(Server::new),
            token: options.token,
            scope: options.scope,
            greeting_pause: options.greeting_pause,
            unpacking: Mutex::default(),
            temporary: Mutex::new(Some(temporary)),
            world: Mutex::new(World { remaining: 4500, ..World::default() }),
            address: OnceLock::new(),
            console: OnceLock::new(),
            storage: OnceLock::new(),
            authority,
            end: AtomicBool::new(false),
            ended: tokio::sync::Notify::new(),
        });
        let console = console::serve(Arc::clone(&shared), Arc::clone(&tls))?;
        let storage = storage::serve(Arc::clone(&shared), tls)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", options.port)))?;
        let address = listener.local_addr()?;
        let set =
            [shared.console.set(console), shared.storage.set(storage), shared.address.set(address)];
        debug_assert!(set.iter().all(Result::is_ok), "nobody else sets them");
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            runtime.block_on(server::serve(serving, listener));
            runtime.shutdown_background();
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Where both APIs are.
    ///
    /// # Panics
    ///
    /// Never: it is an address of this machine.
    #[must_use]
    pub fn url(&self) -> Url {
        Url::parse(&self.shared.address()).expect("an address is a URL")
    }

    /// The certificate that its consoles and its storage are to be trusted by, as PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.shared.authority
    }

    /// Makes an app.
    ///
    /// # Errors
    ///
    /// Fails where no port is free for it.
    pub fn add_app(&self, name: &str) -> io::Result<()> {
        self.shared.add_app(name)
    }

    /// Makes a database for an app, and attaches it; as `DATABASE` where that is free. It can be used at once.
    ///
    /// # Errors
    ///
    /// Fails where there is no PostgreSQL server, or it does not make one.
    pub fn add_database(&self, app: &str, name: &str, plan: &str) -> Result<(), String> {
        self.shared.add_database(app, name, plan, None, None)?;
        if let Some(addon) = self.shared.world().addon_mut(name) {
            addon.looks = 0;
            addon.state = "provisioned";
        }
        Ok(())
    }

    /// Makes a pipeline of apps, each with its stage, such as `staging`. Apps that are not there are left out.
    pub fn add_pipeline(&self, name: &str, apps: &[(&str, &str)]) {
        let mut world = self.shared.world();
        let pipeline = uuid();
        world.pipelines.push(Pipeline { id: pipeline.clone(), name: name.to_owned() });
        for (app, stage) in apps {
            let Some(app) = world.app(app).map(|app| app.id.clone()) else { continue };
            let (pipeline, stage) = (pipeline.clone(), (*stage).to_owned());
            world.couplings.push(Coupling { id: uuid(), app, pipeline, stage });
        }
    }

    /// Lets something go wrong.
    pub fn fault(&self, fault: Fault) {
        self.shared.world().faults.add(fault);
    }

    /// Lets nothing go wrong any more.
    pub fn heal(&self) {
        self.shared.world().faults.clear();
    }

    /// The faults that have not happened yet.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.world().faults.all().to_vec()
    }

    /// `METHOD /path` of all requests so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.world().requests.clone()
    }

    /// The address of a database, by its add-on's name.
    #[must_use]
    pub fn database_url(&self, addon: &str) -> Option<String> {
        self.shared.world().addon(addon).map(|addon| addon.url.clone())
    }

    /// Where an app answers.
    #[must_use]
    pub fn web_url(&self, app: &str) -> Option<String> {
        self.shared.world().app(app).map(|app| format!("http://{}", app.router))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::SeqCst);
        self.shared.ended.notify_waiters();
        self.shared.ended.notify_one();
        let apps: Vec<String> = self.shared.world().apps.iter().map(|app| app.id.clone()).collect();
        for app in apps {
            self.shared.stop_dynos(&app, |_| true);
        }
        // Their listeners look whether it has ended when somebody comes.
        let routers: Vec<SocketAddr> =
            self.shared.world().apps.iter().map(|app| app.router).collect();
        for address in routers.into_iter().chain([self.shared.console(), self.shared.storage()]) {
            let _ = std::net::TcpStream::connect(address);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(server) = &self.shared.server {
            let databases: Vec<String> =
                self.shared.world().addons.iter().map(|addon| addon.url.clone()).collect();
            for url in databases {
                let name = url.rsplit('/').next().and_then(|name| name.split('?').next());
                let _ = name.map(|name| server.drop(name));
            }
        }
        let temporary = self.shared.temporary.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(temporary);
    }
}
