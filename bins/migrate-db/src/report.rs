//! What migrate-db prints.

use std::{fmt, path::PathBuf};

use omnitool_cli::Failure;
use omnitool_database::{
    AnyConnection,
    migration::{self, Applied, LedgerRow, Reversal, Status},
    stamp,
};
use omnitool_environment::EnvironmentName;
use omnitool_tool_registry::SyncPlan;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// What was taken over from the Python system.
#[derive(Serialize)]
pub(crate) struct Adopted {
    pub(crate) revision: String,
    pub(crate) users: i64,
    pub(crate) tools: i64,
    pub(crate) grants: i64,
    pub(crate) duplicates: i64,
    pub(crate) left_out: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) backup: Option<PathBuf>,
}

impl fmt::Display for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the plan said before is not said again.
        write!(f, "Adopted {} users, {} tools and their access", self.users, self.tools)?;
        match self.left_out.len() {
            0 => writeln!(f, "."),
            1 => writeln!(f, "; 1 row without a parent was left out."),
            count => writeln!(f, "; {count} rows without a parent were left out."),
        }
    }
}

/// A statement of a migration, where somebody wants to know.
#[derive(Serialize)]
struct Statement {
    migration: String,
    sql: String,
    duration_ms: u128,
    /// What it locked of what others use.
    locks: Vec<String>,
    /// Until the migration's end.
    held_ms: u128,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { migration: _, sql, duration_ms, locks, held_ms } = self;
        write!(f, "  {duration_ms} ms  {sql}")?;
        match locks.is_empty() {
            true => Ok(()),
            false => write!(f, "\n    held for {held_ms} ms: {}", locks.join(", ")),
        }
    }
}

/// What was migrated.
#[derive(Serialize)]
pub(crate) struct Migrated {
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<Adopted>,
    environment: EnvironmentName,
    schema_version: String,
    reverted: Vec<String>,
    applied: Vec<String>,
    /// With --locks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statements: Vec<Statement>,
    stamped: bool,
    tools: SyncPlan,
}

impl Migrated {
    pub(crate) fn new(
        environment: EnvironmentName,
        migrations: Vec<Applied>,
        schema_version: String,
        stamped: bool,
        tools: SyncPlan,
    ) -> Self {
        let (mut applied, mut statements) = (Vec::new(), Vec::new());
        for Applied { name, statements: watched } in migrations {
            statements.extend(watched.into_iter().map(|statement| Statement {
                migration: name.clone(),
                sql: statement.sql,
                duration_ms: statement.duration.as_millis(),
                locks: statement.locks,
                held_ms: statement.held.as_millis(),
            }));
            applied.push(name);
        }
        let migrations = match applied.len() {
            0 => "no pending migrations".to_owned(),
            1 => "1 migration applied".to_owned(),
            count => format!("{count} migrations applied"),
        };
        let summary = format!("{migrations}; {}", tools.summary());
        Self {
            summary,
            adopted: None,
            environment,
            schema_version,
            reverted: vec![],
            applied,
            statements,
            stamped,
            tools,
        }
    }

    /// The same with what was done before.
    pub(crate) fn after(self, adopted: Option<Adopted>, reverted: Vec<String>) -> Self {
        Self { adopted, reverted, ..self }
    }
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            summary: _,
            adopted: _,
            environment,
            schema_version,
            reverted,
            applied,
            statements,
            stamped,
            tools,
        } = self;
        for name in reverted {
            writeln!(f, "Reverted migration: {name}")?;
        }
        for name in applied {
            writeln!(f, "Applied migration: {name}")?;
            for statement in statements.iter().filter(|one| one.migration == *name) {
                writeln!(f, "{statement}")?;
            }
        }
        if applied.is_empty() {
            writeln!(f, "No pending migrations; the schema is {schema_version}.")?;
        }
        if *stamped {
            writeln!(f, "Stamped the database as {environment}.")?;
        }
        write!(f, "{tools}")?;
        writeln!(f, "Tool Synchronization Completed.")
    }
}

/// A database of a newer build, which was left as it is.
#[derive(Serialize)]
pub(crate) struct Kept {
    summary: String,
    environment: EnvironmentName,
    unknown: Vec<String>,
}

impl Kept {
    /// Nothing where the database is none of a newer build, or lacks something that this build has.
    pub(crate) fn read(
        conn: &mut AnyConnection,
        environment: EnvironmentName,
    ) -> Result<Option<Self>, Failure> {
        let Status { unknown, pending, changed, .. } = migration::status(conn)?;
        if unknown.is_empty() || !pending.is_empty() || !changed.is_empty() {
            return Ok(None);
        }
        let summary = format!(
            "the database belongs to a newer build, which made {}; it was left as it is",
            unknown.join(", ")
        );
        Ok(Some(Self { summary, environment, unknown }))
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { summary, environment: _, unknown: _ } = self;
        writeln!(f, "Nothing was migrated: {summary}.")
    }
}

/// Which migrations are applied and pending, and where the schema differs from what they make.
pub(crate) struct StatusReport {
    stamp: Option<EnvironmentName>,
    pub(crate) status: Status,
    ledger: Vec<LedgerRow>,
    /// `None` where migrations are pending or unknown, so that there is nothing to compare with.
    differences: Option<Vec<String>>,
}

impl StatusReport {
    pub(crate) fn read(conn: &mut AnyConnection) -> Result<Self, Failure> {
        let status = migration::status(conn)?;
        let differences = if status.pending.is_empty() && status.unknown.is_empty() {
            Some(migration::drift(conn)?.iter().map(ToString::to_string).collect())
        } else {
            None
        };
        let ledger = migration::ledger(conn)?;
        Ok(Self { stamp: stamp::read(conn)?, status, ledger, differences })
    }

    fn summary(&self) -> String {
        let Status { applied, pending, unknown, changed, out_of_order: _, interrupted: _ } =
            &self.status;
        let mut summary = format!(
            "{} applied, {} pending, {} unknown to this build, {} changed since applied",
            applied.len(),
            pending.len(),
            unknown.len(),
            changed.len(),
        );
        match self.differences.as_ref().map(Vec::len) {
            None => summary.push_str("; the schema was not compared"),
            Some(0) => summary.push_str("; the schema is as the migrations make it"),
            Some(1) => summary.push_str("; 1 difference from the schema that the migrations make"),
            Some(count) => summary.push_str(&format!(
                "; {count} differences from the schema that the migrations make"
            )),
        }
        summary
    }

    fn applied(&self, version: &str) -> String {
        let Some(row) = self.ledger.iter().find(|row| row.version == version) else {
            let unknown = self.status.unknown.iter().any(|unknown| unknown == version);
            let note = if unknown { " (unknown to this build)" } else { "" };
            return format!("{version}{note}");
        };
        let mut line =
            format!("{}, {} UTC, by {}", row.name, row.applied_at.format("%F %T"), row.applied_by);
        if let Some(duration) = row.duration_ms {
            line.push_str(&format!(", {duration} ms"));
        }
        if self.status.unknown.iter().any(|unknown| unknown == version) {
            line.push_str(" (unknown to this build)");
        }
        if self.status.changed.contains(&row.name) {
            line.push_str(" (changed since it was applied)");
        }
        line
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { applied, pending, unknown: _, changed: _, out_of_order, interrupted } =
            &self.status;
        match self.stamp {
            Some(environment) => writeln!(f, "Environment: {environment}")?,
            None => writeln!(f, "Environment: not stamped")?,
        }
        for version in applied {
            writeln!(f, "applied  {}", self.applied(version))?;
        }
        for name in pending {
            write!(f, "pending  {name}")?;
            if out_of_order.contains(name) {
                write!(f, " (out of order)")?;
            }
            if interrupted.contains(name) {
                write!(f, " (began and did not end)")?;
            }
            writeln!(f)?;
        }
        for difference in self.differences.iter().flatten() {
            writeln!(f, "differs  {difference}")?;
        }
        writeln!(f, "{}", self.summary())
    }
}

impl Serialize for StatusReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Status { applied, pending, unknown, changed, out_of_order, interrupted } = &self.status;
        let ledger: Vec<_> = self.ledger.iter().map(Entry).collect();
        let mut object = serializer.serialize_struct("StatusReport", 10)?;
        object.serialize_field("summary", &self.summary())?;
        object.serialize_field("environment", &self.stamp)?;
        object.serialize_field("applied", applied)?;
        object.serialize_field("pending", pending)?;
        object.serialize_field("unknown", unknown)?;
        object.serialize_field("changed", changed)?;
        object.serialize_field("out_of_order", out_of_order)?;
        object.serialize_field("interrupted", interrupted)?;
        object.serialize_field("differences", &self.differences)?;
        object.serialize_field("ledger", &ledger)?;
        object.end()
    }
}

struct Entry<'a>(&'a LedgerRow);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let LedgerRow { version, name, up_sha256, applied_at, duration_ms, applied_by } = self.0;
        let mut object = serializer.serialize_struct("Entry", 6)?;
        object.serialize_field("version", version)?;
        object.serialize_field("name", name)?;
        object.serialize_field("up_sha256", up_sha256)?;
        object.serialize_field("applied_at", &applied_at.and_utc())?;
        object.serialize_field("duration_ms", duration_ms)?;
        object.serialize_field("applied_by", applied_by)?;
        object.end()
    }
}

/// SQL that would run.
#[derive(Serialize)]
pub(crate) struct Script {
    pub(crate) sql: String,
}

/// What a revert will do, before it is confirmed.
pub(crate) struct ReversalReport<'a> {
    pub(crate) environment: EnvironmentName,
    pub(crate) reversal: &'a Reversal,
}

impl fmt::Display for ReversalReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { environment, reversal } = self;
        let Reversal { migrations, losses, schema_version } = reversal;
        for name in migrations {
            writeln!(f, "Will revert: {name}")?;
        }
        for loss in losses {
            writeln!(f, "Will be lost: {loss}")?;
        }
        match schema_version {
            Some(version) => writeln!(
                f,
                "The schema is then {version}: releases with a newer migration do not work with it."
            )?,
            None => writeln!(f, "The database is then empty.")?,
        }
        if !losses.is_empty() {
            writeln!(
                f,
                "Only a backup brings it back: backup-database --env {environment} capture"
            )?;
        }
        Ok(())
    }
}

/// What was reverted.
#[derive(Serialize)]
pub(crate) struct Reverted {
    summary: String,
    environment: EnvironmentName,
    reverted: Vec<String>,
    lost: Vec<String>,
    schema_version: Option<String>,
}

impl Reverted {
    pub(crate) fn new(environment: EnvironmentName, reverted: Vec<String>, plan: Reversal) -> Self {
        let noun = if reverted.len() == 1 { "migration" } else { "migrations" };
        Self {
            summary: format!("{} {noun} reverted", reverted.len()),
            environment,
            reverted,
            lost: plan.losses.iter().map(ToString::to_string).collect(),
            schema_version: plan.schema_version,
        }
    }
}

impl fmt::Display for Reverted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The losses were said before.
        for name in &self.reverted {
            writeln!(f, "Reverted migration: {name}")?;
        }
        Ok(())
    }
}
