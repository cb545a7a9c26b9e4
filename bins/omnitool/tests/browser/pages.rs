//! Every page, as everybody sees it: in light, in the dark, on a phone.

use std::collections::BTreeSet;

use omnitool_testing::fixture;

use crate::{
    PASSWORD, accessibility,
    app::App,
    chrome::{Chrome, NARROWEST, PHONE, Scheme},
};

/// What is wrong with the pages that were looked at, all at once.
#[derive(Default)]
struct Inspection {
    problems: Vec<String>,
}

impl Inspection {
    /// Opens a page and looks at it.
    async fn open(&mut self, chrome: &Chrome, name: &str, path: &str) {
        chrome.open(path).await;
        self.look(chrome, name).await;
    }

    /// Looks at the page in front of the visitor, whose answer was no error.
    async fn look(&mut self, chrome: &Chrome, name: &str) {
        assert_eq!(chrome.status().await, 200, "{name}");
        self.look_at_any(chrome, name).await;
        self.note(name, "complaint", chrome.complaints().await);
    }

    /// The same for an answer that is an error, of which browsers complain.
    async fn look_at_error(&mut self, chrome: &Chrome, name: &str, status: u64) {
        assert_eq!(chrome.status().await, status, "{name}");
        self.look_at_any(chrome, name).await;
        let expected = format!("status of {status} ");
        let complaints = chrome.complaints().await.into_iter();
        self.note(name, "complaint", complaints.filter(|text| !text.contains(&expected)).collect());
    }

    async fn look_at_any(&mut self, chrome: &Chrome, name: &str) {
        if !chrome.title().await.ends_with(" · omnitool") {
            self.problems.push(format!("{name} has the title {:?}", chrome.title().await));
        }
        for (scheme, look) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
            chrome.prefer(scheme).await;
            if chrome.ground_is_dark().await != (scheme == Scheme::Dark) {
                self.problems.push(format!("{name} is not {look}"));
            }
            self.note(name, look, accessibility::violations(chrome).await);
            chrome.keep_screenshot(&format!("{name}-{look}")).await;
        }
        chrome.prefer(Scheme::Light).await;
        for screen in [NARROWEST, PHONE] {
            chrome.hold(Some(screen)).await;
            let (pixels, elements) = chrome.overflow().await;
            if pixels > 0 || !elements.is_empty() {
                let (width, _) = screen;
                self.problems.push(format!(
                    "{name} is {pixels} pixels too wide for {width}:\n    {elements}"
                ));
            }
        }
        self.note(name, "phone", accessibility::violations(chrome).await);
        chrome.keep_screenshot(&format!("{name}-phone")).await;
        chrome.hold(None).await;
    }

    fn note(&mut self, name: &str, what: &str, found: Vec<String>) {
        self.problems.extend(found.into_iter().map(|text| format!("{name}, {what}: {text}")));
    }

    fn end(self) {
        assert!(self.problems.is_empty(), "{}", self.problems.join("\n"));
    }
}

#[tokio::test]
async fn the_pages_of_everybody_are_for_everybody() {
    let app = App::start(&["admin", "alice"]);
    fixture::user(&mut app.db.connection(), "nobody");
    let chrome = Chrome::start(app.url()).await;
    let mut pages = Inspection::default();
    pages.open(&chrome, "home", "/").await;
    pages.open(&chrome, "login", "/login").await;
    chrome.fill("User name", "alice").await;
    chrome.fill("Password", "wrong").await;
    chrome.press("Log in").await;
    chrome.says("alert", "The user name or the password is wrong.").await;
    pages.look_at_error(&chrome, "login-failed", 401).await;

    chrome.log_in("alice", PASSWORD).await;
    pages.look(&chrome, "dashboard").await;
    pages.open(&chrome, "dashboard-search", "/dashboard?q=pdf").await;
    pages.open(&chrome, "dashboard-nothing-found", "/dashboard?q=zebra").await;
    pages.open(&chrome, "tool", "/pdf_toolkit").await;
    pages.open(&chrome, "home-logged-in", "/").await;
    pages.open(&chrome, "account", "/account").await;
    chrome.open("/audit_log").await;
    pages.look_at_error(&chrome, "forbidden", 403).await;
    chrome.open("/no/such/page").await;
    pages.look_at_error(&chrome, "not-found", 404).await;
    pages.end();
    chrome.close().await;
}

#[tokio::test]
async fn the_pages_of_admins_are_for_everybody() {
    let app = App::start(&["admin", "alice", "user_a"]);
    fill(&app);
    let chrome = Chrome::start(app.url()).await;
    let mut pages = Inspection::default();
    chrome.log_in("admin", PASSWORD).await;
    pages.look(&chrome, "dashboard-admin").await;
    pages.open(&chrome, "users", "/admin/users").await;
    pages.open(&chrome, "users-none-found", "/admin/users?q=zebra").await;
    pages.open(&chrome, "matrix", "/admin/access?against=local").await;
    pages.open(&chrome, "deployments", "/admin/deployments").await;
    chrome.open_all_details().await;
    pages.look(&chrome, "deployments-open").await;

    chrome.open("/admin/tools").await;
    pages.look(&chrome, "tools").await;
    chrome.follow("Invoice Generator").await;
    chrome.fill_in("#except-form", "User names, one per line", "user_a").await;
    chrome.press_in("#except-form", "Show what this does").await;
    pages.look(&chrome, "confirm-access").await;
    chrome.press("Do this").await;
    chrome.arrives_at("/admin/history/").await;
    pages.look(&chrome, "change").await;
    pages.open(&chrome, "history", "/admin/history").await;
    chrome.open("/admin/tools").await;
    chrome.follow("Invoice Generator").await;
    pages.look(&chrome, "tool-admin").await;
    let explanation = "/admin/access/explain?user=user_a&tool=Invoice%20Generator";
    pages.open(&chrome, "explain", explanation).await;

    chrome.open("/admin/users/new").await;
    pages.look(&chrome, "new-user").await;
    chrome.fill("User name", "carol").await;
    chrome.press("Show what this does").await;
    pages.look(&chrome, "confirm-new-user").await;
    chrome.press("Make the user").await;
    pages.look(&chrome, "password").await;
    chrome.follow("To the user").await;
    pages.look(&chrome, "user").await;
    chrome.press("Deactivate").await;
    pages.look(&chrome, "confirm-user").await;
    pages.end();
    chrome.close().await;
}

#[tokio::test]
async fn what_pages_are_checked_with_finds_what_is_wrong() {
    let app = App::start(&["admin"]);
    let chrome = Chrome::start(app.url()).await;
    chrome.open("/login").await;
    let spoil = "
        document.documentElement.removeAttribute('lang');
        document.querySelector('label').remove();
        document.querySelector('button').style.color = '#789';
        document.querySelector('main').style.minWidth = '50rem';
        const script = document.createElement('script');
        script.textContent = '1';
        document.head.append(script);";
    chrome.run(spoil, Vec::new()).await;
    let violations = accessibility::violations(&chrome).await;
    let rules: BTreeSet<&str> =
        violations.iter().filter_map(|text| Some(text.split_once(':')?.0)).collect();
    assert_eq!(rules, BTreeSet::from(["color-contrast", "html-has-lang", "label"]));
    chrome.hold(Some(PHONE)).await;
    let (pixels, elements) = chrome.overflow().await;
    assert!(pixels > 300 && elements.contains("<main"), "{pixels}: {elements}");
    let complaints = chrome.complaints().await;
    assert!(complaints.len() == 1 && complaints[0].contains("script-src"), "{complaints:?}");
    chrome.close().await;
}

/// What makes the pages of admins look as they do in real use.
fn fill(app: &App) {
    let conn = &mut app.db.connection();
    for number in 0..60 {
        fixture::user(conn, &format!("member.{number:02}"));
    }
    fixture::user(conn, &"a-very-long-name-without-any-space".repeat(4));
    app.run("backup-database", &["capture"]).success();
    let journal = include_str!("journal.jsonl");
    app.project.write(".omnitool/local/runs/20260102-030405.jsonl", journal);
}
