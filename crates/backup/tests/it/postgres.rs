//! PostgreSQL databases on a real server.

use std::collections::BTreeSet;

use chrono::Utc;
use diesel::{connection::SimpleConnection as _, prelude::*, sql_types::Text};
use omnitool_backup::{
    BackupId, Catalog, Kind, Manifest, PlanRollbackError, RestoreError, RollbackPlan, RolledBack,
    Store, System, Wanted, capture, for_url, verify,
};
use omnitool_database::{
    AnyConnection, Dialect, Mode, migration, open,
    schema::{user_session, users},
    stamp,
};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::{TestDatabase, fixture};
use tempfile::TempDir;

/// A database stamped `staging` with a user, a tool and a grant, and a folder for its backups.
struct Site {
    db: TestDatabase,
    store: Box<dyn Store>,
    catalog: Catalog,
    folder: TempDir,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

fn execute(conn: &mut AnyConnection, sql: &str) {
    conn.batch_execute(sql).unwrap();
}

fn load(conn: &mut AnyConnection, query: &str) -> Vec<String> {
    let lines: Vec<Line> = diesel::sql_query(query).load(conn).unwrap();
    lines.into_iter().map(|line| line.line).collect()
}

/// Every row of every table, and what the tables are.
fn dump(conn: &mut AnyConnection) -> Vec<String> {
    let mut dump = load(
        conn,
        "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS line \
         FROM information_schema.columns WHERE table_schema = 'public'",
    );
    dump.extend(load(conn, "SELECT indexdef AS line FROM pg_indexes WHERE schemaname = 'public'"));
    dump.extend(load(
        conn,
        "SELECT pg_get_constraintdef(oid) AS line FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    ));
    let tables =
        load(conn, "SELECT tablename::text AS line FROM pg_tables WHERE schemaname = 'public'");
    for table in tables {
        let query = format!("SELECT '{table}: ' || t::text AS line FROM \"{table}\" AS t");
        dump.extend(load(conn, &query));
    }
    dump.sort_unstable();
    dump
}

fn usernames(conn: &mut AnyConnection) -> BTreeSet<String> {
    users::table.select(users::username).load(conn).unwrap().into_iter().collect()
}

impl Site {
    fn new() -> Self {
        let db = TestDatabase::stamped(Dialect::Postgres, EnvironmentName::Staging);
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

    fn plan(&self, wanted: &Wanted) -> Result<RollbackPlan, PlanRollbackError> {
        RollbackPlan::new(&self.catalog, &*self.store, wanted, Utc::now())
    }

    fn apply(&self, plan: &RollbackPlan) -> Result<RolledBack, RestoreError> {
        plan.apply(&self.catalog, &*self.store, &mut |_| Ok(()), &mut |_| ())
    }

    fn rollback(&self, wanted: &Wanted) -> BackupId {
        self.apply(&self.plan(wanted).unwrap()).unwrap().safety_backup.unwrap()
    }

    fn dump(&self) -> Vec<String> {
        dump(&mut self.db.connection())
    }

    /// The databases on the server whose names begin with this one's.
    fn databases(&self) -> Vec<String> {
        let query = "SELECT datname::text AS line FROM pg_database WHERE starts_with(datname, current_database()) \
                     OR datname LIKE 'omnitool\\_scratch%' ORDER BY 1";
        let name = self.store.name();
        load(&mut self.db.connection(), query)
            .into_iter()
            .map(|found| found.replacen(&name, "[LIVE]", 1))
            .collect()
    }
}

#[test]
fn a_rollback_brings_back_every_row_and_can_be_undone() {
    let site = Site::new();
    let then = site.dump();
    let backup = site.capture();
    assert_eq!(backup.system, System::Postgres);
    assert_eq!((backup.rows["users"], backup.rows["tool_access"]), (1, 1));
    let mut conn = site.db.connection();
    let bob = fixture::user(&mut conn, "bob");
    fixture::exclude(&mut conn, bob, 1);
    execute(
        &mut conn,
        "DELETE FROM tool_access; UPDATE users SET email = 'a''b@example.org' WHERE id = 1",
    );
    let now = site.dump();
    drop(conn);
    assert_ne!(then, now);

    let safety = site.rollback(&Wanted::Latest);
    assert_eq!(site.dump(), then);
    assert_eq!(site.databases(), ["[LIVE]", "[LIVE]_before_b002"]);
    site.rollback(&Wanted::Backup(safety));
    assert_eq!(site.dump(), now);
    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(site.dump(), then);
}
