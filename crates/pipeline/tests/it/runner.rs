//! The order of steps and events, with an executor that only records.

use std::{cell::Cell, path::PathBuf};

use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_pipeline::{
    Action, ActionError, DatabaseState, DeployOptions, Event, Execute, Home, PackArtifactError,
    Performed, Plan, RunError, RunReport, Sink, Site, Situation, StepId, StepOutcome, Stream,
    Watch, WriteJournalError, run,
};

use crate::{fake::Events, scene::info};

/// Records actions; the one whose text contains `fails` fails.
struct Recorder {
    performed: Vec<String>,
    fails: Option<&'static str>,
}

impl Execute for Recorder {
    fn perform(
        &mut self,
        action: &Action,
        watch: &mut Watch<'_>,
    ) -> Result<Performed, ActionError> {
        let text = action.to_string();
        watch.line(Stream::Stderr, "working");
        let fails = self.fails.is_some_and(|part| text.contains(part));
        self.performed.push(text);
        if fails {
            let file = "data/tools.toml".to_owned();
            return Err(PackArtifactError::MissingData { file }.into());
        }
        Ok("ok".to_owned().into())
    }
}

fn plan() -> Plan {
    let site = Site {
        environment: EnvironmentName::Staging,
        home: Home::Local { database_url: DatabaseUrl::sqlite("/x.db".as_ref()) },
        root: "/project".into(),
        base_url: "http://127.0.0.1:5001".parse().unwrap(),
    };
    let situation =
        Situation { serving: None, newest: None, database: DatabaseState::Present, heroku: None };
    Plan::staging(&site, &situation, DeployOptions::default())
}

fn perform(
    fails: Option<&'static str>,
    sink: &mut dyn Sink,
    interrupted: &dyn Fn() -> bool,
) -> (RunReport, Vec<String>) {
    let mut recorder = Recorder { performed: Vec::new(), fails };
    let report = run(&plan(), &info("run"), &mut recorder, sink, interrupted);
    (report, recorder.performed)
}

fn outcomes(report: &RunReport) -> String {
    let lines = report.steps.iter().map(|step| match &step.outcome {
        StepOutcome::Done => format!("{} done", step.id),
        StepOutcome::Warned { reason } => format!("{} warned: {reason}", step.id),
        StepOutcome::Skipped { reason } => format!("{} skipped: {reason}", step.id),
        StepOutcome::Failed { error } => format!("{} failed: {error}", step.id),
        other => format!("{other:?}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_step_runs_or_says_why_not() {
    let (report, performed) = perform(None, &mut Events::default(), &|| false);
    assert!(report.failure.is_none());
    insta::assert_snapshot!(outcomes(&report), @r"
    tests skipped: not asked for with --tests
    build done
    backup done
    refresh skipped: not asked for with --refresh-data
    config done
    release done
    import-access done
    verify done
    smoke done
    prune-backups done
    summary done
    ");
    let planned: Vec<String> = plan()
        .to_string()
        .lines()
        .map(str::trim)
        .filter(|line| performed.iter().any(|action| action == line))
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(planned, performed);
}

#[test]
fn after_a_failure_only_the_summary_runs() {
    let (report, performed) =
        perform(Some("migrate-db --tools"), &mut Events::default(), &|| false);
    insta::assert_snapshot!(outcomes(&report), @r"
    tests skipped: not asked for with --tests
    build done
    backup done
    refresh skipped: not asked for with --refresh-data
    config done
    release failed: data/tools.toml is missing, so no release can be made
    summary done
    ");
    assert_eq!(report.failure.unwrap().step, StepId::Release);
    assert!(!performed.iter().any(|action| action.contains("switch to release")));
}

#[test]
fn each_event_says_what_happens_next_or_what_happened() {
    let mut events = Events::default();
    let _report = perform(Some("prune"), &mut events, &|| false);
    let text: Vec<String> = events
        .0
        .iter()
        .map(|event| match event {
            Event::RunStarted { steps, .. } => format!("run started: {} steps", steps.len()),
            Event::StepStarted { step, inputs } => format!("{step} started: {}", inputs.len()),
            Event::StepOutput { step, line, .. } => format!("{step} output: {line}"),
            Event::StepEnded { step, evidence, .. } => format!("{step} ended: {evidence:?}"),
            Event::RunEnded { outcome, .. } => format!("run ended: {outcome:?}"),
            other => format!("{other:?}"),
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    run started: 11 steps
    tests ended: []
    build started: 64
    build output: working
    build output: working
    build ended: ["ok", "ok"]
    backup started: 64
    backup output: working
    backup ended: ["ok"]
    refresh ended: []
    config started: 64
    config output: working
    config ended: ["ok"]
    release started: 64
    release output: working
    release output: working
    release output: working
    release output: working
    release output: working
    release output: working
    release ended: ["ok", "ok", "ok", "ok", "ok", "ok"]
    import-access started: 64
    import-access output: working
    import-access ended: ["ok"]
    verify started: 64
    verify output: working
    verify ended: ["ok"]
    smoke started: 64
    smoke output: working
    smoke ended: ["ok"]
    prune-backups started: 64
    prune-backups output: working
    prune-backups ended: []
    summary started: 64
    summary output: working
    summary ended: ["ok"]
    run ended: Warned
    "#);
}

#[test]
fn an_interrupted_run_ends_as_failed() {
    let asked = Cell::new(0);
    let interrupted = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let mut events = Events::default();
    let (report, performed) = perform(None, &mut events, &interrupted);
    assert!(matches!(report.failure.unwrap().error, RunError::Interrupted(None)));
    assert_eq!(performed.len(), 4, "{performed:?}");
    let ended = serde_json::to_string(events.0.last().unwrap()).unwrap();
    assert!(
        ended.contains(r#""status":"failed","step":"config","error":"interrupted""#),
        "{ended}"
    );
}

/// A sink on a disk that is full after some events.
struct FullDisk {
    left: usize,
}

impl Sink for FullDisk {
    fn emit(&mut self, _: &Event) -> Result<(), WriteJournalError> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(WriteJournalError {
                file: PathBuf::from("run.jsonl"),
                source: std::io::Error::other("disk full"),
            }),
        }
    }
}

#[test]
fn a_run_stops_where_nobody_could_tell_what_it_did() {
    for left in 0..8 {
        let (report, performed) = perform(None, &mut FullDisk { left }, &|| false);
        let failure = report.failure.unwrap();
        assert_eq!(failure.error.chain(), "cannot write the journal run.jsonl: disk full");
        // The first event is written before anything is done.
        assert!(left > 0 || performed.is_empty(), "{performed:?}");
        assert!(
            !performed.iter().any(|action| action.contains("migrate-db --tools")),
            "{performed:?}"
        );
    }
}
