//! PostgreSQL databases.

use std::path::Path;

use omnitool_environment::{DatabaseUrl, EnvironmentName};

use super::{
    Contents, CopyError, InspectError, Interrupted, Progress, ReadDatabaseError, RestoreError,
    RestoreHooks, RestoreRequest, Store, UnsupportedDatabaseError,
};
use crate::manifest::System;

/// A database on a PostgreSQL server.
#[derive(Debug)]
pub(super) enum PostgresStore {}

impl PostgresStore {
    pub(super) fn new(url: &DatabaseUrl) -> Result<Self, UnsupportedDatabaseError> {
        Err(UnsupportedDatabaseError { url: url.to_string() })
    }
}

impl Store for PostgresStore {
    fn system(&self) -> System {
        System::Postgres
    }

    fn name(&self) -> String {
        match *self {}
    }

    fn stamp(&self) -> Result<Option<EnvironmentName>, ReadDatabaseError> {
        match *self {}
    }

    fn live(&self) -> Result<Option<Contents>, ReadDatabaseError> {
        match *self {}
    }

    fn copy_to(&self, _file: &Path, _progress: &mut dyn FnMut(Progress)) -> Result<(), CopyError> {
        match *self {}
    }

    fn interrupted(&self) -> Result<Option<Interrupted>, ReadDatabaseError> {
        match *self {}
    }

    fn restore(
        &self,
        _request: &RestoreRequest<'_>,
        _hooks: &mut RestoreHooks<'_>,
    ) -> Result<(), RestoreError> {
        match *self {}
    }
}

/// Reads the dump `file` and checks all of it.
pub(super) fn inspect(file: &Path) -> Result<Contents, InspectError> {
    let found = "a PostgreSQL dump, which this build cannot read";
    Err(InspectError::NotADatabase { file: file.to_owned(), found })
}
