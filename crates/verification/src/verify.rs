//! Runs the checks.

mod run;

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use diesel::Connection as _;
use omnitool_database::{AnyConnection, Dialect, Mode, open, read_snapshot, stamp};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_tool_registry::Definitions;

use self::run::Run;
use crate::{
    AppCheck, Check, CheckReport, FindBackup, Report, Selection,
    check::{CheckError, Context, Verdict},
    store::{Counts, export_snapshot},
};

/// What is verified, and against what.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The database.
    pub database_url: &'a DatabaseUrl,
    /// The environment that it has to be, if the caller named one.
    pub environment: Option<EnvironmentName>,
    /// The tools that have to be there.
    pub definitions: &'a Definitions,
    /// The file that they are from, where it is not the one that the programs were built with.
    pub definitions_file: Option<&'a Path>,
    /// Asks the app about itself.
    pub app: &'a AppCheck<'a>,
    /// How much is read where the database has its own proof.
    pub depth: Depth,
}

/// What the checks 10 to 12 compare with. By default, there is nothing: they pass and say so.
#[derive(Clone, Copy)]
pub struct Expectations<'a> {
    /// The export that access has to match.
    pub access_export: Option<&'a Path>,
    /// The file with assertions about access.
    pub access_tests: Option<&'a Path>,
    /// Finds the backup whose rows have to be there still.
    pub last_backup: &'a FindBackup<'a>,
    /// How many of a hundred rows of a table may be lost since that backup.
    pub max_loss_percent: u8,
}

impl Default for Expectations<'_> {
    fn default() -> Self {
        Self {
            access_export: None,
            access_tests: None,
            last_backup: &|_| Ok(None),
            max_loss_percent: 10,
        }
    }
}

/// The assertions about access that hold by themselves: `data/access_tests.toml` of the working folder, which is a project's
/// or a release's root, where there is one.
#[must_use]
pub fn default_access_tests() -> Option<&'static Path> {
    let file = Path::new("data/access_tests.toml");
    file.exists().then_some(file)
}

/// How much is read where the database has its own proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// A validated foreign key with live triggers proves that there are no orphans.
    #[default]
    TrustConstraints,
    /// Every row is read.
    ReadEverything,
}

/// Runs the selected checks with nothing to expect beyond `subject`; see [`verify_against`].
#[must_use]
pub fn verify(subject: &Subject, selection: &Selection) -> Report {
    verify_against(subject, &Expectations::default(), selection)
}

/// Runs the selected checks, all of them, on one unchanging view of the database, which is only read.
///
/// On PostgreSQL, two connections share that view and the checks; where the server gives only one, one does it. Check 10
/// needs temporary tables and has a connection and a view of its own.
///
/// Checks that cannot be run are reported as such and fail the report; this never fails by itself.
#[must_use]
pub fn verify_against(subject: &Subject, expected: &Expectations, selection: &Selection) -> Report {
    let started = Instant::now();
    let (checks, stamped, connections) = match open_and_run(subject, expected, selection) {
        Ok(done) => done,
        Err(error) => (unreachable(selection, error.as_ref(), started.elapsed()), None, 0),
    };
    Report::new(subject, stamped, checks, connections, started.elapsed())
}

/// The reports, the database's stamp, and how many connections there were.
type Done = (Vec<CheckReport>, Option<EnvironmentName>, usize);

fn open_and_run(
    subject: &Subject,
    expected: &Expectations,
    selection: &Selection,
) -> Result<Done, Box<dyn Error + Send + Sync>> {
    let opening = Instant::now();
    let mut conn = open(subject.database_url, Mode::Read)?;
    let mut context =
        Context { subject, expected, stamped: None, counts: Counts::new(selection, subject.depth) };
    let is_shared = Run::is_worth_sharing(selection) && can_share(&mut conn);
    let opened = opening.elapsed();
    let mut run = None;
    let ended = read_snapshot(&mut conn, |conn| {
        let snapshot = if is_shared { Some(export_snapshot(conn)?) } else { None };
        // Without its table there is no stamp to name in the commands; check 9 says so.
        context.stamped = isolated(conn, |conn| Ok(stamp::read(conn)?)).ok().flatten();
        let started = run.insert(Run::new(&context, selection, opened));
        started.on_one_snapshot(conn, snapshot.as_deref());
        Ok::<(), diesel::result::Error>(())
    });
    match (run, ended) {
        (Some(run), ended) => {
            if let Err(error) = ended {
                // Nothing was written, so that nothing is lost; a check that met the same trouble has it in the report.
                tracing::warn!("cannot end the read-only transaction: {error}");
            }
            run.what_is_left(&mut conn);
            let (reports, connections) = run.finish();
            Ok((reports, context.stamped, connections))
        }
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => Err("the database ended the transaction at once".into()),
    }
}

/// Whether other connections can have this one's snapshot. SQLite has no way to do that, and a server may refuse it; since
/// that ends the transaction, it is tried in one of its own.
fn can_share(conn: &mut AnyConnection) -> bool {
    if conn.dialect() == Dialect::Sqlite {
        return false;
    }
    let tried = read_snapshot(conn, export_snapshot);
    if let Err(error) = &tried {
        tracing::warn!("the checks run one after the other: {}", chain(error));
    }
    tried.is_ok()
}

/// Runs `body` in a savepoint: on PostgreSQL an error would otherwise end the transaction for the checks after it.
fn isolated<T>(
    conn: &mut AnyConnection,
    body: impl FnOnce(&mut AnyConnection) -> Result<T, CheckError>,
) -> Result<T, CheckError> {
    conn.transaction(body)
}

fn timed<T>(body: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let value = body();
    (value, started.elapsed())
}

fn report(
    check: &'static Check,
    result: Result<Verdict, CheckError>,
    elapsed: Duration,
) -> CheckReport {
    match result {
        Ok(verdict) => CheckReport::ran(check, verdict, elapsed),
        Err(error) => CheckReport::could_not_run(check, &chain(&error), elapsed),
    }
}

/// The report of a database that does not let itself be checked: the first check failed, and no other could be run.
fn unreachable(
    selection: &Selection,
    error: &(dyn Error + Send + Sync + 'static),
    elapsed: Duration,
) -> Vec<CheckReport> {
    selection
        .checks()
        .iter()
        .map(|check| match check.number {
            1 => CheckReport::failed(check, &chain(error), elapsed),
            _ => CheckReport::could_not_run(
                check,
                "the database could not be opened",
                Duration::ZERO,
            ),
        })
        .collect()
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their source in their own text; once is enough.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.trim_end().to_owned()
}
