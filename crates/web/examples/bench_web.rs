//! Measures the app beside plain axum handlers that make one indexed query each, driven by `wrk`.
//!
//! ```text
//! cargo build --release --bins
//! target/release/with-postgres --durable \
//!     cargo run --release --example bench_web -- target/release 10000 50 3
//! ```
//!
//! The plain handlers have the same pool of connections, and make their query on the same kind of thread. They know no
//! visitor, write no log and send no header of their own. One reads a row and answers a few bytes; the other reads the very
//! rows that a dashboard shows, as grants of one user, and answers a page of the dashboard's size. Rounds of all alternate,
//! so that a busy machine is busy for all.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, response::Html, routing::get};
use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::{
    AnyConnection, Mode, on, open, pool,
    schema::{tool_access, tools, users},
};
use omnitool_environment::DatabaseUrl;
use omnitool_testing::{bench::peak_memory, fixture};
use omnitool_tool_access::{Author, grant_everyone, tools_for_by_name};

/// What is measured is taken from so many rounds; the medians count.
const ROUNDS: usize = 5;
/// Connections that ask at the same time.
const CONNECTIONS: &str = "8";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["plain", user, size] => plain(user.parse().unwrap(), size.parse().unwrap()),
        [programs, users, tools, seconds] => {
            let bench = Bench {
                programs: std::fs::canonicalize(programs).unwrap(),
                folder: tempfile::tempdir().unwrap(),
                seconds: seconds.parse().unwrap(),
            };
            let server = std::env::var("OMNITOOL_TEST_POSTGRES_URL")
                .expect("run it inside of with-postgres");
            let sqlite = format!("sqlite:{}", bench.folder.path().join("bench.db").display());
            for (name, url) in [("SQLite", sqlite), ("PostgreSQL", server)] {
                bench.measure(name, &url, users, tools);
            }
        }
        _ => println!("usage: with-postgres --durable bench_web PROGRAMS USERS TOOLS SECONDS"),
    }
}

/// A server with nothing but one query per request: a row, or the tools that are granted to the user in a page of `size` bytes.
fn plain(user: i64, size: usize) {
    let url: DatabaseUrl = std::env::var("DATABASE_URL").unwrap().parse().unwrap();
    let pool = pool::new(&url, 8, Duration::from_secs(5));
    let row = async |State(pool): State<pool::Pool>| {
        let found = tokio::task::spawn_blocking(move || {
            let mut conn = pool.get().unwrap();
            let query = users::table.filter(users::username.eq("bench")).select(users::username);
            query.first::<String>(&mut **conn).unwrap()
        });
        (StatusCode::OK, found.await.unwrap())
    };
    let rows = async move |State(pool): State<pool::Pool>| {
        let found = tokio::task::spawn_blocking(move || {
            let mut conn = pool.get().unwrap();
            let query = tool_access::table
                .inner_join(tools::table)
                .filter(tool_access::user_id.eq(user))
                .order(tools::name)
                .select((tools::name, tools::description, tools::route));
            on!(&mut **conn, c => query.load::<(String, String, String)>(c)).unwrap()
        });
        let mut page = String::with_capacity(size);
        for (name, description, route) in found.await.unwrap() {
            write!(page, "<li><a href=\"{route}\">{name}</a><p>{description}</p></li>").unwrap();
        }
        page.extend(std::iter::repeat_n(' ', size.saturating_sub(page.len())));
        Html(page)
    };
    omnitool_web::block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/row", get(row)).route("/rows", get(rows));
        axum::serve(listener, router.with_state(pool)).await.unwrap();
    })
    .unwrap();
}

struct Bench {
    programs: PathBuf,
    folder: tempfile::TempDir,
    seconds: u64,
}

/// A server in a process of its own, which ends with this value.
struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { child, url }
    }

    /// The most memory that it ever had, in KiB.
    fn peak_memory(&self) -> u64 {
        peak_memory(self.child.id()).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `wrk` says.
#[derive(Clone, Copy, Default)]
struct Sample {
    /// Milliseconds: median, 90 %, 99 %.
    latency: [f64; 3],
    per_second: f64,
}

impl Bench {
    fn measure(&self, name: &str, url: &str, users: &str, tools: &str) {
        self.run("migrate-db", url, &["--env", "local"]);
        self.run("fill-database", url, &[users, tools]);
        self.run("export-tool-access", url, &[]);
        let password = "a long enough password";
        let mut make = self.command("omnitool", url);
        make.args(["create-user", "bench", "--admin", "--password-stdin"]).stdin(Stdio::piped());
        let mut child = make.stdout(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), password.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        open_half_of_the_tools(url);
        exclude_each_from_some(url);
        let granted = grant_the_same(url);
        settle(url);

        let mut serve = self.command("omnitool", url);
        serve.args(["serve", "--env", "local", "--listen", "127.0.0.1:0"]);
        let app = Serving::start(serve);
        let cookie = log_in(&app.url, password);
        let size = page(&app.url, "/dashboard", &cookie).len();
        let mut plain = Command::new(std::env::current_exe().unwrap());
        plain.args(["plain", &granted.to_string(), &size.to_string()]).env("DATABASE_URL", url);
        let plain = Serving::start(plain);

        println!(
            "\n| {name}, {users} users × {tools} tools | median, ms | 90 % | 99 % | requests/s | beside a row | beside the rows |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        let paths = [
            ("plain handler, a row", &plain.url, "/row"),
            ("plain handler, a dashboard's rows", &plain.url, "/rows"),
            ("/health", &app.url, "/health"),
            ("/dashboard", &app.url, "/dashboard"),
        ];
        let mut samples = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            for ((_, base, path), samples) in paths.iter().zip(&mut samples) {
                samples.push(wrk(&format!("{base}{path}"), &cookie, self.seconds));
            }
        }
        let medians = samples.map(median);
        for ((title, ..), sample) in paths.iter().zip(medians) {
            print_row(title, sample, [medians[0], medians[1]]);
        }
        let (during, logins) = while_logging_in(&app.url, password, || {
            wrk(&format!("{}/dashboard", app.url), &cookie, self.seconds)
        });
        print_row("/dashboard while 4 log in", during, [medians[0], medians[1]]);
        println!("\nLogins meanwhile: {:.1} per second.", logins / self.seconds as f64);
        for page in ["/admin/users", "/admin/access", "/admin/access?against=local"] {
            println!("{page}: {:.1} ms.", page_time(&app.url, page, &cookie));
        }
        println!("Peak memory: {} MiB.", app.peak_memory() / 1024);
    }

    fn command(&self, program: &str, url: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).env("DATABASE_URL", url);
        command
    }

    fn run(&self, program: &str, url: &str, arguments: &[&str]) {
        let output = self.command(program, url).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    }
}

/// Every user may use half of the tools, whatever is granted.
fn open_half_of_the_tools(url: &str) {
    let mut conn = open(&url.parse().unwrap(), Mode::Write).unwrap();
    let ids: Vec<i64> = tools::table.select(tools::id).load(&mut conn).unwrap();
    for id in ids.iter().step_by(2) {
        let _ = grant_everyone(&mut conn, *id, &Author::admin("bench")).unwrap();
    }
}

/// Each user is excluded from a few tools, some of which all others may use.
fn exclude_each_from_some(url: &str) {
    let mut conn = open(&url.parse().unwrap(), Mode::Write).unwrap();
    let exclude = "INSERT INTO tool_access_exclusion (user_id, tool_id, origin) \
                   SELECT users.id, tools.id, 'admin' FROM users CROSS JOIN tools \
                   WHERE (users.id + tools.id) % 25 = 0 AND NOT EXISTS ( \
                       SELECT 1 FROM tool_access \
                       WHERE tool_access.user_id = users.id AND tool_access.tool_id = tools.id)";
    conn.batch_execute(exclude).unwrap();
}

/// Leaves the database as it is some time after so many changes, so that PostgreSQL does not tidy up while it is measured.
fn settle(url: &str) {
    match &mut open(&url.parse().unwrap(), Mode::Write).unwrap() {
        AnyConnection::Sqlite(conn) => conn.batch_execute("ANALYZE").unwrap(),
        AnyConnection::Postgres(conn) => conn.batch_execute("VACUUM ANALYZE").unwrap(),
    }
}

/// A user who is granted just the tools that `bench` may use; returns the key.
fn grant_the_same(url: &str) -> i64 {
    let mut conn = open(&url.parse().unwrap(), Mode::Write).unwrap();
    let user = fixture::user(&mut conn, "granted");
    for tool in tools_for_by_name(&mut conn, "bench").unwrap() {
        fixture::grant(&mut conn, user, tool.id);
    }
    user
}

/// Logs in as a browser does, and returns the session's cookie.
fn log_in(base: &str, password: &str) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder().max_redirects(0).build().into();
    let mut page = agent.get(format!("{base}/login")).call().unwrap();
    let cookie =
        page.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let text = page.body_mut().read_to_string().unwrap();
    let (_, rest) = text.split_once("name=\"form_token\" value=\"").unwrap();
    let token = rest.split('"').next().unwrap();
    let fields = [("form_token", token), ("username", "bench"), ("password", password)];
    let answer =
        agent.post(format!("{base}/login")).header("cookie", cookie).send_form(fields).unwrap();
    let cookies = answer.headers().get_all("set-cookie");
    let session =
        cookies.iter().map(|value| value.to_str().unwrap()).find(|c| c.contains("_session="));
    session.expect("the password is right").split(';').next().unwrap().to_owned()
}

/// Runs `body` while four visitors log in again and again; returns how many logins there were.
fn while_logging_in<T>(base: &str, password: &str, body: impl FnOnce() -> T) -> (T, f64) {
    let (stop, logins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (stop, logins) = (Arc::clone(&stop), Arc::clone(&logins));
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    log_in(base, password);
                    logins.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let result = body();
        stop.store(true, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
        (result, logins.load(Ordering::Relaxed) as f64)
    })
}

fn wrk(url: &str, cookie: &str, seconds: u64) -> Sample {
    let output = Command::new("wrk")
        .args(["-t1", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), "--latency"])
        .args(["-H", &format!("Cookie: {cookie}"), url])
        .output()
        .expect("install wrk: apt-get install wrk");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !text.contains("Non-2xx"), "{text}");
    let value = |label: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label)).unwrap();
        line.trim().to_owned()
    };
    let latency = ["50%", "90%", "99%"].map(|label| milliseconds(&value(label)));
    Sample { latency, per_second: value("Requests/sec:").parse().unwrap() }
}

/// `1.23ms`, `456.00us` or `1.02s`.
fn milliseconds(text: &str) -> f64 {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<f64>().unwrap() * factor;
        }
    }
    panic!("{text}")
}

fn median(mut samples: Vec<Sample>) -> Sample {
    samples.sort_by(|a, b| a.latency[0].total_cmp(&b.latency[0]));
    samples[samples.len() / 2]
}

/// `plain` are what the sample's median is compared with.
fn print_row(title: &str, sample: Sample, plain: [Sample; 2]) {
    let Sample { latency: [half, ninety, last], per_second } = sample;
    let [row, rows] = plain.map(|plain| half / plain.latency[0]);
    println!(
        "| {title} | {half:.2} | {ninety:.2} | {last:.2} | {per_second:.0} | {row:.2} | {rows:.2} |"
    );
}

/// The median of some requests, one after the other, in milliseconds.
fn page_time(base: &str, path: &str, cookie: &str) -> f64 {
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let started = Instant::now();
            page(base, path, cookie);
            started.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn page(base: &str, path: &str, cookie: &str) -> String {
    let mut page = ureq::get(format!("{base}{path}")).header("cookie", cookie).call().unwrap();
    page.body_mut().with_config().limit(64 << 20).read_to_string().unwrap()
}
