//! A release's folder with this program and an app beside it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use diesel::prelude::*;
use omnitool_database::schema::{tool_access_everyone, tools};
use omnitool_environment::DatabaseUrl;
use omnitool_testing::{CommandOutput, TestDatabase, TestProject, fixture};
use omnitool_tool_registry::Definitions;

/// An app that finds nothing wrong.
pub(crate) const WORKS: &str = "echo '{\"summary\": \"4 checks: 4 passed\"}'";

pub(crate) struct Release {
    pub(crate) project: TestProject,
}

impl Release {
    /// A release whose app is a script.
    pub(crate) fn with_app(script: &str) -> Self {
        let release = Self::without_app();
        let app = release.project.write("release/omnitool", format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(app, fs::Permissions::from_mode(0o755)).unwrap();
        release
    }

    pub(crate) fn without_app() -> Self {
        let project = TestProject::new();
        let release = Self { project };
        let program = release.program();
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        // A hard link where the file system allows one: `current_exe` then names this folder, and nothing is copied.
        let built = env!("CARGO_BIN_EXE_verify-migration");
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
        release
    }

    fn program(&self) -> PathBuf {
        self.project.path().join("release/verify-migration")
    }

    pub(crate) fn run(&self, url: &DatabaseUrl, arguments: &[&str]) -> CommandOutput {
        self.project.run(self.program(), url, arguments)
    }
}

/// Fills a migrated database so that every check of it passes.
pub(crate) fn fill(db: &TestDatabase) {
    let mut conn = db.connection();
    for tool in Definitions::shipped().unwrap().tools() {
        let id: i64 = diesel::insert_into(tools::table)
            .values((
                tools::name.eq(&tool.name),
                tools::description.eq(&tool.description),
                tools::route.eq(&tool.route),
                tools::is_default.eq(tool.is_default),
                tools::is_active.eq(tool.is_active),
            ))
            .returning(tools::id)
            .get_result(&mut conn)
            .unwrap();
        diesel::insert_into(tool_access_everyone::table)
            .values((
                tool_access_everyone::tool_id.eq(id),
                tool_access_everyone::origin.eq("admin"),
            ))
            .execute(&mut conn)
            .unwrap();
    }
    fixture::user(&mut conn, "alice");
}

/// The text without the times at the ends of its lines.
pub(crate) fn without_times(text: &str) -> String {
    let lines = text.lines().map(|line| match line.rsplit_once(" (") {
        Some((start, time)) if time.ends_with("ms)") || time.ends_with(" s)") => start,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}
