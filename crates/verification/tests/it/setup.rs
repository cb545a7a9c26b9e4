//! A database that passes every check, and verifying it.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::{AnyConnection, Dialect, schema::tools};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{TestDatabase, fixture};
use omnitool_tool_registry::Definitions;
use omnitool_verification::{
    AppAnswer, CheckReport, Depth, Expectations, LastBackup, Outcome, Report, Selection, Subject,
    find_check, verify_against,
};
use tempfile::TempDir;

const TOOLS: &str = r#"
[[tool]]
name = "Email Templates"
description = "Create and manage email templates"
route = "/email_templates"
is_default = true
is_active = true

[[tool]]
name = "Invoice Generator"
description = "Generate PDF invoices"
route = "/invoice_generator"
is_default = false
is_active = true

[deprecated]
"Email Templates management" = "Email Templates"
"Old Calculator" = false
"#;

pub(crate) struct Setup {
    pub(crate) db: TestDatabase,
    pub(crate) definitions: Definitions,
    pub(crate) environment: Option<EnvironmentName>,
    pub(crate) depth: Depth,
    pub(crate) app: fn() -> Result<AppAnswer, Box<dyn Error + Send + Sync>>,
    pub(crate) expected_access: Option<PathBuf>,
    pub(crate) access_tests: Option<PathBuf>,
    pub(crate) last_backup: Result<Option<LastBackup>, &'static str>,
    pub(crate) max_loss_percent: u8,
    pub(crate) folder: TempDir,
    /// Has the default tool by a grant.
    pub(crate) alice: i64,
    /// The default tool.
    pub(crate) email: i64,
    /// The other tool, which everyone but `alice` may use.
    pub(crate) invoices: i64,
}

impl Setup {
    /// Fills a migrated database so that every check passes.
    pub(crate) fn clean(db: TestDatabase) -> Self {
        let definitions = definitions(TOOLS);
        let mut conn = db.connection();
        for tool in definitions.tools() {
            diesel::insert_into(tools::table)
                .values((
                    tools::name.eq(&tool.name),
                    tools::description.eq(&tool.description),
                    tools::route.eq(&tool.route),
                    tools::is_default.eq(tool.is_default),
                    tools::is_active.eq(tool.is_active),
                ))
                .execute(&mut conn)
                .unwrap();
        }
        let mut id = |name: &str| {
            tools::table.filter(tools::name.eq(name)).select(tools::id).first(&mut conn).unwrap()
        };
        let (email, invoices): (i64, i64) = (id("Email Templates"), id("Invoice Generator"));
        let alice = fixture::user(&mut conn, "alice");
        fixture::grant(&mut conn, alice, email);
        fixture::everyone(&mut conn, invoices);
        fixture::exclude(&mut conn, alice, invoices);
        Self {
            db,
            definitions,
            environment: Some(EnvironmentName::Local),
            depth: Depth::TrustConstraints,
            app: || Ok(AppAnswer::Works("3 checks: 3 passed".to_owned())),
            expected_access: None,
            access_tests: None,
            last_backup: Ok(None),
            max_loss_percent: 10,
            folder: tempfile::tempdir().unwrap(),
            alice,
            email,
            invoices,
        }
    }

    pub(crate) fn conn(&self) -> AnyConnection {
        self.db.connection()
    }

    pub(crate) fn verify(&self) -> Report {
        self.verify_selected(&Selection::all())
    }

    pub(crate) fn verify_only(&self, ids: &[&str]) -> Report {
        let checks: Vec<_> = ids.iter().map(|id| find_check(id).unwrap()).collect();
        self.verify_selected(&Selection::new(&checks, &[]).unwrap())
    }

    /// Writes a file into the test's own folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// `text` without the names of the test's own folder and database.
    pub(crate) fn anonymous(&self, text: &str) -> String {
        let text = text.replace(&self.folder.path().display().to_string(), "[FOLDER]");
        match self.db.url().sqlite_path() {
            Some(file) => text.replace(&file.display().to_string(), "[DATABASE]"),
            None => text,
        }
    }

    fn verify_selected(&self, selection: &Selection) -> Report {
        self.verify_with_times(selection).without_times()
    }

    pub(crate) fn verify_with_times(&self, selection: &Selection) -> Report {
        let last_backup = |_| self.last_backup.clone().map_err(Into::into);
        let subject = Subject {
            database_url: self.db.url(),
            environment: self.environment,
            definitions: &self.definitions,
            definitions_file: None,
            app: &self.app,
            depth: self.depth,
        };
        let expected = Expectations {
            access_export: self.expected_access.as_deref(),
            access_tests: self.access_tests.as_deref(),
            last_backup: &last_backup,
            max_loss_percent: self.max_loss_percent,
        };
        verify_against(&subject, &expected, selection)
    }

    /// Verifies, asserts that everything else passed, and returns the check that did not, as text.
    #[track_caller]
    pub(crate) fn only_trouble(&self, id: &str, outcome: Outcome) -> String {
        let report = self.verify();
        let troubled: Vec<&CheckReport> =
            report.checks.iter().filter(|check| check.outcome != Outcome::Passed).collect();
        let ids: Vec<&str> = troubled.iter().map(|check| check.id).collect();
        assert_eq!(ids, [id], "{report:#?}");
        assert_eq!(troubled[0].outcome, outcome);
        self.anonymous(&text_of(troubled[0]))
    }
}

pub(crate) fn definitions(text: &str) -> Definitions {
    Definitions::parse(text, Path::new("tools.toml")).unwrap()
}

/// What a check found, without its first line.
pub(crate) fn text_of(check: &CheckReport) -> String {
    let mut text = format!("{}\n", check.message);
    for finding in &check.findings {
        text += &format!("{:?}: {}\n", finding.severity, finding.message);
        for row in &finding.rows {
            text += &format!("- {row}\n");
        }
        let unnamed = finding.count - finding.rows.len() as u64;
        if unnamed > 0 {
            text += &format!("and {unnamed} more\n");
        }
        text += &format!("repair: {}\n", finding.repair.as_deref().unwrap_or("none"));
    }
    text
}

/// Runs `insert` where nothing checks that rows have a parent, and has everything read from then on.
pub(crate) fn without_foreign_keys(setup: &mut Setup, insert: impl FnOnce(&mut AnyConnection)) {
    let mut conn = setup.conn();
    conn.batch_execute(match conn.dialect() {
        Dialect::Sqlite => "PRAGMA foreign_keys = OFF",
        Dialect::Postgres => "SET session_replication_role = replica",
    })
    .unwrap();
    insert(&mut conn);
    setup.depth = Depth::ReadEverything;
}
