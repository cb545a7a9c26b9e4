//! What a change of access does, before it is done.

use maud::{Markup, html};
use omnitool_tool_access::Change;

use super::{Login, form_token, layout, problem};
use crate::{
    app::Settings,
    change::{Names, Plan},
};

/// Where a plan's form leads, and what it carries besides the fingerprint and the reason.
pub(crate) struct Target {
    pub(crate) action: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    /// Where to go instead.
    pub(crate) back: String,
}

/// What a change does, with the form that does it.
pub(crate) fn confirm(
    settings: &Settings,
    login: &Login,
    plan: &Plan,
    target: &Target,
    reason: &str,
    is_stale: bool,
) -> Markup {
    let stale = "Somebody has changed this meanwhile. This is what it would do now.";
    let body = html! {
        h1 { "Change who may use " (plan.tool.name) "?" }
        (problem(is_stale.then_some(stale)))
        @if plan.is_empty() {
            p #plan {
                @if plan.keeps() { "Nothing to do: what this changed was changed again later, and stays as it is." }
                @else { "Nothing to do: it is so already." }
            }
            p { a.button href=(target.back) { "Back" } }
        } @else {
            (effects(plan))
            form #confirm method="post" action=(target.action) {
                (form_token(login))
                @for (name, value) in &target.fields { input type="hidden" name=(name) value=(value); }
                input type="hidden" name="fingerprint" value=(plan.fingerprint());
                @if plan.excludes() {
                    label for="reason" { "Reason for the exclusion" }
                    input #reason name="reason" type="text" maxlength="500" autocomplete="off" value=(reason);
                }
                div.buttons {
                    button type="submit" { "Do this" }
                    a.button.quiet href=(target.back) { "Cancel" }
                }
            }
        }
    };
    layout(settings, "Confirm the change", Some(login), &body)
}

fn effects(plan: &Plan) -> Markup {
    html! {
        section #plan aria-labelledby="facts-title" {
            h2 #facts-title { "What changes" }
            ul {
                @match plan.everyone {
                    Some(Change::GrantEveryone) => li #everyone { "Everyone may use it, also users who come later." },
                    Some(_) => li #everyone { "Not everyone may use it any more; users with a grant keep it." },
                    None => {},
                }
                (names("granted", "Granted", &plan.granted))
                (names("revoked", "Grant taken away", &plan.revoked))
                (names("excluded", "Excluded", &plan.excluded))
                (names("included", "Exclusion lifted", &plan.included))
                @if plan.keeps_everyone { li #kept-everyone { "Whether everyone may use it was changed again later, and stays as it is." } }
                (names("kept", "Changed again later, and left as it is", &plan.kept))
                @if plan.already > 0 { li #already { "Already so: " (plan.already) } }
            }
            h2 { "What it means" }
            ul {
                @if plan.gain.is_empty() && plan.lose.is_empty() {
                    li #same { "Nobody gains or loses access." @if !plan.tool.is_active { " The tool is not active." } }
                }
                (names("gain", "May use it from then on", &plan.gain))
                (names("lose", "May not use it any more", &plan.lose))
                (names("stay-excluded", "Stay excluded, as before", &plan.stay_excluded))
            }
        }
    }
}

fn names(id: &str, what: &str, names: &Names) -> Markup {
    let more = names.count - names.first.len() as u64;
    html! {
        @if !names.is_empty() {
            li id=(id) {
                (what) " (" (names.count) "): " (names.first.join(", "))
                @if more > 0 { " and " (more) " more" }
            }
        }
    }
}
