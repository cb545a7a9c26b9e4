//! The SQL of this crate.

use chrono::NaiveDateTime;
use diesel::{
    dsl::{exists, max},
    prelude::*,
    select,
};
use omnitool_database::{
    AnyConnection, on,
    schema::{user_session, users},
};

pub(crate) mod dashboard;
pub(crate) mod fact;
pub(crate) mod history;
pub(crate) mod tool;
pub(crate) mod user;

/// What the histories name as the program.
pub(crate) const PROGRAM: &str = "omnitool";

/// Who is behind a session.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub(crate) struct ViewerRow {
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) is_admin: bool,
}

/// What a login is checked against.
#[derive(Debug, Queryable)]
pub(crate) struct CredentialRow {
    pub(crate) user_id: i64,
    pub(crate) password_hash: String,
    pub(crate) is_active: bool,
}

#[derive(Insertable)]
#[diesel(table_name = users)]
pub(crate) struct NewUserRow<'a> {
    pub(crate) username: &'a str,
    pub(crate) email: Option<&'a str>,
    pub(crate) password_hash: &'a str,
    pub(crate) is_admin: bool,
}

#[derive(Insertable)]
#[diesel(table_name = user_session)]
pub(crate) struct NewSessionRow<'a> {
    pub(crate) token_sha256: &'a str,
    pub(crate) user_id: i64,
    pub(crate) created_at: NaiveDateTime,
    pub(crate) expires_at: NaiveDateTime,
}

diesel::table! {
    /// Diesel's own list of what was applied.
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

/// The newest migration that was applied: one look at an index, which also shows whether the database answers.
pub(crate) fn schema_version(conn: &mut AnyConnection) -> QueryResult<Option<String>> {
    // A typed query, since the connection keeps its plan; a text would be sent and planned each time.
    __diesel_schema_migrations::table.select(max(__diesel_schema_migrations::version)).first(conn)
}

/// The active user whose session has this hash and is not over.
pub(crate) fn find_viewer(
    conn: &mut AnyConnection,
    token_sha256: &str,
    now: NaiveDateTime,
) -> QueryResult<Option<ViewerRow>> {
    let query = user_session::table
        .inner_join(users::table)
        .filter(user_session::token_sha256.eq(token_sha256))
        .filter(user_session::expires_at.gt(now))
        .filter(users::is_active)
        .select((users::id, users::username, users::is_admin));
    // Every request begins with this one.
    on!(conn, c => query.first(c)).optional()
}

pub(crate) fn insert_session(
    conn: &mut AnyConnection,
    session: &NewSessionRow<'_>,
) -> QueryResult<usize> {
    diesel::insert_into(user_session::table).values(session).execute(conn)
}

pub(crate) fn delete_session(conn: &mut AnyConnection, token_sha256: &str) -> QueryResult<usize> {
    diesel::delete(user_session::table.find(token_sha256)).execute(conn)
}

pub(crate) fn delete_expired_sessions(
    conn: &mut AnyConnection,
    now: NaiveDateTime,
) -> QueryResult<usize> {
    diesel::delete(user_session::table.filter(user_session::expires_at.le(now))).execute(conn)
}

pub(crate) fn find_credential(
    conn: &mut AnyConnection,
    username: &str,
) -> QueryResult<Option<CredentialRow>> {
    users::table
        .filter(users::username.eq(username))
        .select((users::id, users::password_hash, users::is_active))
        .first(conn)
        .optional()
}

/// A hash of the Python system, if any user has one.
pub(crate) fn find_old_hash(conn: &mut AnyConnection) -> QueryResult<Option<String>> {
    let is_old = users::password_hash.like("scrypt:%").or(users::password_hash.like("pbkdf2:%"));
    users::table.filter(is_old).select(users::password_hash).first(conn).optional()
}

pub(crate) fn any_user_exists(conn: &mut AnyConnection) -> QueryResult<bool> {
    select(exists(users::table.select(users::id))).get_result(conn)
}

pub(crate) fn username_exists(conn: &mut AnyConnection, username: &str) -> QueryResult<bool> {
    select(exists(users::table.filter(users::username.eq(username)))).get_result(conn)
}

pub(crate) fn email_exists(conn: &mut AnyConnection, email: &str) -> QueryResult<bool> {
    select(exists(users::table.filter(users::email.eq(email)))).get_result(conn)
}

pub(crate) fn insert_user(conn: &mut AnyConnection, user: &NewUserRow<'_>) -> QueryResult<i64> {
    diesel::insert_into(users::table).values(user).returning(users::id).get_result(conn)
}
