//! Measures export and import beside the raw limit: the databases' own shells doing the same work in the same run.
//!
//! ```text
//! cargo build --release --bins
//! target/release/with-postgres --durable \
//!     cargo run --release --example bench_access -- target/release 100000x50 3
//! ```
//!
//! Needs `sqlite3` and `psql`. Both sides work on the same schema with the same keys, read the same facts in the same
//! order, and check foreign keys once. The raw side gets keys
//! instead of names, and writes no history; ours reads names from JSON and appends an event for each fact.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const ORDERED: &str = "FROM tool_access AS a JOIN users AS u ON u.id = a.user_id \
                       JOIN tools AS t ON t.id = a.tool_id ORDER BY t.name, u.username";
const MISSING: &str = "SELECT DISTINCT user_id, tool_id, 'import' FROM s WHERE NOT EXISTS \
     (SELECT 1 FROM tool_access AS t WHERE t.user_id = s.user_id AND t.tool_id = s.tool_id)";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [programs, size, runs] = arguments.as_slice() else {
        println!("usage: with-postgres --durable bench_access PROGRAMS USERSxTOOLS RUNS");
        return;
    };
    let server =
        std::env::var("OMNITOOL_TEST_POSTGRES_URL").expect("run it inside of with-postgres");
    let (users, tools) = size.split_once('x').expect("such as 1000x20");
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        programs: fs::canonicalize(programs).unwrap(),
        folder: folder.path().to_owned(),
        server: server.rsplit_once('/').unwrap().0.to_owned(),
        runs: runs.parse().unwrap(),
    };
    bench.prepare(users, tools);
    println!("{users} users × {tools} tools, {runs} runs, medians\n");
    println!("| | ours | raw | ratio | peak memory |\n| --- | --- | --- | --- | --- |");
    bench.sqlite();
    bench.postgres();
}

struct Bench {
    programs: PathBuf,
    folder: PathBuf,
    server: String,
    runs: usize,
}

/// How long a command took, and the most memory that it had.
#[derive(Clone, Copy)]
struct Sample {
    time: Duration,
    memory: u64,
}

impl Bench {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn sqlite_url(&self, name: &str) -> String {
        format!("sqlite:{}", self.file(name).display())
    }

    fn ours(&self, program: &str, url: &str, arguments: &[&str]) -> Sample {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder).env("DATABASE_URL", url).args(arguments);
        measure(command)
    }

    fn shell(&self, database: &str, script: &str) -> Sample {
        let file = self.file("script.sql");
        fs::write(&file, script).unwrap();
        let mut command = Command::new("sqlite3");
        command
            .current_dir(&self.folder)
            .arg("-bail")
            .arg(self.file(database))
            .arg(".read script.sql");
        measure(command)
    }

    fn psql(&self, database: &str, script: &str) -> Sample {
        let file = self.file("script.sql");
        fs::write(&file, script).unwrap();
        let mut command = Command::new("psql");
        command.current_dir(&self.folder).args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            "script.sql",
        ]);
        command.arg(format!("{}/{database}", self.server));
        measure(command)
    }

    /// Fills a source of each kind, an export, the same facts as keys, and empty targets.
    fn prepare(&self, users: &str, tools: &str) {
        self.psql("postgres", "CREATE DATABASE source");
        for url in [self.sqlite_url("source.db"), format!("{}/source", self.server)] {
            self.ours("migrate-db", &url, &["--env", "local"]);
            self.ours("fill-database", &url, &[users, tools]);
        }
        self.ours(
            "export-tool-access",
            &self.sqlite_url("source.db"),
            &["--output", "export.json"],
        );
        let keys =
            format!(".mode tabs\n.output keys.tsv\nSELECT a.user_id, a.tool_id {ORDERED};\n");
        self.shell("source.db", &keys);
        fs::copy(self.file("source.db"), self.file("empty.db")).unwrap();
        self.shell("empty.db", "DELETE FROM tool_access; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
        self.psql("postgres", "CREATE DATABASE empty TEMPLATE source");
        self.psql("empty", "TRUNCATE tool_access;\nVACUUM ANALYZE;");
    }

    fn fresh_sqlite(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.file(&format!("target.db{suffix}")));
        }
        fs::copy(self.file("empty.db"), self.file("target.db")).unwrap();
    }

    fn fresh_postgres(&self) {
        self.psql("postgres", "DROP DATABASE IF EXISTS target WITH (FORCE);\nCREATE DATABASE target TEMPLATE empty;\nCHECKPOINT;");
    }

    fn sqlite(&self) {
        let url = self.sqlite_url("target.db");
        let import = |order: &str| {
            format!(
                "PRAGMA foreign_keys = OFF;\nPRAGMA synchronous = NORMAL;\n\
                 CREATE TEMPORARY TABLE s (user_id BIGINT, tool_id BIGINT);\nBEGIN IMMEDIATE;\n\
                 .mode tabs\n.import keys.tsv s\n\
                 INSERT INTO tool_access (user_id, tool_id, origin) {MISSING}{order};\n\
                 SELECT count(*) FROM s WHERE user_id NOT IN (SELECT id FROM users) OR tool_id NOT IN (SELECT id FROM tools);\nCOMMIT;\n"
            )
        };
        let export = format!(".output raw.txt\nSELECT t.name, u.username {ORDERED};\n");
        let (mut ours, mut raw) = (Phases::default(), Phases::default());
        for _ in 0..self.runs {
            self.fresh_sqlite();
            raw.merge.push(self.shell("target.db", &import(" ORDER BY 1, 2")));
            raw.again.push(self.shell("target.db", &import("")));
            raw.export.push(self.shell("target.db", &export));
            self.fresh_sqlite();
            self.measure_ours(&url, &mut ours);
        }
        report("SQLite", &ours, &raw);
    }

    fn postgres(&self) {
        let url = format!("{}/target", self.server);
        let stage = "BEGIN;\nSET LOCAL work_mem = '64MB';\n\
             CREATE TEMPORARY TABLE s (user_id bigint NOT NULL, tool_id bigint NOT NULL) ON COMMIT DROP;\n\
             \\copy s FROM 'keys.tsv'\nANALYZE s;\nLOCK TABLE tool_access IN SHARE ROW EXCLUSIVE MODE;\n";
        let merge = format!(
            "{stage}ALTER TABLE tool_access DROP CONSTRAINT tool_access_user_id_fkey, \
             DROP CONSTRAINT tool_access_tool_id_fkey;\n\
             INSERT INTO tool_access (user_id, tool_id, origin) {MISSING} ORDER BY 1, 2;\n\
             ALTER TABLE tool_access ADD CONSTRAINT tool_access_user_id_fkey FOREIGN KEY (user_id) \
             REFERENCES users ON DELETE CASCADE, ADD CONSTRAINT tool_access_tool_id_fkey \
             FOREIGN KEY (tool_id) REFERENCES tools ON DELETE CASCADE;\nCOMMIT;\n"
        );
        let again = format!(
            "{stage}INSERT INTO tool_access (user_id, tool_id, origin) {MISSING};\nCOMMIT;\n"
        );
        let export = format!("\\copy (SELECT t.name, u.username {ORDERED}) TO 'raw.txt'\n");
        let (mut ours, mut raw) = (Phases::default(), Phases::default());
        for _ in 0..self.runs {
            self.fresh_postgres();
            raw.merge.push(self.psql("target", &merge));
            self.psql("target", "VACUUM ANALYZE tool_access;");
            raw.again.push(self.psql("target", &again));
            raw.export.push(self.psql("target", &export));
            self.fresh_postgres();
            self.measure_ours(&url, &mut ours);
        }
        report("PostgreSQL", &ours, &raw);
    }

    fn measure_ours(&self, url: &str, phases: &mut Phases) {
        let import = ["--source", "export.json"];
        let dry = [&import[..], &["--dry-run"]].concat();
        phases.dry.push(self.ours("import-tool-access", url, &dry));
        phases.merge.push(self.ours("import-tool-access", url, &import));
        if url.starts_with("postgres") {
            self.psql("target", "VACUUM ANALYZE tool_access;");
        }
        phases.again.push(self.ours("import-tool-access", url, &import));
        phases.export.push(self.ours("export-tool-access", url, &["--output", "again.json"]));
        assert!(same(&self.file("export.json"), &self.file("again.json")), "another export");
    }
}

#[derive(Default)]
struct Phases {
    dry: Vec<Sample>,
    merge: Vec<Sample>,
    again: Vec<Sample>,
    export: Vec<Sample>,
}

fn report(system: &str, ours: &Phases, raw: &Phases) {
    let rows = [
        ("merge into an empty target", &ours.merge, &raw.merge),
        ("dry run of it, beside our merge", &ours.dry, &ours.merge),
        ("merge again, nothing to do", &ours.again, &raw.again),
        ("export", &ours.export, &raw.export),
    ];
    for (what, ours, raw) in rows {
        let (our_time, raw_time) = (median(ours), median(raw));
        let memory = ours.iter().map(|sample| sample.memory).max().unwrap_or(0);
        println!(
            "| {system}: {what} | {our_time:.2} s | {raw_time:.2} s | {:.2} | {} MiB |",
            our_time / raw_time,
            memory / 1024
        );
    }
}

fn median(samples: &[Sample]) -> f64 {
    let mut times: Vec<f64> = samples.iter().map(|sample| sample.time.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Runs `command` to its end, looking at its memory meanwhile.
fn measure(mut command: Command) -> Sample {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let status_file = format!("/proc/{}/status", child.id());
    let mut memory = 0;
    loop {
        // The kernel keeps the peak, so that looking now and then is enough.
        if let Ok(text) = fs::read_to_string(&status_file) {
            let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
            memory = memory.max(peak.unwrap_or(0));
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?} failed");
            return Sample { time: started.elapsed(), memory };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn same(left: &Path, right: &Path) -> bool {
    fs::read(left).unwrap() == fs::read(right).unwrap()
}
