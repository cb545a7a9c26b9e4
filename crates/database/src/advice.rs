//! What a person can do where a database cannot be worked on; the same for every program.

use crate::{
    ConnectError, OpenError,
    migration::{CheckSchemaError, MigrateError},
    stamp::CheckStampError,
};

impl OpenError {
    /// What to do next.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "run migrate-db to make it, or choose another database",
            Self::ClearText { .. } => {
                "use a build with the feature `tls`: \
                 cargo build --release --workspace --features omnitool-database/tls"
            }
            _ => "check DATABASE_URL, and that the database can be reached",
        }
    }

    /// Whether nothing was tried, for a reason that a person can settle.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::ClearText { .. })
    }
}

impl ConnectError {
    /// What to do next.
    #[must_use]
    pub fn next_step(&self) -> String {
        match self {
            Self::Open(error) => error.next_step().to_owned(),
            Self::Schema(CheckSchemaError::Pending { .. })
            | Self::Stamp(CheckStampError::Missing) => "run migrate-db first".to_owned(),
            Self::Schema(CheckSchemaError::Read(MigrateError::Newer { .. })) => {
                "use the programs of the newer build, or restore a backup of this one's schema"
                    .to_owned()
            }
            Self::Stamp(CheckStampError::Differs { stamped, .. }) => {
                format!("to work on this database, pass --env {stamped}")
            }
            Self::Schema(_) | Self::Stamp(_) => {
                "check that the database can be read, then run it again".to_owned()
            }
        }
    }

    /// Whether nothing was tried, for a reason that a person can settle.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Open(error) => error.is_refusal(),
            Self::Schema(CheckSchemaError::Pending { .. })
            | Self::Schema(CheckSchemaError::Read(MigrateError::Newer { .. }))
            | Self::Stamp(CheckStampError::Missing | CheckStampError::Differs { .. }) => true,
            Self::Schema(_) | Self::Stamp(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use omnitool_environment::EnvironmentName::{Local, Production};

    use super::*;

    #[test]
    fn another_environment_is_a_refusal_that_names_the_right_flag() {
        let error =
            ConnectError::Stamp(CheckStampError::Differs { stamped: Local, wanted: Production });
        assert!(error.is_refusal());
        assert_eq!(error.next_step(), "to work on this database, pass --env local");
    }

    #[test]
    fn a_missing_file_is_a_failure_that_migrate_db_mends() {
        let error = ConnectError::Open(OpenError::Missing { path: "x.db".into() });
        assert!(!error.is_refusal());
        assert!(error.next_step().starts_with("run migrate-db"));
    }
}
