//! The server as such: its version, its databases, the role that we are.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Nullable, Text},
};
use omnitool_database::{AnyConnection, Mode, OpenError, open};
use omnitool_environment::DatabaseUrl;

use super::{
    contents::execute,
    programs::{FindProgramsError, RunError},
    target::{quoted, with_database},
};

/// Where to be connected while databases are made, renamed and dropped, in this order.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// `DROP DATABASE … WITH (FORCE)` came with it, and so did all that we use.
const OLDEST_SERVER: u32 = 13;
/// Since then a backend notices while it works that its client is gone.
const CHECKS_CLIENT: u32 = 14;

/// Why the server could not be made to do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("cannot connect to a database of {server} besides `{database}`, which renaming it needs: neither {} nor {} lets us in", MAINTENANCE[0], MAINTENANCE[1])]
    Maintenance {
        server: String,
        database: String,
        #[source]
        source: OpenError,
    },
    #[error(
        "the server is PostgreSQL {found}, and backups need PostgreSQL {OLDEST_SERVER} or newer"
    )]
    Old { found: u32 },
    #[error(
        "the role `{role}` may not create databases, which a restore needs; a superuser allows it with: ALTER ROLE {} CREATEDB", quoted(.role)
    )]
    MayNotCreate { role: String },
    #[error(
        "the role `{role}` does not own the database `{database}`; use the role `{owner}`, or a superuser allows it with: GRANT {} TO {}", quoted(.owner), quoted(.role)
    )]
    NotOwner { role: String, database: String, owner: String },
    #[error(
        "sessions of other roles stay connected to the database `{database}`, and the role `{role}` may not end them: {sessions}"
    )]
    StillConnected { role: String, database: String, sessions: String },
    #[error("somebody made or dropped a table of `{database}` while it was being replaced")]
    TablesChanged { database: String },
    #[error("all names for a copy of `{database}` are taken")]
    NoName { database: String },
    #[error(transparent)]
    Programs(#[from] FindProgramsError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot {doing}")]
    Query {
        doing: String,
        #[source]
        source: diesel::result::Error,
    },
    #[error("the server refused")]
    Refused(#[from] diesel::result::Error),
}

/// Says what was being done when a query failed.
pub(super) fn doing(doing: impl Into<String>) -> impl FnOnce(diesel::result::Error) -> ServerError {
    |source| ServerError::Query { doing: doing.into(), source }
}

/// What a database is besides its content.
#[derive(Clone, Debug, QueryableByName)]
pub(super) struct Facts {
    #[diesel(sql_type = BigInt)]
    pub(super) oid: i64,
    #[diesel(sql_type = Text)]
    pub(super) owner: String,
    #[diesel(sql_type = Text)]
    encoding: String,
    #[diesel(sql_type = Text)]
    collate: String,
    #[diesel(sql_type = Text)]
    ctype: String,
    /// `c`, `i` or `b`; none before PostgreSQL 15.
    #[diesel(sql_type = Nullable<Text>)]
    provider: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    locale: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    rules: Option<String>,
    #[diesel(sql_type = Text)]
    tablespace: String,
    #[diesel(sql_type = Bool)]
    pub(super) is_template: bool,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) comment: Option<String>,
    /// Whether we are its owner, or may act as it.
    #[diesel(sql_type = Bool)]
    is_ours: bool,
}

/// A database and its comment.
#[derive(Clone, Debug, QueryableByName)]
pub(super) struct Listed {
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) comment: Option<String>,
    #[diesel(sql_type = Bool)]
    pub(super) allows_connections: bool,
}

#[derive(QueryableByName)]
struct Role {
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Bool)]
    may_create: bool,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// A connection to a maintenance database of the server.
pub(super) struct Server {
    url: DatabaseUrl,
    /// The maintenance database that was reached.
    maintenance: DatabaseUrl,
    pub(super) conn: AnyConnection,
    pub(super) major: u32,
}

impl Server {
    /// Connects to the server of `url`, whose database `database` is about to be renamed or need not exist.
    pub(super) fn connect(url: &DatabaseUrl, database: &str) -> Result<Self, ServerError> {
        let mut first_error = None;
        for name in MAINTENANCE.into_iter().filter(|name| *name != database) {
            let maintenance = with_database(url, name);
            match open(&maintenance, Mode::Write) {
                Ok(mut conn) => {
                    let major = major_version(&mut conn)
                        .map_err(doing("ask the server for its version"))?;
                    if major < OLDEST_SERVER {
                        return Err(ServerError::Old { found: major });
                    }
                    let mut server = Self { url: url.clone(), maintenance, conn, major };
                    server.prepare()?;
                    return Ok(server);
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        let source = first_error.expect("at most one of two names is the database's own");
        Err(ServerError::Maintenance {
            server: url.to_string(),
            database: database.to_owned(),
            source,
        })
    }

    /// Another connection to the same maintenance database.
    pub(super) fn another(&self) -> Result<AnyConnection, ServerError> {
        let mut conn = open(&self.maintenance, Mode::Write)?;
        notice_kills(&mut conn, self.major)?;
        Ok(conn)
    }

    /// A connection to the database `name`.
    pub(super) fn open(&self, name: &str) -> Result<AnyConnection, ServerError> {
        let mut conn = open(&self.url_of(name), Mode::Write)?;
        notice_kills(&mut conn, self.major)?;
        Ok(conn)
    }

    /// Where the database `name` is.
    pub(super) fn url_of(&self, name: &str) -> DatabaseUrl {
        with_database(&self.url, name)
    }

    fn prepare(&mut self) -> Result<(), ServerError> {
        notice_kills(&mut self.conn, self.major)
    }

    /// What the database `name` is; none where it does not exist.
    pub(super) fn facts(&mut self, name: &str) -> Result<Option<Facts>, ServerError> {
        // Columns that not every version has are taken out of the row as JSON.
        diesel::sql_query(
            "SELECT d.oid::bigint AS oid, pg_get_userbyid(d.datdba)::text AS owner, \
             pg_encoding_to_char(d.encoding)::text AS encoding, \
             d.datcollate::text AS collate, d.datctype::text AS ctype, \
             to_jsonb(d) ->> 'datlocprovider' AS provider, \
             coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale, \
             to_jsonb(d) ->> 'daticurules' AS rules, t.spcname::text AS tablespace, \
             d.datistemplate AS is_template, \
             shobj_description(d.oid, 'pg_database') AS comment, \
             pg_has_role(d.datdba, 'USAGE') AS is_ours \
             FROM pg_database AS d JOIN pg_tablespace AS t ON t.oid = d.dattablespace WHERE d.datname = $1",
        )
        .bind::<Text, _>(name)
        .get_result(&mut self.conn)
        .optional()
        .map_err(doing(format!("ask the server about the database `{name}`")))
    }

    /// All databases whose names begin with `start`, oldest first.
    pub(super) fn named(&mut self, start: &str) -> Result<Vec<Listed>, ServerError> {
        diesel::sql_query(
            "SELECT datname::text AS name, shobj_description(oid, 'pg_database') AS comment, \
             datallowconn AS allows_connections FROM pg_database WHERE starts_with(datname::text, $1) ORDER BY oid",
        )
        .bind::<Text, _>(start)
        .load(&mut self.conn)
        .map_err(doing("list the server's databases"))
    }

    /// Refuses a role that cannot restore the database `name`, before anything begins.
    pub(super) fn check_role(
        &mut self,
        name: &str,
        facts: Option<&Facts>,
    ) -> Result<(), ServerError> {
        let Role { role, may_create } = self.role()?;
        if !may_create {
            return Err(ServerError::MayNotCreate { role });
        }
        match facts {
            Some(facts) if !facts.is_ours => Err(ServerError::NotOwner {
                role,
                database: name.to_owned(),
                owner: facts.owner.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The name of the role that we are.
    pub(super) fn role_name(&mut self) -> Result<String, ServerError> {
        Ok(self.role()?.role)
    }

    fn role(&mut self) -> Result<Role, ServerError> {
        diesel::sql_query(
            "SELECT rolname::text AS role, rolsuper OR rolcreatedb AS may_create \
             FROM pg_roles WHERE rolname = current_user",
        )
        .get_result(&mut self.conn)
        .map_err(doing("ask the server what our role may do"))
    }

    /// Those of `names` that are no roles of this server.
    pub(super) fn missing_roles(&mut self, names: &[String]) -> Result<Vec<String>, ServerError> {
        let roles: Vec<Name> = diesel::sql_query("SELECT rolname::text AS name FROM pg_roles")
            .load(&mut self.conn)
            .map_err(doing("list the server's roles"))?;
        let is_missing = |name: &&String| !roles.iter().any(|role| role.name == **name);
        Ok(names.iter().filter(is_missing).cloned().collect())
    }

    /// Bytes of the database `name` on disk.
    pub(super) fn size(&mut self, name: &str) -> Option<u64> {
        let query = "SELECT pg_database_size($1::name) AS number";
        let size: QueryResult<Number> =
            diesel::sql_query(query).bind::<Text, _>(name).get_result(&mut self.conn);
        u64::try_from(size.ok()?.number).ok()
    }

    /// Makes an empty database that is like the one of `facts`, with `comment`.
    pub(super) fn create(
        &mut self,
        name: &str,
        facts: Option<&Facts>,
        comment: &str,
    ) -> Result<(), ServerError> {
        let mut statement = format!("CREATE DATABASE {} TEMPLATE template0", quoted(name));
        if let Some(facts) = facts {
            statement += &facts.clauses();
        }
        let failed = |error| doing(format!("create the database `{name}`"))(error);
        execute(&mut self.conn, &statement).map_err(failed)?;
        execute(&mut self.conn, &super::swap::comment_on(name, Some(comment))).map_err(failed)
    }

    /// Drops the database `name`, whoever is connected; one that is gone already is as good.
    pub(super) fn drop(&mut self, name: &str) -> Result<(), ServerError> {
        execute(&mut self.conn, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name)))
            .map_err(doing(format!("drop the database `{name}`")))
    }
}

impl Facts {
    /// The clauses of `CREATE DATABASE` that make one like this.
    fn clauses(&self) -> String {
        let Self { owner, encoding, collate, ctype, provider, locale, rules, tablespace, .. } =
            self;
        let literal = super::target::literal;
        let mut clauses = format!(
            " OWNER {} ENCODING{} LC_COLLATE{} LC_CTYPE{}",
            quoted(owner),
            literal(encoding),
            literal(collate),
            literal(ctype),
        );
        // Naming the default one asks for a right that only superusers have.
        if tablespace != "pg_default" {
            clauses += &format!(" TABLESPACE {}", quoted(tablespace));
        }
        let locale = locale.as_deref().unwrap_or_default();
        match provider.as_deref() {
            Some("c") => clauses += " LOCALE_PROVIDER libc",
            Some("i") => {
                clauses += &format!(" LOCALE_PROVIDER icu ICU_LOCALE{}", literal(locale));
                if let Some(rules) = rules {
                    clauses += &format!(" ICU_RULES{}", literal(rules));
                }
            }
            Some("b") => {
                clauses += &format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE{}", literal(locale));
            }
            _ => {}
        }
        clauses
    }
}

/// A killed program's statements end with it, instead of going on until they next look.
fn notice_kills(conn: &mut AnyConnection, major: u32) -> Result<(), ServerError> {
    if major < CHECKS_CLIENT {
        return Ok(());
    }
    execute(conn, "SET client_connection_check_interval = 200")
        .map_err(doing("prepare a connection"))
}

/// The server's major version.
pub(super) fn major_version(conn: &mut AnyConnection) -> QueryResult<u32> {
    let query = "SELECT current_setting('server_version_num')::bigint / 10000 AS number";
    let Number { number } = diesel::sql_query(query).get_result(conn)?;
    Ok(u32::try_from(number).unwrap_or_default())
}
