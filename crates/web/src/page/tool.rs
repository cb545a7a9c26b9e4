//! Tools, and who may use them.

use maud::{Markup, html};

use super::{Login, form_token, layout, user::plural};
use crate::{
    app::Settings,
    store::{
        tool::{ExclusionRow, ToolRow},
        user::UserRow,
    },
};

/// A tool that can be chosen.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) id: i64,
    pub(crate) name: String,
}

/// What the definitions say about a tool of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is defined, or there are no definitions to ask.
    Defined,
    /// It is deprecated in favour of another one.
    RenamedTo(String),
    /// It is deprecated, and the next sync deletes it.
    Deleted,
    /// The definitions have never heard of it.
    Unknown,
}

/// A tool with what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct ToolSummary {
    pub(crate) tool: ToolRow,
    pub(crate) standing: Standing,
    pub(crate) is_for_everyone: bool,
    pub(crate) grants: i64,
    pub(crate) exclusions: i64,
}

/// A tool with what is known about it and one user.
#[derive(Clone, Debug)]
pub(crate) struct ToolState {
    pub(crate) tool: ToolRow,
    pub(crate) is_for_everyone: bool,
    /// The origin of the user's grant.
    pub(crate) grant: Option<String>,
    /// Whether the user is excluded, and why.
    pub(crate) exclusion: Option<Option<String>>,
}

/// What a tool is, in words.
pub(crate) fn badges(tool: &ToolRow, standing: &Standing) -> Markup {
    html! {
        @if tool.is_active { span.badge { "active" } } @else { span.badge.off { "not active" } }
        @if tool.is_default { " " span.badge { "default" } }
        @match standing {
            Standing::Defined => {}
            Standing::RenamedTo(new) => { " " span.badge.off { "deprecated: now " (new) } }
            Standing::Deleted => { " " span.badge.off { "deprecated: will be deleted" } }
            Standing::Unknown => { " " span.badge.off { "not defined" } }
        }
    }
}

pub(crate) fn list(settings: &Settings, login: &Login, tools: &[ToolSummary]) -> Markup {
    let body = html! {
        h1 { "Tools" }
        p { "Tools are defined in " code { "data/tools.toml" } ". Here is who may use them." }
        div.wide role="region" aria-label="Tools" tabindex="0" {
            table #tools {
                caption.hidden { "Tools" }
                thead { tr {
                    th scope="col" { "Tool" } th scope="col" { "State" } th scope="col" { "Everyone" }
                    th scope="col" { "Grants" } th scope="col" { "Exclusions" }
                } }
                tbody {
                    @for ToolSummary { tool, standing, is_for_everyone, grants, exclusions } in tools {
                        tr {
                            th scope="row" { a href={ "/admin/tools/" (tool.id) } { (tool.name) } }
                            td { (badges(tool, standing)) }
                            td { @if *is_for_everyone { "yes" } @else { "no" } }
                            td.number { (grants) }
                            td.number { (exclusions) }
                        }
                    }
                }
            }
        }
    };
    layout(settings, "Tools", Some(login), &body)
}

/// What a tool's page shows besides the summary.
pub(crate) struct Details<'a> {
    pub(crate) effective: i64,
    pub(crate) granted: &'a [String],
    pub(crate) excluded: &'a [ExclusionRow],
}

pub(crate) fn show(
    settings: &Settings,
    login: &Login,
    summary: &ToolSummary,
    details: &Details<'_>,
) -> Markup {
    let ToolSummary { tool, standing, is_for_everyone, grants, exclusions } = summary;
    let Details { effective, granted, excluded } = details;
    let body = html! {
        p { a href="/admin/tools" { "Tools" } }
        h1 { (tool.name) }
        p { (badges(tool, standing)) }
        @if !tool.description.is_empty() { p { (tool.description) } }
        @if !tool.is_active { p.problem { "This tool is not active, so nobody may use it, whatever stands below." } }
        p #effective { (plural(*effective, "user")) " may use it." }
        section aria-labelledby="everyone-title" {
            h2 #everyone-title { "Everyone" }
            @if *is_for_everyone {
                p #everyone { "Everyone may use it, but for those who are excluded." }
                (wish_button(login, tool.id, "not-everyone", "Not for everyone"))
            } @else {
                p #everyone { "Only those with a grant may use it." }
                (wish_button(login, tool.id, "everyone", "For everyone"))
            }
            form #except-form method="post" action="/admin/access/change" {
                (form_token(login))
                input type="hidden" name="tool" value=(tool.id);
                input type="hidden" name="wish" value="everyone-except";
                h3 { "For everyone except …" }
                label for="except-users" { "User names, one per line" }
                textarea #except-users name="users" rows="3" required autocapitalize="none" spellcheck="false" {}
                label for="except-reason" { "Reason" }
                input #except-reason name="reason" type="text" maxlength="500" autocomplete="off";
                button type="submit" { "Show what this does" }
            }
        }
        section aria-labelledby="users-title" {
            h2 #users-title { "Single users" }
            form #users-form method="post" action="/admin/access/change" {
                (form_token(login))
                input type="hidden" name="tool" value=(tool.id);
                label for="wish" { "Do" }
                (wish_field("wish"))
                label for="users" { "User names, one per line" }
                textarea #users name="users" rows="3" required autocapitalize="none" spellcheck="false" {}
                label for="reason" { "Reason, for an exclusion" }
                input #reason name="reason" type="text" maxlength="500" autocomplete="off";
                button type="submit" { "Show what this does" }
            }
            p { "For many users at once, " a href="/admin/users" { "search for them" } "." }
        }
        section aria-labelledby="excluded-title" {
            h2 #excluded-title { "Excluded: " (exclusions) }
            ul #excluded { @for ExclusionRow { username, reason } in *excluded {
                li { (username) @if let Some(reason) = reason { ": " (reason) } }
            } }
            @if (excluded.len() as i64) < *exclusions { p { "These are the first; the " a href="/admin/access" { "access matrix" } " has all." } }
        }
        section aria-labelledby="granted-title" {
            h2 #granted-title { "Granted: " (grants) }
            ul.names #granted { @for username in *granted { li { (username) } } }
            @if (granted.len() as i64) < *grants { p { "These are the first; the " a href="/admin/access" { "access matrix" } " has all." } }
        }
    };
    layout(settings, &tool.name, Some(login), &body)
}

/// The tools of a user, each with what can be changed about it.
pub(crate) fn of_user(login: &Login, user: &UserRow, tools: &[ToolState]) -> Markup {
    html! {
        section aria-labelledby="access-title" {
            h2 #access-title { "Tools" }
            div.wide role="region" aria-label="Tools of this user" tabindex="0" {
                table #access {
                    caption.hidden { "Tools of " (user.username) }
                    thead { tr { th scope="col" { "Tool" } th scope="col" { "Access" } th scope="col" { "Change" } } }
                    tbody {
                        @for state in tools {
                            tr {
                                th scope="row" { (state.tool.name) @if !state.tool.is_active { " " span.badge.off { "not active" } } }
                                td { a href={ "/admin/access/explain?" (super::query(&[("user", &user.username), ("tool", &state.tool.name)])) } { (words(user, state)) } }
                                td { div.buttons {
                                    @if state.grant.is_some() { (user_button(login, user, &state.tool, "revoke", "Revoke")) }
                                    @else { (user_button(login, user, &state.tool, "grant", "Grant")) }
                                    @if state.exclusion.is_some() { (user_button(login, user, &state.tool, "include", "Include")) }
                                    @else { (user_button(login, user, &state.tool, "exclude", "Exclude")) }
                                } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Why the user may use the tool, or not, in a few words.
pub(crate) fn words(user: &UserRow, state: &ToolState) -> &'static str {
    if !user.is_active {
        "no: user not active"
    } else if !state.tool.is_active {
        "no: tool not active"
    } else if state.exclusion.is_some() {
        "no: excluded"
    } else {
        match (&state.grant, state.is_for_everyone) {
            (Some(origin), _) if origin == "default" => "yes: default",
            (Some(_), _) => "yes: granted",
            (None, true) => "yes: everyone",
            (None, false) => "no",
        }
    }
}

/// What can be done for chosen users.
pub(crate) fn wish_field(id: &str) -> Markup {
    html! {
        select id=(id) name="wish" {
            option value="grant" { "Grant" }
            option value="revoke" { "Revoke the grant" }
            option value="exclude" { "Exclude" }
            option value="include" { "Lift the exclusion" }
        }
    }
}

pub(crate) fn options(tools: &[Choice]) -> Markup {
    html! { @for tool in tools { option value=(tool.id) { (tool.name) } } }
}

fn wish_button(login: &Login, tool_id: i64, wish: &str, label: &str) -> Markup {
    html! {
        form method="post" action="/admin/access/change" {
            (form_token(login))
            input type="hidden" name="tool" value=(tool_id);
            input type="hidden" name="wish" value=(wish);
            button.quiet type="submit" id={ "wish-" (wish) } { (label) }
        }
    }
}

fn user_button(login: &Login, user: &UserRow, tool: &ToolRow, wish: &str, label: &str) -> Markup {
    html! {
        form method="post" action="/admin/access/change" {
            (form_token(login))
            input type="hidden" name="tool" value=(tool.id);
            input type="hidden" name="wish" value=(wish);
            input type="hidden" name="user" value=(user.username);
            button.quiet type="submit" aria-label={ (label) " " (tool.name) } { (label) }
        }
    }
}
