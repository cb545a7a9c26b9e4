//! The journal of a run: one JSON object per line, in a file of its own.

use std::{
    io::{self, BufRead as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, SecondsFormat, Utc};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::Event;

/// Takes the events of a run.
pub trait Sink {
    /// Takes one event.
    ///
    /// # Errors
    ///
    /// Fails where the event cannot be kept; the run then stops, since nobody could tell what it did.
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError>;
}

/// The events of a run could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the journal {file}")]
pub struct WriteJournalError {
    /// The journal.
    pub file: PathBuf,
    /// What the operating system says.
    #[source]
    pub source: io::Error,
}

/// A journal could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadJournalError {
    /// It cannot be opened or read; the source names it.
    #[error("cannot read the journal")]
    Read(#[source] io::Error),
    /// A line is no event.
    #[error("cannot understand line {line} of the journal {file}")]
    Line {
        /// The journal.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The first line does not say that this is a journal.
    #[error("{file} is not a journal of the format {}, version {}", Event::FORMAT, Event::VERSION)]
    Format {
        /// The file.
        file: PathBuf,
    },
}

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When it was written: UTC, to the millisecond.
    pub at: String,
    /// What happened.
    pub event: Event,
}

/// A journal that is being written. Its file has mode 0600.
///
/// Every event is appended at once, and on disk before the run goes on. Lines of output are the exception: they are on
/// disk with the next event that is none, since syncing each line of a build would take longer than the build.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: fs::File,
    now: fn() -> DateTime<Utc>,
}

impl Journal {
    /// Starts the journal of `run` in `folder`.
    ///
    /// # Errors
    ///
    /// Fails where the file is there already or cannot be made.
    pub fn create(folder: &Path, run: &str) -> Result<Self, WriteJournalError> {
        let path = folder.join(format!("{run}.jsonl"));
        let create = || {
            fs::create_dir_all(folder)?;
            let mut options = std::fs::OpenOptions::new();
            options.append(true).create_new(true).mode(0o600);
            fs::OpenOptions::from_options(options).open(&path)
        };
        match create() {
            Ok(file) => Ok(Self { path, file, now: Utc::now }),
            Err(source) => Err(WriteJournalError { file: path, source }),
        }
    }

    /// The journal's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Sink for Journal {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        let at = (self.now)().to_rfc3339_opts(SecondsFormat::Millis, true);
        let write = || {
            let mut line = serde_json::to_vec(&Record { at, event: event.clone() })?;
            line.push(b'\n');
            // One write, so that a reader never sees half a line unless the disk is full.
            self.file.write_all(&line)?;
            match event {
                Event::StepOutput { .. } => Ok(()),
                _ => self.file.sync_data(),
            }
        };
        write().map_err(|source| WriteJournalError { file: self.path.clone(), source })
    }
}

/// Reads the journal `file`. A last line that was cut off by a crash is left out.
///
/// # Errors
///
/// Fails where the file is no journal, is one of a newer version, or is damaged.
pub fn read_journal(file: &Path) -> Result<Vec<Record>, ReadJournalError> {
    let mut reader = io::BufReader::new(fs::File::open(file).map_err(ReadJournalError::Read)?);
    let mut records = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(ReadJournalError::Read)?;
        if read == 0 || line.last() != Some(&b'\n') {
            break;
        }
        let record: Record = serde_json::from_slice(&line).map_err(|source| {
            ReadJournalError::Line { file: file.to_owned(), line: number, source }
        })?;
        records.push(record);
    }
    match records.first().map(|record| &record.event) {
        Some(Event::RunStarted { format, version, .. })
            if format == Event::FORMAT && *version <= Event::VERSION =>
        {
            Ok(records)
        }
        _ => Err(ReadJournalError::Format { file: file.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use chrono::TimeZone as _;
    use omnitool_environment::{EnvironmentName, Platform as PlatformName};

    use super::*;
    use crate::{Fact, ReleaseId, RunOutcome, Settings, StepId, StepOutcome, Stream, Task};

    fn started() -> Event {
        Event::RunStarted {
            format: Event::FORMAT.to_owned(),
            version: Event::VERSION,
            run: "run".to_owned(),
            user: "ann".to_owned(),
            environment: EnvironmentName::Staging,
            platform: PlatformName::Local,
            release: ReleaseId::after(None),
            replaces: None,
            steps: vec![StepId::Build, StepId::ImportAccess],
            task: Task::Deploy,
            situation: None,
            settings: Settings::default(),
            revision: None,
            host: None,
            continues: None,
        }
    }

    fn ended() -> Event {
        Event::StepEnded {
            step: StepId::Build,
            outcome: StepOutcome::Skipped { reason: "why".to_owned() },
            duration_ms: 7,
            evidence: vec!["done".to_owned()],
        }
    }

    fn journal(folder: &Path) -> Journal {
        let mut journal = Journal::create(folder, "run").unwrap();
        journal.now = || Utc.timestamp_opt(1_700_000_000, 5_000_000).unwrap();
        journal
    }

    #[test]
    fn the_format_is_stable() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = journal(&folder.path().join("runs"));
        let step = StepId::Build;
        let output =
            Event::StepOutput { step, stream: Stream::Stderr, line: "compiling".to_owned() };
        for event in [
            started(),
            Event::StepStarted { step, inputs: "abc".to_owned() },
            output,
            Event::Learned { step, fact: Fact::Backup { id: "b001".to_owned() } },
            ended(),
            Event::RunEnded {
                outcome: RunOutcome::Failed { step, error: "interrupted".to_owned() },
                duration_ms: 9,
            },
        ] {
            journal.emit(&event).unwrap();
        }
        insta::assert_snapshot!(fs::read_to_string(journal.path()).unwrap(), @r#"
        {"at":"2023-11-14T22:13:20.005Z","event":{"type":"run-started","format":"omnitool.run","version":2,"run":"run","user":"ann","environment":"staging","platform":"local","release":"0001","replaces":null,"steps":["build","import-access"],"task":"deploy","situation":null,"settings":{"tests":false,"refresh_data":false,"skip_backup":null,"freeze_override":null,"skipped":[],"auto_rollback":false},"revision":null,"host":null,"continues":null}}
        {"at":"2023-11-14T22:13:20.005Z","event":{"type":"step-started","step":"build","inputs":"abc"}}
        {"at":"2023-11-14T22:13:20.005Z","event":{"type":"step-output","step":"build","stream":"stderr","line":"compiling"}}
        {"at":"2023-11-14T22:13:20.005Z","event":{"type":"learned","step":"build","fact":{"kind":"backup","id":"b001"}}}
        {"at":"2023-11-14T22:13:20.005Z","event":{"type":"step-ended","step":"build","outcome":{"status":"skipped","reason":"why"},"duration_ms":7,"evidence":["done"]}}
        {"at":"2023-11-14T22:13:20.005Z","event":{"type":"run-ended","outcome":{"status":"failed","step":"build","error":"interrupted"},"duration_ms":9}}
        "#);
        assert_eq!(read_journal(journal.path()).unwrap().len(), 6);
        let mode = fs::metadata(journal.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = journal(folder.path());
        journal.emit(&started()).unwrap();
        journal.emit(&ended()).unwrap();
        let text = fs::read_to_string(journal.path()).unwrap();
        fs::write(journal.path(), &text[..text.len() - 9]).unwrap();
        let records = read_journal(journal.path()).unwrap();
        assert_eq!(records.into_iter().map(|record| record.event).collect::<Vec<_>>(), [started()]);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.jsonl");
        fs::write(&file, "{}\n").unwrap();
        let error = read_journal(&file).unwrap_err();
        assert!(matches!(error, ReadJournalError::Line { line: 1, .. }), "{error}");
        let record = Record { at: String::new(), event: ended() };
        fs::write(&file, serde_json::to_string(&record).unwrap() + "\n").unwrap();
        let error = read_journal(&file).unwrap_err();
        assert!(matches!(error, ReadJournalError::Format { .. }), "{error}");
    }

    #[test]
    fn a_journal_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        journal(folder.path());
        assert!(Journal::create(folder.path(), "run").is_err());
    }
}
