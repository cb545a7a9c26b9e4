//! Check 12: the rows of the last backup are still there.

use std::{collections::BTreeMap, error::Error};

use omnitool_database::AnyConnection;
use omnitool_environment::EnvironmentName;

use super::{CheckError, Context, Verdict};
use crate::{Finding, report::quantity, store};

/// Sessions end, and a rollback ends all of them. What the migrations are known by is check 2's concern.
const NOT_COMPARED: [&str; 3] = ["user_session", "migration_ledger", "__diesel_schema_migrations"];

/// What a backup has, as its manifest says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastBackup {
    /// Its name, as `rollback-migration --backup` takes it.
    pub id: String,
    /// When it was taken, for people.
    pub taken_at: String,
    /// How many rows each table has.
    pub rows: BTreeMap<String, u64>,
}

/// How the last backup of an environment is found, where there is one. This crate knows no backups: the program that
/// links it does.
///
/// It is given the environment that the caller named, else the database's stamp. An error means that nobody knows, which
/// fails the check.
pub type FindBackup<'a> = dyn Fn(Option<EnvironmentName>) -> Result<Option<LastBackup>, Box<dyn Error + Send + Sync>>
    + Sync
    + 'a;

pub(super) fn no_rows_are_lost(
    conn: &mut AnyConnection,
    context: &Context,
) -> Result<Verdict, CheckError> {
    let found = (context.expected.last_backup)(context.environment());
    let Some(backup) = found.map_err(CheckError::Backup)? else {
        return Ok(Verdict::passed("no backup to compare with"));
    };
    let max_loss = context.expected.max_loss_percent;
    let tables = store::list_tables(conn)?;
    let (mut lost, mut gone, mut compared) = (Vec::new(), Vec::new(), 0);
    for (table, &before) in &backup.rows {
        if NOT_COMPARED.contains(&table.as_str()) {
            continue;
        }
        let Some(quoted) = tables.get(table) else {
            gone.push(format!("{table}: {}", quantity(before, "row")));
            continue;
        };
        compared += 1;
        let now = context.counts.rows_of(conn, table, quoted)?.unsigned_abs();
        if is_lost(before, now, max_loss) {
            let share = before.saturating_sub(now).saturating_mul(100) / before;
            lost.push(format!("{table}: {before} rows then, {now} now ({share} % lost)"));
        }
    }
    let LastBackup { id, taken_at, .. } = backup;
    let mut findings = Vec::new();
    if !lost.is_empty() {
        let tables = quantity(lost.len() as u64, "table");
        let what = format!(
            "{tables} lost more than {max_loss} % of its rows since backup {id} of {taken_at}"
        );
        let restore = context.command(&format!("rollback-migration --backup {id}"));
        findings.push(Finding::critical(what).rows(lost).repair(format!(
            "{restore}; where the rows were removed on purpose, take a new backup: {}",
            context.command("backup-database capture")
        )));
    }
    if !gone.is_empty() {
        let what = format!("{} of backup {id} gone", quantity(gone.len() as u64, "table"));
        findings.push(Finding::warning(what).rows(gone).repair(format!(
            "nothing, where a migration dropped it (check 2 compares the schema); else: {}",
            context.command(&format!("rollback-migration --backup {id}"))
        )));
    }
    if findings.is_empty() {
        let tables = quantity(compared, "table");
        return Ok(Verdict::passed(format!(
            "{tables} with at most {max_loss} % less rows than backup {id} of {taken_at}"
        )));
    }
    Ok(Verdict::found(findings))
}

/// Whether more than `max_loss` of a hundred of the rows that were there `before` are gone.
const fn is_lost(before: u64, now: u64, max_loss: u8) -> bool {
    let lost = before.saturating_sub(now) as u128;
    lost * 100 > before as u128 * max_loss as u128
}

#[cfg(test)]
mod tests {
    use super::is_lost;

    #[test]
    fn exactly_the_stated_share_may_be_lost() {
        assert!(!is_lost(100, 90, 10));
        assert!(is_lost(100, 89, 10));
        assert!(is_lost(1, 0, 10));
        assert!(!is_lost(1, 0, 100));
        assert!(!is_lost(0, 0, 0));
        assert!(!is_lost(5, 500, 0));
        assert!(is_lost(u64::MAX, 0, 99));
    }
}
