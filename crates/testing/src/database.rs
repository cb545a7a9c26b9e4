//! A database for one test.

use std::sync::atomic::{AtomicU32, Ordering};

use diesel::RunQueryDsl as _;
use omnitool_database::{AnyConnection, Dialect, Mode, migration, open, stamp};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use tempfile::TempDir;

use crate::postgres;

/// A database of one test's own, removed with it.
#[derive(Debug)]
pub struct TestDatabase {
    dialect: Dialect,
    url: DatabaseUrl,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder { _folder: TempDir },
    Server { name: String },
}

impl TestDatabase {
    /// A database without any table.
    ///
    /// # Panics
    ///
    /// Where it cannot be made: a test never goes on without its database.
    #[must_use]
    pub fn empty(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = DatabaseUrl::sqlite(&folder.path().join("omnitool.db"));
                drop(open(&url, Mode::Create).unwrap());
                Self { dialect, url, place: Place::Folder { _folder: folder } }
            }
            Dialect::Postgres => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("omnitool_test_{}_{number}", std::process::id());
                let mut conn = open(postgres::server_url(), Mode::Write).unwrap();
                diesel::sql_query(format!("CREATE DATABASE {name} TEMPLATE template0"))
                    .execute(&mut conn)
                    .unwrap();
                let url = postgres::with_database(postgres::server_url(), &name);
                Self { dialect, url, place: Place::Server { name } }
            }
        }
    }

    /// A migrated database, stamped `local`.
    ///
    /// # Panics
    ///
    /// Where it cannot be made.
    #[must_use]
    pub fn migrated(dialect: Dialect) -> Self {
        Self::stamped(dialect, EnvironmentName::Local)
    }

    /// A migrated database with another stamp.
    ///
    /// # Panics
    ///
    /// Where it cannot be made.
    #[must_use]
    pub fn stamped(dialect: Dialect, environment: EnvironmentName) -> Self {
        let database = Self::empty(dialect);
        let mut conn = database.connection();
        migration::migrate(&mut conn).unwrap();
        stamp::write(&mut conn, environment).unwrap();
        database
    }

    /// Another empty or migrated database of the same kind is often what a test needs next.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Where it is.
    #[must_use]
    pub const fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// A new connection that may write.
    ///
    /// # Panics
    ///
    /// Where it cannot be opened.
    #[must_use]
    pub fn connection(&self) -> AnyConnection {
        open(&self.url, Mode::Write).unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Place::Server { name } = &self.place {
            let dropped = open(postgres::server_url(), Mode::Write).map(|mut conn| {
                diesel::sql_query(format!("DROP DATABASE {name} WITH (FORCE)")).execute(&mut conn)
            });
            if let Err(error) = dropped {
                eprintln!("cannot drop the test database {name}: {error}");
            }
        }
    }
}
