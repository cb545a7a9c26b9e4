//! What was changed, by whom.

use axum::{
    Form,
    extract::{Path, State, rejection::FormRejection},
    http::Uri,
};
use maud::Markup;
use serde::Deserialize;

use crate::{
    app::{App, Visit},
    error::PageError,
    handler::here,
    page::{self, Notice, history::Entry},
    store,
};

/// Entries of each kind on a page.
const PAGE: usize = 50;
/// How many single changes are listed; all are counted.
const LISTED: i64 = 200;

#[derive(Default, Deserialize)]
pub(crate) struct ListQuery {
    runs: Option<i64>,
    events: Option<i64>,
}

#[derive(Default, Deserialize)]
pub(crate) struct ShowQuery {
    #[serde(default)]
    done: String,
}

pub(crate) async fn list(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
    query: Result<Form<ListQuery>, FormRejection>,
) -> Result<Markup, PageError> {
    let ListQuery { runs: before_run, events: before_event } =
        query.map(|Form(query)| query).unwrap_or_default();
    let (login, (mut runs, mut events)) = app
        .with_admin(&visit, here(&uri), move |conn, _| {
            let limit = PAGE as i64 + 1;
            let runs = store::history::list_runs(conn, before_run, limit)?;
            let events = store::user::list_events(conn, None, before_event, limit)?;
            Ok((runs, events))
        })
        .await?;
    let (more_runs, more_events) = (runs.len() > PAGE, events.len() > PAGE);
    runs.truncate(PAGE);
    events.truncate(PAGE);
    let next_run = runs.last().filter(|_| more_runs).map(|run| run.id);
    let next_event = events.last().filter(|_| more_events).map(|event| event.id);
    Ok(page::history::list(app.settings(), &login, &runs, next_run, &events, next_event))
}

pub(crate) async fn show(
    State(app): State<App>,
    visit: Visit,
    Path(id): Path<i64>,
    uri: Uri,
    query: Result<Form<ShowQuery>, FormRejection>,
) -> Result<Markup, PageError> {
    let (login, (run, events, count)) = app
        .with_admin(&visit, here(&uri), move |conn, _| {
            let run = store::history::find_run(conn, id)?.ok_or(PageError::NotFound)?;
            let events = store::history::list_named_events(conn, id, LISTED)?;
            let count = store::history::count_events(conn, id)?;
            Ok((run, events, count))
        })
        .await?;
    let is_done = query.is_ok_and(|Form(query)| query.done == "yes");
    let said = is_done.then_some(Notice::Done("Done."));
    let entry = Entry { run: &run, events: &events, count };
    Ok(page::history::entry(app.settings(), &login, &entry, said.as_ref()))
}
