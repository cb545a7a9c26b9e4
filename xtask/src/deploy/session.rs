//! A run on an environment that is held: its lock, its journal, and who is told of its events.

use std::path::{Path, PathBuf};

use chrono::Utc;
use omnitool_cli::{Failure, Interrupt, print};
use omnitool_pipeline::{
    Aftermath, App, ArtifactSource, Continuation, DeployLock, Executor, History, Holder, Home,
    Journal, LocalPlatform, Plan, Platform, Revision, RunInfo, RunReport, Serving, Sink, Sinks,
    Site, Situation, Stream, Watch, run as run_plan,
};

use super::{deploy_again, telling::Telling};
use crate::{
    project::{Project, host, look, platform, user},
    terminal::{Terminal, heading, print_credentials},
};

/// An environment that is held for a run.
pub(crate) struct Session<'a> {
    project: &'a Project,
    site: Site,
    platform: Box<dyn Platform>,
    folder: PathBuf,
    id: String,
    revision: Option<Revision>,
    interrupt: Interrupt,
    lock: DeployLock,
}

/// What a run left.
pub(crate) struct Ran {
    pub(crate) id: String,
    pub(crate) report: RunReport,
    pub(crate) aftermath: Aftermath,
    pub(crate) serving: Serving,
    /// Where to look, as text.
    pub(crate) places: String,
}

impl<'a> Session<'a> {
    /// Holds the environment of `site` for a new run, waiting for it as `waiting` says.
    pub(crate) fn begin(
        project: &'a Project,
        site: &Site,
        waiting: Option<Option<std::time::Duration>>,
    ) -> Result<Self, Failure> {
        let platform = platform(site)?;
        let folder = LocalPlatform::folder(project.root(), site);
        let id = format!("{}-{}", Utc::now().format("%Y%m%d-%H%M%S"), std::process::id());
        let revision = project.revision();
        let interrupt = Interrupt::install()?;
        let commit = revision.as_ref().map(|revision| revision.commit.clone());
        let lock = project.lock(&folder, &id, commit, waiting.map(|limit| (limit, &interrupt)))?;
        let site = site.clone();
        Ok(Self { project, site, platform, folder, id, revision, interrupt, lock })
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) fn revision(&self) -> Option<&Revision> {
        self.revision.as_ref()
    }

    /// Whether somebody has pressed Ctrl-C.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupt.is_set()
    }

    /// Waits until nothing that an earlier run has begun can come to serve by itself any more.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let is_set = || self.interrupt.is_set();
        let mut see = |_: Stream, _: &str| {};
        let mut watch = Watch::new(&is_set, &mut see);
        self.platform.settle(&mut watch).map_err(|error| {
            let hint =
                "it may yet come to serve: run this again once it has ended (heroku releases)";
            Failure::failed(error).hint(hint)
        })
    }

    pub(crate) fn look(&self) -> Result<Situation, Failure> {
        look(&*self.platform)
    }

    /// The run that held the environment before and died.
    pub(crate) fn left_behind(&self) -> Option<&Holder> {
        self.lock.left_behind()
    }

    /// The environment's runs.
    pub(crate) fn history(&self) -> Result<History, Failure> {
        Ok(History::read(&self.folder.join("runs"))?)
    }

    pub(crate) fn journal_file(&self, run: &str) -> PathBuf {
        self.folder.join("runs").join(format!("{run}.jsonl"))
    }

    /// Runs `plan`, and shows its steps. Whoever else wants to know of its events is added here.
    pub(crate) fn run(
        self,
        plan: &Plan,
        continues: Option<Continuation>,
        programs: &Path,
    ) -> Result<Ran, Failure> {
        let Self { project, site, mut platform, folder, id, revision, interrupt, lock } = self;
        let source = ArtifactSource {
            programs: programs.to_owned(),
            root: project.root().to_owned(),
            revision: revision.clone(),
        };
        let mut executor = Executor::new(plan, &id, &mut *platform, source, project.artifacts());
        executor.share(&lock).map_err(Failure::failed)?;
        if let Some(continues) = &continues {
            executor
                .take_over(continues)
                .map_err(|error| Failure::refused(error).hint(deploy_again(plan.site())))?;
        }
        let info = RunInfo { run: id.clone(), user: user(), host: host(), revision, continues };
        let mut secrets = plan.site().variables_here();
        if plan.site().platform() != plan.platform() {
            secrets.extend(site.variables_here());
        }
        let mut telling = Telling::begin(&secrets)?;
        let mut terminal = Terminal::new();
        let others: Vec<&mut dyn Sink> = vec![&mut terminal, telling.sink()];
        let mut sinks = Sinks::new(Journal::create(&folder.join("runs"), &id)?, others);
        let report = run_plan(plan, &info, &mut executor, &mut sinks, &|| interrupt.is_set());
        let (aftermath, serving) = executor.finish();
        let log = match &site.home {
            Home::Local { .. } => project.shown(App::new(&folder).log()).to_string(),
            Home::Heroku { app, .. } => format!("heroku logs -a {app}"),
        };
        let mut places = format!(
            "{}  {:<10} {log}\n  {:<10} {}\n",
            heading("Where to look"),
            "log",
            "journal",
            project.shown(sinks.journal().path()),
        );
        let journal = sinks.journal().path().to_owned();
        let told = terminal.finish();
        // First, since nothing else can show them again.
        print_credentials(&aftermath)?;
        told?;
        places.push_str(&telling.finish(project, &journal)?);
        drop(lock);
        Ok(Ran { id, report, aftermath, serving, places })
    }
}

/// Says that a run before this one died, and how to go on with it.
pub(crate) fn tell_of_the_dead(session: &Session<'_>) -> Result<(), Failure> {
    let Some(holder) = session.left_behind() else { return Ok(()) };
    print(&format!("note: {holder}, died; this is a new run (--resume goes on with that one)\n"))
}
