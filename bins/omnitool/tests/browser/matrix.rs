//! The access matrix with more users than a page can show.

use omnitool_testing::fixture;

use crate::{PASSWORD, app::App, chrome::Chrome};

const USERS: usize = 300;

#[tokio::test]
async fn hundreds_of_users_come_in_windows_that_together_show_each_once() {
    let app = App::start(&["admin"]);
    for number in 0..USERS {
        let letter = char::from(b"klmn"[number % 4]);
        fixture::user(&mut app.db.connection(), &format!("{letter}{number:03}"));
    }
    let chrome = Chrome::start(app.url()).await;
    chrome.log_in("admin", PASSWORD).await;
    chrome.follow("Access matrix").await;
    chrome.says("status", "301 users, 16 tools").await;

    let mut seen: Vec<String> = Vec::new();
    loop {
        let rows = chrome.row_headers("#matrix").await;
        assert!((1..=100).contains(&rows.len()), "{} rows", rows.len());
        seen.extend(rows);
        if chrome.count("a[rel=next]").await == 0 {
            break;
        }
        chrome.follow("Next users").await;
    }
    assert_eq!(seen.len(), USERS + 1);
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");

    // A letter jumps, a search narrows.
    chrome.open("/admin/access").await;
    chrome.follow("n").await;
    chrome.arrives_at("/admin/access?").await;
    assert_eq!(chrome.row_headers("#matrix").await[0], "n003");
    chrome.fill("Search users", "m29").await;
    chrome.press("Show").await;
    chrome.says("status", "3 users, 16 tools").await;
    assert_eq!(chrome.row_headers("#matrix").await, ["m290", "m294", "m298"]);

    chrome.follow("m290").await;
    assert_eq!(chrome.heading().await, "m290");
    chrome.close().await;
}
