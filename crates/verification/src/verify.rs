//! Runs the checks.

use std::{
    error::Error,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use diesel::Connection as _;
use omnitool_database::{AnyConnection, Mode, open, read_snapshot, stamp};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_tool_registry::Definitions;

use crate::{
    AppCheck, Check, CheckReport, Report, Selection,
    check::{Body, CheckError, Context, Verdict, ask_application},
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

/// How much is read where the database has its own proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// A validated foreign key with live triggers proves that there are no orphans.
    #[default]
    TrustConstraints,
    /// Every row is read.
    ReadEverything,
}

/// Runs the selected checks, all of them, on one unchanging view of the database, which is only read.
///
/// Checks that cannot be run are reported as such and fail the report; this never fails by itself.
#[must_use]
pub fn verify(subject: &Subject, selection: &Selection) -> Report {
    let started = Instant::now();
    let (checks, stamped) = match open_and_run(subject, selection) {
        Ok(done) => done,
        Err(error) => (unreachable(selection, error.as_ref(), started.elapsed()), None),
    };
    Report::new(subject, stamped, checks, started.elapsed())
}

type Done = (Vec<CheckReport>, Option<EnvironmentName>);

fn open_and_run(
    subject: &Subject,
    selection: &Selection,
) -> Result<Done, Box<dyn Error + Send + Sync>> {
    let opening = Instant::now();
    let mut conn = open(subject.database_url, Mode::Read)?;
    let mut done = None;
    let ended = read_snapshot(&mut conn, |conn| {
        let opened = opening.elapsed();
        // Without its table there is no stamp to name in the commands; check 9 says so.
        let stamped = isolated(conn, |conn| Ok(stamp::read(conn)?)).ok().flatten();
        let context = Context { subject, stamped };
        done = Some((run_selected(conn, &context, selection, opened), stamped));
        Ok::<(), diesel::result::Error>(())
    });
    match (done, ended) {
        (Some(done), Ok(())) => Ok(done),
        (Some(done), Err(error)) => {
            // Nothing was written, so that nothing is lost; a check that met the same trouble has it in the report.
            tracing::warn!("cannot end the read-only transaction: {error}");
            Ok(done)
        }
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => Err("the database ended the transaction at once".into()),
    }
}

/// Runs the checks of the database one after the other on the one snapshot, while the app answers beside them.
fn run_selected(
    conn: &mut AnyConnection,
    context: &Context,
    selection: &Selection,
    opened: Duration,
) -> Vec<CheckReport> {
    let app = context.subject.app;
    let asks_app = selection.checks().iter().any(|check| matches!(check.body, Body::Application));
    thread::scope(|scope| {
        let mut asking = asks_app.then(|| scope.spawn(|| timed(|| ask_application(app, context))));
        selection
            .checks()
            .iter()
            .map(|check| match check.body {
                Body::Database(body) => {
                    let (result, elapsed) = timed(|| isolated(conn, |conn| body(conn, context)));
                    // Opening the connection is what the first check is about.
                    let opened = if check.number == 1 { opened } else { Duration::ZERO };
                    report(check, result, elapsed + opened)
                }
                Body::Application => match asking.take().map(thread::ScopedJoinHandle::join) {
                    Some(Ok((result, elapsed))) => report(check, result, elapsed),
                    Some(Err(_)) | None => {
                        CheckReport::could_not_run(check, "asking the app panicked", Duration::ZERO)
                    }
                },
            })
            .collect()
    })
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
