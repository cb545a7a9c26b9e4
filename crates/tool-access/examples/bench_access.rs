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

use std::{fs, path::Path};

use omnitool_testing::bench::{Bench, Sample, median};

const ORDERED: &str = "FROM tool_access AS a JOIN users AS u ON u.id = a.user_id \
                       JOIN tools AS t ON t.id = a.tool_id ORDER BY t.name, u.username";
const MISSING: &str = "SELECT DISTINCT user_id, tool_id, 'import' FROM s WHERE NOT EXISTS \
     (SELECT 1 FROM tool_access AS t WHERE t.user_id = s.user_id AND t.tool_id = s.tool_id)";

fn main() {
    let bench = Access(Bench::from_arguments());
    bench.prepare();
    println!("{}", bench.0.heading());
    println!("| | ours | raw | ratio | peak memory |\n| --- | --- | --- | --- | --- |");
    bench.sqlite();
    bench.postgres();
}

struct Access(Bench);

impl Access {
    /// Fills a source of each kind, an export, the same facts as keys, and empty targets.
    fn prepare(&self) {
        let Self(bench) = self;
        bench.psql("postgres", "CREATE DATABASE source");
        for url in [bench.sqlite_url("source"), bench.postgres_url("source")] {
            bench.ours("migrate-db", &url, &["--env", "local"]);
            bench.ours("fill-database", &url, &[&bench.users, &bench.tools]);
        }
        let export = ["--output", "export.json"];
        bench.ours("export-tool-access", &bench.sqlite_url("source"), &export);
        let keys =
            format!(".mode tabs\n.output keys.tsv\nSELECT a.user_id, a.tool_id {ORDERED};\n");
        bench.sqlite3("source", &keys);
        fs::copy(bench.file("source.db"), bench.file("empty.db")).unwrap();
        bench.sqlite3("empty", "DELETE FROM tool_access; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
        bench.psql("postgres", "CREATE DATABASE empty TEMPLATE source");
        bench.psql("empty", "TRUNCATE tool_access;\nVACUUM ANALYZE;");
    }

    fn fresh_sqlite(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.0.file(&format!("target.db{suffix}")));
        }
        fs::copy(self.0.file("empty.db"), self.0.file("target.db")).unwrap();
    }

    fn fresh_postgres(&self) {
        self.0.psql("postgres", "DROP DATABASE IF EXISTS target WITH (FORCE);\nCREATE DATABASE target TEMPLATE empty;\nCHECKPOINT;");
    }

    fn sqlite(&self) {
        let url = self.0.sqlite_url("target");
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
        for _ in 0..self.0.runs {
            self.fresh_sqlite();
            raw.merge.push(self.0.sqlite3("target", &import(" ORDER BY 1, 2")));
            raw.again.push(self.0.sqlite3("target", &import("")));
            raw.export.push(self.0.sqlite3("target", &export));
            self.fresh_sqlite();
            self.measure_ours(&url, &mut ours);
        }
        report("SQLite", &ours, &raw);
    }

    fn postgres(&self) {
        let url = self.0.postgres_url("target");
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
        for _ in 0..self.0.runs {
            self.fresh_postgres();
            raw.merge.push(self.0.psql("target", &merge));
            self.0.psql("target", "VACUUM ANALYZE tool_access;");
            raw.again.push(self.0.psql("target", &again));
            raw.export.push(self.0.psql("target", &export));
            self.fresh_postgres();
            self.measure_ours(&url, &mut ours);
        }
        report("PostgreSQL", &ours, &raw);
    }

    fn measure_ours(&self, url: &str, phases: &mut Phases) {
        let import = ["--source", "export.json"];
        let dry = [&import[..], &["--dry-run"]].concat();
        phases.dry.push(self.0.ours("import-tool-access", url, &dry));
        phases.merge.push(self.0.ours("import-tool-access", url, &import));
        if url.starts_with("postgres") {
            self.0.psql("target", "VACUUM ANALYZE tool_access;");
        }
        phases.again.push(self.0.ours("import-tool-access", url, &import));
        phases.export.push(self.0.ours("export-tool-access", url, &["--output", "again.json"]));
        assert!(same(&self.0.file("export.json"), &self.0.file("again.json")), "another export");
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
        let time = |samples: &[Sample]| median(samples.iter().map(|sample| sample.time));
        let (our_time, raw_time) = (time(ours), time(raw));
        let memory = ours.iter().map(|sample| sample.memory).max().unwrap_or(0);
        println!(
            "| {system}: {what} | {our_time:.2} s | {raw_time:.2} s | {:.2} | {} MiB |",
            our_time / raw_time,
            memory / 1024
        );
    }
}

fn same(left: &Path, right: &Path) -> bool {
    fs::read(left).unwrap() == fs::read(right).unwrap()
}
