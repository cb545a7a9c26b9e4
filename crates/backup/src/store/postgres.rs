//! PostgreSQL databases, with the help of `pg_dump` and `pg_restore`.

mod archive;
mod contents;
mod copy;
mod dress;
mod programs;
mod record;
mod restore;
mod server;
mod swap;
mod target;
mod temporary;

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use diesel::{prelude::*, sql_types::Text};
use omnitool_database::{AnyConnection, Mode, open, read_snapshot};
use omnitool_environment::{DatabaseUrl, EnvironmentName};

pub(crate) use self::{contents::STAMP_TABLE, copy::PostgresCopy, restore::end_sessions};
use self::{
    contents::{count_rows, read_contents, read_stamp, tables},
    programs::{FindProgramsError, Programs, RunError},
    record::{Purpose, Record},
    server::{Listed, Server, ServerError, doing},
    temporary::{abandoned, is_restoring, start_of_name},
};
use super::{
    COPY, Contents, CopyError, DropCopyError, DropOldError, InspectError, Interrupted, Left,
    OldDatabase, Progress, ReadDatabaseError, RehearsalHooks, RestoreError, RestoreHooks,
    RestoreRequest, Step, Store, StoreOptions, UnsupportedDatabaseError,
};
use crate::manifest::System;

/// What stands between a database's name and a number in the name of a copy that is being restored.
const RESTORE: &str = "_restore_";
/// What stands between a database's name and a backup's id in the name of a database that was replaced.
const BEFORE: &str = "_before_";

/// A database on a PostgreSQL server.
#[derive(Debug)]
pub(super) struct PostgresStore {
    url: DatabaseUrl,
    database: String,
    /// Where `pg_dump` and `pg_restore` are; none where they are looked for.
    programs: Option<PathBuf>,
    /// How many connections a restore uses at once.
    jobs: usize,
}

/// The transaction whose view of the database a dump shows.
#[derive(QueryableByName)]
struct Snapshot {
    #[diesel(sql_type = Text)]
    snapshot: String,
}

impl PostgresStore {
    pub(super) fn new(
        url: &DatabaseUrl,
        options: &StoreOptions,
    ) -> Result<Self, UnsupportedDatabaseError> {
        let StoreOptions { programs, jobs } = options.clone();
        match target::database_name(url) {
            Some(database) => {
                let jobs = jobs.map_or_else(default_jobs, NonZeroUsize::get);
                Ok(Self { url: url.clone(), database, programs, jobs })
            }
            None => Err(UnsupportedDatabaseError { url: url.to_string() }),
        }
    }

    fn connect(&self, mode: Mode) -> Result<AnyConnection, ReadDatabaseError> {
        Ok(open(&self.url, mode)?)
    }

    fn server(&self) -> Result<Server, ServerError> {
        Server::connect(&self.url, &self.database)
    }

    fn read_error(&self, error: ServerError) -> ReadDatabaseError {
        ReadDatabaseError::Server { database: self.url.to_string(), source: error.into() }
    }

    /// The records of databases that were replaced, oldest first.
    fn replaced(&self, server: &mut Server) -> Result<Vec<(Listed, Record)>, ServerError> {
        let all = server.named(&before_start(&self.database))?;
        let mut replaced: Vec<(Listed, Record)> = all
            .into_iter()
            .filter_map(|listed| {
                let record = Record::parse(listed.comment.as_deref()?)?;
                let is_ours =
                    record.omnitool == Purpose::Replaced && record.database == self.database;
                is_ours.then_some((listed, record))
            })
            .collect();
        replaced.sort_by_key(|(_, record)| record.replaced_at);
        Ok(replaced)
    }

    fn find_interrupted(&self) -> Result<Option<Interrupted>, ServerError> {
        let mut server = self.server()?;
        if is_restoring(&mut server, &self.database)? {
            return Ok(None);
        }
        let left: Vec<Listed> =
            abandoned(&mut server, &start_of_name(&self.database, RESTORE))?.into_iter().collect();
        let leftovers: Vec<String> = left.iter().map(|listed| listed.name.clone()).collect();
        // One that had changed the names left nothing but a record that it had not come to its end.
        if let Some((_, record)) = self.replaced(&mut server)?.pop()
            && !record.finished
        {
            let Record { restoring, safety_backup, .. } = record;
            let left = Left::New;
            return Ok(Some(Interrupted { restoring, safety_backup, left, leftovers }));
        }
        Ok(left.last().map(|listed| {
            let record = listed.comment.as_deref().and_then(Record::parse);
            Interrupted {
                restoring: record.as_ref().and_then(|record| record.restoring.clone()),
                safety_backup: record.and_then(|record| record.safety_backup),
                left: Left::Old,
                leftovers,
            }
        }))
    }

    /// Dumps the database as `conn` sees it into `file`.
    fn dump(
        &self,
        conn: &mut AnyConnection,
        file: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BTreeMap<String, u64>, DumpError> {
        let major = server::major_version(conn).map_err(doing("ask the server for its version"))?;
        let programs = Programs::find(self.programs.as_deref(), major)?;
        let file = std::fs::OpenOptions::new().write(true).open(file)?;
        let written = file.try_clone()?;
        let mut progress = || {
            let done = written.metadata().map_or(0, |metadata| metadata.len());
            progress(Progress { step: Step::Copy, done, total: None });
        };
        read_snapshot(conn, |conn| {
            let Snapshot { snapshot } =
                diesel::sql_query("SELECT pg_export_snapshot() AS snapshot").get_result(conn)?;
            let rows = programs
                .pg_dump()
                // A file as its output can be sought in, so that a restore with several jobs finds its parts.
                .arg("--format=custom")
                .arg(format!("--snapshot={snapshot}"))
                .connect(target::for_programs(&self.url, &self.database))
                .stdout(file)
                // pg_dump waits for its own compression most of the time; the server is free meanwhile.
                .run_beside(|| count_rows(conn), &mut progress)?;
            Ok(rows?)
        })
    }
}

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
enum DumpError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Programs(#[from] FindProgramsError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot write to it")]
    File(#[from] std::io::Error),
    #[error("cannot read the database")]
    Query(#[from] diesel::result::Error),
}

impl Store for PostgresStore {
    fn system(&self) -> System {
        System::Postgres
    }

    fn name(&self) -> String {
        self.database.clone()
    }

    fn stamp(&self) -> Result<Option<EnvironmentName>, ReadDatabaseError> {
        read_stamp(&mut self.connect(Mode::Read)?)
    }

    fn live(&self) -> Result<Option<Contents>, ReadDatabaseError> {
        let mut conn = match self.connect(Mode::Read) {
            Ok(conn) => conn,
            // The server says what is wrong in its own language; whether the database is there is asked elsewhere.
            Err(error) => {
                let facts = self.server().and_then(|mut server| server.facts(&self.database));
                return if matches!(facts, Ok(None)) { Ok(None) } else { Err(error) };
            }
        };
        read_snapshot(&mut conn, |conn| {
            if tables(conn)?.is_empty() { Ok(None) } else { read_contents(conn).map(Some) }
        })
    }

    fn copy_to(
        &self,
        file: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<BTreeMap<String, u64>>, CopyError> {
        let mut conn = open(&self.url, Mode::Read)?;
        self.dump(&mut conn, file, progress)
            .map(Some)
            .map_err(|error| CopyError::Copy { file: file.to_owned(), source: error.into() })
    }

    fn inspect(&self, file: &Path) -> Result<Contents, InspectError> {
        inspect_with(self.programs.as_deref(), file)
    }

    fn rehearse(
        &self,
        request: &RestoreRequest<'_>,
        hooks: &mut RehearsalHooks<'_>,
    ) -> Result<(), RestoreError> {
        restore::rehearse(self, request, hooks)
    }

    fn interrupted(&self) -> Result<Option<Interrupted>, ReadDatabaseError> {
        self.find_interrupted().map_err(|error| self.read_error(error))
    }

    fn restore(
        &self,
        request: &RestoreRequest<'_>,
        hooks: &mut RestoreHooks<'_>,
    ) -> Result<(), RestoreError> {
        restore::restore(self, request, hooks)
    }

    fn old_databases(&self) -> Result<Vec<OldDatabase>, ReadDatabaseError> {
        let replaced = self.server().and_then(|mut server| self.replaced(&mut server));
        let replaced = replaced.map_err(|error| self.read_error(error))?;
        Ok(replaced
            .into_iter()
            .map(|(Listed { name, .. }, Record { replaced_at, safety_backup, .. })| OldDatabase {
                name,
                replaced_at,
                safety_backup,
            })
            .collect())
    }

    fn drop_old(&self, old: &OldDatabase) -> Result<(), DropOldError> {
        let drop_it = || {
            let mut server = self.server()?;
            // Only what is still ours: the name may be somebody else's by now.
            if self.replaced(&mut server)?.iter().any(|(listed, _)| listed.name == old.name) {
                server.drop(&old.name)?;
            }
            Ok(())
        };
        drop_it().map_err(|error: ServerError| DropOldError::Drop {
            name: old.name.clone(),
            source: error.into(),
        })
    }

    fn drop_copy(&self) -> Result<(), DropCopyError> {
        let database = self.url.to_string();
        if !self.database.starts_with(COPY) {
            return Err(DropCopyError::NotOne { database, begins: COPY });
        }
        let dropped = self.server().and_then(|mut server| server.drop(&self.database));
        dropped.map_err(|error| DropCopyError::Drop { database, source: error.into() })
    }
}

/// As many connections as there are processors, where that is not more than a server likes.
fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(4))
}

/// What the names of databases that replaced ones of `database` keep begin with.
fn before_start(database: &str) -> String {
    start_of_name(database, BEFORE)
}

/// Reads the dump `file` and checks all of it.
pub(super) fn inspect(file: &Path) -> Result<Contents, InspectError> {
    inspect_with(None, file)
}

fn inspect_with(programs: Option<&Path>, file: &Path) -> Result<Contents, InspectError> {
    archive::check_file(file)?;
    let programs = Programs::newest(programs)
        .map_err(|error| InspectError::Program { file: file.to_owned(), source: error.into() })?;
    archive::inspect(&programs, file)
}
