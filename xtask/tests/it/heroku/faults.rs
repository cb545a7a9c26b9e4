//! Whatever goes wrong on Heroku's side in whatever step of a deployment with the real programs: the step is done, or the run
//! stops there, says where the database stands and names the command that completes it; and nothing happens twice.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    process::{Command, Output},
    thread,
    time::Duration,
};

use omnitool_heroku::Transfer;
use omnitool_heroku_emulator::{Fault, FaultKind};
use omnitool_pipeline::{Event, StepId, StepOutcome, read_journal};

use super::{ON_HEROKU, PRODUCTION, STAGING, World, go_on};
use crate::project::{eventually, stderr, stdout};

/// As many times as nobody waits for.
const ALWAYS: u32 = 1000;

/// All that can go wrong, each with its name.
fn troubles(app: &str) -> Vec<(String, Fault)> {
    let mut troubles = Vec::new();
    let releases = format!("=/apps/{app}/releases");
    for (requests, method, path) in [
        ("any request", None, ""),
        ("POST", Some("POST"), ""),
        ("POST /releases", Some("POST"), releases.as_str()),
        ("PATCH", Some("PATCH"), ""),
        ("DELETE", Some("DELETE"), ""),
    ] {
        for (name, kind, times) in [
            ("429 twice", FaultKind::Status(429), 2),
            ("503 twice", FaultKind::Status(503), 2),
            ("503 always", FaultKind::Status(503), ALWAYS),
            ("a lost answer", FaultKind::LoseAnswer, 1),
            ("two lost answers", FaultKind::LoseAnswer, 2),
            ("a gateway that gives up", FaultKind::LateStatus(504), 1),
            ("a slow answer", FaultKind::Drip(1), 1),
            ("a page instead of JSON", FaultKind::Html, 1),
        ] {
            let (method, path) = (method.map(str::to_owned), path.to_owned());
            troubles.push((format!("{requests}: {name}"), Fault { kind, method, path, times }));
        }
    }
    for (name, kind) in [
        ("a transfer that fails", FaultKind::FailTransfer),
        ("a transfer that warns", FaultKind::WarnTransfer),
        ("a download's address that has expired", FaultKind::ExpiredUrl),
        ("a release phase that fails", FaultKind::FailReleasePhase),
        ("a dyno that never starts", FaultKind::NeverStart),
        ("a dyno that is killed", FaultKind::Kill(0)),
        ("a dyno that runs twice", FaultKind::RunTwice),
        ("a console in pieces", FaultKind::SplitConsole),
        ("a console all at once", FaultKind::CoalesceConsole),
        ("a console without its last line", FaultKind::DropConsole),
    ] {
        let fault = Fault { kind, method: None, path: String::new(), times: 1 };
        troubles.push((name.to_owned(), fault));
    }
    troubles
}

/// An environment that is deployed to while something goes wrong.
struct Site<'a> {
    world: &'a World,
    environment: &'static str,
    app: &'static str,
    /// Where production's data is copied, and only that is disturbed.
    refreshes: bool,
}

/// What deployments have done so far: how often each thing, and the backups that there are, since old ones are removed.
#[derive(Debug)]
struct Effects {
    counts: Vec<usize>,
    backups: BTreeSet<String>,
}

impl Effects {
    /// What has happened since.
    fn since(&self, before: &Self) -> Vec<usize> {
        let counts = self.counts.iter().zip(&before.counts).map(|(after, before)| after - before);
        counts.chain([self.backups.difference(&before.backups).count()]).collect()
    }
}

/// Those that deployments write to.
const TABLES: [&str; 5] =
    ["migration_ledger", "tools", "tool_access", "tool_access_everyone", "tool_access_event"];

const REFRESHING: [&str; 3] = ["--platform", "heroku", "--refresh-data"];

/// Hooks let the test know which step begins, and wait until it has seen that.
const HOOK: &str = "cd .omnitool\necho \"$OMNITOOL_STEP\" > begins.partial && mv begins.partial begins\n\
                    while [ -e begins ]; do sleep 0.01; done";

impl Site<'_> {
    fn deploy(&self, arguments: &[&str]) -> Output {
        match self.environment {
            "production" => {
                let more = ["--no-require-rehearsal"];
                let all: Vec<&str> = arguments.iter().chain(&more).copied().collect();
                self.world.project.deploy_production(&all)
            }
            _ => self.world.project.deploy(arguments),
        }
    }

    /// Deploys, and calls `begins` with each step before it does anything.
    fn watch(&self, arguments: &[&str], mut begins: impl FnMut(StepId)) -> Output {
        let file = self.world.project.root().join(".omnitool/begins");
        thread::scope(|scope| {
            let run = scope.spawn(|| self.deploy(arguments));
            while !run.is_finished() {
                if let Ok(step) = fs::read_to_string(&file) {
                    begins(step.trim().parse().unwrap());
                    fs::remove_file(&file).unwrap();
                }
                thread::sleep(Duration::from_millis(5));
            }
            run.join().unwrap()
        })
    }

    fn sql(&self, statement: &str) -> String {
        let config = self.world.client().config_vars(self.app).unwrap();
        let url = config["DATABASE_URL"].expose();
        let output = Command::new("psql").args(["-XqtA", url, "-c", statement]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    }

    /// Takes back some of what deployments do, so that the next one has something to do in each step.
    fn prepare(&self) {
        let unset = [("OMNITOOL_ENV".to_owned(), None)].into();
        self.world.client().set_config_vars(self.app, &unset).unwrap();
        eventually(|| self.world.releases(self.app).last().unwrap().ends_with(" succeeded"));
        self.sql(
            "DELETE FROM tool_access; DELETE FROM tool_access_everyone; \
             DELETE FROM tools WHERE name = 'Inventory'",
        );
    }

    fn effects(&self) -> Effects {
        let releases = self.world.releases(self.app);
        let count = |what: &str, end: &str| {
            releases.iter().filter(|text| text.starts_with(what) && text.ends_with(end)).count()
        };
        let transfers = self.world.client().transfers(self.app).unwrap();
        let good = transfers.iter().filter(|one| one.succeeded == Some(true) && one.warnings == 0);
        // Variables are set also where the release phase fails then.
        let mut counts = vec![count("Deploy ", " succeeded"), count("Set OMNITOOL_ENV ", "")];
        if self.refreshes {
            // The database is another one then.
            let addons = self.world.client().addons(self.app).unwrap().len();
            counts.extend([count("Attach DATABASE ", " succeeded"), addons]);
        } else {
            counts.extend(TABLES.map(|table| {
                self.sql(&format!("SELECT count(*) FROM {table}")).trim().parse::<usize>().unwrap()
            }));
        }
        Effects { counts, backups: good.map(Transfer::name).collect() }
    }

    fn disturbs(&self, step: StepId) -> bool {
        !self.refreshes || step == StepId::Refresh
    }

    /// Deploys once more while `fault` happens; returns what became of the steps, and what has happened.
    fn survive(&self, name: &str, fault: Option<&Fault>) -> (String, Vec<usize>) {
        self.prepare();
        let before = self.effects();
        (self.walk(name, fault), self.effects().since(&before))
    }

    /// Deploys while `fault` happens once in each step in which it can, and goes on as the run says that stopped. Returns what
    /// became of those steps.
    fn walk(&self, name: &str, fault: Option<&Fault>) -> String {
        let mut met: Vec<StepId> = Vec::new();
        let mut told = String::new();
        let flags = if self.refreshes { &REFRESHING[..] } else { &ON_HEROKU[..] };
        let mut arguments: Vec<String> = flags.iter().copied().map(str::to_owned).collect();
        loop {
            let known = met.len();
            let mut waiting = None;
            let mut look = |next: Option<StepId>| {
                let emulator = &self.world.emulator;
                let happened = !emulator.faults().iter().any(|left| Some(left) == fault);
                met.extend(waiting.take().filter(|_| happened));
                emulator.heal();
                if let Some(fault) = fault {
                    waiting = next.filter(|next| !met.contains(next) && self.disturbs(*next));
                    waiting.iter().for_each(|_| emulator.fault(fault.clone()));
                }
            };
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = self.watch(&words, |step| look(Some(step)));
            look(None);
            let text = stdout(&output);
            let case = format!("{name}: {:?}\n{text}{}", &met[known..], stderr(&output));
            for (step, outcome) in self.outcomes(&text) {
                let outcome = match outcome {
                    StepOutcome::Failed { .. } => {
                        assert!(met[known..].contains(&step), "{case}");
                        format!("stops, database {}", standing(&text))
                    }
                    StepOutcome::Done => "done".to_owned(),
                    StepOutcome::Warned { reason } => format!("warns: {reason}"),
                    StepOutcome::Skipped { .. } | StepOutcome::Kept { .. } => continue,
                    other => panic!("{other:?}: {case}"),
                };
                if met[known..].contains(&step) {
                    write!(told, "\n    {step}: {outcome}").unwrap();
                }
            }
            match output.status.code() {
                Some(0) => break,
                Some(1) if met.len() > known => {}
                _ => panic!("{case}"),
            }
            arguments = go_on(&text).into_iter().map(str::to_owned).collect();
        }
        told
    }

    /// How the steps ended of the run that printed `text`.
    fn outcomes(&self, text: &str) -> Vec<(StepId, StepOutcome)> {
        let journal = text.lines().find_map(|line| line.strip_prefix("  journal    ")).unwrap();
        let records = read_journal(&self.world.project.root().join(journal)).unwrap();
        let ended = records.into_iter().filter_map(|record| match record.event {
            Event::StepEnded { step, outcome, .. } => Some((step, outcome)),
            _ => None,
        });
        ended.collect()
    }
}

/// The last that a run which stopped says about the database, without the numbers of releases and of the schema.
fn standing(text: &str) -> String {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("  database   "));
    let words = line.unwrap().split(' ').map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let digits = bare.bytes().filter(u8::is_ascii_digit).count();
        if digits > 3 || (digits > 0 && bare.starts_with('v')) {
            word.replace(bare, "N")
        } else {
            word.to_owned()
        }
    });
    let said = words.collect::<Vec<_>>().join(" ");
    // How many migrations there are is no news.
    match said.split_once(" migrations applied") {
        Some((before, rest)) => {
            let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
            format!("{before}N migrations applied{rest}")
        }
        None => said,
    }
}

/// What becomes of each step that something goes wrong in.
fn table(site: &Site<'_>, troubles: Vec<(String, Fault)>, once: &[usize]) -> String {
    assert_eq!(site.survive("nothing goes wrong", None).1, once);
    let mut table = String::new();
    for (name, fault) in troubles {
        let (told, effects) = site.survive(&name, Some(&fault));
        assert_eq!(effects, once, "{name}{told}");
        writeln!(table, "{name}{told}").unwrap();
    }
    table
}

/// Empty apps.
fn empty(world: &World) -> [Site<'_>; 2] {
    for step in StepId::ALL {
        world.project.hook(&format!("before-{step}"), HOOK);
    }
    world.project.init_git();
    [("staging", STAGING), ("production", PRODUCTION)].map(|(environment, app)| Site {
        world,
        environment,
        app,
        refreshes: false,
    })
}

/// Apps that serve a first release.
fn served(world: &World) -> [Site<'_>; 2] {
    let sites = empty(world);
    for site in &sites {
        let output = site.watch(&ON_HEROKU, |_| {});
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        // Somebody may use tools.
        site.sql("INSERT INTO users (username, password_hash) VALUES ('alice', '!')");
    }
    sites
}

/// Deploys to an empty app while `fault` happens; returns what became of the steps, and what has happened.
fn begin(name: &str, fault: Option<&Fault>) -> (String, Vec<usize>) {
    let world = World::with_real_programs();
    let [staging, _] = empty(&world);
    let told = staging.walk(name, fault);
    let Effects { counts, backups } = staging.effects();
    (told, counts.into_iter().chain([backups.len()]).collect())
}

/// What a deployment does that is prepared for: a release, variables that are set, no migration, a tool that is made again,
/// what alice and everybody may use, and a backup.
const ONCE: [usize; 8] = [1, 1, 0, 1, 10, 1, 11, 1];

#[test]
fn whatever_goes_wrong_in_whatever_step_of_a_first_deployment_the_run_can_be_completed() {
    let (_, once) = begin("nothing goes wrong", None);
    assert_eq!(once[..2], [1, 1], "a release, and variables that are set");
    let mut table = String::new();
    for (name, fault) in troubles(STAGING) {
        let (told, effects) = begin(&name, Some(&fault));
        assert_eq!(effects, once, "{name}{told}");
        writeln!(table, "{name}{told}").unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn whatever_goes_wrong_in_whatever_step_of_staging_the_run_can_be_completed() {
    let world = World::with_real_programs();
    let [staging, _] = served(&world);
    insta::assert_snapshot!(table(&staging, troubles(STAGING), &ONCE));
}

#[test]
fn whatever_goes_wrong_in_whatever_step_of_production_the_run_can_be_completed() {
    let world = World::with_real_programs();
    let [_, production] = served(&world);
    insta::assert_snapshot!(table(&production, troubles(PRODUCTION), &ONCE));
}

#[test]
fn whatever_goes_wrong_while_production_s_data_is_copied_the_run_can_be_completed() {
    let world = World::with_real_programs();
    let [staging, _] = served(&world);
    let staging = Site { refreshes: true, ..staging };
    let releases = format!("=/apps/{STAGING}/releases");
    let mut troubles: Vec<(String, Fault)> = troubles(STAGING)
        .into_iter()
        .filter(|(name, _)| name.starts_with("any request") || name.starts_with("a transfer"))
        .collect();
    for (name, kind, method, path, times) in [
        ("PUT: 503 always", FaultKind::Status(503), Some("PUT"), "", ALWAYS),
        ("PUT: a lost answer", FaultKind::LoseAnswer, Some("PUT"), "", 1),
        ("POST: a lost answer", FaultKind::LoseAnswer, Some("POST"), "", 1),
        ("GET /releases: 503 always", FaultKind::Status(503), Some("GET"), &releases, ALWAYS),
        ("GET /releases: a page instead of JSON", FaultKind::Html, Some("GET"), &releases, 1),
        ("a follower that lags behind", FaultKind::FollowerBehind, None, "", 3),
    ] {
        let (method, path) = (method.map(str::to_owned), path.to_owned());
        troubles.push((name.to_owned(), Fault { kind, method, path, times }));
    }
    // A release, variables, the promotion of the copy, the copy, and two backups.
    insta::assert_snapshot!(table(&staging, troubles, &[1, 1, 1, 1, 2]));
}
