//! Databases of ours that somebody must drop in the end: also when we are killed.
//!
//! Each has a number in its name, and whoever uses it holds an advisory lock on that number, which ends with the session.
//! A database whose number nobody has locked belongs to nobody any more.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Text},
};
use omnitool_database::AnyConnection;

use super::{
    contents::tables,
    record::Record,
    server::{Facts, Listed, Server, ServerError, doing},
};

/// What the names of databases for checking a backup begin with.
pub(super) const SCRATCH: &str = "omnitool_scratch_";
/// Bytes of a name that PostgreSQL keeps.
const LONGEST_NAME: usize = 63;
/// The first half of our locks' keys: "omni" in ASCII.
const LOCK_CLASS: i32 = 0x6f6d_6e69;

#[derive(QueryableByName)]
struct Random {
    #[diesel(sql_type = Text)]
    digits: String,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    answer: bool,
}

/// A new database of ours. [`Temporary::drop_now`] ends it, or being renamed.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) name: String,
    number: i32,
}

impl Temporary {
    /// Makes an empty database with `start` and a number as its name.
    pub(super) fn create(
        server: &mut Server,
        start: &str,
        facts: Option<&Facts>,
        record: &Record,
    ) -> Result<Self, ServerError> {
        for _ in 0..10 {
            let Random { digits } =
                diesel::sql_query("SELECT left(md5(gen_random_uuid()::text), 8) AS digits")
                    .get_result(&mut server.conn)
                    .map_err(doing("choose a database's name"))?;
            let name = format!("{start}{digits}");
            let number = number_of(&name).expect("eight hexadecimal digits");
            // Locked before the database is there, so that it is never taken for nobody's.
            if !try_lock(&mut server.conn, number)? {
                continue;
            }
            server.create(&name, facts, &record.to_comment())?;
            return Ok(Self { name, number });
        }
        Err(ServerError::NoName { database: start.to_owned() })
    }

    /// Drops it.
    pub(super) fn drop_now(self, server: &mut Server) -> Result<(), ServerError> {
        let dropped = server.drop(&self.name);
        self.release(server)?;
        dropped
    }

    /// Lets go of it: it has another name now.
    pub(super) fn release(self, server: &mut Server) -> Result<(), ServerError> {
        unlock(&mut server.conn, self.number)
    }
}

/// What the names of copies of `database` begin with, `kind` among them: as long as there is room for eight digits.
pub(super) fn start_of_name(database: &str, kind: &str) -> String {
    let room = LONGEST_NAME - kind.len() - 8;
    let mut end = database.len().min(room);
    while !database.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{kind}", &database[..end])
}

/// Databases whose names begin with `start` and that belong to nobody any more.
pub(super) fn abandoned(server: &mut Server, start: &str) -> Result<Vec<Listed>, ServerError> {
    let mut abandoned = Vec::new();
    for listed in server.named(start)? {
        let number = listed.name.strip_prefix(start).and_then(|_| number_of(&listed.name));
        let Some(number) = number.filter(|_| listed.name.len() == start.len() + 8) else {
            continue;
        };
        if is_locked(&mut server.conn, number)? {
            continue;
        }
        let is_ours = match &listed.comment {
            Some(comment) => Record::is_record(comment),
            // We were killed before we could say that it is ours; somebody else's would have tables.
            None => {
                let mut conn = server.open(&listed.name)?;
                tables(&mut conn).map_err(doing("look into an abandoned database"))?.is_empty()
            }
        };
        if is_ours {
            abandoned.push(listed);
        }
    }
    Ok(abandoned)
}

/// Drops what [`abandoned`] finds. Somebody else's database is none of it, and one that resists is no reason to fail.
pub(super) fn drop_abandoned(server: &mut Server, start: &str) -> Result<(), ServerError> {
    for Listed { name, .. } in abandoned(server, start)? {
        match server.drop(&name) {
            Ok(()) => tracing::info!("dropped the database {name}, which a killed run had left"),
            Err(error) => tracing::warn!("{error}: {name} is left from a killed run"),
        }
    }
    Ok(())
}

/// The number in the eight hexadecimal digits that a name ends with.
fn number_of(name: &str) -> Option<i32> {
    let digits = name.get(name.len().checked_sub(8)?..)?;
    // The same bits: a lock's key is signed.
    u32::from_str_radix(digits, 16).ok().map(u32::cast_signed)
}

fn try_lock(conn: &mut AnyConnection, number: i32) -> Result<bool, ServerError> {
    ask(conn, &format!("SELECT pg_try_advisory_lock({LOCK_CLASS}, {number}) AS answer"))
}

fn unlock(conn: &mut AnyConnection, number: i32) -> Result<(), ServerError> {
    ask(conn, &format!("SELECT pg_advisory_unlock({LOCK_CLASS}, {number}) AS answer")).map(drop)
}

/// Whether anybody on the server has this lock, whatever database they are connected to.
fn is_locked(conn: &mut AnyConnection, number: i32) -> Result<bool, ServerError> {
    let number = number.cast_unsigned();
    ask(
        conn,
        &format!(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 \
             AND classid::bigint = {LOCK_CLASS} AND objid::bigint = {number}) AS answer"
        ),
    )
}

fn ask(conn: &mut AnyConnection, query: &str) -> Result<bool, ServerError> {
    let Answer { answer } =
        diesel::sql_query(query).get_result(conn).map_err(doing("use a lock of the server"))?;
    Ok(answer)
}

/// Makes sure that we are the only one who restores `database`, as long as the server's connection lives. False where
/// somebody else does.
pub(super) fn try_lock_restore(server: &mut Server, database: &str) -> Result<bool, ServerError> {
    let query =
        "SELECT pg_try_advisory_lock(hashtextextended('omnitool restore ' || $1, 0)) AS answer";
    let Answer { answer } = diesel::sql_query(query)
        .bind::<Text, _>(database)
        .get_result(&mut server.conn)
        .map_err(doing("use a lock of the server"))?;
    Ok(answer)
}

/// Whether somebody restores `database`.
pub(super) fn is_restoring(server: &mut Server, database: &str) -> Result<bool, ServerError> {
    #[derive(QueryableByName)]
    struct Key {
        #[diesel(sql_type = BigInt)]
        key: i64,
    }
    let query = "SELECT hashtextextended('omnitool restore ' || $1, 0) AS key";
    let Key { key } = diesel::sql_query(query)
        .bind::<Text, _>(database)
        .get_result(&mut server.conn)
        .map_err(doing("use a lock of the server"))?;
    ask(
        &mut server.conn,
        &format!(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 \
             AND classid::bigint = ({key}::bigint >> 32) & 4294967295 AND objid::bigint = {key}::bigint & 4294967295) AS answer"
        ),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_has_its_number() {
        assert_eq!(number_of("omnitool_scratch_ffffffff"), Some(-1));
        assert_eq!(number_of("app_restore_0000000a"), Some(10));
        assert_eq!(number_of("omnitool_scratch_mine"), None);
        assert_eq!(number_of("short"), None);
    }

    proptest! {
        #[test]
        fn a_copys_name_fits_however_long_the_database_is_called(name in "\\PC{1,80}") {
            let start = start_of_name(&name, "_restore_");
            prop_assert!(start.len() + 8 <= LONGEST_NAME);
            prop_assert!(start.ends_with("_restore_"));
        }
    }
}
