use std::sync::Arc;

use diesel::prelude::*;
use omnitool_database::schema::{tool_access, tools};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};
use omnitool_tool_access::Export;
use omnitool_web::{
    Settings,
    deployment::{Backup, Deployments, Outcome, Overview, Run, Step},
};

use crate::running::{Running, admin, settings, user};

/// What the cell of a user and a tool says to a reader of the screen.
fn cell<'a>(page: &'a str, user: &str, tool: &str) -> &'a str {
    let address = format!("/admin/access/explain?user={user}&amp;tool={tool}\" aria-label=\"");
    let (_, rest) = page.split_once(&address).unwrap_or_else(|| panic!("{address}: {page}"));
    // After the letter that everybody sees.
    rest.split('"').next().unwrap().split_once(' ').unwrap().1
}

fn the_matrix_shows_each_fact_and_explains_it(db: TestDatabase) {
    admin(&db, "root");
    let (alice, bob) = (user(&db, "alice"), user(&db, "bob"));
    let conn = &mut db.connection();
    let [mail, invoices, rooms] =
        ["Mail", "Invoices", "Rooms"].map(|name| fixture::tool(conn, name));
    fixture::everyone(conn, invoices);
    fixture::exclude(conn, bob, invoices);
    fixture::grant(conn, alice, mail);
    diesel::insert_into(tool_access::table)
        .values((
            tool_access::user_id.eq(bob),
            tool_access::tool_id.eq(mail),
            tool_access::origin.eq("default"),
        ))
        .execute(conn)
        .unwrap();
    diesel::update(tools::table.find(rooms)).set(tools::is_active.eq(false)).execute(conn).unwrap();
    let app = Running::start(&db);
    let root = app.log_in("root");
    let page = root.get("/admin/access").body;
    for (user, tool, words) in [
        ("alice", "Mail", "granted"),
        ("bob", "Mail", "granted by default"),
        ("alice", "Invoices", "everyone"),
        ("bob", "Invoices", "excluded"),
        ("alice", "Rooms", "no access"),
        ("root", "Invoices", "everyone"),
    ] {
        assert_eq!(cell(&page, user, tool), words, "{user} {tool}");
    }
    assert!(page.contains("not active"), "{page}");
    let why = root.get("/admin/access/explain?user=bob&tool=Invoices");
    assert!(why.text("answer").starts_with("bob may not use Invoices: the user is excluded"));
    assert_eq!(root.get("/admin/access/explain?user=bob&tool=Nothing").status, 404);
    assert_eq!(root.get("/admin/access/explain").status, 404);
    let found = root.get("/admin/access?q=ALI");
    assert!(found.text("count").starts_with("1 user, 3 tools"), "{}", found.body);
    assert!(root.get("/admin/access?from=b").body.contains("user=bob"));
    assert!(!root.get("/admin/access?from=b").body.contains("user=alice"));
}

fn the_export_is_that_of_the_program(db: TestDatabase) {
    admin(&db, "root");
    let alice = user(&db, "alice");
    let conn = &mut db.connection();
    let tool = fixture::tool(conn, "Invoice Generator");
    fixture::grant(conn, alice, tool);
    let mut expected = Vec::new();
    Export::load(conn, EnvironmentName::Local).unwrap().write(&mut expected).unwrap();
    let app = Running::start(&db);
    let export = app.log_in("root").get("/admin/access/export");
    assert_eq!(export.body.as_bytes(), expected);
    assert_eq!(
        export.header("content-disposition"),
        Some("attachment; filename=\"local_tool_access.json\"")
    );
}

fn beside_a_file_cells_are_missing_extra_or_contradicting(db: TestDatabase) {
    admin(&db, "root");
    let users = ["alice", "bob", "carol", "dave"].map(|name| user(&db, name));
    let conn = &mut db.connection();
    let [mail, rooms] = ["Mail", "Rooms"].map(|name| fixture::tool(conn, name));
    fixture::grant(conn, users[0], mail);
    fixture::grant(conn, users[2], mail);
    fixture::exclude(conn, users[3], mail);
    let folder = tempfile::tempdir().unwrap();
    let file = r#"{"format": "omnitool.tool-access", "version": 1, "environment": "staging",
        "users": ["alice", "bob", "carol", "dave", "stranger"], "tools": {
        "Mail": {"everyone": false, "excluded": ["carol"], "granted": ["bob", "dave"]},
        "Rooms": {"everyone": true, "excluded": [], "granted": []}}}"#;
    std::fs::write(folder.path().join("staging_tool_access.json"), file).unwrap();
    let access_files = Some(folder.path().to_owned());
    let app = Running::with(Settings { access_files, ..settings(&db) });
    let root = app.log_in("root");
    let plain = root.get("/admin/access");
    assert!(plain.body.contains("compare with staging") && !plain.has("comparison"));
    assert!(!plain.body.contains("compare with production"), "there is no such file");

    let page = root.get("/admin/access?against=staging");
    let summary = page.text("comparison");
    assert!(summary.contains("staging_tool_access.json of staging: missing here: "), "{summary}");
    assert!(
        summary.contains("2 grants, 1 wildcard, 1 exclusion; extra here: 2 facts."),
        "{summary}"
    );
    assert!(summary.contains("unknown here: 1"), "{summary}");
    for (user, words) in [
        ("alice", "granted, extra here"),
        ("bob", "no access, missing here"),
        ("carol", "granted, contradicting the file"),
        ("dave", "excluded, contradicting the file"),
        ("root", "no access"),
    ] {
        assert_eq!(cell(&page.body, user, "Mail"), words, "{user}");
    }
    assert!(page.body.contains("+ for everyone in the file"), "{}", page.body);
    let _ = rooms;

    std::fs::write(folder.path().join("staging_tool_access.json"), "{").unwrap();
    let broken = root.get("/admin/access?against=staging");
    assert_eq!(broken.status, 200);
    assert!(broken.text("comparison").starts_with("Cannot compare: "), "{}", broken.body);
}

fn beside_a_file_that_lets_in_an_exclusion_is_contradicting(db: TestDatabase) {
    admin(&db, "root");
    let [bob, carol] = ["bob", "carol"].map(|name| user(&db, name));
    let conn = &mut db.connection();
    let [mail, rooms] = ["Mail", "Rooms"].map(|name| fixture::tool(conn, name));
    fixture::grant(conn, bob, mail);
    fixture::exclude(conn, bob, mail);
    fixture::exclude(conn, carol, mail);
    fixture::everyone(conn, rooms);
    fixture::exclude(conn, bob, rooms);
    let folder = tempfile::tempdir().unwrap();
    let file = r#"{"format": "omnitool.tool-access", "version": 1, "environment": "local",
        "users": ["bob", "carol", "root"], "tools": {
        "Mail": {"everyone": false, "excluded": [], "granted": ["bob"]},
        "Rooms": {"everyone": true, "excluded": ["carol"], "granted": []}}}"#;
    std::fs::write(folder.path().join("local_tool_access.json"), file).unwrap();
    let access_files = Some(folder.path().to_owned());
    let app = Running::with(Settings { access_files, ..settings(&db) });
    let page = app.log_in("root").get("/admin/access?against=local").body;
    for (user, tool, words) in [
        ("bob", "Mail", "excluded, contradicting the file"),
        ("bob", "Rooms", "excluded, contradicting the file"),
        ("carol", "Mail", "excluded, extra here"),
        ("carol", "Rooms", "everyone, contradicting the file"),
        ("root", "Rooms", "everyone"),
    ] {
        assert_eq!(cell(&page, user, tool), words, "{user} {tool}");
    }
}

fn more_differences_than_a_plan_lists_are_marked_in_each_window(db: TestDatabase) {
    admin(&db, "root");
    let conn = &mut db.connection();
    let names: Vec<String> = (0..60).map(|number| format!("user_{number:02}")).collect();
    for name in &names {
        fixture::user(conn, name);
    }
    let users = serde_json::to_string(&names).unwrap();
    let mut listed = Vec::new();
    for number in 0..20 {
        let name = format!("Tool {number:02}");
        fixture::tool(conn, &name);
        let everyone = number == 0;
        listed.push(format!(
            r#""{name}": {{"everyone": {everyone}, "excluded": [], "granted": {users}}}"#
        ));
    }
    let text = format!(
        r#"{{"format": "omnitool.tool-access", "version": 1, "environment": "local",
            "users": {users}, "tools": {{{}}}}}"#,
        listed.join(",")
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("local_tool_access.json"), text).unwrap();
    let access_files = Some(folder.path().to_owned());
    let app = Running::with(Settings { access_files, ..settings(&db) });
    let page = app.log_in("root").get("/admin/access?against=local&after=user_40");
    assert!(page.text("comparison").contains("1200 grants, 1 wildcard"), "{}", page.body);
    assert_eq!(cell(&page.body, "user_41", "Tool%2007"), "no access, missing here");
    assert_eq!(cell(&page.body, "user_59", "Tool%2019"), "no access, missing here");
    assert_eq!(page.body.matches("+ for everyone in the file").count(), 1);
}

on_both_databases!(
    the_matrix_shows_each_fact_and_explains_it,
    the_export_is_that_of_the_program,
    beside_a_file_cells_are_missing_extra_or_contradicting,
    beside_a_file_that_lets_in_an_exclusion_is_contradicting,
    more_differences_than_a_plan_lists_are_marked_in_each_window,
);

#[derive(Debug)]
struct Journals(Result<Overview, String>);

impl Deployments for Journals {
    fn read(&self, limit: usize) -> Result<Overview, String> {
        assert!(limit >= 10);
        self.0.clone()
    }
}

#[test]
fn deployments_are_shown_as_they_are_told() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    admin(&db, "root");
    let page = |read: Option<Result<Overview, String>>| {
        let deployments = read.map(|read| Arc::new(Journals(read)) as Arc<dyn Deployments>);
        let app = Running::with(Settings { deployments, ..settings(&db) });
        app.log_in("root").get("/admin/deployments")
    };
    assert!(page(None).text("no-journal").contains("was not told"));
    let nowhere = Overview { journals: ".omnitool/local/runs".to_owned(), ..Overview::default() };
    let nothing = page(Some(Ok(nowhere)));
    assert!(nothing.text("no-journal").contains(".omnitool/local/runs"), "{}", nothing.body);
    assert!(nothing.has("no-backups"));
    assert!(page(Some(Err("cannot read <it>".to_owned()))).body.contains("cannot read &lt;it&gt;"));
    let step = Step {
        id: "verify".to_owned(),
        outcome: Outcome::Failed("2 checks failed".to_owned()),
        duration_ms: Some(1234),
        evidence: vec!["orphans: 3".to_owned()],
    };
    let run = Run { id: "run-7".to_owned(), steps: vec![step], ..Run::default() };
    let backup = Backup { id: "b007".to_owned(), size: 4096, ..Backup::default() };
    let (runs, backups) = (Some(vec![run]), Some(vec![backup]));
    let page = page(Some(Ok(Overview { runs, backups, ..Overview::default() })));
    for text in ["run-7", "verify", "2 checks failed", "1.2 s", "orphans: 3", "b007", "4 KiB"] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
}
