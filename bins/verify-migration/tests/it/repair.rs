//! Whatever is broken, the command that a finding names repairs it: run as it is printed, with the real programs.

use std::{
    env,
    path::{Path, PathBuf},
};

use diesel::connection::SimpleConnection as _;
use omnitool_database::Dialect;
use omnitool_testing::{CommandOutput, TestDatabase, TestProject, on_both_databases};

const EXPORT: &str = "data/tool_access_exports/local_tool_access.json";

/// A deployed environment, in a folder of its own.
struct Deployed {
    project: TestProject,
    db: TestDatabase,
}

impl Deployed {
    fn new(dialect: Dialect) -> Self {
        let deployed = Self { project: TestProject::new(), db: TestDatabase::empty(dialect) };
        deployed.sh("migrate-db --env local").success();
        deployed.sh("omnitool create-user --demo-users").success();
        deployed.sh(&format!("import-tool-access --source {EXPORT}")).success();
        deployed.sh("sync-tools --assign-defaults").success();
        deployed.sh(&format!("export-tool-access --output {EXPORT}")).success();
        deployed.sh("backup-database capture --env local").success();
        assert_eq!(deployed.troubles(""), Vec::<Trouble>::new());
        deployed
    }

    /// Runs a line as somebody would who copied it from a report.
    fn sh(&self, line: &str) -> CommandOutput {
        let programs = programs();
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([programs].into_iter().chain(env::split_paths(&path))).unwrap();
        let mut command = self.project.command("sh");
        command.args(["-c", line]).env("PATH", path).env("DATABASE_URL", self.db.url().expose());
        self.project.output(command)
    }

    /// Changes the database where nothing keeps rows from losing their parents.
    fn break_with(&self, statements: &str) {
        let mut conn = self.db.connection();
        conn.batch_execute(match self.db.dialect() {
            Dialect::Sqlite => "PRAGMA foreign_keys = OFF",
            Dialect::Postgres => "SET session_replication_role = replica",
        })
        .unwrap();
        conn.batch_execute(statements).unwrap();
    }

    /// What the checks find that is not as it should be.
    fn troubles(&self, flags: &str) -> Vec<Trouble> {
        let line = format!("verify-migration --env local --format json {flags}");
        let output = self.sh(&line);
        let report: serde_json::Value = serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
        let checks = report["checks"].as_array().unwrap();
        let troubled = checks.iter().filter(|check| check["outcome"] != "passed");
        troubled
            .map(|check| Trouble {
                id: check["id"].as_str().unwrap().to_owned(),
                message: check["message"].as_str().unwrap().to_owned(),
                repairs: check["findings"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|finding| finding["repair"].as_str().unwrap().to_owned())
                    .collect(),
            })
            .collect()
    }

    /// Asserts that only this check has trouble, does what it says, and asserts that all is well again.
    #[track_caller]
    fn is_repaired(&self, id: &str, flags: &str) {
        let troubles = self.troubles(flags);
        let ids: Vec<&str> = troubles.iter().map(|trouble| trouble.id.as_str()).collect();
        assert_eq!(ids, [id], "{troubles:?}");
        for repair in &troubles[0].repairs {
            self.sh(&command_of(repair)).success();
        }
        assert_eq!(self.troubles(flags), Vec::<Trouble>::new());
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    id: String,
    message: String,
    repairs: Vec<String>,
}

/// The command in the words around it, with a name where one is to be chosen.
fn command_of(repair: &str) -> String {
    let command = repair.split_once("it holds: ").map_or(repair, |(_, command)| command);
    let command = command.split("; where the rows were removed on purpose").next().unwrap();
    command.replace("create-user NAME", "create-user somebody")
}

/// Where all programs are. Cargo builds only this one for these tests, `cargo xtask test` all of them.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_verify-migration")).parent().unwrap().to_owned();
    for program in ["migrate-db", "sync-tools", "import-tool-access", "omnitool"] {
        let is_there = folder.join(program).is_file();
        assert!(is_there, "no {program}: run `cargo build --workspace --bins` first");
    }
    folder
}

fn the_schema(db: TestDatabase) {
    let deployed = Deployed::new(db.dialect());
    deployed.sh("migrate-db --env local --down 1 --confirm 'REVERT 1'").success();
    // The app notices, too; and a table of the backup is gone, with its rows.
    deployed.is_repaired("schema-version", "--skip application,rows-since-backup");
    deployed.sh("backup-database capture --env local").success();
    deployed.break_with("DROP INDEX user_session_user_id; CREATE TABLE notes (id BIGINT)");
    deployed.is_repaired("schema-version", "");
    deployed.break_with(
        "UPDATE migration_ledger SET up_sha256 = replace(replace(up_sha256, '1', '2'), '3', '4') \
         WHERE version = '20261123000002'",
    );
    deployed.is_repaired("schema-version", "");
    deployed.break_with("DELETE FROM environment_stamp");
    deployed.is_repaired("environment-stamp", "--skip application,rows-since-backup");
}

fn the_tools(db: TestDatabase) {
    let deployed = Deployed::new(db.dialect());
    deployed.break_with(
        "UPDATE tools SET route = '/elsewhere' WHERE name = 'Email Templates'; \
         INSERT INTO tools (name, route) VALUES ('Old Calculator', '/old_calculator')",
    );
    deployed.is_repaired("tool-definitions", "");
    // One that nobody has anything to do with.
    deployed.break_with(
        "INSERT INTO tools (name, route) VALUES ('Email Templates management', '/mails'); \
         DELETE FROM tools WHERE name = 'User Management'; \
         DELETE FROM tool_access WHERE tool_id NOT IN (SELECT id FROM tools); \
         DELETE FROM tool_access_event WHERE tool_id NOT IN (SELECT id FROM tools)",
    );
    deployed.is_repaired("tool-definitions", "--skip access-assertions,rows-since-backup");
}

fn orphans(db: TestDatabase) {
    let deployed = Deployed::new(db.dialect());
    let grants = |user: &str, tool: &str| {
        format!(
            "INSERT INTO tool_access (user_id, tool_id, origin) VALUES ({user}, {tool}, 'admin'); \
             INSERT INTO tool_access_exclusion (user_id, tool_id, origin) VALUES ({user}, {tool}, 'admin');"
        )
    };
    let anybody = "(SELECT min(id) FROM users)";
    deployed.break_with(&format!(
        "{} INSERT INTO tool_access_everyone (tool_id, origin) VALUES (4711, 'admin')",
        grants(anybody, "4711")
    ));
    deployed.is_repaired("orphaned-tools", "--deep");
    deployed.break_with(&grants("4711", "(SELECT min(id) FROM tools)"));
    deployed.is_repaired("orphaned-users", "--deep");
}

fn users_and_their_defaults(db: TestDatabase) {
    let deployed = Deployed::new(db.dialect());
    deployed.break_with("INSERT INTO users (username, password_hash) VALUES ('newcomer', '!')");
    deployed.is_repaired("default-tools", "");
    deployed.break_with(
        "DELETE FROM users; DELETE FROM tool_access; DELETE FROM tool_access_exclusion; \
         DELETE FROM tool_access_event",
    );
    deployed.is_repaired("table-counts", "--skip rows-since-backup");
}

fn access(db: TestDatabase) {
    let deployed = Deployed::new(db.dialect());
    let expect = &format!("--expect-access {EXPORT}");
    let id = |table: &str, name: &str, value: &str| {
        format!("(SELECT id FROM {table} WHERE {name} = '{value}')")
    };
    let (alice, user_a) = (id("users", "username", "alice"), id("users", "username", "user_a"));
    let (csv, invoices) =
        (id("tools", "name", "CSV Converter"), id("tools", "name", "Invoice Generator"));
    deployed.break_with(&format!(
        "DELETE FROM tool_access WHERE user_id = {alice} AND tool_id = {csv}"
    ));
    deployed.is_repaired("expected-access", expect);
    // What is beyond the file, alone and with others.
    let audit = id("tools", "name", "Audit Log");
    for users in [vec![&alice], vec![&alice, &user_a]] {
        for user in users {
            deployed.break_with(&format!(
                "INSERT INTO tool_access (user_id, tool_id, origin) VALUES ({user}, {audit}, 'admin')"
            ));
        }
        deployed.is_repaired("expected-access", expect);
    }
    let let_in = format!(
        "DELETE FROM tool_access_exclusion WHERE user_id = {user_a} AND tool_id = {invoices}"
    );
    deployed.break_with(&let_in);
    deployed.is_repaired("access-assertions", "--skip rows-since-backup");
    deployed.break_with(&let_in);
    let flags = format!("{expect} --skip access-assertions,rows-since-backup");
    deployed.is_repaired("expected-access", &flags);
}

fn lost_rows(db: TestDatabase) {
    let deployed = Deployed::new(db.dialect());
    deployed.break_with("DELETE FROM tool_access_event");
    deployed.is_repaired("rows-since-backup", "");
    if db.dialect() == Dialect::Postgres {
        deployed.sh("rollback-migration --drop-old").success();
    }
}

on_both_databases!(the_schema, the_tools, orphans, users_and_their_defaults, access, lost_rows,);
