//! SQLite, beside `.backup` and `.restore` of the `sqlite3` shell.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use chrono::Utc;
use diesel::RunQueryDsl as _;
use omnitool_backup::{Catalog, Kind, RollbackPlan, Store, Wanted, capture, for_url};
use omnitool_database::{Mode, open};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::bench::Bench;

use crate::{alone, compare, fact, raw, restore};

const WRITE: &str = "UPDATE users SET email = coalesce(email, '') || 'x' WHERE id = 1";
/// A hundred writes per second.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn run(bench: &Bench) {
    let live = bench.file("live.db");
    let url = DatabaseUrl::sqlite(&live);
    bench.ours("migrate-db", url.expose(), &["--env", "local"]);
    bench.ours("fill-database", url.expose(), &[&bench.users, &bench.tools]);
    let megabytes = fs::metadata(&live).unwrap().len() / 1_000_000;
    let catalog = Catalog::new(&bench.file("backups"), EnvironmentName::Local);
    let store = for_url(&url).unwrap();
    let what = |text: &str| format!("SQLite, {megabytes} MB: {text}");
    captures(bench, &*store, &catalog, &live, &what);
    restores(bench, &*store, &catalog, &what);
    stalls(&url, &*store, &catalog, &what);
    let taken = bench.ours("backup-database", url.expose(), &["capture", "--folder", "backups"]);
    let restored = ["--folder", "backups", "--skip-checks", "no app here"];
    let restored = bench.ours("rollback-migration", url.expose(), &restored);
    let peak = taken.memory.max(restored.memory) / 1024;
    fact(&what("peak memory of capture and restore"), &format!("{peak} MiB"), "64 MiB");
    alone(&what("`backup-database capture`, all of it"), vec![taken.time]);
    alone(&what("`rollback-migration`, all of it"), vec![restored.time]);
}

fn captures(
    bench: &Bench,
    store: &dyn Store,
    catalog: &Catalog,
    live: &Path,
    what: &dyn Fn(&str) -> String,
) {
    let (mut ours, mut theirs, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        let _ = fs::remove_file(bench.file("raw.db"));
        theirs.push(raw(bench, "sqlite3", &[live, Path::new(".backup raw.db")]).time);
        let copy = bench.file("copy.db");
        fs::write(&copy, "").unwrap();
        let started = Instant::now();
        store.copy_to(&copy, &mut |_| ()).unwrap();
        fs::File::open(&copy).unwrap().sync_all().unwrap();
        let copied = started.elapsed();
        ours.push(copied);
        let started = Instant::now();
        capture(catalog, store, Kind::Manual, None, &mut |_| ()).unwrap();
        checks.push(started.elapsed().saturating_sub(copied));
    }
    compare(&what("capture, beside `.backup`"), ours, theirs, "1.3");
    alone(&what("checks of a capture"), checks);
}

fn restores(bench: &Bench, store: &dyn Store, catalog: &Catalog, what: &dyn Fn(&str) -> String) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut checks, mut safety) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        // As live as ours: with a log, and as large as what is restored.
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(bench.file(&format!("target.db{suffix}")));
        }
        fs::copy(bench.file("raw.db"), bench.file("target.db")).unwrap();
        let target = DatabaseUrl::sqlite(&bench.file("target.db"));
        drop(open(&target, Mode::Write).unwrap());
        let arguments = ["target.db", ".restore raw.db"].map(Path::new);
        theirs.push(raw(bench, "sqlite3", &arguments).time);

        let plan = RollbackPlan::new(catalog, store, &Wanted::Latest, Utc::now()).unwrap();
        let took = restore(&plan, catalog, store);
        ours.push(took.ours);
        checks.push(took.checks);
        safety.push(took.safety);
    }
    compare(&what("restore (staging and replacing), beside `.restore`"), ours, theirs, "1.3");
    alone(&what("checks of the staged copy"), checks);
    alone(&what("safety backup, with its checks"), safety);
}

/// How long a writer with a hundred writes per second waits at most.
fn stalls(url: &DatabaseUrl, store: &dyn Store, catalog: &Catalog, what: &dyn Fn(&str) -> String) {
    let idle = with_writer(url, || std::thread::sleep(Duration::from_secs(2)));
    fact(&what("longest write without us"), &milliseconds(idle), "–");
    let captured = with_writer(url, || {
        capture(catalog, store, Kind::Manual, None, &mut |_| ()).unwrap();
    });
    fact(&what("longest write during a capture"), &milliseconds(captured), "250 ms");
    let plan = RollbackPlan::new(catalog, store, &Wanted::Latest, Utc::now()).unwrap();
    let restored = with_writer(url, || {
        plan.apply(catalog, store, &mut |_| Ok(()), &mut |_| ()).unwrap();
    });
    fact(&what("longest write during a restore"), &milliseconds(restored), "–");
}

fn with_writer(url: &DatabaseUrl, work: impl FnOnce()) -> Duration {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut conn = open(url, Mode::Write).unwrap();
            // Only the time is of interest; a restore may take longer than the app would wait.
            diesel::sql_query("PRAGMA busy_timeout = 60000").execute(&mut conn).unwrap();
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let started = Instant::now();
                diesel::sql_query(WRITE).execute(&mut conn).unwrap();
                longest = longest.max(started.elapsed());
                std::thread::sleep(PAUSE);
            }
            longest
        });
        work();
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    })
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
