//! Reading and writing who may use what, for the pages of admins.
//!
//! Single questions are `omnitool-tool-access`'s. Here is what it has no question for: windows of users, and changes of
//! many users' facts in one transaction, with one entry in the history that can be undone.

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Bool, Text},
};
use omnitool_database::{
    AnyConnection,
    schema::{
        tool_access, tool_access_event, tool_access_everyone, tool_access_exclusion,
        tool_access_run, users,
    },
};
use omnitool_tool_access::Change;

use super::user::{Filter, Show};

/// How many users travel at a time; PostgreSQL's client keeps a whole answer in memory.
const PAGE: usize = 4096;
/// How many keys a statement names.
pub(crate) const MOST_KEYS: usize = 4096;

/// A user with what is known about one tool.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(crate) struct UserFacts {
    #[diesel(sql_type = BigInt)]
    pub(crate) id: i64,
    #[diesel(sql_type = Text)]
    pub(crate) username: String,
    #[diesel(sql_type = Bool)]
    pub(crate) is_active: bool,
    #[diesel(sql_type = Bool)]
    pub(crate) is_granted: bool,
    #[diesel(sql_type = Bool)]
    pub(crate) is_excluded: bool,
    /// Whether the filter that was asked about matches.
    #[diesel(sql_type = Bool)]
    pub(crate) is_selected: bool,
}

/// Whom a change is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Users<'a> {
    /// Those with these keys.
    Keys(&'a [i64]),
    /// Those whom the filter matches.
    Matching(&'a Filter),
}

/// Shows `see` every user who matters, by key: all, or only those of `users`.
pub(crate) fn each_user(
    conn: &mut AnyConnection,
    tool_id: i64,
    users: Users<'_>,
    reach: Reach,
    mut see: impl FnMut(UserFacts),
) -> QueryResult<()> {
    let any = Filter::default();
    let (selected, filter) = match users {
        Users::Keys(keys) => (has_key(keys), &any),
        Users::Matching(filter) => (matches(filter).to_owned(), filter),
    };
    let pattern = filter.pattern();
    let only = match reach {
        Reach::Selected => selected.as_str(),
        Reach::Everybody => "u.id > 0",
    };
    let mut last = 0;
    loop {
        // The pattern is bound once, in the first column, and its number used again.
        let page: Vec<UserFacts> = sql_query(format!(
            "SELECT u.id, u.username, u.is_active, \
             ({selected}) AND lower(u.username) LIKE $1 ESCAPE '\\' AS is_selected, \
             EXISTS (SELECT 1 FROM tool_access a WHERE a.user_id = u.id AND a.tool_id = {tool_id}) AS is_granted, \
             EXISTS (SELECT 1 FROM tool_access_exclusion x WHERE x.user_id = u.id AND x.tool_id = {tool_id}) AS is_excluded \
             FROM users u WHERE u.id > {last} AND ({only}) ORDER BY u.id LIMIT {PAGE}"
        ))
        .bind::<Text, _>(&pattern)
        .load(conn)?;
        let is_last = page.len() < PAGE;
        if let Some(user) = page.last() {
            last = user.id;
        }
        page.into_iter().for_each(&mut see);
        if is_last {
            return Ok(());
        }
    }
}

/// Which users a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Selected,
    Everybody,
}

const fn matches(filter: &Filter) -> &'static str {
    match filter.show {
        Show::All => "u.id > 0",
        Show::Active => "u.is_active",
        Show::Inactive => "NOT u.is_active",
        Show::Admins => "u.is_admin",
    }
}

/// Whether a user has one of these keys, as SQL says it. They are numbers, so nothing can be smuggled in.
fn has_key(keys: &[i64]) -> String {
    let keys: Vec<String> = keys.iter().map(i64::to_string).collect();
    // No user has a negative key, and an empty list is no SQL.
    if keys.is_empty() { "u.id < 0".to_owned() } else { format!("u.id IN ({})", keys.join(", ")) }
}

pub(crate) fn has_wildcard(conn: &mut AnyConnection, tool_id: i64) -> QueryResult<bool> {
    let found: Option<i64> = tool_access_everyone::table
        .find(tool_id)
        .select(tool_access_everyone::tool_id)
        .first(conn)
        .optional()?;
    Ok(found.is_some())
}

/// Notes which admin is about to change facts; returns the key of that entry.
pub(crate) fn insert_run(conn: &mut AnyConnection, admin: &str) -> QueryResult<i64> {
    diesel::insert_into(tool_access_run::table)
        .values((tool_access_run::program.eq(super::PROGRAM), tool_access_run::admin.eq(admin)))
        .returning(tool_access_run::id)
        .get_result(conn)
}

/// Changes the tool's wildcard, and notes it in the history.
pub(crate) fn change_wildcard(
    conn: &mut AnyConnection,
    run: i64,
    tool_id: i64,
    change: Change,
) -> QueryResult<()> {
    if change == Change::GrantEveryone {
        diesel::insert_into(tool_access_everyone::table)
            .values((
                tool_access_everyone::tool_id.eq(tool_id),
                tool_access_everyone::origin.eq("admin"),
            ))
            .execute(conn)?;
    } else {
        diesel::delete(tool_access_everyone::table.find(tool_id)).execute(conn)?;
    }
    diesel::insert_into(tool_access_event::table)
        .values((
            tool_access_event::run.eq(run),
            tool_access_event::user_id.eq(EVERYONE),
            tool_access_event::tool_id.eq(tool_id),
            tool_access_event::change.eq(change.as_str()),
        ))
        .execute(conn)
        .map(drop)
}

/// The user key that stands for everyone in the history.
pub(crate) const EVERYONE: i64 = 0;

/// Makes the same change for these users, and notes each in the history.
pub(crate) fn change_users(
    conn: &mut AnyConnection,
    run: i64,
    tool_id: i64,
    change: Change,
    user_ids: &[i64],
    reason: Option<&str>,
) -> QueryResult<()> {
    for keys in user_ids.chunks(MOST_KEYS) {
        match change {
            Change::Grant => {
                let rows = users::table.filter(users::id.eq_any(keys)).select((
                    users::id,
                    tool_id.into_sql::<BigInt>(),
                    "admin".into_sql::<Text>(),
                ));
                let columns = (tool_access::user_id, tool_access::tool_id, tool_access::origin);
                diesel::insert_into(tool_access::table)
                    .values(rows)
                    .into_columns(columns)
                    .execute(conn)?;
            }
            Change::Exclude => {
                let rows = users::table.filter(users::id.eq_any(keys)).select((
                    users::id,
                    tool_id.into_sql::<BigInt>(),
                    "admin".into_sql::<Text>(),
                    reason.into_sql::<diesel::sql_types::Nullable<Text>>(),
                ));
                let columns = (
                    tool_access_exclusion::user_id,
                    tool_access_exclusion::tool_id,
                    tool_access_exclusion::origin,
                    tool_access_exclusion::reason,
                );
                diesel::insert_into(tool_access_exclusion::table)
                    .values(rows)
                    .into_columns(columns)
                    .execute(conn)?;
            }
            Change::Revoke => {
                let rows = tool_access::table
                    .filter(tool_access::tool_id.eq(tool_id))
                    .filter(tool_access::user_id.eq_any(keys));
                diesel::delete(rows).execute(conn)?;
            }
            Change::Include => {
                let rows = tool_access_exclusion::table
                    .filter(tool_access_exclusion::tool_id.eq(tool_id))
                    .filter(tool_access_exclusion::user_id.eq_any(keys));
                diesel::delete(rows).execute(conn)?;
            }
            Change::GrantEveryone | Change::RevokeEveryone => {}
        }
        let rows = users::table.filter(users::id.eq_any(keys)).order(users::id).select((
            run.into_sql::<BigInt>(),
            users::id,
            tool_id.into_sql::<BigInt>(),
            change.as_str().into_sql::<Text>(),
        ));
        let columns = (
            tool_access_event::run,
            tool_access_event::user_id,
            tool_access_event::tool_id,
            tool_access_event::change,
        );
        diesel::insert_into(tool_access_event::table)
            .values(rows)
            .into_columns(columns)
            .execute(conn)?;
    }
    Ok(())
}
