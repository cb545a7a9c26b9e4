//! A throw-away PostgreSQL server.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use omnitool_database::{Mode, open};
use omnitool_environment::DatabaseUrl;

/// Names the server that tests use instead of starting one.
pub const SERVER_URL_VARIABLE: &str = "OMNITOOL_TEST_POSTGRES_URL";

const USER: &str = "omnitool";
/// So that every test run proves that a password stays out of what is printed.
const PASSWORD: &str = "password-of-the-test-server";
/// Debian's user without rights; initdb refuses root.
const NOBODY: u32 = 65534;

/// What tests of correctness need no durability for.
const FAST: &str = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n\
                    max_connections = 200\nshared_buffers = 64MB\n";

/// Keeps the server while its own stdin is open, then stops it and removes its folder: a pipe ends with its writer, also
/// when that is killed.
const SUPERVISOR: &str = r#"
ulimit -f "$4"
"$1" -D "$2/data" -h 127.0.0.1 -p "$3" -k "$2" >"$2/log" 2>&1 &
server=$!
cat >/dev/null
# More than once: until the server has set up its signals, it ignores this one.
while kill -INT "$server" 2>/dev/null; do sleep 0.1; done
wait "$server"
rm -rf "$2"
"#;

/// The URL of the server that this process's tests use; started at the first call.
pub(crate) fn server_url() -> &'static DatabaseUrl {
    static URL: OnceLock<DatabaseUrl> = OnceLock::new();
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    URL.get_or_init(|| match std::env::var(SERVER_URL_VARIABLE) {
        Ok(url) => url.parse().expect(SERVER_URL_VARIABLE),
        Err(_) => SERVER.get_or_init(|| PostgresServer::start(&[])).url().clone(),
    })
}

/// The same server with another database.
pub(crate) fn with_database(url: &DatabaseUrl, name: &str) -> DatabaseUrl {
    let (start, query) = match url.expose().split_once('?') {
        Some((start, query)) => (start, format!("?{query}")),
        None => (url.expose(), String::new()),
    };
    let authority_end = start.find("://").unwrap() + 3;
    let path = start[authority_end..].find('/').map_or(start.len(), |at| at + authority_end);
    format!("{}/{name}{query}", &start[..path]).parse().unwrap()
}

/// A server that ends with this value, or with the process.
#[derive(Debug)]
pub struct PostgresServer {
    url: DatabaseUrl,
    port: u16,
    folder: PathBuf,
    supervisor: Child,
}

impl PostgresServer {
    /// Starts a server in a temporary folder on a free port of the loopback address.
    ///
    /// `files` are written into its data folder before the start, over what initdb made.
    ///
    /// # Panics
    ///
    /// Where no server programs are installed or the server does not come up: tests never skip it.
    #[must_use]
    pub fn start(files: &[(&str, &str)]) -> Self {
        Self::start_with(FAST, files, "unlimited")
    }

    /// Starts a server that keeps what it commits, as one in production does; for benchmarks.
    ///
    /// # Panics
    ///
    /// Where no server programs are installed or the server does not come up.
    #[must_use]
    pub fn start_durable() -> Self {
        Self::start_with("", &[], "unlimited")
    }

    /// Starts a server none of whose files can grow beyond so many MiB, as if its disk were full then. More than 16, since
    /// a segment of its log has that size.
    ///
    /// # Panics
    ///
    /// Where no server programs are installed or the server does not come up.
    #[must_use]
    pub fn start_on_a_small_disk(file_mib: u32) -> Self {
        // The shell counts in blocks of 512 bytes.
        Self::start_with(FAST, &[], &(file_mib * 2048).to_string())
    }

    fn start_with(settings: &str, files: &[(&str, &str)], file_limit: &str) -> Self {
        let programs = find_programs().unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server programs found; `cargo xtask test` installs them, or run `apt-get install postgresql`, \
                 or set {SERVER_URL_VARIABLE}"
            )
        });
        let temporary = tempfile::Builder::new().prefix("omnitool-postgres-").tempdir().unwrap();
        let folder = temporary.path().to_owned();
        let owner = (fs::metadata(&folder).unwrap().uid() == 0).then_some(NOBODY);
        if owner.is_some() {
            chown(&folder, owner, owner).unwrap();
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
            if let Some(id) = owner {
                command.uid(id).gid(id);
            }
            command
        };
        initialise(command(&programs.join("initdb")), &folder, owner);
        let conf = folder.join("data/postgresql.conf");
        let durable = fs::read_to_string(&conf).unwrap();
        write_owned(&conf, &(durable + settings), owner);
        for (name, content) in files {
            write_owned(&folder.join("data").join(name), content, owner);
        }
        // The port is free now and could be taken in a moment; another one is then as good.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let supervisor = command(Path::new("/bin/sh"))
                .args(["-c", SUPERVISOR, "postgres-supervisor"])
                .args([programs.join("postgres"), folder.clone()])
                .args([&port.to_string(), file_limit])
                .stdin(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            // The socket answers whatever the settings say about TLS and hosts.
            let url: DatabaseUrl =
                format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres").parse().unwrap();
            let socket: DatabaseUrl = format!(
                "postgres:///postgres?host={}&port={port}&user={USER}&password={PASSWORD}",
                folder.display()
            )
            .parse()
            .unwrap();
            let mut server = Self { url, port, folder: folder.clone(), supervisor };
            if server.wait_until_ready(&socket) {
                // From here on the supervisor removes the folder.
                let _ = temporary.keep();
                return server;
            }
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(log.contains("could not bind"), "the PostgreSQL server did not start:\n{log}");
            // Ends the supervisor without its last line, which would remove the folder.
            server.supervisor.kill().unwrap();
            server.supervisor.wait().unwrap();
            std::mem::forget(server);
        }
        panic!("no free port for the PostgreSQL server");
    }

    fn wait_until_ready(&mut self, url: &DatabaseUrl) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if open(url, Mode::Write).is_ok() {
                return true;
            }
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if log.contains("FATAL:  could not") {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Its maintenance database, with the password.
    #[must_use]
    pub const fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// The port on the loopback address.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        if let Err(error) = self.supervisor.wait() {
            eprintln!("the PostgreSQL supervisor did not end: {error}");
        }
    }
}

fn initialise(mut initdb: Command, folder: &Path, owner: Option<u32>) {
    let password_file = folder.join("password");
    write_owned(&password_file, PASSWORD, owner);
    let output = initdb
        .arg("-D")
        .arg(folder.join("data"))
        .arg("--pwfile")
        .arg(&password_file)
        .args(["-U", USER, "--auth=scram-sha-256"])
        .args(["--encoding=UTF8", "--locale=C", "--no-sync"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

fn write_owned(file: &Path, content: &str, owner: Option<u32>) {
    fs::write(file, content).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    if owner.is_some() {
        chown(file, owner, owner).unwrap();
    }
}

/// The folder with the newest server programs.
fn find_programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    versions
        .into_iter()
        .rev()
        .map(|(_, folder)| folder)
        .chain(on_path)
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}
