//! Restoring into a database beside the live one, which then takes its name.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use chrono::{SubsecRound as _, Utc};
use diesel::prelude::*;
use omnitool_database::{AnyConnection, read_snapshot, stamp};
use omnitool_environment::{DatabaseUrl, EnvironmentName};

use super::{
    PostgresStore, RESTORE, archive, before_start,
    contents::{STAMP_TABLE, execute, has_table, read_contents, read_stamp},
    programs::{Programs, RunError},
    record::{Purpose, Record},
    server::{Facts, Server, ServerError, doing},
    swap::{Quiet, Swap, comment_on, rename},
    target::{self, quoted},
    temporary::{SCRATCH, Temporary, drop_abandoned, start_of_name, try_lock_restore},
};
use crate::{
    BackupId, digest,
    store::{
        Contents, OldDatabase, Progress, ReadDatabaseError, RehearsalHooks, RestoreError,
        RestoreHooks, RestoreRequest, SESSION_TABLE, Step,
    },
};

/// How long to wait for a killed restore's last statement, or for another restore that is about to end.
const WAIT: Duration = Duration::from_secs(2);
/// How often the size of a growing database is asked for.
const SIZE_EVERY: Duration = Duration::from_millis(500);

/// The database that is about to get the live one's name.
enum Staged<'a> {
    /// A new one, into which the backup is restored.
    New(Temporary),
    /// One that a rollback had replaced.
    Old(&'a OldDatabase),
}

impl Staged<'_> {
    fn name(&self) -> &str {
        match self {
            Self::New(temporary) => &temporary.name,
            Self::Old(old) => &old.name,
        }
    }

    /// Undoes what was begun.
    fn abandon(self, server: &mut Server) {
        let undone = match self {
            Self::New(temporary) => temporary.drop_now(server),
            Self::Old(old) => allow_connections(server, &old.name, false),
        };
        if let Err(error) = undone {
            tracing::warn!("cannot clean up after a restore that failed: {error}");
        }
    }
}

/// What a restore works with from its beginning to its end.
struct Restore<'a> {
    store: &'a PostgresStore,
    request: &'a RestoreRequest<'a>,
    server: Server,
    /// The live database; none where there is none.
    facts: Option<Facts>,
}

pub(super) fn restore(
    store: &PostgresStore,
    request: &RestoreRequest<'_>,
    hooks: &mut RestoreHooks<'_>,
) -> Result<(), RestoreError> {
    let failed = |error: ServerError| server_error(store, error);
    let mut server = store.server().map_err(failed)?;
    begin(store, &mut server)?;
    let facts = server.facts(&store.database).map_err(failed)?;
    server.check_role(&store.database, facts.as_ref()).map_err(failed)?;
    Restore { store, request, server, facts }.run(hooks)
}

/// Restores the backup into a scratch database, looks at it there and drops it.
pub(super) fn rehearse(
    store: &PostgresStore,
    request: &RestoreRequest<'_>,
    hooks: &mut RehearsalHooks<'_>,
) -> Result<(), RestoreError> {
    let failed = |error: ServerError| server_error(store, error);
    let mut server = store.server().map_err(failed)?;
    drop_abandoned(&mut server, SCRATCH).map_err(failed)?;
    let facts = server.facts(&store.database).map_err(failed)?;
    server.check_role(&store.database, facts.as_ref()).map_err(failed)?;
    let record = Record {
        restoring: Some(request.label.to_owned()),
        ..Record::new(Purpose::Scratch, &store.database)
    };
    let scratch =
        Temporary::create(&mut server, SCRATCH, facts.as_ref(), &record).map_err(failed)?;
    let mut rehearsal = Restore { store, request, server, facts };
    let result = rehearsal
        .fill(&scratch.name, hooks.progress)
        .and_then(|()| rehearsal.prepare(&scratch.name, hooks.progress, hooks.check));
    let dropped = scratch.drop_now(&mut rehearsal.server).map_err(failed);
    result.and(dropped)
}

/// Makes sure that this is the only restore of the database, and removes what a killed one left.
fn begin(store: &PostgresStore, server: &mut Server) -> Result<(), RestoreError> {
    let failed = |error: ServerError| server_error(store, error);
    let started = Instant::now();
    while !try_lock_restore(server, &store.database).map_err(failed)? {
        if started.elapsed() > WAIT {
            return Err(RestoreError::Running { database: store.url.to_string() });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop_abandoned(server, &start_of_name(&store.database, RESTORE)).map_err(failed)?;
    drop_abandoned(server, SCRATCH).map_err(failed)?;
    for (listed, record) in store.replaced(server).map_err(failed)? {
        if listed.allows_connections {
            allow_connections(server, &listed.name, false).map_err(failed)?;
        }
        if !record.finished {
            let record = Record { finished: true, ..record };
            execute(&mut server.conn, &comment_on(&listed.name, Some(&record.to_comment())))?;
        }
    }
    Ok(())
}

fn server_error(store: &PostgresStore, error: ServerError) -> RestoreError {
    RestoreError::Server { database: store.url.to_string(), source: error.into() }
}

fn allow_connections(server: &mut Server, name: &str, allow: bool) -> Result<(), ServerError> {
    execute(&mut server.conn, &format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allow}", quoted(name)))
        .map_err(doing(format!("change the database `{name}`")))
}

impl<'a> Restore<'a> {
    fn run(mut self, hooks: &mut RestoreHooks<'_>) -> Result<(), RestoreError> {
        let staged = self.stage(hooks)?;
        match self.put_in_place(&staged, hooks) {
            Ok(old) => self.finish(staged, old),
            Err(error) => {
                staged.abandon(&mut self.server);
                Err(error)
            }
        }
    }

    fn failed(&self, error: ServerError) -> RestoreError {
        server_error(self.store, error)
    }

    /// A database with the backup's content, checked, with our stamp and without sessions.
    fn stage(&mut self, hooks: &mut RestoreHooks<'_>) -> Result<Staged<'a>, RestoreError> {
        if let Some(old) = self.request.old {
            match self.stage_old(old, hooks) {
                Ok(staged) => return Ok(staged),
                Err(error @ RestoreError::Unfit { .. }) => return Err(error),
                Err(error) => {
                    let name = &old.name;
                    tracing::warn!("using the backup instead of the old database {name}: {error}");
                }
            }
        }
        let record = Record {
            restoring: Some(self.request.label.to_owned()),
            ..Record::new(Purpose::Restore, &self.store.database)
        };
        let start = start_of_name(&self.store.database, RESTORE);
        let temporary = Temporary::create(&mut self.server, &start, self.facts.as_ref(), &record)
            .map_err(|error| self.failed(error))?;
        let staged = Staged::New(temporary);
        let filled = self
            .fill(staged.name(), hooks.progress)
            .and_then(|()| self.prepare(staged.name(), hooks.progress, hooks.check));
        match filled {
            Ok(()) => Ok(staged),
            Err(error) => {
                staged.abandon(&mut self.server);
                Err(error)
            }
        }
    }

    fn stage_old(
        &mut self,
        old: &'a OldDatabase,
        hooks: &mut RestoreHooks<'_>,
    ) -> Result<Staged<'a>, RestoreError> {
        allow_connections(&mut self.server, &old.name, true).map_err(|it| self.failed(it))?;
        let staged = Staged::Old(old);
        match self.prepare(&old.name, hooks.progress, hooks.check) {
            Ok(()) => Ok(staged),
            Err(error) => {
                staged.abandon(&mut self.server);
                Err(error)
            }
        }
    }

    /// Restores the backup into the empty database `name`.
    fn fill(&mut self, name: &str, progress: &mut dyn FnMut(Progress)) -> Result<(), RestoreError> {
        progress(Progress { step: Step::Stage, done: 0, total: None });
        let RestoreRequest { file, label, contents, environment, .. } = *self.request;
        self.check_fingerprint(label, file)?;
        let is_foreign = contents.stamp.is_some_and(|stamp| stamp != environment);
        pg_restore(self.store, &mut self.server, file, name, is_foreign, progress).map_err(
            |error| match error {
                // What it says is about the backup, as far as anybody can tell.
                ServerError::Run(error @ RunError::Failed { .. }) if !error.is_about_room() => {
                    RestoreError::Unfit { label: label.to_owned(), problem: error.to_string() }
                }
                error => self.failed(error),
            },
        )?;
        // Again, since it was read by its name, and more than once.
        self.check_fingerprint(label, file)
    }

    fn check_fingerprint(&self, label: &str, file: &Path) -> Result<(), RestoreError> {
        let fingerprint = digest::of_file(file).map_err(|source| RestoreError::Stage {
            database: self.store.url.to_string(),
            source,
        })?;
        if fingerprint.sha256 == self.request.sha256 {
            Ok(())
        } else {
            Err(RestoreError::Changed { label: label.to_owned() })
        }
    }

    /// Makes the database `name` what will be in place, and checks it.
    fn prepare(
        &mut self,
        name: &str,
        progress: &mut dyn FnMut(Progress),
        look: &mut dyn FnMut(&DatabaseUrl) -> Result<(), String>,
    ) -> Result<(), RestoreError> {
        progress(Progress { step: Step::Check, done: 0, total: None });
        let RestoreRequest { label, contents, environment, .. } = *self.request;
        let mut conn = self.server.open(name).map_err(|error| self.failed(error))?;
        stamp_as(&mut conn, environment)?;
        end_sessions(&mut conn)?;
        // A new database has no statistics, and an app without them may be very slow.
        execute(&mut conn, "ANALYZE")?;
        check(&mut conn, contents)?;
        drop(conn);
        look(&self.server.url_of(name))
            .map_err(|problem| RestoreError::Unfit { label: label.to_owned(), problem })
    }

    /// Keeps writers out, has the safety backup taken and changes the names. Returns the name of the replaced database.
    fn put_in_place(
        &mut self,
        staged: &Staged<'_>,
        hooks: &mut RestoreHooks<'_>,
    ) -> Result<Option<(String, Record)>, RestoreError> {
        let live = &self.store.database;
        let Some(facts) = self.facts.clone() else {
            (hooks.safety)(hooks.progress)?;
            (hooks.progress)(Progress { step: Step::Replace, done: 0, total: None });
            execute(&mut self.server.conn, &rename(staged.name(), live))?;
            return Ok(None);
        };
        let conn = self.server.open(live).map_err(|error| self.failed(error))?;
        let quiet = Quiet::begin(conn)?;
        let safety_backup = (hooks.safety)(hooks.progress)?;
        (hooks.progress)(Progress { step: Step::Replace, done: 0, total: None });
        let old = self.old_name(safety_backup).map_err(|error| self.failed(error))?;
        let record = Record {
            restoring: Some(self.request.label.to_owned()),
            safety_backup,
            replaced_at: Some(Utc::now().trunc_subsecs(0)),
            ..Record::new(Purpose::Replaced, live)
        };
        if let Staged::New(temporary) = staged {
            let noted = Record { omnitool: Purpose::Restore, ..record.clone() };
            let noted = comment_on(&temporary.name, Some(&noted.to_comment()));
            execute(&mut self.server.conn, &noted)?;
        }
        let swap = Swap {
            live,
            facts: &facts,
            restored: staged.name(),
            old: &old,
            comment: &record.to_comment(),
        };
        swap.apply(&mut self.server, quiet).map_err(|error| self.failed(error))?;
        Ok(Some((old, record)))
    }

    /// A name for the database that is replaced: after its safety backup, where there is one.
    fn old_name(&mut self, safety_backup: Option<BackupId>) -> Result<String, ServerError> {
        let start = before_start(&self.store.database);
        let id = safety_backup.map_or_else(|| "empty".to_owned(), |id| id.to_string());
        let taken = self.server.named(&start)?;
        // Another folder of backups may have used the number.
        let mut names = std::iter::once(format!("{start}{id}"))
            .chain((2..100).map(|n| format!("{start}{id}_{n}")));
        names
            .find(|name| !taken.iter().any(|listed| listed.name == *name))
            .ok_or_else(|| ServerError::NoName { database: self.store.database.clone() })
    }

    /// Looks at the result from outside, as everybody else will see it, and notes that it is done.
    fn finish(
        mut self,
        staged: Staged<'_>,
        old: Option<(String, Record)>,
    ) -> Result<(), RestoreError> {
        if let Staged::New(temporary) = staged {
            temporary.release(&mut self.server).map_err(|error| server_error(self.store, error))?;
        }
        let mut conn = self
            .server
            .open(&self.store.database)
            .map_err(|error| server_error(self.store, error))?;
        read_stamp(&mut conn)?;
        if let Some((name, record)) = old {
            let record = Record { finished: true, ..record };
            execute(&mut self.server.conn, &comment_on(&name, Some(&record.to_comment())))?;
        }
        Ok(())
    }
}

/// Restores the dump `file` into the empty database `name`.
///
/// Owners and grants are those of the backup where it comes from here. Another environment's roles may be other people, also
/// where they have the same names: what comes from there belongs to the database's owner, and nobody else is granted anything.
pub(super) fn pg_restore(
    store: &PostgresStore,
    server: &mut Server,
    file: &Path,
    name: &str,
    is_foreign: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ServerError> {
    let programs = Programs::find(store.programs.as_deref(), server.major)?;
    let mut program = programs
        .pg_restore()
        .arg("--exit-on-error")
        .arg(format!("--jobs={}", store.jobs))
        .connect(target::for_programs(&store.url, name));
    let owners = archive::owners(&programs, file)?;
    if is_foreign || !server.missing_roles(&owners)?.is_empty() {
        program = program.arg("--no-owner").arg("--no-privileges");
        if let Some(facts) = server.facts(name)? {
            program = program.arg(format!("--role={}", facts.owner));
        }
    }
    let mut asked = Instant::now();
    program.arg(file).run(&mut || {
        if asked.elapsed() > SIZE_EVERY {
            let done = server.size(name).unwrap_or_default();
            progress(Progress { step: Step::Stage, done, total: None });
            asked = Instant::now();
        }
    })?;
    Ok(())
}

/// Stamps what comes from another environment, or from before its own stamp. A schema older than stamps has no place for
/// one; `migrate-db` gives it one.
fn stamp_as(conn: &mut AnyConnection, environment: EnvironmentName) -> Result<(), RestoreError> {
    let has_table = has_table(conn, STAMP_TABLE)?;
    if has_table && read_stamp(conn)? != Some(environment) {
        stamp::write(conn, environment)?;
    }
    Ok(())
}

/// Logs everybody out. Sessions that were closed since the backup was taken, or whose user was, must not come back to life.
pub(crate) fn end_sessions(conn: &mut AnyConnection) -> QueryResult<()> {
    if has_table(conn, SESSION_TABLE)? {
        execute(conn, &format!("DELETE FROM {}", quoted(SESSION_TABLE)))?;
    }
    Ok(())
}

/// Refuses anything but what the backup holds. References were checked by the server when it made them.
fn check(conn: &mut AnyConnection, expected: &Contents) -> Result<(), RestoreError> {
    let found: Contents =
        read_snapshot(conn, |conn| -> Result<_, ReadDatabaseError> { read_contents(conn) })?;
    if found.schema_version != expected.schema_version {
        let version = found.schema_version.unwrap_or_default();
        return Err(RestoreError::Check { problem: format!("its schema is `{version}`") });
    }
    let mut rows = expected.rows.clone();
    if let Some(stamps) = rows.get_mut(STAMP_TABLE) {
        // A backup from before its stamp has one now.
        *stamps = 1;
    }
    if let Some(sessions) = rows.get_mut(SESSION_TABLE) {
        *sessions = 0;
    }
    match found.difference(&rows) {
        None => Ok(()),
        Some(problem) => Err(RestoreError::Check { problem }),
    }
}
