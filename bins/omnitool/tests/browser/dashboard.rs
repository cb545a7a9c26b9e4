//! The dashboard for people without a mouse, and for people without scripts.

use fantoccini::key::Key;

use crate::{PASSWORD, app::App, chrome::Chrome};

/// Tabs until the focus is on what has this name.
async fn tab_to(chrome: &Chrome, name: &str) {
    let mut passed = Vec::new();
    while passed.len() < 30 {
        chrome.hit(Key::Tab).await;
        let focused = chrome.focused().await;
        if focused == name {
            return;
        }
        passed.push(focused);
    }
    panic!("no {name:?} among {passed:?}");
}

#[tokio::test]
async fn the_keyboard_alone_leads_from_the_login_to_a_tool() {
    let app = App::start(&["admin", "alice"]);
    let chrome = Chrome::start(app.url()).await;
    chrome.open("/").await;
    // The first stop skips the navigation.
    tab_to(&chrome, "Skip to the content").await;
    chrome.hit(Key::Enter).await;
    tab_to(&chrome, "Log in").await;
    chrome.hit(Key::Enter).await;
    chrome.arrives_at("/login").await;
    assert_eq!(chrome.focused().await, "User name");
    chrome.type_keys("alice").await;
    tab_to(&chrome, "Password").await;
    chrome.type_keys(PASSWORD).await;
    chrome.hit(Key::Enter).await;
    chrome.arrives_at("/dashboard").await;
    chrome.says("status", "7 tools").await;

    chrome.type_keys("/").await;
    assert_eq!(chrome.focused().await, "Search your tools");
    chrome.type_keys("pdf merge").await;
    chrome.says("status", "1 of 7 tools").await;
    assert_eq!(chrome.links(".tools").await, ["PDF Toolkit"]);
    tab_to(&chrome, "PDF Toolkit").await;
    assert!(chrome.outline_of_focus().await >= 2.0, "the focus is not to be seen");
    chrome.hit(Key::Enter).await;
    chrome.arrives_at("/pdf_toolkit").await;
    assert_eq!(chrome.heading().await, "PDF Toolkit");
    tab_to(&chrome, "Log out").await;
    chrome.hit(Key::Enter).await;
    chrome.sees("Log in to see the tools that you may use.").await;
    chrome.close().await;
}

#[tokio::test]
async fn without_scripts_everything_works_too() {
    let app = App::start(&["admin", "alice"]);
    let chrome = Chrome::without_scripts(app.url()).await;
    chrome.log_in("admin", PASSWORD).await;
    chrome.says("status", "8 tools").await;
    chrome.fill("Search your tools", "pdf merge").await;
    // With scripts, this button is not there.
    chrome.press("Search").await;
    chrome.arrives_at("/dashboard?q=pdf+merge").await;
    chrome.says("status", "1 of 8 tools").await;
    assert_eq!(chrome.links(".tools").await, ["PDF Toolkit"]);

    chrome.follow("Tools").await;
    chrome.follow("Audit Log").await;
    chrome.press("For everyone").await;
    chrome.press("Do this").await;
    chrome.arrives_at("/admin/history/").await;
    chrome.press("Log out").await;
    chrome.log_in("alice", PASSWORD).await;
    assert!(chrome.links(".tools").await.contains(&"Audit Log".to_owned()));
    chrome.close().await;
}
