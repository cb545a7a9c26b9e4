//! What migrate-db prints.

use std::fmt;

use omnitool_database::migration::Status;
use omnitool_environment::EnvironmentName;
use omnitool_tool_registry::SyncPlan;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// What was migrated.
#[derive(Serialize)]
pub(crate) struct Migrated {
    summary: String,
    environment: EnvironmentName,
    schema_version: String,
    applied: Vec<String>,
    stamped: bool,
    tools: SyncPlan,
}

impl Migrated {
    pub(crate) fn new(
        environment: EnvironmentName,
        applied: Vec<String>,
        schema_version: String,
        stamped: bool,
        tools: SyncPlan,
    ) -> Self {
        let migrations = match applied.len() {
            0 => "no pending migrations".to_owned(),
            1 => "1 migration applied".to_owned(),
            count => format!("{count} migrations applied"),
        };
        let summary = format!("{migrations}; {}", tools.summary());
        Self { summary, environment, schema_version, applied, stamped, tools }
    }
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { summary: _, environment, schema_version, applied, stamped, tools } = self;
        for name in applied {
            writeln!(f, "Applied migration: {name}")?;
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

/// Which migrations are applied and pending.
pub(crate) struct StatusReport {
    pub(crate) stamp: Option<EnvironmentName>,
    pub(crate) status: Status,
}

impl StatusReport {
    fn summary(&self) -> String {
        let Status { applied, pending, unknown, .. } = &self.status;
        format!(
            "{} applied, {} pending, {} unknown to this build",
            applied.len(),
            pending.len(),
            unknown.len()
        )
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { applied, pending, unknown, .. } = &self.status;
        match self.stamp {
            Some(environment) => writeln!(f, "Environment: {environment}")?,
            None => writeln!(f, "Environment: not stamped")?,
        }
        for version in applied {
            let note = if unknown.contains(version) { " (unknown to this build)" } else { "" };
            writeln!(f, "applied  {version}{note}")?;
        }
        for name in pending {
            writeln!(f, "pending  {name}")?;
        }
        writeln!(f, "{}", self.summary())
    }
}

impl Serialize for StatusReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Status { applied, pending, unknown, .. } = &self.status;
        let mut object = serializer.serialize_struct("StatusReport", 5)?;
        object.serialize_field("summary", &self.summary())?;
        object.serialize_field("environment", &self.stamp)?;
        object.serialize_field("applied", applied)?;
        object.serialize_field("pending", pending)?;
        object.serialize_field("unknown", unknown)?;
        object.end()
    }
}
