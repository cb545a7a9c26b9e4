//! What was changed, by whom, and the way back.

use maud::{Markup, html};

use super::{Login, Notice, form_token, layout, notice, when};
use crate::{
    app::Settings,
    store::{
        history::{NamedEventRow, RunRow},
        user::EventRow,
    },
    user_change::ActionName,
};

pub(crate) fn list(
    settings: &Settings,
    login: &Login,
    runs: &[RunRow],
    next_run: Option<i64>,
    events: &[EventRow],
    next_event: Option<i64>,
) -> Markup {
    let body = html! {
        h1 { "History" }
        section aria-labelledby="access-title" {
            h2 #access-title { "Who may use what" }
            @if runs.is_empty() { p { "Nothing was changed yet." } } @else {
                div.wide role="region" aria-label="Changes of access" tabindex="0" {
                    table #runs {
                        caption.hidden { "Changes of access" }
                        thead { tr { th scope="col" { "Change" } th scope="col" { "When (UTC)" } th scope="col" { "By" } } }
                        tbody { @for run in runs {
                            tr {
                                th scope="row" { a href={ "/admin/history/" (run.id) } { "Change " (run.id) } }
                                td { (when(run.happened_at)) }
                                td { (author(run)) }
                            }
                        } }
                    }
                }
            }
            @if let Some(next) = next_run { p { a rel="next" href={ "/admin/history?runs=" (next) } { "Older changes" } } }
        }
        section aria-labelledby="users-title" {
            h2 #users-title { "Users" }
            (user_events(login, events))
            @if let Some(next) = next_event { p { a rel="next" href={ "/admin/history?events=" (next) } { "Older changes of users" } } }
        }
    };
    layout(settings, "History", Some(login), &body)
}

fn author(run: &RunRow) -> String {
    match (&run.admin, &run.run_id) {
        (Some(admin), _) => admin.clone(),
        (None, Some(deployment)) => format!("{}, in {deployment}", run.program),
        (None, None) => run.program.clone(),
    }
}

/// One change of access, with what it changed.
pub(crate) struct Entry<'a> {
    pub(crate) run: &'a RunRow,
    pub(crate) events: &'a [NamedEventRow],
    pub(crate) count: i64,
}

pub(crate) fn entry(
    settings: &Settings,
    login: &Login,
    entry: &Entry<'_>,
    said: Option<&Notice>,
) -> Markup {
    let Entry { run, events, count } = entry;
    let more = count - events.len() as i64;
    let body = html! {
        p { a href="/admin/history" { "History" } }
        h1 { "Change " (run.id) }
        (notice(said))
        p { (when(run.happened_at)) ", by " strong { (author(run)) } }
        ul #events {
            @for event in *events { li { (sentence(event)) } }
            @if more > 0 { li { "and " (more) " more" } }
        }
        @if run.admin.is_some() && *count > 0 {
            form #undo method="post" action={ "/admin/history/" (run.id) "/undo" } {
                (form_token(login))
                button.quiet type="submit" { "Undo" }
            }
        } @else if run.admin.is_none() {
            p { "A program did this; it is undone by importing what was there before." }
        }
    };
    layout(settings, &format!("Change {}", run.id), Some(login), &body)
}

fn sentence(event: &NamedEventRow) -> String {
    let NamedEventRow { change, user_id, username, tool } = event;
    let tool = tool.as_deref().unwrap_or("a tool that is gone");
    let user = match username {
        Some(name) => name.clone(),
        None => format!("user {user_id}, who is gone"),
    };
    match change.as_str() {
        "grant" => format!("{tool}: {user} granted"),
        "revoke" => format!("{tool}: grant of {user} taken away"),
        "exclude" => format!("{tool}: {user} excluded"),
        "include" => format!("{tool}: exclusion of {user} lifted"),
        "grant-everyone" => format!("{tool}: for everyone"),
        "revoke-everyone" => format!("{tool}: not for everyone any more"),
        other => format!("{tool}: {other} {user}"),
    }
}

/// What was done to users, newest first.
pub(crate) fn user_events(login: &Login, events: &[EventRow]) -> Markup {
    html! {
        @if events.is_empty() { p { "Nothing is recorded." } } @else {
            div.wide role="region" aria-label="Changes of users" tabindex="0" {
                table.events {
                    caption.hidden { "Changes of users" }
                    thead { tr {
                        th scope="col" { "User" } th scope="col" { "Change" } th scope="col" { "When (UTC)" }
                        th scope="col" { "By" } th scope="col" { "Undo" }
                    } }
                    tbody { @for event in events {
                        tr {
                            th scope="row" { a href={ "/admin/users/" (event.user_id) } { (event.username) } }
                            td { (words(&event.change)) }
                            td { (when(event.happened_at)) }
                            td { (event.author) }
                            td { (undo(login, event)) }
                        }
                    } }
                }
            }
        }
    }
}

fn undo(login: &Login, event: &EventRow) -> Markup {
    html! {
        @if let Some(action) = ActionName::opposite_of(&event.change) {
            form method="post" action={ "/admin/users/" (event.user_id) "/change" } {
                (form_token(login))
                input type="hidden" name="action" value=(action.as_str());
                input type="hidden" name="value" value=(event.previous.as_deref().unwrap_or(""));
                button.quiet type="submit" aria-label={ "Undo: " (words(&event.change)) ", " (event.username) } { "Undo" }
            }
        } @else { "–" }
    }
}

fn words(change: &str) -> &str {
    match change {
        "create" => "made",
        "activate" => "activated",
        "deactivate" => "deactivated",
        "make-admin" => "made admin",
        "remove-admin" => "admin rights removed",
        "reset-password" => "password reset",
        "change-password" => "password changed",
        "phone-number" => "telephone number changed",
        other => other,
    }
}
