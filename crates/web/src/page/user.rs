//! User management.

use maud::{Markup, html};

use super::{
    Login, Notice, form_token, layout, notice, problem,
    tool::{self, ToolState},
    when,
};
use crate::{
    app::Settings,
    form::NewUserForm,
    store::user::{EventRow, Filter, Show, UserRow},
    user_change::{Action, ActionName, UserPlan},
};

/// A page of the list of users.
pub(crate) struct UserList<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) users: &'a [UserRow],
    /// How many users the filter matches.
    pub(crate) count: i64,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
    /// The tools that the matching users can be given.
    pub(crate) tools: &'a [tool::Choice],
}

pub(crate) fn list(settings: &Settings, login: &Login, list: &UserList<'_>) -> Markup {
    let UserList { filter, users, count, next, tools } = list;
    let body = html! {
        h1 { "User Management" }
        p { a.button #new-user href="/admin/users/new" { "New user" } }
        form.search role="search" method="get" action="/admin/users" {
            label for="q" { "Search users" }
            div.row {
                input #q name="q" type="search" value=(filter.text) autocomplete="off" maxlength="200";
                (show_field(filter.show))
                button type="submit" { "Search" }
            }
        }
        p #count role="status" { (plural(*count, "user")) }
        @if !users.is_empty() {
            div.wide role="region" aria-label="Users" tabindex="0" {
                table #users {
                    caption.hidden { "Users" }
                    thead { tr {
                        th scope="col" { "User" } th scope="col" { "State" } th scope="col" { "E-mail address" }
                        th scope="col" { "Telephone number" } th scope="col" { "Since" }
                    } }
                    tbody {
                        @for user in *users {
                            tr {
                                th scope="row" { a href={ "/admin/users/" (user.id) } { (user.username) } }
                                td { (state(user)) }
                                td { (user.email.as_deref().unwrap_or("")) }
                                td { (user.phone_number.as_deref().unwrap_or("")) }
                                td { (user.created_at.format("%Y-%m-%d")) }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(next) = next {
            p { a #next rel="next" href={ "/admin/users?" (super::query(&[("q", &filter.text), ("show", filter.show.as_str()), ("after", next)])) } { "Next users" } }
        }
        @if *count > 0 && !tools.is_empty() { (bulk(login, filter, *count, tools)) }
    };
    layout(settings, "User Management", Some(login), &body)
}

fn bulk(login: &Login, filter: &Filter, count: i64, tools: &[tool::Choice]) -> Markup {
    html! {
        section aria-labelledby="bulk-title" {
            h2 #bulk-title { "For all " (plural(count, "user")) " of this search" }
            form #bulk method="post" action="/admin/access/change" {
                (form_token(login))
                input type="hidden" name="scope" value="matching";
                input type="hidden" name="q" value=(filter.text);
                input type="hidden" name="show" value=(filter.show.as_str());
                label for="bulk-wish" { "Do" }
                (tool::wish_field("bulk-wish"))
                label for="bulk-tool" { "Tool" }
                select #bulk-tool name="tool" { (tool::options(tools)) }
                label for="bulk-reason" { "Reason, for an exclusion" }
                input #bulk-reason name="reason" type="text" maxlength="500" autocomplete="off";
                button type="submit" { "Show what this does" }
            }
        }
    }
}

/// Which of the users are shown.
pub(crate) fn show_field(show: Show) -> Markup {
    html! {
        select name="show" aria-label="Which users" {
            @for option in Show::EVERY {
                option value=(option.as_str()) selected[option == show] { (option.as_str()) }
            }
        }
    }
}

/// What a user's page shows besides the user.
pub(crate) struct Details<'a> {
    pub(crate) tools: &'a [ToolState],
    pub(crate) events: &'a [EventRow],
}

pub(crate) fn show(
    settings: &Settings,
    login: &Login,
    user: &UserRow,
    details: &Details<'_>,
    said: Option<&Notice>,
) -> Markup {
    let action = |name: ActionName, label: &str| {
        html! {
            form method="post" action={ "/admin/users/" (user.id) "/change" } {
                (form_token(login))
                input type="hidden" name="action" value=(name.as_str());
                button.quiet type="submit" id=(name.as_str()) { (label) }
            }
        }
    };
    let body = html! {
        p { a href="/admin/users" { "User Management" } }
        h1 { (user.username) }
        (notice(said))
        dl #user-data {
            dt { "State" } dd { (state(user)) }
            dt { "E-mail address" } dd { (user.email.as_deref().unwrap_or("none")) }
            dt { "Telephone number" } dd { (user.phone_number.as_deref().unwrap_or("none")) }
            dt { "Since" } dd { (when(user.created_at)) }
        }
        section aria-labelledby="actions" {
            h2 #actions { "Change" }
            div.buttons {
                @if user.is_active { (action(ActionName::Deactivate, "Deactivate")) } @else { (action(ActionName::Activate, "Activate")) }
                @if user.is_admin { (action(ActionName::RemoveAdmin, "Remove admin rights")) } @else { (action(ActionName::MakeAdmin, "Make admin")) }
                (action(ActionName::ResetPassword, "Reset password"))
            }
            form #phone-form method="post" action={ "/admin/users/" (user.id) "/change" } {
                (form_token(login))
                input type="hidden" name="action" value=(ActionName::PhoneNumber.as_str());
                label for="phone" { "Telephone number" }
                div.row {
                    input #phone name="value" type="tel" maxlength="32" autocomplete="off" value=(user.phone_number.as_deref().unwrap_or(""));
                    button.quiet type="submit" { "Change" }
                }
            }
        }
        (tool::of_user(login, user, details.tools))
        section aria-labelledby="events" {
            h2 #events { "History of this user" }
            (super::history::user_events(login, details.events))
        }
    };
    layout(settings, &user.username, Some(login), &body)
}

/// The form for a new user, again with what is wrong with it.
pub(crate) fn new(
    settings: &Settings,
    login: &Login,
    form: &NewUserForm,
    wrong: Option<&str>,
) -> Markup {
    let body = html! {
        p { a href="/admin/users" { "User Management" } }
        section.narrow {
            h1 { "New user" }
            (problem(wrong))
            form #new-user-form method="post" action="/admin/users/new" {
                (form_token(login))
                label for="username" { "User name" }
                input #username name="username" type="text" required maxlength="150" autocomplete="off"
                    autocapitalize="none" spellcheck="false" value=(form.username);
                label for="email" { "E-mail address, if any" }
                input #email name="email" type="email" autocomplete="off" value=(form.email);
                label.check { input name="admin" type="checkbox" value="yes" checked[!form.admin.is_empty()]; " Administers others" }
                p.hint { "A password is made up and shown once." }
                button type="submit" { "Show what this does" }
            }
        }
    };
    layout(settings, "New user", Some(login), &body)
}

/// What making the user does.
pub(crate) fn confirm_new(
    settings: &Settings,
    login: &Login,
    form: &NewUserForm,
    defaults: &[String],
) -> Markup {
    let body = html! {
        section.narrow {
            h1 { "Make this user?" }
            dl #plan {
                dt { "User name" } dd { (form.username) }
                @if !form.email.is_empty() { dt { "E-mail address" } dd { (form.email) } }
                dt { "Administers others" } dd { @if form.admin.is_empty() { "no" } @else { "yes" } }
                dt { "Default tools" } dd {
                    @if defaults.is_empty() { "none" } @else { (defaults.join(", ")) }
                }
            }
            form #confirm method="post" action="/admin/users/new" {
                (form_token(login))
                input type="hidden" name="username" value=(form.username);
                input type="hidden" name="email" value=(form.email);
                input type="hidden" name="admin" value=(form.admin);
                input type="hidden" name="confirmed" value="yes";
                button type="submit" { "Make the user" }
                a.button.quiet href="/admin/users/new" { "Cancel" }
            }
        }
    };
    layout(settings, "Make this user?", Some(login), &body)
}

/// A password that was made up, this once.
pub(crate) fn password(
    settings: &Settings,
    login: &Login,
    title: &str,
    id: i64,
    username: &str,
    password: &str,
) -> Markup {
    let body = html! {
        section.narrow {
            h1 { (title) }
            p { "The password of " strong { (username) } ", shown only this once:" }
            p { code #password { (password) } }
            p { "Tell it to nobody else, and ask the user to change it after the first login." }
            p { a.button href={ "/admin/users/" (id) } { "To the user" } }
        }
    };
    layout(settings, title, Some(login), &body)
}

/// What a change of a user does.
pub(crate) fn confirm(
    settings: &Settings,
    login: &Login,
    plan: &UserPlan,
    value: &str,
    is_stale: bool,
) -> Markup {
    let UserPlan { user, action, .. } = plan;
    let (title, effects) = describe(plan, login);
    let stale = "Somebody has changed this user meanwhile. This is what it would do now.";
    let body = html! {
        section.narrow {
            h1 { (title) }
            (problem(is_stale.then_some(stale)))
            @if plan.is_empty() {
                p #plan { "Nothing to do: it is so already." }
                p { a.button href={ "/admin/users/" (user.id) } { "Back" } }
            } @else {
                ul #plan { @for effect in &effects { li { (effect) } } }
                form #confirm method="post" action={ "/admin/users/" (user.id) "/change" } {
                    (form_token(login))
                    input type="hidden" name="action" value=(action.name().as_str());
                    input type="hidden" name="value" value=(value);
                    input type="hidden" name="fingerprint" value=(plan.fingerprint());
                    button type="submit" { "Do this" }
                    a.button.quiet href={ "/admin/users/" (user.id) } { "Cancel" }
                }
            }
        }
    };
    layout(settings, &title, Some(login), &body)
}

fn describe(plan: &UserPlan, login: &Login) -> (String, Vec<String>) {
    let UserPlan { user, action, .. } = plan;
    let name = &user.username;
    let is_self = user.id == login.viewer.id;
    let mut effects: Vec<String> = Vec::new();
    let mut say = |text: &str| effects.push(text.to_owned());
    let title = match action {
        Action::Activate => {
            say("Can log in again, with the same password.");
            say("May use the same tools as before.");
            format!("Activate {name}?")
        }
        Action::Deactivate => {
            say("Is logged out everywhere at once, and cannot log in.");
            say("May use no tool. Grants and exclusions stay as they are.");
            format!("Deactivate {name}?")
        }
        Action::MakeAdmin => {
            say("May change users, and who may use what.");
            format!("Make {name} an admin?")
        }
        Action::RemoveAdmin => {
            say("May no longer open the pages of admins. Tools stay as they are.");
            format!("Remove the admin rights of {name}?")
        }
        Action::ResetPassword => {
            say("Gets a new password, which is made up and shown to you once.");
            say("Is logged out everywhere at once.");
            say("This cannot be undone: nobody knows the old password.");
            format!("Reset the password of {name}?")
        }
        Action::PhoneNumber(number) => {
            let shown = |number: Option<&str>| number.unwrap_or("none").to_owned();
            let old = shown(user.phone_number.as_deref());
            say(&format!("Telephone number: {old} becomes {}", shown(number.as_deref())));
            format!("Change the telephone number of {name}?")
        }
    };
    if is_self && matches!(action, Action::Deactivate | Action::RemoveAdmin | Action::ResetPassword)
    {
        say("This is you.");
    }
    (title, effects)
}

/// What a user is, in words.
fn state(user: &UserRow) -> Markup {
    html! {
        @if user.is_active { span.badge { "active" } } @else { span.badge.off { "not active" } }
        @if user.is_admin { " " span.badge.admin { "admin" } }
    }
}

pub(crate) fn plural(count: i64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
