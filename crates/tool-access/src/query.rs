//! What other services ask.

use std::fmt;

use omnitool_database::AnyConnection;

use crate::{import::plan::plural, store};

/// A tool as a user's dashboard shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tool {
    /// Key.
    pub id: i64,
    /// Unique name.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Path under the app's address.
    pub route: String,
}

/// Somebody who may use a tool.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct User {
    /// Key.
    pub id: i64,
    /// Unique name.
    pub username: String,
}

/// How many facts there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Grants: one user, one tool.
    pub grants: u64,
    /// Wildcards: everyone, one tool.
    pub wildcards: u64,
    /// Exclusions: not this user, not this tool.
    pub exclusions: u64,
}

impl Counts {
    /// All facts together.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.grants + self.wildcards + self.exclusions
    }
}

/// `18 grants, 1 exclusion`; kinds of which there are none are left out.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grants, wildcards, exclusions } = *self;
        let parts: Vec<String> =
            [(grants, "grant"), (wildcards, "wildcard"), (exclusions, "exclusion")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, kind)| plural(count, kind))
                .collect();
        if parts.is_empty() { f.write_str("nothing") } else { f.write_str(&parts.join(", ")) }
    }
}

/// The database could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot read who may use what")]
pub struct QueryAccessError(#[from] diesel::result::Error);

/// The tools that the user may effectively use, sorted by name. None for an unknown or inactive user.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// fn dashboard(conn: &mut AnyConnection, user_id: i64) -> Result<Vec<String>, omnitool_tool_access::QueryAccessError> {
///     let tools = omnitool_tool_access::tools_for(conn, user_id)?;
///     Ok(tools.into_iter().map(|tool| format!("{} at {}", tool.name, tool.route)).collect())
/// }
/// ```
///
/// # Errors
///
/// Fails where the database does.
pub fn tools_for(conn: &mut AnyConnection, user_id: i64) -> Result<Vec<Tool>, QueryAccessError> {
    Ok(store::query::list_tools_of(conn, user_id)?)
}

/// [`tools_for`] by user name.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// fn routes(conn: &mut AnyConnection) -> Result<Vec<String>, omnitool_tool_access::QueryAccessError> {
///     let tools = omnitool_tool_access::tools_for_by_name(conn, "alice")?;
///     Ok(tools.into_iter().map(|tool| tool.route).collect())
/// }
/// ```
///
/// # Errors
///
/// Fails where the database does.
pub fn tools_for_by_name(
    conn: &mut AnyConnection,
    username: &str,
) -> Result<Vec<Tool>, QueryAccessError> {
    match store::query::find_user(conn, username)? {
        Some(user) => tools_for(conn, user.id),
        None => Ok(Vec::new()),
    }
}

/// Whether the user may effectively use the tool. An unknown or inactive user or tool means no.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// # use omnitool_tool_access::QueryAccessError;
/// fn status(conn: &mut AnyConnection, user_id: i64, tool_id: i64) -> Result<u16, QueryAccessError> {
///     Ok(if omnitool_tool_access::may_use(conn, user_id, tool_id)? { 200 } else { 403 })
/// }
/// ```
///
/// # Errors
///
/// Fails where the database does; treat that as no.
pub fn may_use(
    conn: &mut AnyConnection,
    user_id: i64,
    tool_id: i64,
) -> Result<bool, QueryAccessError> {
    Ok(store::query::is_effective(conn, user_id, tool_id)?)
}

/// [`may_use`] by user name and tool name.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// fn may_bill(conn: &mut AnyConnection, user: &str) -> Result<bool, omnitool_tool_access::QueryAccessError> {
///     omnitool_tool_access::may_use_by_name(conn, user, "Invoice Generator")
/// }
/// ```
///
/// # Errors
///
/// Fails where the database does; treat that as no.
pub fn may_use_by_name(
    conn: &mut AnyConnection,
    username: &str,
    tool: &str,
) -> Result<bool, QueryAccessError> {
    let user = store::query::find_user(conn, username)?;
    let tool = store::query::find_tool(conn, tool)?;
    match (user, tool) {
        (Some(user), Some(tool)) => may_use(conn, user.id, tool.id),
        _ => Ok(false),
    }
}

/// The users who may effectively use the tool, sorted by name.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// # use omnitool_tool_access::QueryAccessError;
/// fn names(conn: &mut AnyConnection, tool_id: i64) -> Result<Vec<String>, QueryAccessError> {
///     let users = omnitool_tool_access::users_of(conn, tool_id)?;
///     Ok(users.into_iter().map(|user| user.username).collect())
/// }
/// ```
///
/// # Errors
///
/// Fails where the database does.
pub fn users_of(conn: &mut AnyConnection, tool_id: i64) -> Result<Vec<User>, QueryAccessError> {
    Ok(store::query::list_users_of(conn, tool_id)?)
}

/// [`users_of`] by tool name.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// fn how_many(conn: &mut AnyConnection) -> Result<usize, omnitool_tool_access::QueryAccessError> {
///     Ok(omnitool_tool_access::users_of_by_name(conn, "Invoice Generator")?.len())
/// }
/// ```
///
/// # Errors
///
/// Fails where the database does.
pub fn users_of_by_name(
    conn: &mut AnyConnection,
    tool: &str,
) -> Result<Vec<User>, QueryAccessError> {
    match store::query::find_tool(conn, tool)? {
        Some(tool) => users_of(conn, tool.id),
        None => Ok(Vec::new()),
    }
}

/// How many facts of each kind the database holds.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// fn summary(conn: &mut AnyConnection) -> Result<String, omnitool_tool_access::QueryAccessError> {
///     Ok(omnitool_tool_access::count(conn)?.to_string()) // "18 grants, 1 exclusion"
/// }
/// ```
///
/// # Errors
///
/// Fails where the database does.
pub fn count(conn: &mut AnyConnection) -> Result<Counts, QueryAccessError> {
    Ok(store::query::count_facts(conn)?)
}
