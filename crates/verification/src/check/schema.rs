//! Checks 1, 2 and 9: is it a database, of this build, and the right one.

use omnitool_database::{AnyConnection, migration, stamp as environment_stamp};

use super::{CheckError, Context, Verdict, drift};
use crate::{Finding, store};

pub(super) fn connectivity(
    conn: &mut AnyConnection,
    context: &Context,
) -> Result<Verdict, CheckError> {
    let version = store::server_version(conn)?;
    let system = conn.dialect().as_str();
    Ok(Verdict::passed(format!("{system} {version} at {}", context.subject.database_url)))
}

pub(super) fn version(conn: &mut AnyConnection, context: &Context) -> Result<Verdict, CheckError> {
    let status = migration::status(conn)?;
    let mut findings = Vec::new();
    if !status.pending.is_empty() {
        findings.push(
            Finding::critical("pending migrations")
                .rows(status.pending.clone())
                .repair(context.command("migrate-db")),
        );
    }
    if !status.unknown.is_empty() {
        findings.push(
            Finding::critical(
                "the database belongs to a newer build; migrations unknown to this one",
            )
            .rows(status.unknown.clone())
            .repair(format!(
                "deploy the newer build again, or: {}",
                context.command("rollback-migration")
            )),
        );
    }
    if findings.is_empty() {
        // Before the last migration there is nothing to compare with.
        findings = drift::findings(&migration::drift(conn)?, conn.dialect(), context);
        findings.extend(changed(&status, context));
    }
    if findings.is_empty() {
        let version = status.schema_version().unwrap_or("none");
        return Ok(Verdict::passed(format!(
            "{version}, nothing pending, as the migrations make it"
        )));
    }
    Ok(Verdict::found(findings))
}

/// The next `migrate-db` refuses these, whatever the schema is.
fn changed(status: &migration::Status, context: &Context) -> Option<Finding> {
    let names = &status.changed;
    let version = |name: &String| name.split('_').next().unwrap_or_default().to_owned();
    let accept: String =
        names.iter().map(|name| format!(" --accept-changed {}", version(name))).collect();
    (!names.is_empty()).then(|| {
        Finding::critical("migrations changed since they were applied")
            .rows(names.clone())
            .repair(context.command(&format!("migrate-db{accept}")))
    })
}

pub(super) fn stamp(conn: &mut AnyConnection, context: &Context) -> Result<Verdict, CheckError> {
    let wanted = context.subject.environment;
    Ok(match (environment_stamp::read(conn)?, wanted) {
        (Some(stamped), Some(wanted)) if stamped != wanted => Verdict::found(vec![
            Finding::critical(format!(
                "the database is stamped `{stamped}`, but `{wanted}` was asked for"
            ))
            .repair(format!(
                "verify-migration --env {stamped}, or set DATABASE_URL to the database of {wanted}"
            )),
        ]),
        (Some(stamped), _) => Verdict::passed(stamped.as_str()),
        (None, wanted) => {
            Verdict::found(vec![Finding::critical("the database has no environment stamp").repair(
                match wanted {
                    Some(wanted) => format!("migrate-db --env {wanted}"),
                    None => "migrate-db --env ENV".to_owned(),
                },
            )])
        }
    })
}
