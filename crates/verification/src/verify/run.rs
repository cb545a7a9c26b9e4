//! Shares the checks between connections.

use std::{
    collections::VecDeque,
    error::Error,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Scope, ScopedJoinHandle},
    time::Duration,
};

use omnitool_database::{AnyConnection, Mode, open};

use super::{chain, isolated, report, timed};
use crate::{
    Check, CheckReport, Selection,
    check::{Body, Context, DatabaseCheck, ask_application},
    store::follow_snapshot,
};

/// How many connections to PostgreSQL share a snapshot. One is busy with the grants, which the server reads with several
/// processes already; the other does everything else meanwhile.
const CONNECTIONS: usize = 2;

/// A check of the database that waits for a connection.
struct Job {
    /// Its place in the selection.
    place: usize,
    check: &'static Check,
    body: DatabaseCheck,
}

/// A run of the selected checks.
pub(super) struct Run<'a> {
    context: &'a Context<'a>,
    selection: &'a Selection,
    /// How long the connection took to open, which is what the first check is about.
    opened: Duration,
    /// What is done on the snapshot.
    shared: Mutex<VecDeque<Job>>,
    /// What needs a connection of its own and got none.
    left: Mutex<Vec<Job>>,
    reports: Mutex<Vec<Option<CheckReport>>>,
    connections: AtomicUsize,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        selection: &'a Selection,
        opened: Duration,
    ) -> Self {
        let jobs = jobs(selection, |body| match body {
            Body::Database(body) => Some(*body),
            Body::Apart(_) | Body::Application => None,
        });
        Self {
            context,
            selection,
            opened,
            shared: Mutex::new(jobs.collect()),
            left: Mutex::default(),
            reports: Mutex::new(selection.checks().iter().map(|_| None).collect()),
            connections: AtomicUsize::new(1),
        }
    }

    /// Whether several checks could share a snapshot.
    pub(super) fn is_worth_sharing(selection: &Selection) -> bool {
        let shared = |check: &&&Check| matches!(check.body, Body::Database(_));
        selection.checks().iter().filter(shared).count() > 1
    }

    /// Runs the checks while `conn` holds its snapshot, which others follow where it has a name.
    pub(super) fn on_one_snapshot(&self, conn: &mut AnyConnection, snapshot: Option<&str>) {
        thread::scope(|scope| {
            let mut threads = self.start_apart(scope);
            threads.extend(self.start_application(scope));
            if let Some(snapshot) = snapshot {
                let help = || scope.spawn(move || self.help(snapshot));
                threads.extend((1..CONNECTIONS).map(|_| help()));
            }
            self.work(conn);
            for thread in threads {
                // A check that panicked has no report, and is reported as such in the end.
                let _ = thread.join();
            }
        });
    }

    /// Runs what got no connection of its own on `conn`, which is in no transaction any more.
    pub(super) fn what_is_left(&self, conn: &mut AnyConnection) {
        for Job { place, check, body } in lock(&self.left).drain(..) {
            let (result, elapsed) = timed(|| body(conn, self.context));
            self.put(place, report(check, result, elapsed));
        }
    }

    /// The reports in the order of the selection, and how many connections shared the checks.
    pub(super) fn finish(self) -> (Vec<CheckReport>, usize) {
        let reports = self.reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        let reports = reports.into_iter().zip(self.selection.checks()).map(|(report, check)| {
            report.unwrap_or_else(|| {
                CheckReport::could_not_run(check, "the check panicked", Duration::ZERO)
            })
        });
        (reports.collect(), self.connections.into_inner())
    }

    fn put(&self, place: usize, report: CheckReport) {
        lock(&self.reports)[place] = Some(report);
    }

    /// Does what is still to be done, until nothing is.
    fn work(&self, conn: &mut AnyConnection) {
        loop {
            // The lock ends with this statement, not with the check.
            let job = lock(&self.shared).pop_front();
            let Some(Job { place, check, body }) = job else { return };
            let (result, elapsed) = timed(|| isolated(conn, |conn| body(conn, self.context)));
            let opened = if check.number == 1 { self.opened } else { Duration::ZERO };
            self.put(place, report(check, result, elapsed + opened));
        }
    }

    /// Works on another connection. Where the server gives none, the first one does it all.
    fn help(&self, snapshot: &str) {
        let work = || -> Result<(), Box<dyn Error + Send + Sync>> {
            let mut conn = open(self.context.subject.database_url, Mode::Read)?;
            Ok(follow_snapshot(&mut conn, snapshot, |conn| {
                self.connections.fetch_add(1, Ordering::Relaxed);
                self.work(conn);
            })?)
        };
        if let Err(error) = work() {
            tracing::warn!("the checks run on fewer connections: {}", chain(error.as_ref()));
        }
    }

    fn start_application<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
    ) -> impl Iterator<Item = ScopedJoinHandle<'s, ()>> {
        let checks = self.selection.checks().iter().enumerate();
        let asked = checks.filter(|(_, check)| matches!(check.body, Body::Application));
        asked.map(move |(place, check)| {
            scope.spawn(move || {
                let app = self.context.subject.app;
                let (result, elapsed) = timed(|| ask_application(app, self.context));
                self.put(place, report(check, result, elapsed));
            })
        })
    }

    fn start_apart<'s>(&'s self, scope: &'s Scope<'s, '_>) -> Vec<ScopedJoinHandle<'s, ()>> {
        let apart = jobs(self.selection, |body| match body {
            Body::Apart(body) => Some(*body),
            Body::Database(_) | Body::Application => None,
        });
        apart.map(|job| scope.spawn(move || self.apart(job))).collect()
    }

    fn apart(&self, job: Job) {
        match open(self.context.subject.database_url, Mode::Read) {
            Ok(mut conn) => {
                let Job { place, check, body } = job;
                let (result, elapsed) = timed(|| body(&mut conn, self.context));
                self.put(place, report(check, result, elapsed));
            }
            Err(error) => {
                tracing::warn!("{} waits for the other checks: {}", job.check.id, chain(&error));
                lock(&self.left).push(job);
            }
        }
    }
}

fn jobs(
    selection: &Selection,
    choose: impl Fn(&Body) -> Option<DatabaseCheck>,
) -> impl Iterator<Item = Job> {
    let checks = selection.checks().iter().enumerate();
    checks.filter_map(move |(place, check)| Some(Job { place, check, body: choose(&check.body)? }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a check that panicked left behind is whole: nothing is done under a lock but to put or to take.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
