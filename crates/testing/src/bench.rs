//! What benchmarks that compare programs with the databases' own shells have in common.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::SERVER_URL_VARIABLE;

/// A benchmark: what it measures, and a folder for its files that goes with it.
pub struct Bench {
    /// How many users the database has.
    pub users: String,
    /// How many tools the database has.
    pub tools: String,
    /// How often each phase runs.
    pub runs: usize,
    programs: PathBuf,
    folder: tempfile::TempDir,
    server: String,
}

/// How long a command took, and the most memory that it had.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From its start to its end.
    pub time: Duration,
    /// In KiB.
    pub memory: u64,
}

impl Bench {
    /// The benchmark that the arguments `PROGRAMS USERSxTOOLS RUNS` of this process ask for.
    ///
    /// # Panics
    ///
    /// Where they are others, or where this process does not run inside of `with-postgres`.
    #[must_use]
    pub fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [programs, size, runs] = arguments.as_slice() else {
            panic!("usage: with-postgres --durable BENCHMARK PROGRAMS USERSxTOOLS RUNS");
        };
        let (users, tools) = size.split_once('x').expect("a size such as 1000x20");
        let server = std::env::var(SERVER_URL_VARIABLE).expect("run it inside of with-postgres");
        Self {
            users: users.to_owned(),
            tools: tools.to_owned(),
            runs: runs.parse().expect("how often each phase runs"),
            programs: fs::canonicalize(programs).unwrap(),
            folder: tempfile::tempdir().unwrap(),
            server: server.rsplit_once('/').unwrap().0.to_owned(),
        }
    }

    /// What was asked for, as the line above a table.
    #[must_use]
    pub fn heading(&self) -> String {
        let Self { users, tools, runs, .. } = self;
        format!("{users} users × {tools} tools, {runs} runs, medians\n")
    }

    /// The file or folder `name` of this benchmark.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The URL of the SQLite database in the file `NAME.db`.
    #[must_use]
    pub fn sqlite_url(&self, name: &str) -> String {
        format!("sqlite:{}", self.file(&format!("{name}.db")).display())
    }

    /// The URL of the PostgreSQL database `name`.
    #[must_use]
    pub fn postgres_url(&self, name: &str) -> String {
        format!("{}/{name}", self.server)
    }

    /// A program of ours on the database `url`.
    #[must_use]
    pub fn program(&self, program: &str, url: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(self.programs.join(program));
        command.env("DATABASE_URL", url).args(arguments);
        command
    }

    /// Somebody else's program, in the folder of this benchmark.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(self.folder.path());
        command
    }

    /// Runs a program of ours on the database `url`.
    pub fn ours(&self, program: &str, url: &str, arguments: &[&str]) -> Sample {
        measure(self.program(program, url, arguments))
    }

    /// Lets SQLite's shell run `script` on the file `NAME.db`.
    pub fn sqlite3(&self, name: &str, script: &str) -> Sample {
        fs::write(self.file("script.sql"), script).unwrap();
        let mut command = self.command("sqlite3");
        measure_mut(command.arg("-bail").arg(format!("{name}.db")).arg(".read script.sql"))
    }

    /// Lets `psql` run `script` on the database `name`.
    pub fn psql(&self, name: &str, script: &str) -> Sample {
        fs::write(self.file("script.sql"), script).unwrap();
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "script.sql"]);
        measure_mut(command.arg(self.postgres_url(name)))
    }
}

/// Runs `command` to its end, looking at its memory meanwhile.
///
/// # Panics
///
/// Where it fails, since the time of a failure says nothing.
#[must_use]
pub fn measure(mut command: Command) -> Sample {
    measure_mut(&mut command)
}

fn measure_mut(command: &mut Command) -> Sample {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let mut memory = 0;
    loop {
        // The kernel keeps the peak, so that looking now and then is enough.
        memory = memory.max(peak_memory(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?} failed");
            return Sample { time: started.elapsed(), memory };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The most memory that the process `id` ever had, in KiB; nothing where it has ended.
#[must_use]
pub fn peak_memory(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.trim().trim_end_matches(" kB").parse().ok()
}

/// The median of `times`, in seconds.
#[must_use]
pub fn median(times: impl IntoIterator<Item = Duration>) -> f64 {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
