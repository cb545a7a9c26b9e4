//! Why a user may use a tool, or why not.

use std::fmt;

use chrono::NaiveDateTime;
use omnitool_database::{AnyConnection, read_snapshot};

use crate::{Change, name::printable, store};

/// Everything that decides whether a user may use a tool, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// The user.
    pub user: String,
    /// The tool.
    pub tool: String,
    /// Whether the user may effectively use the tool.
    pub may_use: bool,
    /// What decides that.
    pub reason: Reason,
    /// The grant of this user, if there is one.
    pub grant: Option<FactSource>,
    /// The wildcard of the tool, if there is one.
    pub wildcard: Option<FactSource>,
    /// The exclusion of this user, if there is one.
    pub exclusion: Option<FactSource>,
    /// Where the tool is gone: when it went, and where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DeletedTool>,
    /// What changed, newest first: for this user and for everyone, for the tool and for those that were merged into it.
    pub history: Vec<HistoryEntry>,
}

/// What became of a tool that is gone.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeletedTool {
    /// When it was deleted (UTC).
    pub at: NaiveDateTime,
    /// The tool that has its facts since, unless that is gone, too.
    pub merged_into: Option<String>,
}

/// The fact that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The user is not active, so nothing may be used.
    UserInactive,
    /// The tool is not active, so nobody may use it.
    ToolInactive,
    /// The user is excluded, whatever else holds.
    Excluded,
    /// The user has a grant.
    Granted,
    /// Everyone may.
    Everyone,
    /// There is neither a grant nor a wildcard.
    NoGrant,
    /// The tool was deleted.
    ToolDeleted,
}

/// Where a fact comes from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FactSource {
    /// `default`, `import` or `admin`.
    pub origin: String,
    /// Since when (UTC).
    pub since: NaiveDateTime,
    /// Why, where somebody said so.
    pub reason: Option<String>,
}

/// One change in the history.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HistoryEntry {
    /// When (UTC).
    pub at: NaiveDateTime,
    /// What changed.
    pub change: Change,
    /// By which program.
    pub program: String,
    /// By which admin, where a person did it.
    pub admin: Option<String>,
    /// In which deployment's run, where it was part of one.
    pub run_id: Option<String>,
    /// From which file, where it was an import.
    pub file_sha256: Option<String>,
    /// Of which tool, where it is one that was merged into this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_tool: Option<String>,
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// There is no such user.
    #[error("there is no user `{user}`")]
    UnknownUser {
        /// The name.
        user: String,
    },
    /// There is no such tool.
    #[error("there is no tool `{tool}`")]
    UnknownTool {
        /// The name.
        tool: String,
    },
    /// The database could not be asked.
    #[error("cannot read who may use what")]
    Query(#[from] diesel::result::Error),
}

/// Explains why `user` may use `tool`, or why not, by their names.
///
/// ```
/// # use omnitool_database::AnyConnection;
/// use omnitool_tool_access::{ExplainError, explain};
///
/// fn answer(conn: &mut AnyConnection) -> Result<String, ExplainError> {
///     Ok(explain(conn, "user_a", "Invoice Generator")?.to_string())
/// }
/// ```
///
/// A tool that is gone is explained, too: nobody may use it, and its history stays.
///
/// # Errors
///
/// Fails where the user or the tool is unknown, or the database fails.
pub fn explain(
    conn: &mut AnyConnection,
    user: &str,
    tool: &str,
) -> Result<Explanation, ExplainError> {
    read_snapshot(conn, |conn| {
        let user_row = store::query::find_user(conn, user)?
            .ok_or_else(|| ExplainError::UnknownUser { user: user.to_owned() })?;
        let Some(tool_row) = store::query::find_tool(conn, tool)? else {
            return explain_deleted(conn, user, user_row.id, tool);
        };
        let (user_id, tool_id) = (user_row.id, tool_row.id);
        let grant = store::query::find_grant(conn, user_id, tool_id)?;
        let wildcard = store::query::find_wildcard(conn, tool_id)?;
        let exclusion = store::query::find_exclusion(conn, user_id, tool_id)?;
        let reason = if !user_row.is_active {
            Reason::UserInactive
        } else if !tool_row.is_active {
            Reason::ToolInactive
        } else if exclusion.is_some() {
            Reason::Excluded
        } else if grant.is_some() {
            Reason::Granted
        } else if wildcard.is_some() {
            Reason::Everyone
        } else {
            Reason::NoGrant
        };
        Ok(Explanation {
            user: user.to_owned(),
            tool: tool.to_owned(),
            // Asked of the view, so that the explanation can never say otherwise than the app does.
            may_use: store::query::is_effective(conn, user_id, tool_id)?,
            reason,
            grant,
            wildcard,
            exclusion,
            deleted: None,
            history: store::history::list_events(conn, user_id, tool_id)?,
        })
    })
}

fn explain_deleted(
    conn: &mut AnyConnection,
    user: &str,
    user_id: i64,
    tool: &str,
) -> Result<Explanation, ExplainError> {
    let (tool_id, deleted) = store::history::find_deleted_tool(conn, tool)?
        .ok_or_else(|| ExplainError::UnknownTool { tool: tool.to_owned() })?;
    Ok(Explanation {
        user: user.to_owned(),
        tool: tool.to_owned(),
        may_use: false,
        reason: Reason::ToolDeleted,
        grant: None,
        wildcard: None,
        exclusion: None,
        deleted: Some(deleted),
        history: store::history::list_events(conn, user_id, tool_id)?,
    })
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserInactive => "the user is not active",
            Self::ToolInactive => "the tool is not active",
            Self::Excluded => "the user is excluded, and an exclusion wins over everything",
            Self::Granted => "the user has a grant",
            Self::Everyone => "everyone may use it",
            Self::NoGrant => "there is neither a grant for the user nor one for everyone",
            Self::ToolDeleted => "the tool is gone",
        })
    }
}

impl fmt::Display for FactSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, since, reason } = self;
        write!(f, "since {} UTC, by {origin}", since.format("%Y-%m-%d %H:%M:%S"))?;
        match reason {
            Some(reason) => write!(f, ": {}", printable(reason)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DeletedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, merged_into } = self;
        write!(f, "{} UTC", at.format("%Y-%m-%d %H:%M:%S"))?;
        match merged_into {
            Some(tool) => write!(f, ", merged into {}", printable(tool)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for HistoryEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, change, program, admin, run_id, file_sha256, deleted_tool } = self;
        write!(f, "{} UTC  {:<15}  {program}", at.format("%Y-%m-%d %H:%M:%S"), change.as_str())?;
        if let Some(admin) = admin {
            write!(f, ", admin {}", printable(admin))?;
        }
        if let Some(run_id) = run_id {
            write!(f, ", run {}", printable(run_id))?;
        }
        if let Some(digest) = file_sha256 {
            write!(f, ", file sha256 {}", digest.get(..12).unwrap_or(digest))?;
        }
        if let Some(tool) = deleted_tool {
            write!(f, ", of {}", printable(tool))?;
        }
        Ok(())
    }
}

/// The answer first, then the facts, then the history.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, tool, may_use, reason, grant, wildcard, exclusion, deleted, history } =
            self;
        let answer = if *may_use { "may use" } else { "may not use" };
        writeln!(f, "{} {answer} {}: {reason}", printable(user), printable(tool))?;
        for (name, fact) in [("grant", grant), ("wildcard", wildcard), ("exclusion", exclusion)] {
            match fact {
                Some(fact) => writeln!(f, "  {name:<10} {fact}")?,
                None => writeln!(f, "  {name:<10} none")?,
            }
        }
        if let Some(deleted) = deleted {
            writeln!(f, "  {:<10} {deleted}", "deleted")?;
        }
        if history.is_empty() {
            return writeln!(f, "No changes are recorded.");
        }
        writeln!(f, "History, newest first:")?;
        for entry in history {
            writeln!(f, "  {entry}")?;
        }
        Ok(())
    }
}
