//! Checks 4, 5 and 6: facts about access.

use omnitool_database::AnyConnection;

use super::{CheckError, Context, Verdict};
use crate::{
    Depth, Finding,
    report::quantity,
    store::{self, AccessTable, Parent},
};

pub(super) fn no_orphans_of_tools(
    conn: &mut AnyConnection,
    context: &Context,
) -> Result<Verdict, CheckError> {
    no_orphans(conn, context, Parent::Tool)
}

pub(super) fn no_orphans_of_users(
    conn: &mut AnyConnection,
    context: &Context,
) -> Result<Verdict, CheckError> {
    no_orphans(conn, context, Parent::User)
}

fn no_orphans(
    conn: &mut AnyConnection,
    context: &Context,
    parent: Parent,
) -> Result<Verdict, CheckError> {
    let mut findings = Vec::new();
    let mut looked_at = Vec::new();
    for &table in parent.referring_tables() {
        if context.subject.depth == Depth::TrustConstraints
            && store::foreign_key_holds(conn, table, parent)?
        {
            looked_at.push(format!("{} by its foreign key", table.name()));
            continue;
        }
        looked_at.push(format!("{} by reading it", table.name()));
        if table == AccessTable::Grants {
            let grants = context.counts.grants(conn)?;
            if grants.whole == grants.rows {
                continue;
            }
        }
        let orphans = store::find_orphans(conn, table, parent)?;
        if orphans.count > 0 {
            let what = format!(
                "{} in {} without a {}",
                quantity(orphans.count, "row"),
                table.name(),
                parent.name()
            );
            findings.push(
                Finding::critical(what)
                    .first_rows(orphans.first, orphans.count)
                    .repair(context.command("sync-tools --prune-orphans")),
            );
        }
    }
    Ok(if findings.is_empty() {
        Verdict::passed(format!("none: {}", looked_at.join(", ")))
    } else {
        Verdict::found(findings)
    })
}

pub(super) fn defaults_are_assigned(
    conn: &mut AnyConnection,
    context: &Context,
) -> Result<Verdict, CheckError> {
    let wanted = store::list_wanted_tools(conn)?;
    let granted = context.counts.grants(conn)?.wanted;
    let missing = store::find_missing_defaults(conn, &wanted, granted)?;
    if missing.count == 0 {
        return Ok(Verdict::passed("nobody lacks one"));
    }
    let what = format!("{} not assigned", quantity(missing.count, "default tool"));
    Ok(Verdict::found(vec![
        Finding::warning(what)
            .first_rows(missing.first, missing.count)
            .repair(context.command("sync-tools --assign-defaults")),
    ]))
}
