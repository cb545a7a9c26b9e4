//! What a smoke run adds to the answers of a healthy app.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use omnitool_cli::Failure;

use super::measure::run_once;

/// The most that a run may take beyond the app's own answers.
const ALLOWED: Duration = Duration::from_millis(100);

const RELEASE: &str = "bench";

/// Runs the program `runs` times against `omnitool serve`, each time beside a plain client that asks for the same pages.
pub(super) fn measure(programs: &Path, folder: &Path, runs: usize) -> Result<String, Failure> {
    let app = App::start(programs, folder)?;
    let mut times = Times::default();
    // The first round only warms the caches.
    for round in 0..=runs {
        let answers = app.answers()?;
        let mut start = Command::new(programs.join("smoke-tests"));
        start.arg("--version");
        let start = run_once(start)?;
        let whole = run_once(app.smoke_tests(programs))?;
        if round > 0 {
            times.start.push(start);
            times.whole.push(whole);
            times.sum.push(answers.iter().sum());
            times.slowest.push(answers.iter().max().copied().unwrap_or_default());
        }
    }
    Ok(times.table(runs))
}

#[derive(Debug, Default)]
struct Times {
    start: Vec<Duration>,
    whole: Vec<Duration>,
    sum: Vec<Duration>,
    slowest: Vec<Duration>,
}

impl Times {
    fn table(&mut self, runs: usize) -> String {
        let Self { start, whole, sum, slowest } = self;
        let beyond: Vec<Duration> = whole
            .iter()
            .zip(&*slowest)
            .map(|(whole, slowest)| whole.saturating_sub(*slowest))
            .collect();
        let mut text = format!(
            "\n| smoke run against a healthy app, {runs} runs | ms (median, maximum) |\n| --- | --- |\n"
        );
        for (name, times) in [
            ("the whole program", &mut *whole),
            ("of it, an empty start (`--version`)", start),
            ("the app's answers to a plain client, one after the other", sum),
            ("the slowest of them", slowest),
            (
                &*format!("the program beyond the slowest answer, at most {}", ALLOWED.as_millis()),
                &mut beyond.clone(),
            ),
        ] {
            times.sort_unstable();
            let median = times.get(times.len() / 2).copied().unwrap_or_default();
            let maximum = times.last().copied().unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | {} ({}) |", shown(median), shown(maximum));
        }
        text
    }
}

fn shown(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1_000.0)
}

/// The app in a process of its own, which ends with this value.
struct App {
    child: Child,
    address: String,
    pages: BTreeSet<String>,
}

impl App {
    fn start(programs: &Path, folder: &Path) -> Result<Self, Failure> {
        let program = |name: &str| {
            let mut command = Command::new(programs.join(name));
            let database = folder.join("smoke.db");
            command
                .current_dir(folder)
                .env("DATABASE_URL", format!("sqlite:{}", database.display()))
                .env("OMNITOOL_ENV", "local")
                .env("OMNITOOL_RELEASE", RELEASE);
            command
        };
        run_once(program("migrate-db"))?;
        let mut child = program("omnitool")
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take();
        let mut app = Self { child, address: String::new(), pages: BTreeSet::new() };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim_end().strip_prefix("listening on http://");
        app.address = address.ok_or_else(|| Failure::failed("the app does not start"))?.to_owned();
        app.pages = ["/health", "/", "/login"].map(str::to_owned).into();
        let login = app.get("/login")?;
        // The assets' addresses change with their content.
        let assets = login
            .split('"')
            .filter(|text| text.starts_with("/static/"))
            .filter(|text| text.contains(".css") || text.contains(".js"));
        app.pages.extend(assets.map(str::to_owned));
        if app.pages.len() == 3 {
            return Err(Failure::failed("the login page links no assets"));
        }
        Ok(app)
    }

    /// How long the app takes to answer for each page, one after the other.
    fn answers(&self) -> Result<Vec<Duration>, Failure> {
        self.pages
            .iter()
            .map(|page| {
                let started = Instant::now();
                let answer = self.get(page)?;
                let time = started.elapsed();
                if answer.starts_with("HTTP/1.1 200 ") {
                    Ok(time)
                } else {
                    Err(Failure::failed(format!("{page} is not answered with 200")))
                }
            })
            .collect()
    }

    fn get(&self, page: &str) -> Result<String, Failure> {
        let mut stream = TcpStream::connect(&self.address)?;
        let address = &self.address;
        let request =
            format!("GET {page} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn smoke_tests(&self, programs: &Path) -> Command {
        let mut command = Command::new(programs.join("smoke-tests"));
        let url = format!("http://{}", self.address);
        command.args(["--url", &url, "--expect-release", RELEASE, "--format", "json"]);
        command
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_the_program_beside_the_answers() {
        let times = |times: [u64; 3]| times.map(Duration::from_millis).to_vec();
        let mut times = Times {
            start: times([2, 3, 3]),
            whole: times([20, 15, 30]),
            sum: times([9, 8, 7]),
            slowest: times([4, 4, 5]),
        };
        insta::assert_snapshot!(times.table(3).trim_start(), @r"
        | smoke run against a healthy app, 3 runs | ms (median, maximum) |
        | --- | --- |
        | the whole program | 20.0 (30.0) |
        | of it, an empty start (`--version`) | 3.0 (3.0) |
        | the app's answers to a plain client, one after the other | 8.0 (9.0) |
        | the slowest of them | 4.0 (5.0) |
        | the program beyond the slowest answer, at most 100 | 16.0 (25.0) |
        ");
    }
}
