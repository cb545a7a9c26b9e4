//! Users, as admins see and change them.

use chrono::NaiveDateTime;
use diesel::{
    prelude::*,
    sql_types::{SingleValue, Text},
};
use omnitool_database::{
    AnyConnection,
    schema::{user_event, user_session, users},
};

/// Which users are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Show {
    #[default]
    All,
    Active,
    Inactive,
    Admins,
}

impl Show {
    pub(crate) const EVERY: [Self; 4] = [Self::All, Self::Active, Self::Inactive, Self::Admins];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Admins => "admins",
        }
    }
}

/// Some users: those whose name contains a text, without regard to the case of ASCII letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) text: String,
    pub(crate) show: Show,
}

impl Filter {
    /// What `lower(username) LIKE … ESCAPE '\'` is asked with. Both databases lower only ASCII letters here.
    pub(crate) fn pattern(&self) -> String {
        let mut pattern = "%".to_owned();
        for c in self.text.trim().chars() {
            if matches!(c, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c.to_ascii_lowercase());
        }
        pattern.push('%');
        pattern
    }
}

diesel::define_sql_function! {
    fn lower<T: SingleValue>(text: T) -> Text;
}

/// A user without the password.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub(crate) struct UserRow {
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) email: Option<String>,
    pub(crate) phone_number: Option<String>,
    pub(crate) is_admin: bool,
    pub(crate) is_active: bool,
    pub(crate) created_at: NaiveDateTime,
}

/// Something that was done to a user.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub(crate) struct EventRow {
    pub(crate) id: i64,
    pub(crate) happened_at: NaiveDateTime,
    pub(crate) author: String,
    pub(crate) user_id: i64,
    pub(crate) username: String,
    pub(crate) change: String,
    pub(crate) previous: Option<String>,
}

const COLUMNS: (
    users::id,
    users::username,
    users::email,
    users::phone_number,
    users::is_admin,
    users::is_active,
    users::created_at,
) = (
    users::id,
    users::username,
    users::email,
    users::phone_number,
    users::is_admin,
    users::is_active,
    users::created_at,
);

/// At most `limit` users whom the filter matches, by name; those after `after`, or from `from` on.
pub(crate) fn list_users(
    conn: &mut AnyConnection,
    filter: &Filter,
    start: &Start,
    limit: i64,
) -> QueryResult<Vec<UserRow>> {
    let mut query = users::table.order(users::username).select(COLUMNS).limit(limit).into_boxed();
    if !filter.text.trim().is_empty() {
        query = query.filter(lower(users::username).like(filter.pattern()).escape('\\'));
    }
    query = match filter.show {
        Show::All => query,
        Show::Active => query.filter(users::is_active),
        Show::Inactive => query.filter(diesel::dsl::not(users::is_active)),
        Show::Admins => query.filter(users::is_admin),
    };
    match start {
        Start::Beginning => query.load(conn),
        Start::After(name) => query.filter(users::username.gt(name)).load(conn),
        Start::From(name) => query.filter(users::username.ge(name)).load(conn),
    }
}

/// Where a list of users begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Start {
    #[default]
    Beginning,
    /// After this name.
    After(String),
    /// At this name, or the next one.
    From(String),
}

pub(crate) fn count_users(conn: &mut AnyConnection, filter: &Filter) -> QueryResult<i64> {
    let mut query = users::table.select(diesel::dsl::count_star()).into_boxed();
    if !filter.text.trim().is_empty() {
        query = query.filter(lower(users::username).like(filter.pattern()).escape('\\'));
    }
    match filter.show {
        Show::All => query.get_result(conn),
        Show::Active => query.filter(users::is_active).get_result(conn),
        Show::Inactive => query.filter(diesel::dsl::not(users::is_active)).get_result(conn),
        Show::Admins => query.filter(users::is_admin).get_result(conn),
    }
}

pub(crate) fn find_user(conn: &mut AnyConnection, id: i64) -> QueryResult<Option<UserRow>> {
    users::table.find(id).select(COLUMNS).first(conn).optional()
}

pub(crate) fn find_password_hash(conn: &mut AnyConnection, id: i64) -> QueryResult<Option<String>> {
    users::table.find(id).select(users::password_hash).first(conn).optional()
}

#[derive(QueryableByName)]
struct Letter {
    #[diesel(sql_type = Text)]
    letter: String,
}

/// What user names begin with, in their order.
pub(crate) fn list_first_letters(conn: &mut AnyConnection) -> QueryResult<Vec<String>> {
    let rows: Vec<Letter> = diesel::sql_query(
        "SELECT DISTINCT substr(username, 1, 1) AS letter FROM users ORDER BY 1 LIMIT 100",
    )
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.letter).collect())
}

/// The keys of the users with these names, in no particular order.
pub(crate) fn find_user_ids(
    conn: &mut AnyConnection,
    names: &[String],
) -> QueryResult<Vec<(i64, String)>> {
    let mut found = Vec::new();
    for names in names.chunks(1000) {
        let query = users::table.filter(users::username.eq_any(names));
        found.extend(query.select((users::id, users::username)).load::<(i64, String)>(conn)?);
    }
    Ok(found)
}

pub(crate) fn list_active_admins(conn: &mut AnyConnection) -> QueryResult<Vec<i64>> {
    users::table
        .filter(users::is_admin.and(users::is_active))
        .order(users::id)
        .select(users::id)
        .load(conn)
}

/// Locks the active admins until the transaction ends, and returns their keys: of two who demote each other at the same
/// time, the second waits here and then sees what the first has done. On SQLite the transaction has the write lock.
pub(crate) fn lock_active_admins(conn: &mut AnyConnection) -> QueryResult<Vec<i64>> {
    let admins = users::table
        .filter(users::is_admin.and(users::is_active))
        .order(users::id)
        .select(users::id);
    match conn {
        AnyConnection::Sqlite(c) => admins.load(c),
        AnyConnection::Postgres(c) => admins.for_update().load(c),
    }
}

/// Locks the user until the transaction ends, if still active and still with this hash; says whether that is so. Whoever
/// deactivates the user or resets the password at the same time waits, or is waited for here and then seen.
pub(crate) fn lock_credential(
    conn: &mut AnyConnection,
    id: i64,
    password_hash: &str,
) -> QueryResult<bool> {
    let user = users::table
        .find(id)
        .filter(users::password_hash.eq(password_hash))
        .filter(users::is_active)
        .select(users::id);
    let found: Option<i64> = match conn {
        AnyConnection::Sqlite(c) => user.first(c),
        // Not stronger, since nobody who refers to the user's key has to wait.
        AnyConnection::Postgres(c) => user.for_no_key_update().first(c),
    }
    .optional()?;
    Ok(found.is_some())
}

pub(crate) fn set_active(conn: &mut AnyConnection, id: i64, is_active: bool) -> QueryResult<usize> {
    diesel::update(users::table.find(id)).set(users::is_active.eq(is_active)).execute(conn)
}

pub(crate) fn set_admin(conn: &mut AnyConnection, id: i64, is_admin: bool) -> QueryResult<usize> {
    diesel::update(users::table.find(id)).set(users::is_admin.eq(is_admin)).execute(conn)
}

pub(crate) fn set_phone_number(
    conn: &mut AnyConnection,
    id: i64,
    number: Option<&str>,
) -> QueryResult<usize> {
    diesel::update(users::table.find(id)).set(users::phone_number.eq(number)).execute(conn)
}

pub(crate) fn set_password_hash(
    conn: &mut AnyConnection,
    id: i64,
    hash: &str,
) -> QueryResult<usize> {
    diesel::update(users::table.find(id)).set(users::password_hash.eq(hash)).execute(conn)
}

/// Ends all of the user's sessions.
pub(crate) fn delete_sessions_of(conn: &mut AnyConnection, user_id: i64) -> QueryResult<usize> {
    diesel::delete(user_session::table.filter(user_session::user_id.eq(user_id))).execute(conn)
}

/// Appends to the history of users.
pub(crate) fn insert_event(
    conn: &mut AnyConnection,
    author: &str,
    user_id: i64,
    change: &str,
    previous: Option<&str>,
) -> QueryResult<i64> {
    diesel::insert_into(user_event::table)
        .values((
            user_event::author.eq(author),
            user_event::user_id.eq(user_id),
            user_event::change.eq(change),
            user_event::previous.eq(previous),
        ))
        .returning(user_event::id)
        .get_result(conn)
}

/// The newest events, of one user or of all, before the event `before`.
pub(crate) fn list_events(
    conn: &mut AnyConnection,
    user_id: Option<i64>,
    before: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<EventRow>> {
    let mut query = user_event::table
        .inner_join(users::table)
        .order(user_event::id.desc())
        .limit(limit)
        .select((
            user_event::id,
            user_event::happened_at,
            user_event::author,
            user_event::user_id,
            users::username,
            user_event::change,
            user_event::previous,
        ))
        .into_boxed();
    if let Some(user_id) = user_id {
        query = query.filter(user_event::user_id.eq(user_id));
    }
    if let Some(before) = before {
        query = query.filter(user_event::id.lt(before));
    }
    query.load(conn)
}
