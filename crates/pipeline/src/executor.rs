//! Performs actions: on this machine, or through the platform.

mod error;

use std::{fmt, fs::File, io, path::PathBuf, sync::Arc};

use omnitool_environment::Platform as PlatformName;

use crate::{
    Action, Activation, Artifact, ArtifactSource, CommandLine, ConfigChange, Continuation,
    Credential, DeployLock, Fact, FindArtifactError, Hook, ListedBackup, Moment, Origin, Place,
    Plan, Platform, ProgramCall, ProgramOutput, Purpose, Rehearsed, ReleaseId, Serving, StepId,
    Variable, Watch,
    artifact::{find_artifact, remove_old_artifacts, unpacked_programs},
    chain::chain,
    pack_artifact,
    process::{self, Finished, Stdout},
    program::{backup_number, run_program},
};

pub use self::error::{ActionError, TakeOverError};

/// Performs the actions of a plan.
pub trait Execute {
    /// Performs `action`, and says what it did.
    ///
    /// # Errors
    ///
    /// Fails where the action does.
    fn perform(&mut self, action: &Action, watch: &mut Watch<'_>)
    -> Result<Performed, ActionError>;
}

/// What an action did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Performed {
    /// It, in one line.
    pub evidence: String,
    /// What is worth a look although it did it.
    pub warnings: Vec<String>,
    /// What the rest of the run, or one that continues it, has to know.
    pub facts: Vec<Fact>,
}

impl From<String> for Performed {
    fn from(evidence: String) -> Self {
        Self { evidence, warnings: Vec::new(), facts: Vec::new() }
    }
}

/// What a run has learned and changed so far.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// The artifact.
    pub artifact: Option<Artifact>,
    /// The backup that was taken before anything changed.
    pub backup: Option<String>,
    /// What happened to the database, in order.
    pub database: Vec<DatabaseChange>,
    /// The users that were made.
    pub credentials: Vec<Credential>,
    /// The answers that were asked for as a whole, with the program that gave each.
    pub documents: Vec<(&'static str, serde_json::Value)>,
}

/// A program that changes the database was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseChange {
    /// The program.
    pub program: String,
    /// What it said, or that it failed.
    pub result: Result<String, String>,
}

/// Performs the actions of a plan for real.
pub struct Executor<'a> {
    platform: &'a mut dyn Platform,
    source: ArtifactSource,
    artifacts: PathBuf,
    variables: Vec<Variable>,
    /// What programs get that run on this machine.
    here: Vec<Variable>,
    facts: Vec<Variable>,
    run: String,
    /// What programs hold as long as they run.
    lock: Option<Arc<File>>,
    platform_name: PlatformName,
    /// The unpacked artifact.
    unpacked: Option<PathBuf>,
    /// Backups since then are this run's own; set where it continues another one.
    continues_since: Option<chrono::DateTime<chrono::Utc>>,
    aftermath: Aftermath,
}

impl<'a> Executor<'a> {
    /// Will perform the actions of `plan` on `platform`, with an artifact from `source` that is kept in the folder
    /// `artifacts`. Programs learn the id `run`, so that what they write down can name it.
    pub fn new(
        plan: &Plan,
        run: &str,
        platform: &'a mut dyn Platform,
        source: ArtifactSource,
        artifacts: PathBuf,
    ) -> Self {
        platform.begin(&plan.situation(), plan.release(), plan.variables());
        Self {
            platform,
            source,
            artifacts,
            variables: plan.variables().to_vec(),
            here: plan.site().variables_here(),
            facts: hook_variables(plan),
            run: run.to_owned(),
            lock: None,
            platform_name: plan.platform(),
            unpacked: None,
            continues_since: None,
            aftermath: Aftermath::default(),
        }
    }

    /// Lets the programs of the run hold `lock`, too, so that it outlives a run that is killed as long as they do.
    ///
    /// # Errors
    ///
    /// Fails where this process may open no more files.
    pub fn share(&mut self, lock: &DeployLock) -> io::Result<()> {
        self.lock = Some(Arc::new(lock.share()?));
        Ok(())
    }

    /// Takes over what an earlier run found and did.
    ///
    /// # Errors
    ///
    /// Fails where the artifact of that run is needed and not there any more.
    pub fn take_over(&mut self, continuation: &Continuation) -> Result<(), TakeOverError> {
        let Continuation { run: _, since, kept, changed, touched } = continuation;
        self.continues_since = Some(*since);
        if kept.iter().any(|step| step.step == StepId::Refresh) {
            self.platform.accept()?;
        }
        for fact in kept.iter().flat_map(|step| &step.facts).chain(changed) {
            match fact {
                Fact::Artifact { sha256, .. } => self.use_artifact(sha256)?,
                Fact::Backup { id } => self.aftermath.backup = Some(id.clone()),
                Fact::DatabaseChanged { program, summary } => {
                    let result = Ok(format!("{summary} (before this run continued)"));
                    self.aftermath
                        .database
                        .push(DatabaseChange { program: program.clone(), result });
                }
                // Only reports show them.
                Fact::Checked { .. } | Fact::AccessChanged { .. } => {}
            }
        }
        if let (Some(run), true) = (touched, self.aftermath.database.is_empty()) {
            let summary = "may have changed it before this run continued".to_owned();
            let program = format!("run {run}");
            self.aftermath.database.push(DatabaseChange { program, result: Ok(summary) });
        }
        Ok(())
    }

    /// What was learned and changed, and which release serves now.
    #[must_use]
    pub fn finish(self) -> (Aftermath, Serving) {
        let serving = self.platform.serving();
        (self.aftermath, serving)
    }

    fn use_artifact(&mut self, sha256: &str) -> Result<(), FindArtifactError> {
        let artifact = find_artifact(&self.artifacts, sha256)?;
        self.unpacked = Some(unpacked_programs(&self.artifacts, &artifact)?);
        self.aftermath.artifact = Some(artifact);
        Ok(())
    }

    fn call(
        &mut self,
        call: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<ProgramOutput, ActionError> {
        let mut call = call.clone();
        call.variables.push(Variable::plain("OMNITOOL_RUN_ID", &self.run));
        let call = &call;
        Ok(match call.place {
            Place::Release(release) => self.platform.run_program(release, call, watch)?,
            Place::Here => {
                let root = &self.source.root;
                run_program(call, &self.source.programs, root, &self.here, watch)?
            }
            Place::Artifact => {
                let program = call.program;
                let folder = self.unpacked.as_ref().ok_or(ActionError::NoPrograms { program })?;
                run_program(call, &folder.join("bin"), folder, &self.here, watch)?
            }
        })
    }

    fn program(
        &mut self,
        call: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<Performed, ActionError> {
        if let (Purpose::TakeBackup, Some(found)) = (call.purpose, self.own_backup(call, watch)?) {
            return Ok(self.took_backup(format!("backup {found} is there already"), found));
        }
        let result = self.call(call, watch);
        let changes = matches!(call.purpose, Purpose::ChangeDatabase | Purpose::Restore);
        let accepted = if call.place.is_here() && changes && result.is_ok() {
            // It may change the platform, too: a refresh gives the app another database.
            self.platform.accept()
        } else {
            Ok(())
        };
        let may_have_changed = match (call.purpose, &result) {
            (_, Err(ActionError::Program(error))) if !error.has_begun() => false,
            (Purpose::ChangeDatabase | Purpose::Restore, _) | (Purpose::CreateUsers, Err(_)) => {
                true
            }
            (Purpose::CreateUsers, Ok(output)) => !output.credentials.is_empty(),
            _ => false,
        };
        let mut facts = match &result {
            Ok(output) => output.facts.clone(),
            Err(_) => Vec::new(),
        };
        if may_have_changed {
            let program = call.program.to_owned();
            let result = match &result {
                Ok(output) => {
                    let summary = output.summary.clone();
                    facts.push(Fact::DatabaseChanged { program: program.clone(), summary });
                    Ok(output.summary.clone())
                }
                Err(ActionError::Program(error)) if error.may_go_on() => Ok(in_doubt(error)),
                Err(error) => Err(error.to_string()),
            };
            self.aftermath.database.push(DatabaseChange { program, result });
        }
        accepted?;
        let ProgramOutput {
            summary,
            warnings,
            backup,
            credentials,
            backups: _,
            document,
            facts: _,
        } = result?;
        if let Some(id) = backup {
            facts.extend(self.took_backup(String::new(), id).facts);
        }
        self.aftermath.credentials.extend(credentials);
        self.aftermath.documents.extend(document.map(|document| (call.program, document)));
        Ok(Performed { evidence: summary, warnings, facts })
    }

    fn took_backup(&mut self, evidence: String, id: String) -> Performed {
        self.aftermath.backup = Some(id.clone());
        Performed { evidence, warnings: Vec::new(), facts: vec![Fact::Backup { id }] }
    }

    /// The backup that the run which this one continues took without living to write it down.
    fn own_backup(
        &mut self,
        call: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<Option<String>, ActionError> {
        let Some(since) = self.continues_since else { return Ok(None) };
        let Some(list) = list_instead_of_capture(call) else { return Ok(None) };
        let (list, release) = list;
        let backups = self.call(&list, watch)?.backups;
        // Manifests have whole seconds.
        let own = |backup: &&ListedBackup| {
            backup.counts()
                && backup.kind == "before-deploy"
                && backup.release.as_deref() == Some(&release)
                && backup.created_at.timestamp() >= since.timestamp()
        };
        Ok(backups.iter().filter(own).max_by_key(|one| one.number()).map(|one| one.id.clone()))
    }

    fn require_rehearsal(
        &mut self,
        list: &ProgramCall,
        rehearsed: &Rehearsed,
        watch: &mut Watch<'_>,
    ) -> Result<String, ActionError> {
        let backups = self.call(list, watch)?.backups;
        let newest = backups.iter().filter(|backup| backup.counts()).max_by_key(|one| one.number());
        let Rehearsed { run, backup } = rehearsed;
        match newest {
            Some(newest) if newest.number() > backup_number(backup) => {
                Err(ActionError::NotRehearsed {
                    newest: newest.id.clone(),
                    rehearsed: backup.clone(),
                    run: run.clone(),
                    platform: self.platform_name,
                })
            }
            _ => Ok(format!("rehearsed on backup {backup} by run {run}")),
        }
    }

    fn ensure_backup(
        &mut self,
        list: &ProgramCall,
        capture: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<Performed, ActionError> {
        let backups = self.call(list, watch)?.backups;
        let newest = backups.iter().filter(|backup| backup.counts()).max_by_key(|one| one.number());
        match newest {
            Some(newest) => {
                Ok(format!("the newest backup is {}, of {}", newest.id, newest.created_at).into())
            }
            None => self.program(capture, watch),
        }
    }

    fn hook(&mut self, hook: &Hook, watch: &mut Watch<'_>) -> Result<Performed, ActionError> {
        let mut variables = self.facts.clone();
        let mut add = |name, value: &str| variables.push(Variable::plain(name, value));
        add("OMNITOOL_RUN_ID", &self.run);
        add("OMNITOOL_STEP", hook.step.as_str());
        if let Some(artifact) = &self.aftermath.artifact {
            add("OMNITOOL_ARTIFACT", &artifact.sha256);
        }
        if let Some(backup) = &self.aftermath.backup {
            add("OMNITOOL_BACKUP", backup);
        }
        let command = CommandLine::new(&hook.file, &self.source.root).variables(variables);
        let name = format!("hook {}-{}", hook.moment.as_str(), hook.step);
        match (run_command(&command, watch), hook.moment) {
            (Ok(said), _) => Ok(format!("{name}: {said}").into()),
            (Err(error), Moment::After) if !watch.is_interrupted() => {
                let warnings = vec![format!("{name}: {}", chain(&error))];
                Ok(Performed { evidence: format!("{name} failed"), warnings, facts: Vec::new() })
            }
            (Err(error), _) => Err(error),
        }
    }

    fn roll_back_database(
        &mut self,
        call: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<Performed, ActionError> {
        if self.aftermath.database.is_empty() {
            return Ok("the database was not changed".to_owned().into());
        }
        self.platform.settle(watch)?;
        let Some(backup) = self.aftermath.backup.clone() else {
            let warning = "there is no backup from before this run, so the database stays as it is";
            let warnings = vec![warning.to_owned()];
            let evidence = "the database was not rolled back".to_owned();
            return Ok(Performed { evidence, warnings, facts: Vec::new() });
        };
        let mut call = call.clone();
        call.arguments.extend(["--backup".to_owned(), backup]);
        self.program(&call, watch)
    }

    /// Lets `release` serve. A platform may migrate the database on the way.
    fn activate(
        &mut self,
        release: ReleaseId,
        watch: &mut Watch<'_>,
    ) -> Result<Performed, ActionError> {
        let program = "migrate-db".to_owned();
        match self.platform.activate(release, watch) {
            Ok(Activation { evidence, migrated }) => {
                let mut facts = Vec::new();
                if let Some(summary) = migrated {
                    let result = Ok(summary.clone());
                    facts.push(Fact::DatabaseChanged { program: program.clone(), summary });
                    self.aftermath.database.push(DatabaseChange { program, result });
                }
                Ok(Performed { evidence, warnings: Vec::new(), facts })
            }
            Err(error) => {
                if error.may_have_migrated() {
                    // What it printed is in the error that ends the run.
                    let text = error.to_string();
                    let first = text.lines().next().unwrap_or_default();
                    let first = first.trim_end_matches(':');
                    let result =
                        if error.may_go_on() { Ok(in_doubt(first)) } else { Err(first.to_owned()) };
                    self.aftermath.database.push(DatabaseChange { program, result });
                }
                Err(error.into())
            }
        }
    }

    fn roll_back_code(
        &mut self,
        from: ReleaseId,
        to: ReleaseId,
        watch: &mut Watch<'_>,
    ) -> Result<String, ActionError> {
        self.platform.settle(watch)?;
        match self.platform.serving() {
            Serving::Release(serving) if serving != from => {
                Ok(format!("release {serving} serves, as before"))
            }
            _ => Ok(self.platform.activate(to, watch)?.evidence),
        }
    }

    fn remove_old(&mut self, keep: usize) -> Result<String, ActionError> {
        let removed = self.platform.remove_old_releases(keep)?;
        if let Some(artifact) = &self.aftermath.artifact {
            remove_old_artifacts(&self.artifacts, artifact, keep)?;
        }
        Ok(match removed.as_slice() {
            [] => "no old release to remove".to_owned(),
            removed => {
                let names: Vec<String> = removed.iter().map(ToString::to_string).collect();
                format!("old releases removed: {}", names.join(", "))
            }
        })
    }

    fn found_artifact(&self) -> Performed {
        let Some(artifact) = &self.aftermath.artifact else { return String::new().into() };
        let Artifact { sha256, size, revision, file: _, origin: _ } = artifact.clone();
        Performed {
            evidence: artifact_text(artifact),
            warnings: Vec::new(),
            facts: vec![Fact::Artifact { sha256, size, revision }],
        }
    }

    fn summary(&self) -> String {
        let serving = self.platform.serving();
        match &self.aftermath.backup {
            Some(backup) => format!("{serving}; backup {backup} is from before this run"),
            None => serving.to_string(),
        }
    }
}

/// What is said of a change that nobody saw the end of.
fn in_doubt(why: impl fmt::Display) -> String {
    format!("may have changed it, or still does: {why}")
}

/// What a hook gets of the plan. No secrets: whoever needs the database's URL can ask the platform.
fn hook_variables(plan: &Plan) -> Vec<Variable> {
    let site = plan.site();
    let mut variables = vec![
        Variable::plain("OMNITOOL_TASK", plan.task().as_str()),
        Variable::plain("OMNITOOL_ENV", site.environment.as_str()),
        Variable::plain("OMNITOOL_PLATFORM", site.platform().as_str()),
        Variable::plain("OMNITOOL_RELEASE", plan.release().to_string()),
        Variable::plain("OMNITOOL_BASE_URL", site.base_url.as_str()),
    ];
    variables
        .extend(plan.replaces().map(|old| Variable::plain("OMNITOOL_REPLACES", old.to_string())));
    variables
}

/// The call that lists the backups in the folder that `capture` would write to, and the release that it would name.
fn list_instead_of_capture(capture: &ProgramCall) -> Option<(ProgramCall, String)> {
    let mut arguments = capture.arguments.clone();
    let start = arguments.iter().position(|argument| argument == "capture")?;
    let release = arguments.iter().position(|argument| argument == "--release")?;
    let name = arguments.get(release + 1)?.clone();
    arguments.drain(start..=release + 1);
    arguments.insert(start, "list".to_owned());
    Some((ProgramCall { arguments, purpose: Purpose::ListBackups, ..capture.clone() }, name))
}

impl Execute for Executor<'_> {
    fn perform(
        &mut self,
        action: &Action,
        watch: &mut Watch<'_>,
    ) -> Result<Performed, ActionError> {
        let lock = self.lock.clone();
        let watch = &mut watch.locking(lock.as_deref());
        let evidence = match action {
            Action::Program(call) => return self.program(call, watch),
            Action::Hook(hook) => return self.hook(hook, watch),
            Action::Record(text) => text.clone(),
            Action::Settle => {
                self.platform.settle(watch)?;
                "no release phase or build goes on".to_owned()
            }
            Action::Command(command) => run_command(command, watch)?,
            Action::Pack => {
                self.aftermath.artifact = Some(pack_artifact(&self.source, &self.artifacts)?);
                return Ok(self.found_artifact());
            }
            Action::UseArtifact(sha256) => {
                self.use_artifact(sha256)?;
                return Ok(self.found_artifact());
            }
            Action::RequireRehearsal { list, rehearsed } => {
                self.require_rehearsal(list, rehearsed, watch)?
            }
            Action::EnsureBackup { list, capture } => {
                return self.ensure_backup(list, capture, watch);
            }
            Action::SetConfig => {
                let change = self.platform.set_config(&self.variables, watch)?;
                config_text(&change)
            }
            Action::Install { release, way } => {
                let release = *release;
                let artifact =
                    self.aftermath.artifact.as_ref().ok_or(ActionError::NoArtifact { release })?;
                self.platform.install(release, artifact, way.unwrap_or_default())?
            }
            Action::Activate { release, way: _ } => return self.activate(*release, watch),
            Action::RollBackCode { from, to } => self.roll_back_code(*from, *to, watch)?,
            Action::RollBackDatabase(call) => return self.roll_back_database(call, watch),
            Action::RemoveOldReleases { keep } => self.remove_old(*keep)?,
            Action::Summarize => self.summary(),
        };
        Ok(evidence.into())
    }
}

/// Runs `command` and takes the last line that it printed, else logged, as what it did.
fn run_command(command: &CommandLine, watch: &mut Watch<'_>) -> Result<String, ActionError> {
    let Finished { status, stdout, stderr_tail } =
        process::run(command, Stdout::Report, None, watch)?;
    if status.success() {
        let said = String::from_utf8_lossy(&stdout);
        let logged = stderr_tail.iter().rev().map(|line| line.trim());
        let last = [said.trim()].into_iter().chain(logged).find(|line| !line.is_empty());
        Ok(last.unwrap_or("done").to_owned())
    } else {
        Err(ActionError::CommandFailed {
            command: command.without_variables(),
            status,
            tail: stderr_tail,
        })
    }
}

fn artifact_text(artifact: &Artifact) -> String {
    let Artifact { file: _, sha256, size, revision, origin } = artifact;
    let origin = match origin {
        Origin::Packed => "packed",
        Origin::Reused => "unchanged",
        Origin::Found => "as it is",
    };
    let megabytes = (size + 50_000) / 100_000;
    let mut text = format!(
        "artifact {} {origin}, {}.{} MB",
        sha256.get(..12).unwrap_or(sha256),
        megabytes / 10,
        megabytes % 10
    );
    if let Some(revision) = revision {
        let commit = revision.commit.get(..10).unwrap_or(&revision.commit);
        text.push_str(&format!(", commit {commit}"));
        if revision.modified {
            text.push_str(" with changes");
        }
    }
    text
}

fn config_text(change: &ConfigChange) -> String {
    let ConfigChange { set, unchanged } = change;
    match set.as_slice() {
        [] => format!("nothing to set, {unchanged} unchanged"),
        set => format!("set {}; {unchanged} unchanged", set.join(", ")),
    }
}
