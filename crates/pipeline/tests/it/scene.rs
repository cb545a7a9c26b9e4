//! Where runs take place, and runs in processes of their own, which can be killed.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use chrono::Utc;
use omnitool_environment::{DatabaseUrl, EnvironmentName, Url};
use omnitool_pipeline::{
    Aftermath, ArtifactSource, Continuation, DeployLock, DeployOptions, Event, Executor,
    HerokuPlatform, Holder, Home, Journal, LocalPlatform, Plan, Platform, ProductionOptions,
    RunInfo, RunReport, Serving, Settings, Sink, Site, Situation, Variable, Waiting,
    WriteJournalError, pack_artifact, read_journal, run,
};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

use crate::heroku::{APP, Account, TOKEN};

/// An environment of a project on some platform: all that a process has to know to run a plan there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(crate) environment: EnvironmentName,
    /// The project's root.
    pub(crate) root: PathBuf,
    pub(crate) base_url: Url,
    /// Where it is an app on Heroku.
    pub(crate) heroku: Option<Account>,
}

/// What a run left behind.
pub(crate) struct Ran {
    pub(crate) report: RunReport,
    pub(crate) aftermath: Aftermath,
    pub(crate) serving: Serving,
}

impl Scene {
    pub(crate) fn site(&self) -> Site {
        let home = match &self.heroku {
            Some(_) => Home::Heroku {
                app: APP.to_owned(),
                staging: None,
                access: vec![Variable::secret("HEROKU_API_KEY", TOKEN)],
            },
            None => Home::Local {
                database_url: DatabaseUrl::sqlite(&self.folder().join("omnitool.db")),
            },
        };
        let (root, base_url) = (self.root.clone(), self.base_url.clone());
        Site { environment: self.environment, home, root, base_url }
    }

    /// Where this machine keeps what belongs to the environment.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join(".omnitool").join(self.environment.as_str())
    }

    pub(crate) fn platform(&self) -> Box<dyn Platform> {
        let folder = self.folder();
        fs::create_dir_all(&folder).unwrap();
        match &self.heroku {
            Some(account) => {
                Box::new(HerokuPlatform::new(&self.site(), account.settings(), folder).unwrap())
            }
            None => Box::new(LocalPlatform::new(&self.site()).unwrap()),
        }
    }

    pub(crate) fn look(&self) -> Situation {
        self.platform().look().unwrap()
    }

    pub(crate) fn source(&self) -> ArtifactSource {
        let (programs, root) = (self.root.join("programs"), self.root.clone());
        ArtifactSource { programs, root, revision: None }
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join(".omnitool/artifacts")
    }

    /// Where journals are.
    pub(crate) fn runs(&self) -> PathBuf {
        self.folder().join("runs")
    }

    pub(crate) fn plan(&self, situation: &Situation, settings: Settings) -> Plan {
        let (site, options) = (self.site(), DeployOptions { settings, ..DeployOptions::default() });
        if self.environment != EnvironmentName::Production {
            return Plan::staging(&site, situation, options);
        }
        let artifact = pack_artifact(&self.source(), &self.artifacts()).unwrap();
        let found = vec!["approved".to_owned()];
        let gate = ProductionOptions { artifact: Some(artifact.sha256), found, rehearsed: None };
        Plan::production(&site, situation, options, gate)
    }

    /// Runs `plan` in this process.
    pub(crate) fn run(
        &self,
        plan: &Plan,
        info: &RunInfo,
        sink: &mut dyn Sink,
        interrupted: &dyn Fn() -> bool,
    ) -> Ran {
        self.run_locked(plan, info, sink, interrupted, None)
    }

    fn run_locked(
        &self,
        plan: &Plan,
        info: &RunInfo,
        sink: &mut dyn Sink,
        interrupted: &dyn Fn() -> bool,
        lock: Option<&DeployLock>,
    ) -> Ran {
        let mut platform = self.platform();
        let mut executor =
            Executor::new(plan, &info.run, &mut *platform, self.source(), self.artifacts());
        if let Some(lock) = lock {
            executor.share(lock).unwrap();
        }
        if let Some(continuation) = &info.continues {
            executor.take_over(continuation).unwrap();
        }
        let report = run(plan, info, &mut executor, sink, interrupted);
        let (aftermath, serving) = executor.finish();
        Ran { report, aftermath, serving }
    }
}

/// A run of this name.
pub(crate) fn info(run: &str) -> RunInfo {
    RunInfo {
        run: run.to_owned(),
        user: "ann".to_owned(),
        host: None,
        revision: None,
        continues: None,
    }
}

fn holder(run: &str) -> Holder {
    Holder {
        user: "ann".to_owned(),
        pid: std::process::id(),
        host: None,
        since: Utc::now().to_rfc3339(),
        run: run.to_owned(),
        commit: None,
    }
}

/// When a run is killed, counted in events.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Death {
    /// When this event is written down.
    After(usize),
    /// When what it tells has happened, before it is written down.
    Before(usize),
}

/// A run in a process of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) scene: Scene,
    pub(crate) run: String,
    /// The run that it continues.
    pub(crate) stopped: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) death: Option<Death>,
}

/// The variable with the order, as JSON.
const ORDER: &str = "RUN_IN_A_PROCESS";

impl Order {
    pub(crate) fn new(scene: &Scene, run: &str) -> Self {
        let (scene, run) = (scene.clone(), run.to_owned());
        Self { scene, run, stopped: None, settings: Settings::default(), death: None }
    }

    /// Continues the run `stopped`, or begins anew where that had not begun.
    pub(crate) fn continuing(scene: &Scene, run: &str, stopped: &str) -> Self {
        Self { stopped: Some(stopped.to_owned()), ..Self::new(scene, run) }
    }

    /// Has it run to its end, which has to be a good one.
    pub(crate) fn carry_out(&self) {
        let status = self.run();
        assert!(status.success(), "{self:?}: {status}");
    }

    /// Has it run until `death` kills it.
    pub(crate) fn die(self, death: Death) {
        let order = Self { death: Some(death), ..self };
        let status = order.run();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{order:?}: {status}");
    }

    fn run(&self) -> std::process::ExitStatus {
        let name = "scene::carries_out_an_order_where_a_variable_has_one";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.env(ORDER, serde_json::to_string(self).unwrap()).status().unwrap()
    }

    /// In the process of its own.
    fn perform(&self) -> Ran {
        let Self { scene, run, stopped, settings, death } = self;
        // A program of the run that was killed may still have it.
        let waiting = Waiting { limit: None, interrupted: &|| false, tell: &mut |_: &str| {} };
        let lock = DeployLock::acquire_within(&scene.folder(), &holder(run), waiting).unwrap();
        let stopped = stopped.as_ref().map(|stopped| scene.runs().join(format!("{stopped}.jsonl")));
        let stopped = stopped.filter(|file| fs::metadata(file).unwrap().len() > 0);
        let (plan, continues) = match stopped {
            None => (scene.plan(&scene.look(), settings.clone()), None),
            Some(file) => {
                let records = read_journal(&file).unwrap();
                let Event::RunStarted { situation: Some(situation), .. } = &records[0].event else {
                    panic!("{records:?}");
                };
                let plan = scene.plan(situation, settings.clone());
                let continues = Continuation::new(&plan, &records, None, None, Utc::now()).unwrap();
                (plan, Some(continues))
            }
        };
        let journal = Journal::create(&scene.runs(), run).unwrap();
        let mut sink = Deadly { journal, death: *death, seen: 0 };
        let info = RunInfo { continues, ..info(run) };
        scene.run_locked(&plan, &info, &mut sink, &|| false, Some(&lock))
    }
}

/// The process of a run: this test binary, with an order in a variable. As a test it does nothing.
#[test]
fn carries_out_an_order_where_a_variable_has_one() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Order = serde_json::from_str(&order).unwrap();
    let failure = order.perform().report.failure;
    assert!(failure.is_none(), "{order:?}: {failure:?}");
}

/// Writes the journal, and kills the process.
struct Deadly {
    journal: Journal,
    death: Option<Death>,
    seen: usize,
}

impl Sink for Deadly {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        self.seen += 1;
        if matches!(self.death, Some(Death::Before(number)) if number == self.seen) {
            kill_this_process();
        }
        self.journal.emit(event)?;
        if matches!(self.death, Some(Death::After(number)) if number == self.seen) {
            kill_this_process();
        }
        Ok(())
    }
}

/// As `kill -9`: nothing is tidied up, and what the process has started goes on.
fn kill_this_process() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}
