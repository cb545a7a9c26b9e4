//! What an import changed of who may use what, as a table of users and tools.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use crate::{AccessChanges, AccessFact, AccessFactKind, Contradiction};

/// A bigger table shows nobody anything; the rest is counted.
const MOST_USERS: usize = 100;
const MOST_TOOLS: usize = 30;
/// How many contradictions are written out.
const MOST_CONTRADICTIONS: usize = 50;

/// What a cell of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Contradicts,
    Added(Kind),
    Removed(Kind),
}

/// [`AccessFactKind`], in the order of the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Grant,
    Wildcard,
    Exclusion,
}

impl From<AccessFactKind> for Kind {
    fn from(kind: AccessFactKind) -> Self {
        match kind {
            AccessFactKind::Grant => Self::Grant,
            AccessFactKind::Wildcard => Self::Wildcard,
            AccessFactKind::Exclusion => Self::Exclusion,
        }
    }
}

impl Mark {
    const ALL: [Self; 7] = [
        Self::Added(Kind::Grant),
        Self::Added(Kind::Wildcard),
        Self::Added(Kind::Exclusion),
        Self::Removed(Kind::Grant),
        Self::Removed(Kind::Wildcard),
        Self::Removed(Kind::Exclusion),
        Self::Contradicts,
    ];

    /// The class, the sign and the words.
    const fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Added(Kind::Grant) => ("plus", "+", "may use it now"),
            Self::Added(Kind::Wildcard) => ("plus", "+∗", "everyone may use it now"),
            Self::Added(Kind::Exclusion) => ("minus", "⊘", "is excluded now"),
            Self::Removed(Kind::Grant) => ("minus", "−", "the grant is gone"),
            Self::Removed(Kind::Wildcard) => ("minus", "−∗", "not everyone any more"),
            Self::Removed(Kind::Exclusion) => ("plus", "⊘−", "the exclusion is gone"),
            Self::Contradicts => ("against", "≠", "kept, although the file says otherwise"),
        }
    }
}

/// The cells of the table: for each user (`None` is everyone) and tool its marks.
type Cells<'a> = BTreeMap<Option<&'a str>, BTreeMap<&'a str, BTreeSet<Mark>>>;

fn cells(changes: &AccessChanges) -> Cells<'_> {
    let mut cells = Cells::new();
    let all = changes
        .additions
        .iter()
        .map(|fact| (fact, Mark::Added(fact.fact.into())))
        .chain(changes.removals.iter().map(|fact| (fact, Mark::Removed(fact.fact.into()))))
        .chain(changes.contradictions.iter().map(|contradiction| {
            let Contradiction { fact, command: _ } = contradiction;
            (fact, Mark::Contradicts)
        }));
    for (AccessFact { tool, user, fact: _ }, mark) in all {
        let row = cells.entry(user.as_deref()).or_default();
        row.entry(tool).or_default().insert(mark);
    }
    cells
}

/// The section about an import.
pub(super) fn section(changes: &AccessChanges) -> Markup {
    let AccessChanges { mode, added, removed, present, unknown_users, contradicting, .. } = changes;
    let cells = cells(changes);
    html! {
        section {
            h2 { "Who may use what" }
            p {
                "Import with mode " code { (mode) } ": "
                (added) " added, " (removed) " removed, " (present) " as they should be"
                @if *unknown_users > 0 { ", users of the file unknown here: " (unknown_users) }
                @if *contradicting > 0 { ", " strong { (contradicting) " against the file" } }
                "."
            }
            @if cells.is_empty() { p.quiet { "Nothing changed." } }
            @else { (matrix(&cells)) (uncounted(changes)) }
            (contradictions(changes))
        }
    }
}

fn matrix(cells: &Cells<'_>) -> Markup {
    let tools: BTreeSet<&str> = cells.values().flat_map(BTreeMap::keys).copied().collect();
    let (all_tools, all_users) = (tools.len(), cells.len());
    let tools: Vec<&str> = tools.into_iter().take(MOST_TOOLS).collect();
    let used: BTreeSet<Mark> =
        cells.values().flat_map(BTreeMap::values).flatten().copied().collect();
    html! {
        div.wide {
            table.matrix {
                thead {
                    tr {
                        td {}
                        @for tool in &tools { th scope="col" { div { bdi { (tool) } } } }
                    }
                }
                tbody {
                    @for (user, row) in cells.iter().take(MOST_USERS) {
                        tr {
                            th scope="row" {
                                @match user { Some(user) => { bdi { (user) } }, None => { em { "everyone" } } }
                            }
                            @for tool in &tools {
                                td { @for mark in row.get(tool).into_iter().flatten() { (sign(*mark)) } }
                            }
                        }
                    }
                }
            }
        }
        ul.legend {
            @for mark in Mark::ALL.into_iter().filter(|mark| used.contains(mark)) {
                li { (sign(mark)) " " (mark.shown().2) }
            }
        }
        @if all_tools > MOST_TOOLS { p.quiet { (all_tools - MOST_TOOLS) " more tools are not shown." } }
        @if all_users > MOST_USERS { p.quiet { (all_users - MOST_USERS) " more users are not shown." } }
    }
}

fn sign(mark: Mark) -> Markup {
    let (class, sign, words) = mark.shown();
    html! { span class={ "sign " (class) } title=(words) { (sign) } }
}

/// Says how much of the changes is not even in the journal.
fn uncounted(changes: &AccessChanges) -> Markup {
    let all = changes.added + changes.removed + changes.contradicting;
    let listed = changes.additions.len() + changes.removals.len() + changes.contradictions.len();
    let missing = all.saturating_sub(listed as u64);
    html! { @if missing > 0 { p.quiet { (missing) " more changes are counted and not listed." } } }
}

fn contradictions(changes: &AccessChanges) -> Markup {
    let all = &changes.contradictions;
    html! {
        @if !all.is_empty() {
            h3 { "What settles what is against the file" }
            p.quiet { "A merge removes nothing. Each of these commands removes one fact." }
            dl.commands {
                @for Contradiction { fact, command } in all.iter().take(MOST_CONTRADICTIONS) {
                    dt {
                        bdi { (fact.user.as_deref().unwrap_or("everyone")) } " and " bdi { (fact.tool) }
                    }
                    dd { pre { code { (command) } } }
                }
            }
            @if all.len() > MOST_CONTRADICTIONS {
                p.quiet { (all.len() - MOST_CONTRADICTIONS) " more are in the journal." }
            }
        }
    }
}
