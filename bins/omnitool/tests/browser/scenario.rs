//! The guide's first scenario, from the admin's browser to staging: a tool for everyone except one user.

use omnitool_environment::EnvironmentName;
use omnitool_testing::Dialect;

use crate::{PASSWORD, app::App, chrome::Chrome};

const USERS: [&str; 4] = ["admin", "alice", "bob", "user_a"];
const TOOL: &str = "Invoice Generator";

#[tokio::test]
async fn a_tool_for_everyone_except_one_user_reaches_staging_on_sqlite() {
    a_tool_for_everyone_except_one_user_reaches_staging(Dialect::Sqlite).await;
}

#[tokio::test]
async fn a_tool_for_everyone_except_one_user_reaches_staging_on_postgres() {
    a_tool_for_everyone_except_one_user_reaches_staging(Dialect::Postgres).await;
}

async fn a_tool_for_everyone_except_one_user_reaches_staging(dialect: Dialect) {
    let mut local = App::prepare_without(TOOL, dialect, &USERS);
    let synced = local.run("sync-tools", &[]).success();
    assert_eq!(synced, format!("Creating new tool: {TOOL}\nTool Synchronization Completed.\n"));
    local.serve();
    let mut chrome = Chrome::start(local.url()).await;
    chrome.log_in("admin", PASSWORD).await;
    grant_to_everyone_except(&chrome, "user_a").await;
    let exported_by_button = chrome.download("Export", "local_tool_access.json").await;
    chrome.press("Log out").await;
    only_user_a_is_kept_out(&chrome).await;

    let said = local.run("export-tool-access", &[]).success();
    assert!(said.starts_with("[SUCCESS] Successfully exported "), "{said}");
    let file = local.project.path().join("data/tool_access_exports/local_tool_access.json");
    assert_eq!(std::fs::read(&file).unwrap(), exported_by_button);

    let mut staging = App::prepare(dialect, EnvironmentName::Staging, &USERS);
    staging.run("import-tool-access", &["--source", file.to_str().unwrap()]).success();
    let report = staging.run("verify-migration", &[]).success();
    assert!(!report.contains("FAILED"), "{report}");
    staging.serve();
    chrome.visit(staging.url());
    only_user_a_is_kept_out(&chrome).await;
    chrome.close().await;
}

/// What the admin does, in one step after a look at what it means.
async fn grant_to_everyone_except(chrome: &Chrome, user: &str) {
    chrome.follow("User Management").await;
    chrome.arrives_at("/admin/users").await;
    chrome.follow("Tools").await;
    chrome.follow(TOOL).await;
    assert_eq!(chrome.heading().await, TOOL);
    chrome.fill_in("#except-form", "User names, one per line", user).await;
    chrome.fill_in("#except-form", "Reason", "leaves the company").await;
    chrome.press_in("#except-form", "Show what this does").await;

    assert_eq!(chrome.heading().await, format!("Change who may use {TOOL}?"));
    let plan = chrome.content().await;
    for line in [
        "Everyone may use it, also users who come later.",
        "Excluded (1): user_a",
        "May use it from then on (3): admin, alice, bob",
    ] {
        assert!(plan.lines().any(|said| said == line), "{line:?} is not in\n{plan}");
    }
    // Nothing has happened yet.
    chrome.press("Do this").await;
    chrome.arrives_at("/admin/history/").await;
    let done = chrome.content().await;
    assert!(done.contains(&format!("{TOOL}: for everyone")), "{done}");
    assert!(done.contains(&format!("{TOOL}: user_a excluded")), "{done}");
    chrome.follow("Access matrix").await;
    chrome.arrives_at("/admin/access").await;
}

async fn only_user_a_is_kept_out(chrome: &Chrome) {
    for user in ["alice", "bob"] {
        chrome.log_in(user, PASSWORD).await;
        let tools = chrome.links("main").await;
        assert!(tools.iter().any(|tool| tool == TOOL), "{user} has {tools:?}");
        chrome.follow(TOOL).await;
        chrome.arrives_at("/invoice_generator").await;
        assert_eq!((chrome.heading().await.as_str(), chrome.status().await), (TOOL, 200));
        chrome.press("Log out").await;
    }
    assert_eq!(chrome.complaints().await, [""; 0]);

    chrome.log_in("user_a", PASSWORD).await;
    let tools = chrome.links("main").await;
    assert!(!tools.is_empty() && tools.iter().all(|tool| tool != TOOL), "user_a has {tools:?}");
    chrome.open("/invoice_generator").await;
    assert_eq!(chrome.status().await, 403);
    assert!(!chrome.text().await.contains(TOOL));
    let complaints = chrome.complaints().await;
    assert!(complaints.len() == 1 && complaints[0].contains("403"), "{complaints:?}");
    chrome.open("/dashboard").await;
    chrome.press("Log out").await;
}
