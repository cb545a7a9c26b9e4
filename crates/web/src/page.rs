//! The pages. Whatever is put into them is escaped.

pub(crate) mod account;
pub(crate) mod change;
pub(crate) mod deployment;
pub(crate) mod history;
pub(crate) mod matrix;
mod sample;
pub(crate) mod tool;
pub(crate) mod user;

pub(crate) use sample::samples;

use std::{fmt::Write as _, time::Duration};

use axum::http::StatusCode;
use chrono::NaiveDateTime;
use maud::{DOCTYPE, Markup, html};
use omnitool_environment::EnvironmentName;

use crate::{
    app::Settings,
    asset,
    error::Explanation,
    form::Destination,
    session::Viewer,
    store::{dashboard::EntryRow, tool::ToolRow},
};

/// Whoever is logged in, with what a page needs for the way out.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) viewer: Viewer,
    pub(crate) form_token: String,
}

/// Why nobody was logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginProblem {
    /// The same for an unknown name, a wrong password, and a user who is not active.
    Wrong,
    /// Too many attempts; the next is allowed after this.
    TooMany(Duration),
}

pub(crate) fn home(settings: &Settings, login: Option<&Login>) -> Markup {
    let body = html! {
        section.hero {
            h1 { "Your tools, in one place" }
            @match login {
                Some(login) => {
                    p { "You are logged in as " strong { (login.viewer.username) } "." }
                    p { a.button href="/dashboard" { "Open your tools" } }
                }
                None => {
                    p { "Log in to see the tools that you may use." }
                    p { a.button href="/login" { "Log in" } }
                }
            }
        }
    };
    layout(settings, "Home", login, &body)
}

/// The login page. `next` is where it leads, `username` what was typed before.
pub(crate) fn login(
    settings: &Settings,
    form_token: &str,
    next: Option<&Destination>,
    username: &str,
    problem: Option<&LoginProblem>,
) -> Markup {
    let body = html! {
        section.narrow {
            h1 { "Log in" }
            @if let Some(problem) = problem {
                p.problem role="alert" {
                    @match problem {
                        LoginProblem::Wrong => "The user name or the password is wrong.",
                        LoginProblem::TooMany(wait) => {
                            "Too many attempts. Try again in "
                            (minutes(*wait)) "."
                        }
                    }
                }
            }
            form method="post" action="/login" {
                input type="hidden" name="form_token" value=(form_token);
                @if let Some(next) = next {
                    input type="hidden" name="next" value=(next.as_str());
                }
                label for="username" { "User name" }
                input #username name="username" type="text" autocomplete="username" autocapitalize="none"
                    spellcheck="false" required autofocus[username.is_empty()] value=(username);
                label for="password" { "Password" }
                input #password name="password" type="password" autocomplete="current-password" required
                    autofocus[!username.is_empty()];
                button type="submit" { "Log in" }
            }
        }
    };
    layout(settings, "Log in", None, &body)
}

pub(crate) fn dashboard(
    settings: &Settings,
    login: Option<&Login>,
    tools: &[EntryRow],
    query: &str,
) -> Markup {
    let shown: Vec<&EntryRow> = tools.iter().filter(|tool| matches(tool, query)).collect();
    let body = html! {
        h1 { "Your tools" }
        @if tools.is_empty() {
            p { "You have no tools yet. Ask an administrator for those that you need." }
        } @else {
            form.search role="search" method="get" action="/dashboard" {
                label for="search" { "Search your tools" }
                div.row {
                    input #search name="q" type="search" value=(query) autocomplete="off" maxlength="200"
                        aria-describedby="count";
                    button type="submit" { "Search" }
                }
            }
            p #count role="status" { (count(shown.len(), tools.len())) }
            ul.tools {
                @for tool in &shown {
                    li {
                        a href=(tool.route) { (tool.name) }
                        @if !tool.description.is_empty() { p { (tool.description) } }
                    }
                }
            }
            @if shown.is_empty() {
                p { a href="/dashboard" { "Show all your tools" } }
            }
        }
    };
    layout(settings, "Your tools", login, &body)
}

/// The built-in page of a tool.
pub(crate) fn tool(settings: &Settings, login: Option<&Login>, tool: &ToolRow) -> Markup {
    let ToolRow { name, description, .. } = tool;
    let body = html! {
        p { a href="/dashboard" { "Your tools" } }
        h1 { (name) }
        @if !description.is_empty() { p { (description) } }
    };
    layout(settings, name, login, &body)
}

/// An error page. `id` is the request's, for whoever looks into the log.
pub(crate) fn error(
    settings: &Settings,
    status: StatusCode,
    explanation: &Explanation,
    id: &str,
) -> Markup {
    let Explanation { title, text } = explanation;
    let body = html! {
        h1 { (title) }
        p { (text) }
        @if status.is_server_error() {
            p { "When you report this, name the request " code { (id) } "." }
        }
        p { a href="/dashboard" { "Your tools" } }
    };
    layout(settings, title, None, &body)
}

/// Something to say on top of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Done(&'static str),
    Wrong(&'static str),
}

fn notice(notice: Option<&Notice>) -> Markup {
    html! {
        @match notice {
            Some(Notice::Done(text)) => p.done #notice role="status" { (text) },
            Some(Notice::Wrong(text)) => (problem(Some(text))),
            None => {},
        }
    }
}

fn problem(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text { p.problem role="alert" { (text) } } }
}

/// The hidden field that every form carries.
fn form_token(login: &Login) -> Markup {
    html! { input type="hidden" name="form_token" value=(login.form_token); }
}

fn when(time: NaiveDateTime) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A query of these pairs.
fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    pairs.join("&")
}

/// `text` as a value in a query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            other => {
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}

/// What admins find under the main navigation.
const ADMIN_PAGES: [(&str, &str); 5] = [
    ("/admin/users", "User Management"),
    ("/admin/tools", "Tools"),
    ("/admin/access", "Access matrix"),
    ("/admin/history", "History"),
    ("/admin/deployments", "Deployments"),
];

fn layout(settings: &Settings, title: &str, login: Option<&Login>, body: &Markup) -> Markup {
    let links = &*asset::LINKS;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · omnitool" }
                link rel="icon" href=(links.icon) type="image/svg+xml";
                link rel="stylesheet" href=(links.style);
                script src=(links.script) defer {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    nav aria-label="Main" {
                        a.brand href="/" { "omnitool" }
                        @if settings.environment != EnvironmentName::Production {
                            span.environment { (settings.environment) }
                        }
                        @match login {
                            Some(login) => {
                                a href="/dashboard" { "Your tools" }
                                a.who href="/account" aria-label={ (login.viewer.username) @if login.viewer.is_admin { " (admin)" } ", your account" } {
                                    (login.viewer.username)
                                    @if login.viewer.is_admin { " (admin)" }
                                }
                                form method="post" action="/logout" {
                                    input type="hidden" name="form_token" value=(login.form_token);
                                    button.quiet type="submit" { "Log out" }
                                }
                            }
                            None => span.who {},
                        }
                    }
                    @if login.is_some_and(|login| login.viewer.is_admin) {
                        nav.admin aria-label="Administration" {
                            @for (path, name) in ADMIN_PAGES {
                                a href=(path) aria-current=[(name == title).then_some("page")] { (name) }
                            }
                        }
                    }
                }
                main #content { (body) }
                footer { p { "Release " (settings.release) } }
            }
        }
    }
}

fn matches(tool: &EntryRow, query: &str) -> bool {
    if query.trim().is_empty() {
        return true;
    }
    let text = format!("{} {}", tool.name, tool.description).to_lowercase();
    query.to_lowercase().split_whitespace().all(|word| text.contains(word))
}

fn count(shown: usize, all: usize) -> String {
    match (shown, all) {
        (1, 1) => "1 tool".to_owned(),
        (shown, all) if shown == all => format!("{all} tools"),
        (shown, all) => format!("{shown} of {all} tools"),
    }
}

fn minutes(wait: Duration) -> String {
    match wait.as_secs().div_ceil(60) {
        0 | 1 => "a minute".to_owned(),
        more => format!("{more} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool_named(name: &str, description: &str) -> EntryRow {
        let (name, description) = (name.to_owned(), description.to_owned());
        EntryRow { name, description, route: "/x".to_owned() }
    }

    #[test]
    fn a_search_finds_words_in_any_order_and_case() {
        let tool = tool_named("Invoice Generator", "Generate PDF invoices");
        for query in ["", "  ", "invoice", "PDF gener", "generator INVOICE"] {
            assert!(matches(&tool, query), "{query}");
        }
        assert!(!matches(&tool, "invoice email"));
    }

    #[test]
    fn counts_and_waits_are_said_in_words() {
        assert_eq!([count(1, 1), count(3, 3), count(0, 3)], ["1 tool", "3 tools", "0 of 3 tools"]);
        assert_eq!(minutes(Duration::from_secs(30)), "a minute");
        assert_eq!(minutes(Duration::from_secs(61)), "2 minutes");
    }
}
