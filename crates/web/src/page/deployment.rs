//! What happened to the environment.

use maud::{Markup, html};

use super::{Login, layout};
use crate::{
    app::Settings,
    deployment::{Backup, Outcome, Overview, Run, Step},
};

pub(crate) fn deployments(
    settings: &Settings,
    login: &Login,
    overview: Option<&Result<Overview, String>>,
) -> Markup {
    let body = html! {
        h1 { "Deployments" }
        p { "What happened to " strong { (settings.environment) } ". Release " strong { (settings.release) } " serves." }
        @match overview {
            None => p #no-journal { "This app was not told where the journals of deployments are." },
            Some(Err(problem)) => p.problem role="alert" { (problem) },
            Some(Ok(overview)) => {
                (runs(overview))
                (backups(overview))
            }
        }
    };
    layout(settings, "Deployments", Some(login), &body)
}

fn runs(overview: &Overview) -> Markup {
    html! {
        section aria-labelledby="runs-title" {
            h2 #runs-title { "Runs" }
            @match &overview.runs {
                None => p #no-journal { "There is no folder of journals " code { (overview.journals) } "; deployments from this machine write one." },
                Some(runs) if runs.is_empty() => p { "There was no run yet." },
                Some(runs) => @for run in runs { (one_run(run)) },
            }
        }
    }
}

fn one_run(run: &Run) -> Markup {
    let Run { id, started_at, user, release, outcome, duration_ms, steps, problem } = run;
    html! {
        details.run {
            summary { strong { (id) } " " (badge(outcome)) " " (started_at) }
            dl {
                dt { "By" } dd { (user) }
                dt { "Release" } dd { (release) }
                @if let Some(time) = duration_ms { dt { "Time" } dd { (seconds(*time)) } }
                @if let Some(reason) = outcome.reason() { dt { "Why" } dd { (reason) } }
            }
            @if let Some(problem) = problem { p.problem { (problem) } }
            @if !steps.is_empty() {
                div.wide role="region" aria-label={ "Steps of " (id) } tabindex="0" {
                    table {
                        caption.hidden { "Steps of " (id) }
                        thead { tr { th scope="col" { "Step" } th scope="col" { "Result" } th scope="col" { "Time" } th scope="col" { "What it did" } } }
                        tbody { @for Step { id, outcome, duration_ms, evidence } in steps {
                            tr {
                                th scope="row" { (id) }
                                td { (badge(outcome)) }
                                td.number { @if let Some(time) = duration_ms { (seconds(*time)) } }
                                td {
                                    @if let Some(reason) = outcome.reason() { p { (reason) } }
                                    @for line in evidence { p { (line) } }
                                }
                            }
                        } }
                    }
                }
            }
        }
    }
}

fn backups(overview: &Overview) -> Markup {
    html! {
        section aria-labelledby="backups-title" {
            h2 #backups-title { "Backups" }
            @match &overview.backups {
                None => p #no-backups { "There is no folder of backups " code { (overview.backups_folder) } "." },
                Some(backups) if backups.is_empty() => p { "There is no backup yet." },
                Some(backups) => div.wide role="region" aria-label="Backups" tabindex="0" {
                    table #backups {
                        caption.hidden { "Backups" }
                        thead { tr {
                            th scope="col" { "Backup" } th scope="col" { "Taken" } th scope="col" { "Why" }
                            th scope="col" { "Size" } th scope="col" { "State" }
                        } }
                        tbody { @for Backup { id, created_at, kind, size, state, is_pinned } in backups {
                            tr {
                                th scope="row" { (id) }
                                td { (created_at) }
                                td { (kind) }
                                td.number { (size.div_ceil(1024)) " KiB" }
                                td { (state) @if *is_pinned { " " span.badge { "pinned" } } }
                            }
                        } }
                    }
                },
            }
        }
    }
}

fn badge(outcome: &Outcome) -> Markup {
    let class = match outcome {
        Outcome::Done | Outcome::Skipped(_) | Outcome::NotBegun => "badge",
        Outcome::Open | Outcome::Warned(_) | Outcome::Failed(_) => "badge off",
    };
    html! { span class=(class) { (outcome.word()) } }
}

fn seconds(time_ms: u64) -> String {
    format!("{}.{} s", time_ms / 1000, time_ms % 1000 / 100)
}
