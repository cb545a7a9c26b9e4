//! The backup crate on real databases.

#![allow(clippy::unwrap_used, reason = "test code")]

mod capture;
mod masking;
mod pages;
mod postgres;
mod postgres_refused;
mod rollback;
mod sealed;

use std::path::PathBuf;

use chrono::Utc;
use omnitool_backup::{
    BackupId, Catalog, Kind, Manifest, PlanRollbackError, RehearsalHooks, RollbackPlan, Store,
    VerifyError, Wanted, capture, for_url, verify,
};
use omnitool_database::{Dialect, Mode, open};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::{TestDatabase, dump, fixture};
use tempfile::TempDir;

/// A database stamped `staging` with a user, a tool and a grant, and a folder for its backups.
struct Site {
    db: TestDatabase,
    store: Box<dyn Store>,
    catalog: Catalog,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let db = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Staging);
        let mut conn = db.connection();
        let alice = fixture::user(&mut conn, "alice");
        let invoices = fixture::tool(&mut conn, "Invoice Generator");
        fixture::grant(&mut conn, alice, invoices);
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(folder.path(), EnvironmentName::Staging);
        Self { store: for_url(db.url()).unwrap(), db, catalog, folder }
    }

    fn capture(&self) -> Manifest {
        capture(&self.catalog, &*self.store, Kind::Manual, None, &mut |_| ()).unwrap()
    }

    fn verify(&self, id: BackupId) -> Result<Manifest, VerifyError> {
        let hooks = &mut RehearsalHooks { progress: &mut |_| (), check: &mut |_| Ok(()) };
        verify(&self.catalog, &*self.store, id, Some(hooks))
    }

    fn plan(&self, wanted: &Wanted) -> Result<RollbackPlan, PlanRollbackError> {
        RollbackPlan::new(&self.catalog, &*self.store, wanted, Utc::now())
    }

    fn rollback(&self, wanted: &Wanted) -> Option<BackupId> {
        self.plan(wanted)
            .unwrap()
            .apply(&self.catalog, &*self.store, &mut |_| Ok(()), &mut |_| ())
            .unwrap()
            .safety_backup
    }

    fn dump(&self) -> Vec<String> {
        dump(&mut self.db.connection())
    }

    /// A file that is no part of the catalog.
    fn elsewhere(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names of all files beside the live database.
    fn beside(&self) -> Vec<String> {
        let folder = self.db.url().sqlite_path().unwrap().parent().unwrap();
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }
}

fn dump_file(file: &std::path::Path) -> Vec<String> {
    dump(&mut open(&DatabaseUrl::sqlite(file), Mode::Immutable).unwrap())
}
