//! What happened to the environment.

use std::sync::Arc;

use axum::{extract::State, http::Uri};
use maud::Markup;

use crate::{
    app::{App, Visit},
    error::PageError,
    handler::here,
    page,
};

/// Runs and backups on the page.
const SHOWN: usize = 20;

pub(crate) async fn show(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
) -> Result<Markup, PageError> {
    let (login, ()) = app.with_admin(&visit, here(&uri), |_, _| Ok(())).await?;
    let overview = match &app.settings().deployments {
        None => None,
        Some(deployments) => {
            let deployments = Arc::clone(deployments);
            Some(tokio::task::spawn_blocking(move || deployments.read(SHOWN)).await?)
        }
    };
    Ok(page::deployment::deployments(app.settings(), &login, overview.as_ref()))
}
