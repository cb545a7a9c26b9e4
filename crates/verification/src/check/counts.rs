//! Check 7: the tables have rows.

use omnitool_database::AnyConnection;

use super::{CheckError, Context, Verdict};
use crate::Finding;

pub(super) fn tables_have_rows(
    conn: &mut AnyConnection,
    context: &Context,
) -> Result<Verdict, CheckError> {
    let mut rows = |table| context.counts.rows(conn, table);
    let (users, tools) = (rows("users")?, rows("tools")?);
    let tool_access = rows("tool_access")?;
    let tool_access_everyone = rows("tool_access_everyone")?;
    let tool_access_exclusion = rows("tool_access_exclusion")?;
    let mut findings = Vec::new();
    if users == 0 {
        findings.push(
            Finding::warning("there are no users")
                .repair(context.command("omnitool create-user NAME")),
        );
    }
    if tools == 0 {
        findings.push(Finding::warning("there are no tools").repair(context.sync_tools()));
    }
    let message = format!(
        "users {users}, tools {tools}, tool_access {tool_access}, \
         tool_access_everyone {tool_access_everyone}, tool_access_exclusion {tool_access_exclusion}"
    );
    Ok(Verdict { message, findings })
}
