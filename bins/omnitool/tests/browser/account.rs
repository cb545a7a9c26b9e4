//! In, out, and a new password.

use crate::{PASSWORD, app::App, chrome::Chrome};

#[tokio::test]
async fn a_failed_login_says_so_and_leaves_the_name_in_its_field() {
    let app = App::start(&["admin", "alice"]);
    let chrome = Chrome::start(app.url()).await;
    // Where somebody wanted to go is where the login leads.
    chrome.open("/account").await;
    chrome.arrives_at("/login").await;
    chrome.fill("User name", "alice").await;
    chrome.fill("Password", "not the password").await;
    chrome.press("Log in").await;
    chrome.says("alert", "The user name or the password is wrong.").await;
    assert_eq!(chrome.value("User name").await, "alice");
    assert_eq!(chrome.value("Password").await, "");
    assert_eq!(chrome.focused().await, "Password");
    let complaints = chrome.complaints().await;
    assert!(complaints.len() == 1 && complaints[0].contains("401"), "{complaints:?}");

    chrome.type_keys(PASSWORD).await;
    chrome.press("Log in").await;
    chrome.arrives_at("/account").await;
    chrome.close().await;
}

#[tokio::test]
async fn a_changed_password_is_the_one_that_counts_and_a_logout_ends_the_session() {
    const NEW: &str = "another battery, another staple";
    let app = App::start(&["admin", "alice"]);
    let chrome = Chrome::start(app.url()).await;
    chrome.log_in("alice", PASSWORD).await;
    chrome.follow("alice, your account").await;
    chrome.arrives_at("/account").await;
    let change = async |new: &str, again: &str| {
        chrome.fill("Current password", PASSWORD).await;
        chrome.fill("New password", new).await;
        chrome.fill("New password again", again).await;
        chrome.press("Change password").await;
    };
    change(NEW, PASSWORD).await;
    chrome.says("alert", "The two new passwords are not the same.").await;
    assert!(chrome.complaints().await.iter().all(|text| text.contains("422")));
    change(NEW, NEW).await;
    chrome.says("status", "Your password is changed, and your other sessions have ended.").await;

    // The page after a change has a form of the new session.
    chrome.press("Log out").await;
    chrome.open("/dashboard").await;
    chrome.arrives_at("/login").await;
    chrome.fill("User name", "alice").await;
    chrome.fill("Password", PASSWORD).await;
    chrome.press("Log in").await;
    chrome.says("alert", "The user name or the password is wrong.").await;
    assert!(chrome.complaints().await.iter().all(|text| text.contains("401")));
    chrome.log_in("alice", NEW).await;
    chrome.close().await;
}
