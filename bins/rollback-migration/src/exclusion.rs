//! Who was excluded from a tool, and is no longer once the backup is there: the reason to look at each rollback twice.

use std::collections::BTreeSet;

use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, sql_query, sql_types::Text};
use omnitool_database::{AnyConnection, Mode, open};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use serde::Serialize;

/// How many the text names.
const MOST_SHOWN: usize = 20;

/// A user and the tool from which the live database excludes the user, and the backup does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, QueryableByName)]
pub(crate) struct Exclusion {
    #[diesel(sql_type = Text)]
    tool: String,
    #[diesel(sql_type = Text)]
    username: String,
}

/// The exclusions of the live database that the staged copy lacks; none where either cannot be asked, as after a schema
/// that has no exclusions, or where the live database is why somebody rolls back.
pub(crate) fn lost(live: &DatabaseUrl, staged: &DatabaseUrl) -> Option<Vec<Exclusion>> {
    let [live, staged] = [live, staged].map(|url| {
        let mut conn = open(url, Mode::Read).ok()?;
        list(&mut conn).ok()
    });
    Some(live?.difference(&staged?).cloned().collect())
}

fn list(conn: &mut AnyConnection) -> QueryResult<BTreeSet<Exclusion>> {
    let rows: Vec<Exclusion> = sql_query(
        "SELECT tools.name AS tool, users.username AS username FROM tool_access_exclusion \
         JOIN users ON users.id = tool_access_exclusion.user_id \
         JOIN tools ON tools.id = tool_access_exclusion.tool_id",
    )
    .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// What people are told about it.
pub(crate) fn text(lost: Option<&[Exclusion]>, environment: EnvironmentName) -> String {
    let Some(lost) = lost else {
        return "Nobody knows whether the backup lacks exclusions that hold now: the two could not be compared\n".to_owned();
    };
    if lost.is_empty() {
        return String::new();
    }
    let mut text = match lost.len() {
        1 => "The backup lacks 1 exclusion that held until now:\n".to_owned(),
        count => format!("The backup lacks {count} exclusions that held until now:\n"),
    };
    for Exclusion { tool, username } in lost.iter().take(MOST_SHOWN) {
        text += &format!("  {tool}: {username}\n");
    }
    if let Some(more) = lost.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        text += &format!("  … and {more} more\n");
    }
    text + &format!(
        "To exclude whom the committed export excludes: import-tool-access --env {environment} \
         --source data/tool_access_exports/local_tool_access.json\n"
    )
}
