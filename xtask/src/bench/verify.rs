//! `cargo xtask bench verify`: all checks beside what each reads, asked by hand in the databases' own shells.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use omnitool_cli::Failure;

use super::target::Target;

const USERS: u32 = 100_000;
/// Half of the combinations with users are granted.
const TOOLS: u32 = 50;
/// How often each command runs, after a first time that warms the caches.
const RUNS: usize = 5;
/// How much slower than its limit a run may be.
const AT_MOST: f64 = 1.2;

/// What somebody would ask who has to do the checks by hand.
const BY_HAND: [(&str, &str); 5] = [
    (
        "4 grants without a tool",
        "SELECT count(*) FROM tool_access a LEFT JOIN tools t ON t.id = a.tool_id WHERE t.id IS NULL",
    ),
    (
        "5 grants without a user",
        "SELECT count(*) FROM tool_access a LEFT JOIN users u ON u.id = a.user_id WHERE u.id IS NULL",
    ),
    (
        "6 default tools that are missing",
        "SELECT count(*) FROM users u CROSS JOIN tools t WHERE u.is_active AND t.is_active AND t.is_default \
         AND NOT EXISTS (SELECT 1 FROM tool_access a WHERE a.user_id = u.id AND a.tool_id = t.id) \
         AND NOT EXISTS (SELECT 1 FROM tool_access_everyone e WHERE e.tool_id = t.id) \
         AND NOT EXISTS (SELECT 1 FROM tool_access_exclusion x WHERE x.user_id = u.id AND x.tool_id = t.id)",
    ),
    ("7 rows of tool_access", "SELECT count(*) FROM tool_access"),
    ("7 rows of users", "SELECT count(*) FROM users"),
];

/// What one command took.
#[derive(Clone, Copy)]
struct Sample {
    time: Duration,
    /// KiB
    memory: u64,
}

/// Fills a database of each kind, measures, and returns the tables.
///
/// # Errors
///
/// Fails where a shell is missing or a command fails.
pub(super) fn measure(root: &Path, programs: &Path) -> Result<String, Failure> {
    let folder = tempfile::tempdir()?;
    let mut text = format!("\n{USERS} users × {TOOLS} tools, medians of {RUNS} runs\n");
    for target in Target::both(root, programs, folder.path())? {
        target.prepare(USERS, TOOLS)?;
        text += &measure_target(&target)?;
    }
    Ok(text)
}

fn measure_target(target: &Target) -> Result<String, Failure> {
    let name = target.name();
    let mut text = format!("\n| {name}: by hand | time |\n| --- | --- |\n");
    let (mut slowest, mut sum) = (0.0_f64, 0.0);
    for (what, sql) in BY_HAND {
        let sample = median(|| by_hand(target, sql))?;
        let time = sample.time.as_secs_f64();
        slowest = slowest.max(time);
        sum += time;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {what} | {time:.2} s |");
    }
    let shared = connections(target)?;
    let _ = write!(
        text,
        "\n| {name}, connections: {shared} | ours | limit | ratio | at most | peak memory |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    let limits: [(&str, &[&str], f64); 2] = [
        ("all checks, beside the slowest query", &[], slowest),
        #[expect(clippy::cast_precision_loss, reason = "there are a few connections")]
        (
            "`--deep`, beside all queries divided by the connections",
            &["--deep"],
            sum / shared as f64,
        ),
    ];
    for (what, flags, limit) in limits {
        let sample = median(|| Ok(target.program("verify-migration", flags)))?;
        let time = sample.time.as_secs_f64();
        let _ = writeln!(
            text,
            "| {what} | {time:.2} s | {limit:.2} s | {:.2} | {AT_MOST} | {} MiB |",
            time / limit,
            sample.memory / 1024
        );
    }
    Ok(text)
}

/// A query in the database's own shell, as our connections run it: without compiling it first.
fn by_hand(target: &Target, sql: &str) -> Result<Command, Failure> {
    let mut command = target
        .shell(sql)
        .ok_or_else(|| Failure::failed("install the databases' shells: sqlite3 and psql"))?;
    command.env("PGOPTIONS", "-c jit=off");
    Ok(command)
}

/// How many connections share the checks, as the report says.
fn connections(target: &Target) -> Result<u64, Failure> {
    let mut command = target.program("verify-migration", &["--format", "json"]);
    let output = command.stdin(Stdio::null()).output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    report["connections"]
        .as_u64()
        .filter(|number| *number > 0)
        .ok_or_else(|| Failure::failed("the report does not say how many connections there were"))
}

fn median(prepare: impl Fn() -> Result<Command, Failure>) -> Result<Sample, Failure> {
    run(prepare()?)?;
    let mut samples = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        samples.push(run(prepare()?)?);
    }
    let memory = samples.iter().map(|sample| sample.memory).max().unwrap_or_default();
    samples.sort_by_key(|sample| sample.time);
    Ok(Sample { memory, ..samples[RUNS / 2] })
}

/// Runs `command` to its end, looking at its memory meanwhile.
fn run(mut command: Command) -> Result<Sample, Failure> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut memory = 0;
    loop {
        // The kernel keeps the peak, so that looking now and then is enough.
        if let Ok(status) = std::fs::read_to_string(&status_file) {
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
            memory = memory.max(peak.unwrap_or(0));
        }
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                let program = command.get_program().display();
                return Err(Failure::failed(format!("{program} ended with {status}")));
            }
            return Ok(Sample { time: started.elapsed(), memory });
        }
        thread::sleep(Duration::from_millis(2));
    }
}
