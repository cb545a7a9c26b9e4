//! What the page of deployments shows: the journals of runs and the manifests of backups, as far as this build knows them.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use omnitool_backup::{Catalog, Listing};
use omnitool_environment::EnvironmentName;
use omnitool_web::deployment::{Backup, Deployments, Outcome, Overview, Run, Step};
use serde::Deserialize;

/// The longest line of a journal that is read; what programs print is cut long before.
const LONGEST_LINE: u64 = 1 << 20;
/// The value of `format` in a journal's first line.
const FORMAT: &str = "omnitool.run";

/// The folders of an environment on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) environment: EnvironmentName,
    /// The folder with one journal per run.
    pub(crate) journals: PathBuf,
    /// The folder with a folder of backups per environment.
    pub(crate) backups: PathBuf,
}

/// A line of a journal. Lines and fields that are not shown are skipped, so that journals of newer builds are shown, too.
#[derive(Deserialize)]
struct Record {
    at: String,
    event: Event,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Event {
    RunStarted {
        format: String,
        user: String,
        release: String,
        steps: Vec<String>,
    },
    StepStarted {
        step: String,
    },
    StepEnded {
        step: String,
        outcome: Ending,
        duration_ms: u64,
        #[serde(default)]
        evidence: Vec<String>,
    },
    RunEnded {
        outcome: Ending,
        duration_ms: u64,
    },
    #[serde(other)]
    Other,
}

/// How a step or a run ended.
#[derive(Deserialize)]
struct Ending {
    status: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

impl From<Ending> for Outcome {
    fn from(Ending { status, reason, error }: Ending) -> Self {
        let text = error.or(reason).unwrap_or_default();
        match status.as_str() {
            "done" => Self::Done,
            "warned" => Self::Warned(text),
            "skipped" => Self::Skipped(text),
            "failed" => Self::Failed(text),
            // An ending that only newer builds know.
            other => Self::Warned(format!("{other} {text}").trim_end().to_owned()),
        }
    }
}

impl Deployments for Folders {
    fn read(&self, limit: usize) -> Result<Overview, String> {
        Ok(Overview {
            journals: self.journals.display().to_string(),
            runs: self.runs(limit)?,
            backups_folder: self.backups.display().to_string(),
            backups: self.list_backups(limit)?,
        })
    }
}

impl Folders {
    fn runs(&self, limit: usize) -> Result<Option<Vec<Run>>, String> {
        let failed = |error| format!("cannot read the folder {}: {error}", self.journals.display());
        let entries = match std::fs::read_dir(&self.journals) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "jsonl") {
                files.push(file);
            }
        }
        // A run's name begins with its time.
        files.sort();
        Ok(Some(files.iter().rev().take(limit).map(|file| read_run(file)).collect()))
    }

    fn list_backups(&self, limit: usize) -> Result<Option<Vec<Backup>>, String> {
        let catalog = Catalog::new(&self.backups, self.environment);
        if !catalog.folder().is_dir() {
            return Ok(None);
        }
        let Listing { backups, broken } = catalog.list().map_err(|error| error.to_string())?;
        let good = backups.into_iter().rev().take(limit).map(|backup| Backup {
            id: backup.id.to_string(),
            created_at: backup.created_at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            kind: backup.kind.to_string(),
            size: backup.size,
            state: match backup.verified {
                Some(verified) => {
                    format!("verified {}", verified.when.format("%Y-%m-%d %H:%M:%S UTC"))
                }
                None => "not verified".to_owned(),
            },
            is_pinned: backup.pinned,
        });
        let broken = broken.into_iter().take(limit).map(|backup| Backup {
            id: backup.id.to_string(),
            state: format!("broken: {}", backup.problem),
            ..Backup::default()
        });
        Ok(Some(good.chain(broken).collect()))
    }
}

/// What the journal `file` says, as far as it can be read.
fn read_run(file: &Path) -> Run {
    let id = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut run = Run { id, ..Run::default() };
    if let Err(error) = read_lines(file, &mut run) {
        run.problem = Some(format!("The journal cannot be read any further: {error}"));
    }
    run
}

fn read_lines(file: &Path, run: &mut Run) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(file)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut reader, LONGEST_LINE).read_until(b'\n', &mut line)?;
        // The last line of a run that was cut off, or is under way, is left out.
        if read == 0 || (line.last() != Some(&b'\n') && (read as u64) < LONGEST_LINE) {
            break;
        }
        note(run, serde_json::from_slice(&line)?)?;
    }
    if run.outcome == Outcome::NotBegun {
        return Err(io::Error::other("it does not begin as a journal does"));
    }
    Ok(())
}

fn note(run: &mut Run, Record { at, event }: Record) -> io::Result<()> {
    match event {
        Event::RunStarted { format, user, release, steps } => {
            if format != FORMAT {
                return Err(io::Error::other(format!("its format is `{format}`")));
            }
            run.started_at = at;
            run.user = user;
            run.release = release;
            run.outcome = Outcome::Open;
            run.steps = steps.into_iter().map(|id| Step { id, ..Step::default() }).collect();
        }
        Event::StepStarted { step } => {
            if let Some(step) = run.steps.iter_mut().find(|found| found.id == step) {
                step.outcome = Outcome::Open;
            }
        }
        Event::StepEnded { step, outcome, duration_ms, evidence } => {
            if let Some(step) = run.steps.iter_mut().find(|found| found.id == step) {
                step.outcome = outcome.into();
                step.duration_ms = Some(duration_ms);
                step.evidence = evidence;
            }
        }
        Event::RunEnded { outcome, duration_ms } => {
            run.outcome = outcome.into();
            run.duration_ms = Some(duration_ms);
        }
        Event::Other => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the pipeline's own test of its format has it, with a line and a field that no build knows yet.
    const JOURNAL: &str = r#"{"at":"2023-11-14T22:13:20.005Z","event":{"type":"run-started","format":"omnitool.run","version":9,"run":"run","user":"ann","environment":"staging","platform":"local","release":"0001","replaces":null,"steps":["build","verify","smoke"],"novelty":{}}}
{"at":"2023-11-14T22:13:20.005Z","event":{"type":"step-started","step":"build","inputs":"abc"}}
{"at":"2023-11-14T22:13:20.005Z","event":{"type":"novelty","step":"build"}}
{"at":"2023-11-14T22:13:20.005Z","event":{"type":"step-output","step":"build","stream":"stderr","line":"compiling"}}
{"at":"2023-11-14T22:13:20.005Z","event":{"type":"step-ended","step":"build","outcome":{"status":"skipped","reason":"why"},"duration_ms":7,"evidence":["built"]}}
{"at":"2023-11-14T22:13:20.005Z","event":{"type":"step-started","step":"verify","inputs":"abc"}}
{"at":"2023-11-14T22:13:20.005Z","event":{"type":"run-ended","outcome":{"status":"failed","step":"verify","error":"interrupted"},"duration_ms":9}}
"#;

    fn folders(root: &Path) -> Folders {
        let (journals, backups) = (root.join("runs"), root.join("backups"));
        Folders { environment: EnvironmentName::Staging, journals, backups }
    }

    #[test]
    fn a_journal_says_how_each_step_ended() {
        let folder = tempfile::tempdir().unwrap();
        let folders = folders(folder.path());
        assert_eq!(folders.read(5).unwrap().runs, None);
        std::fs::create_dir(&folders.journals).unwrap();
        std::fs::write(folders.journals.join("2.jsonl"), JOURNAL).unwrap();
        std::fs::write(folders.journals.join("1.jsonl"), &JOURNAL[..JOURNAL.len() - 9]).unwrap();
        std::fs::write(folders.journals.join("0.jsonl"), "{}\n").unwrap();
        let runs = folders.read(2).unwrap().runs.unwrap();
        let ids: Vec<&str> = runs.iter().map(|run| &*run.id).collect();
        assert_eq!(ids, ["2", "1"]);
        assert_eq!(runs[0].outcome, Outcome::Failed("interrupted".to_owned()));
        let steps: Vec<(&str, &str)> =
            runs[0].steps.iter().map(|step| (&*step.id, step.outcome.word())).collect();
        assert_eq!(steps, [("build", "skipped"), ("verify", "not ended"), ("smoke", "not begun")]);
        assert_eq!(runs[0].steps[0].evidence, ["built"]);
        assert_eq!((&runs[1].outcome, &runs[1].problem), (&Outcome::Open, &None));
        let broken = folders.read(3).unwrap().runs.unwrap().pop().unwrap();
        assert!(broken.problem.unwrap().contains("missing field"));
    }
}
