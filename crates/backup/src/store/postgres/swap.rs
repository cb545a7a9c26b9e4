//! Keeping writers out, and changing the names of two databases in one transaction.
//!
//! 1. A session in the live database takes a lock on every table that lets others read and not write. From then on nothing
//!    is committed any more, and the safety backup can be taken.
//! 2. A second session, outside, begins to rename the live database, which keeps new connections waiting before it waits for
//!    the open ones to end.
//! 3. All other sessions are ended. They cannot have written anything since step 1.
//! 4. The first session ends, too, and with it its locks; nobody is there who could use that. The renaming goes on, and the
//!    same transaction gives the restored database the live one's name.
//!
//! Everything but the last commit is undone by the server when we are killed: locks end with their session, and so does a
//! transaction.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use diesel::{
    prelude::*,
    result::{DatabaseErrorKind, Error},
    sql_types::{BigInt, Bool, Integer, Text},
};
use omnitool_database::{AnyConnection, migration::LOCK_KEY, write_transaction};

use super::{
    contents::{Table, execute, tables},
    dress,
    server::{Facts, Server, ServerError, doing},
    target::{literal, quoted},
};
use crate::store::RestoreError;

/// How long to wait for other writers before giving up.
const WAIT: Duration = Duration::from_secs(30);
/// How long one attempt waits for its locks, while others that want to write queue behind it.
const ATTEMPT: &str = "5s";
/// How long sessions get to end. `ALTER DATABASE … RENAME` itself waits five seconds.
const LEAVE: Duration = Duration::from_millis(4500);
const PAUSE: Duration = Duration::from_millis(10);

/// A session in the live database behind which nobody can write.
pub(super) struct Quiet {
    conn: AnyConnection,
    pid: i32,
    tables: Vec<Table>,
}

#[derive(QueryableByName)]
struct Pid {
    #[diesel(sql_type = Integer)]
    pid: i32,
}

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = Integer)]
    pid: i32,
    #[diesel(sql_type = Text)]
    description: String,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    answer: bool,
}

impl Quiet {
    /// Waits for the writers of `conn`'s database and keeps them out until the value goes away.
    pub(super) fn begin(mut conn: AnyConnection) -> Result<Self, RestoreError> {
        let started = Instant::now();
        loop {
            match try_lock(&mut conn) {
                Ok(tables) => {
                    let pid = pid_of(&mut conn)?;
                    return Ok(Self { conn, pid, tables });
                }
                Err(error) if is_conflict(&error) => {
                    // After an error, the transaction is of no use any more.
                    execute(&mut conn, "ROLLBACK")?;
                    if started.elapsed() > WAIT {
                        return Err(RestoreError::Locked { waited_seconds: WAIT.as_secs() });
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends the session where the tables are still those that were locked.
    fn end(mut self, database: &str) -> Result<(), ServerError> {
        let now = tables(&mut self.conn).map_err(doing("list the tables"))?;
        if now == self.tables {
            Ok(())
        } else {
            Err(ServerError::TablesChanged { database: database.to_owned() })
        }
    }
}

fn try_lock(conn: &mut AnyConnection) -> QueryResult<Vec<Table>> {
    execute(conn, &format!("BEGIN; SET LOCAL lock_timeout = '{ATTEMPT}'"))?;
    // No program of ours changes the schema meanwhile.
    execute(conn, &format!("SELECT pg_advisory_xact_lock({LOCK_KEY})"))?;
    let found = tables(conn)?;
    if !found.is_empty() {
        let names: Vec<String> = found.iter().map(Table::quoted).collect();
        execute(conn, &format!("LOCK TABLE ONLY {} IN EXCLUSIVE MODE", names.join(", ONLY ")))?;
    }
    // What a transaction that we have just waited for has made.
    if tables(conn)? == found { Ok(found) } else { Err(Error::RollbackTransaction) }
}

/// Whether it is worth trying again: somebody else has a lock, or wants ours.
fn is_conflict(error: &Error) -> bool {
    match error {
        Error::RollbackTransaction => true,
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => true,
        Error::DatabaseError(_, information) => {
            // diesel does not pass the code on. Where the server speaks another language, this is an error and no retry.
            let message = information.message();
            message.contains("lock timeout") || message.contains("deadlock detected")
        }
        _ => false,
    }
}

fn pid_of(conn: &mut AnyConnection) -> QueryResult<i32> {
    let Pid { pid } = diesel::sql_query("SELECT pg_backend_pid() AS pid").get_result(conn)?;
    Ok(pid)
}

/// Who takes whose place.
pub(super) struct Swap<'a> {
    /// The live database's name, and afterwards the restored one's.
    pub(super) live: &'a str,
    pub(super) facts: &'a Facts,
    pub(super) restored: &'a str,
    /// The name that the live database gets.
    pub(super) old: &'a str,
    /// The comment that it gets.
    pub(super) comment: &'a str,
}

impl Swap<'_> {
    /// Changes the names, with everything that belongs to the name and not to the content.
    pub(super) fn apply(&self, server: &mut Server, quiet: Quiet) -> Result<(), ServerError> {
        let mut conn = server.another()?;
        let dressing = dress::statements(&mut conn, self.live, self.restored)
            .map_err(doing(format!("read the settings of the database `{}`", self.live)))?;
        write_transaction(&mut conn, |conn| {
            for statement in &dressing {
                execute(conn, statement)?;
            }
            self.rename_live(server, conn, quiet)?;
            for statement in self.statements() {
                execute(conn, &statement)?;
            }
            Ok(())
        })
        .map_err(|error| match error {
            ServerError::Refused(error) => {
                doing(format!("rename the database `{}`", self.live))(error)
            }
            error => error,
        })
    }

    /// Renames the live database while its other sessions are ended.
    fn rename_live(
        &self,
        server: &mut Server,
        conn: &mut AnyConnection,
        quiet: Quiet,
    ) -> Result<(), ServerError> {
        let pid = pid_of(conn)?;
        let rename = rename(self.live, self.old);
        std::thread::scope(|scope| {
            let (sender, renamed) = mpsc::channel();
            scope.spawn(move || sender.send(execute(conn, &rename)));
            let cleared = self.clear(server, pid, quiet, &renamed);
            // Waits at most as long as the server does. Its answer says less than ours where we could not clear the way.
            let result = match &cleared {
                Ok(Some(_)) => Ok(()),
                _ => renamed.recv().unwrap_or(Err(Error::BrokenTransactionManager)),
            };
            match cleared? {
                Some(early) => Ok(early?),
                None => Ok(result?),
            }
        })
    }

    /// Waits until nobody can connect any more and ends those who are connected, last of all `quiet`.
    ///
    /// Returns the result of the renaming where it came before that.
    fn clear(
        &self,
        server: &mut Server,
        renaming: i32,
        quiet: Quiet,
        renamed: &mpsc::Receiver<QueryResult<()>>,
    ) -> Result<Option<QueryResult<()>>, ServerError> {
        let is_closed = format!(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = {renaming} AND granted AND locktype = 'object' \
             AND classid = 'pg_database'::regclass AND objid::bigint = {} AND mode = 'AccessExclusiveLock') AS answer",
            self.facts.oid
        );
        let deadline = Instant::now() + LEAVE;
        loop {
            // It cannot succeed while `quiet` is connected.
            if let Ok(early) = renamed.recv_timeout(PAUSE) {
                return Ok(Some(early));
            }
            let Answer { answer } = diesel::sql_query(&is_closed)
                .get_result(&mut server.conn)
                .map_err(doing("look at the server's locks"))?;
            if answer {
                break;
            }
        }
        loop {
            let others = self.end_sessions(server, quiet.pid)?;
            if others.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                let sessions: Vec<String> =
                    others.into_iter().map(|session| session.description).collect();
                return Err(ServerError::StillConnected {
                    role: server.role_name()?,
                    database: self.live.to_owned(),
                    sessions: sessions.join("; "),
                });
            }
            std::thread::sleep(PAUSE);
        }
        quiet.end(self.live)?;
        Ok(None)
    }

    /// Ends all sessions in the live database but `ours`, and returns those that were still there.
    fn end_sessions(&self, server: &mut Server, ours: i32) -> Result<Vec<Session>, ServerError> {
        let others: Vec<Session> = diesel::sql_query(
            "SELECT pid, concat_ws(', ', 'process ' || pid, 'user ' || usename, nullif(application_name, ''), \
             'from ' || host(client_addr), state) AS description FROM pg_stat_activity \
             WHERE datid::bigint = $1 AND pid <> $2",
        )
        .bind::<BigInt, _>(self.facts.oid)
        .bind::<Integer, _>(ours)
        .load(&mut server.conn)
        .map_err(doing(format!("list the sessions in the database `{}`", self.live)))?;
        for Session { pid, .. } in &others {
            // One that we may not end is named when it stays.
            if let Err(error) =
                execute(&mut server.conn, &format!("SELECT pg_terminate_backend({pid})"))
            {
                tracing::debug!("cannot end the session of process {pid}: {error}");
            }
        }
        Ok(others)
    }

    /// What follows on the renaming of the live database, in the same transaction.
    fn statements(&self) -> Vec<String> {
        let Self { live, facts, restored, old, comment } = self;
        let mut statements = vec![
            rename(restored, live),
            comment_on(live, facts.comment.as_deref()),
            // Kept as it is: what is in it can only change when it is put back.
            format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", quoted(old)),
            comment_on(old, Some(comment)),
        ];
        if facts.is_template {
            statements.push(format!("ALTER DATABASE {} IS_TEMPLATE true", quoted(live)));
            // A template cannot be dropped.
            statements.push(format!("ALTER DATABASE {} IS_TEMPLATE false", quoted(old)));
        }
        statements
    }
}

/// The statement that gives the database `from` the name `to`.
pub(super) fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", quoted(from), quoted(to))
}

/// The statement that sets or removes a database's comment.
pub(super) fn comment_on(database: &str, comment: Option<&str>) -> String {
    let comment = comment.map_or_else(|| " NULL".to_owned(), literal);
    format!("COMMENT ON DATABASE {} IS{comment}", quoted(database))
}
