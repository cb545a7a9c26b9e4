//! What somebody sees who looks at it.

use omnitool_testing::{Dialect, TestDatabase, TestProject};

use crate::{PROGRAM, SHIPPED, prepare, run};

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    prepare(&db);
    let arguments = ["--source", SHIPPED, "--dry-run"];
    let output = run(&project, &db, &arguments);
    assert_eq!(output.stderr, "");
    let without = output.success();
    let mut command = project.command("script");
    let line = format!("{PROGRAM} {}", arguments.join(" "));
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env("DATABASE_URL", db.url().expose()).env("TERM", "xterm");
    let with = project.output(command).success();
    // The bar is gone before the result comes, which is the same.
    let bar = with.rfind("Reading the export [").unwrap();
    assert!(bar < with.find("  read  ").unwrap(), "{with}");
    let lines = with.replace("\r\n", "\n");
    assert!(lines.ends_with(without.split_once('\n').unwrap().1), "{with}");
}
