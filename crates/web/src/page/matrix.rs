//! The access matrix: users by tools.

use std::collections::{HashMap, HashSet};

use maud::{Markup, html};
use omnitool_environment::EnvironmentName;
use omnitool_tool_access::Explanation;

use super::{Login, layout, query, user::plural};
use crate::{
    app::Settings,
    comparison::{Comparison, Difference, Facts, Verdict},
    store::{
        tool::ToolRow,
        user::{Filter, UserRow},
    },
};

/// A window of the matrix.
pub(crate) struct Window {
    pub(crate) filter: Filter,
    pub(crate) users: Vec<UserRow>,
    /// How many users the filter matches.
    pub(crate) count: i64,
    pub(crate) next: Option<String>,
    /// What user names begin with.
    pub(crate) letters: Vec<String>,
    pub(crate) tools: Vec<ToolRow>,
    pub(crate) wildcards: HashSet<i64>,
    /// Origins of grants, by user and tool.
    pub(crate) grants: HashMap<(i64, i64), String>,
    pub(crate) exclusions: HashSet<(i64, i64)>,
    /// The environments whose export files are there to be compared with.
    pub(crate) files: Vec<EnvironmentName>,
    pub(crate) against: Option<EnvironmentName>,
    pub(crate) comparison: Option<Result<Comparison, String>>,
}

/// What a cell says: a letter, what decides in words, and a class.
struct Cell {
    letter: &'static str,
    words: &'static str,
    class: &'static str,
}

impl Window {
    fn cell(&self, user: &UserRow, tool: &ToolRow) -> Cell {
        let key = (user.id, tool.id);
        let cell = |letter, words, class| Cell { letter, words, class };
        if self.exclusions.contains(&key) {
            return cell("X", "excluded", "excluded");
        }
        match self.grants.get(&key) {
            Some(origin) if origin == "default" => cell("D", "granted by default", "granted"),
            Some(_) => cell("G", "granted", "granted"),
            None if self.wildcards.contains(&tool.id) => cell("E", "everyone", "everyone"),
            None => cell("–", "no access", "none"),
        }
    }

    fn verdict(&self, user: &UserRow, tool: &ToolRow) -> Option<Verdict> {
        let comparison = self.comparison.as_ref()?.as_ref().ok()?;
        let key = (user.id, tool.id);
        let here = Facts {
            is_granted: self.grants.contains_key(&key),
            is_for_everyone: self.wildcards.contains(&tool.id),
            is_excluded: self.exclusions.contains(&key),
        };
        comparison.verdict(&tool.name, &user.username, here)
    }

    fn address(&self, more: &[(&str, &str)]) -> String {
        let against = self.against.map(EnvironmentName::as_str).unwrap_or_default();
        let mut pairs = vec![("q", &*self.filter.text), ("show", self.filter.show.as_str())];
        if !against.is_empty() {
            pairs.push(("against", against));
        }
        pairs.extend(more);
        format!("/admin/access?{}", query(&pairs))
    }
}

pub(crate) fn matrix(settings: &Settings, login: &Login, window: &Window) -> Markup {
    let body = html! {
        h1 { "Access matrix" }
        p { a.button #export href="/admin/access/export" { "Export" } " Gives the file that " code { "export-tool-access" } " writes." }
        (search(window))
        (legend(window))
        p #count role="status" { (plural(window.count, "user")) ", " (plural(window.tools.len() as i64, "tool")) }
        @if window.count > window.users.len() as i64 && window.filter.text.is_empty() {
            nav.letters aria-label="First letters" { ul {
                @for letter in &window.letters { li { a href=(window.address(&[("from", letter)])) { (letter) } } }
            } }
        }
        @match &window.comparison {
            Some(Ok(comparison)) => (summary(comparison)),
            Some(Err(problem)) => p.problem #comparison role="alert" { "Cannot compare: " (problem) },
            None => {},
        }
        @if window.users.is_empty() { p { "No user is called so." } } @else { (table(window)) }
        @if let Some(next) = &window.next { p { a #next rel="next" href=(window.address(&[("after", next)])) { "Next users" } } }
    };
    layout(settings, "Access matrix", Some(login), &body)
}

fn search(window: &Window) -> Markup {
    html! {
        form.search role="search" method="get" action="/admin/access" {
            label for="q" { "Search users" }
            div.row {
                input #q name="q" type="search" value=(window.filter.text) autocomplete="off" maxlength="200";
                (super::user::show_field(window.filter.show))
                select name="against" aria-label="Compare with an export file" {
                    option value="" { "compare with nothing" }
                    @for name in &window.files {
                        option value=(name) selected[window.against == Some(*name)] { "compare with " (name) }
                    }
                }
                button type="submit" { "Show" }
            }
        }
    }
}

fn legend(window: &Window) -> Markup {
    html! {
        p.legend #legend {
            b { "G" } " granted, " b { "D" } " granted by default, " b { "E" } " everyone, " b { "X" } " excluded, " b { "–" } " no access."
            @if window.comparison.is_some() {
                " Beside the file: " b { "+" } " missing here, " b { "−" } " extra here, " b { "!" } " contradicting."
            }
        }
    }
}

fn summary(comparison: &Comparison) -> Markup {
    html! {
        p #comparison {
            "Compared with " code { (comparison.file.display()) }
            @if let Some(source) = &comparison.source { " of " (source) }
            ": "
            @if comparison.is_same() { "the same facts." } @else {
                "missing here: " (comparison.missing) "; extra here: " (plural(comparison.extra.cast_signed(), "fact")) "."
            }
            @if comparison.unknown_users > 0 { " Users of the file who are unknown here: " (comparison.unknown_users) "." }
        }
    }
}

fn table(window: &Window) -> Markup {
    let comparison = window.comparison.as_ref().and_then(|result| result.as_ref().ok());
    html! {
        div.wide role="region" aria-label="Access matrix" tabindex="0" {
            table #matrix {
                caption.hidden { "Who may use what" }
                thead { tr {
                    th scope="col" { "User" }
                    @for tool in &window.tools {
                        th.tool scope="col" {
                            a href={ "/admin/tools/" (tool.id) } { (tool.name) }
                            @if !tool.is_active { " " span.badge.off { "not active" } }
                            @for difference in comparison.map_or(&[][..], |comparison| comparison.of(&tool.name, None)) {
                                " " span.badge.off {
                                    @match difference {
                                        Difference::Missing(_) => "+ for everyone in the file",
                                        Difference::Extra(_) => "− not for everyone in the file",
                                    }
                                }
                            }
                        }
                    }
                } }
                tbody { @for user in &window.users { (row(window, user)) } }
            }
        }
    }
}

fn row(window: &Window, user: &UserRow) -> Markup {
    let name = query(&[("user", &user.username)]);
    html! {
        tr {
            th scope="row" {
                a href={ "/admin/users/" (user.id) } { (user.username) }
                @if !user.is_active { " " span.badge.off { "not active" } }
            }
            @for tool in &window.tools {
                @let Cell { letter, words, class } = window.cell(user, tool);
                @let mark = window.verdict(user, tool).map(mark);
                td class=(class) {
                    a href={ "/admin/access/explain?" (name) "&tool=" (super::escape(&tool.name)) }
                        aria-label={ (letter) @if let Some((sign, _)) = mark { (sign) } " " (words) @if let Some((_, differs)) = mark { ", " (differs) } } {
                        (letter) @if let Some((sign, _)) = mark { (sign) }
                    }
                }
            }
        }
    }
}

const fn mark(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Missing => ("+", "missing here"),
        Verdict::Extra => ("−", "extra here"),
        Verdict::Contradicting => ("!", "contradicting the file"),
    }
}

/// Why a user may use a tool, or not.
pub(crate) fn explain(
    settings: &Settings,
    login: &Login,
    explanation: &Explanation,
    user_id: i64,
    tool_id: i64,
) -> Markup {
    // A cell is of a tool that is there.
    let Explanation {
        user,
        tool,
        may_use,
        reason,
        grant,
        wildcard,
        exclusion,
        deleted: _,
        history,
    } = explanation;
    let facts = [("Grant", grant), ("Everyone", wildcard), ("Exclusion", exclusion)];
    let body = html! {
        p { a href="/admin/access" { "Access matrix" } }
        h1 { (user) " and " (tool) }
        p #answer {
            strong { (user) @if *may_use { " may use " } @else { " may not use " } (tool) }
            ": " (reason) "."
        }
        dl #facts {
            @for (name, fact) in facts {
                dt { (name) }
                dd { @match fact { Some(fact) => (fact), None => "none" } }
            }
        }
        h2 { "History" }
        @if history.is_empty() { p { "No changes are recorded." } } @else {
            ul #history { @for entry in history { li { (entry) } } }
        }
        p { "Change: " a href={ "/admin/users/" (user_id) } { (user) } ", " a href={ "/admin/tools/" (tool_id) } { (tool) } }
    };
    layout(settings, &format!("{user} and {tool}"), Some(login), &body)
}
