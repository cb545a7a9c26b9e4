//! Changing one fact at a time. Each change is one transaction and appends to the history.

use diesel::Connection as _;
use omnitool_database::{AnyConnection, write_transaction};

use crate::{Author, Origin, store};

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ChangeOutcome {
    /// The fact is now as asked, and was not before.
    Changed,
    /// It already was; nothing was written.
    AlreadySo,
}

/// Why a fact could not be changed; nothing was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeAccessError {
    /// There is no such user.
    #[error("there is no user with key {user_id}")]
    UnknownUser {
        /// The key.
        user_id: i64,
    },
    /// There is no such tool.
    #[error("there is no tool with key {tool_id}")]
    UnknownTool {
        /// The key.
        tool_id: i64,
    },
    /// The database refused.
    #[error("cannot change who may use what")]
    Write(#[from] diesel::result::Error),
}

/// What happens to a fact, as the history names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A grant was added.
    Grant,
    /// A grant was removed.
    Revoke,
    /// An exclusion was added.
    Exclude,
    /// An exclusion was removed.
    Include,
    /// A wildcard was added.
    GrantEveryone,
    /// A wildcard was removed.
    RevokeEveryone,
}

impl Change {
    /// The change of this name, if there is one.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [
            Self::Grant,
            Self::Revoke,
            Self::Exclude,
            Self::Include,
            Self::GrantEveryone,
            Self::RevokeEveryone,
        ]
        .into_iter()
        .find(|change| change.as_str() == name)
    }

    /// The name that the database holds.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::Exclude => "exclude",
            Self::Include => "include",
            Self::GrantEveryone => "grant-everyone",
            Self::RevokeEveryone => "revoke-everyone",
        }
    }
}

/// Grants the tool to the user. An exclusion of the user stays and wins: see [`include`](include()).
///
/// ```
/// # use omnitool_database::AnyConnection;
/// use omnitool_tool_access::{Author, ChangeAccessError, ChangeOutcome, grant};
///
/// fn hire(conn: &mut AnyConnection, user_id: i64, tool_id: i64) -> Result<ChangeOutcome, ChangeAccessError> {
///     grant(conn, user_id, tool_id, &Author::admin("admin"))
/// }
/// ```
///
/// # Errors
///
/// Fails where the user or the tool is unknown, or the database refuses.
pub fn grant(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
    author: &Author,
) -> Result<ChangeOutcome, ChangeAccessError> {
    apply(conn, Some(user_id), tool_id, author, Change::Grant, |conn, origin| {
        store::change::insert_grant(conn, user_id, tool_id, origin)
    })
}

/// Takes the user's grant of the tool away. A wildcard still lets the user in: see [`exclude`](exclude()).
///
/// ```
/// # use omnitool_database::AnyConnection;
/// use omnitool_tool_access::{Author, ChangeAccessError, ChangeOutcome, revoke};
///
/// fn leave(conn: &mut AnyConnection, user_id: i64, tool_id: i64) -> Result<ChangeOutcome, ChangeAccessError> {
///     revoke(conn, user_id, tool_id, &Author::admin("admin"))
/// }
/// ```
///
/// # Errors
///
/// Fails where the user or the tool is unknown, or the database refuses.
pub fn revoke(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
    author: &Author,
) -> Result<ChangeOutcome, ChangeAccessError> {
    apply(conn, Some(user_id), tool_id, author, Change::Revoke, |conn, _| {
        store::change::delete_grant(conn, user_id, tool_id)
    })
}

/// Excludes the user from the tool, whatever else holds, and remembers why.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// use omnitool_tool_access::{Author, ChangeAccessError, ChangeOutcome, exclude};
///
/// fn shut_out(conn: &mut AnyConnection, user_id: i64, tool_id: i64) -> Result<ChangeOutcome, ChangeAccessError> {
///     exclude(conn, user_id, tool_id, Some("moved to another team"), &Author::admin("admin"))
/// }
/// ```
///
/// # Errors
///
/// Fails where the user or the tool is unknown, or the database refuses.
pub fn exclude(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
    reason: Option<&str>,
    author: &Author,
) -> Result<ChangeOutcome, ChangeAccessError> {
    apply(conn, Some(user_id), tool_id, author, Change::Exclude, |conn, origin| {
        store::change::insert_exclusion(conn, user_id, tool_id, reason, origin)
    })
}

/// Lifts the user's exclusion from the tool; a grant or a wildcard then counts again.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// use omnitool_tool_access::{Author, ChangeAccessError, ChangeOutcome, include};
///
/// fn forgive(conn: &mut AnyConnection, user_id: i64, tool_id: i64) -> Result<ChangeOutcome, ChangeAccessError> {
///     include(conn, user_id, tool_id, &Author::admin("admin"))
/// }
/// ```
///
/// # Errors
///
/// Fails where the user or the tool is unknown, or the database refuses.
pub fn include(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
    author: &Author,
) -> Result<ChangeOutcome, ChangeAccessError> {
    apply(conn, Some(user_id), tool_id, author, Change::Include, |conn, _| {
        store::change::delete_exclusion(conn, user_id, tool_id)
    })
}

/// Lets everyone use the tool, also users who come later; exclusions stay and win.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// use omnitool_tool_access::{Author, ChangeAccessError, ChangeOutcome, grant_everyone};
///
/// fn open_up(conn: &mut AnyConnection, tool_id: i64) -> Result<ChangeOutcome, ChangeAccessError> {
///     grant_everyone(conn, tool_id, &Author::admin("admin"))
/// }
/// ```
///
/// # Errors
///
/// Fails where the tool is unknown, or the database refuses.
pub fn grant_everyone(
    conn: &mut AnyConnection,
    tool_id: i64,
    author: &Author,
) -> Result<ChangeOutcome, ChangeAccessError> {
    apply(conn, None, tool_id, author, Change::GrantEveryone, |conn, origin| {
        store::change::insert_wildcard(conn, tool_id, origin)
    })
}

/// Takes the tool's wildcard away; users with a grant of their own keep it.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// use omnitool_tool_access::{Author, ChangeAccessError, ChangeOutcome, revoke_everyone};
///
/// fn close(conn: &mut AnyConnection, tool_id: i64) -> Result<ChangeOutcome, ChangeAccessError> {
///     revoke_everyone(conn, tool_id, &Author::admin("admin"))
/// }
/// ```
///
/// # Errors
///
/// Fails where the tool is unknown, or the database refuses.
pub fn revoke_everyone(
    conn: &mut AnyConnection,
    tool_id: i64,
    author: &Author,
) -> Result<ChangeOutcome, ChangeAccessError> {
    apply(conn, None, tool_id, author, Change::RevokeEveryone, |conn, _| {
        store::change::delete_wildcard(conn, tool_id)
    })
}

/// Grants a new user every active default tool, and returns the tools' names, sorted.
///
/// Unlike the other changes it is part of the transaction that makes the user, where one is open: a user without the default
/// tools must not exist for a moment.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// use omnitool_tool_access::{Author, ChangeAccessError, Origin, grant_defaults};
///
/// fn welcome(conn: &mut AnyConnection, user_id: i64) -> Result<Vec<String>, ChangeAccessError> {
///     grant_defaults(conn, user_id, &Author::program("omnitool", Origin::Default))
/// }
/// ```
///
/// # Errors
///
/// Fails where the user is unknown, or the database refuses.
pub fn grant_defaults(
    conn: &mut AnyConnection,
    user_id: i64,
    author: &Author,
) -> Result<Vec<String>, ChangeAccessError> {
    conn.transaction(|conn| {
        if !store::query::user_exists(conn, user_id)? {
            return Err(ChangeAccessError::UnknownUser { user_id });
        }
        let mut granted = Vec::new();
        let mut run = None;
        for (tool_id, name) in store::query::list_default_tools(conn)? {
            if store::change::insert_grant(conn, user_id, tool_id, author.origin)? == 0 {
                continue;
            }
            let key = match run {
                Some(key) => key,
                None => *run.insert(store::history::insert_run(conn, author)?),
            };
            store::history::insert_event(conn, key, Some(user_id), tool_id, Change::Grant)?;
            granted.push(name);
        }
        Ok(granted)
    })
}

/// Runs `write`, which returns how many rows it changed, and appends to the history where it changed one.
fn apply(
    conn: &mut AnyConnection,
    user_id: Option<i64>,
    tool_id: i64,
    author: &Author,
    change: Change,
    write: impl FnOnce(&mut AnyConnection, Origin) -> diesel::QueryResult<usize>,
) -> Result<ChangeOutcome, ChangeAccessError> {
    write_transaction(conn, |conn| {
        if let Some(user_id) = user_id
            && !store::query::user_exists(conn, user_id)?
        {
            return Err(ChangeAccessError::UnknownUser { user_id });
        }
        if !store::query::tool_exists(conn, tool_id)? {
            return Err(ChangeAccessError::UnknownTool { tool_id });
        }
        if write(conn, author.origin)? == 0 {
            return Ok(ChangeOutcome::AlreadySo);
        }
        let run = store::history::insert_run(conn, author)?;
        store::history::insert_event(conn, run, user_id, tool_id, change)?;
        Ok(ChangeOutcome::Changed)
    })
}
