//! What the app says about itself at `/health`.

use serde::Deserialize;

use crate::{
    fetch::{ErrorKind, Fetch, FetchError},
    text::{one_line, status_line},
};

/// The health document. Every field may be missing, and others may be there: an app that says less is still judged by
/// what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Health {
    /// `ok` when the app finds itself well.
    pub(crate) status: Option<String>,
    /// The id of the release that answers.
    pub(crate) release: Option<String>,
    /// `ok` when the app reaches its database.
    pub(crate) database: Option<String>,
    /// How many requests ended in a 5xx since the app started.
    pub(crate) server_errors: Option<u64>,
}

impl Health {
    /// The document in `fetch`, whatever the status: an app that is unwell says so with a 503.
    pub(crate) fn read(fetch: &Fetch) -> Result<Self, FetchError> {
        let page = fetch.complete()?;
        let health: Self = serde_json::from_slice(&page.body).map_err(|error| {
            let text = format!(
                "answered {} with other than the expected JSON: {error}",
                status_line(page.status)
            );
            FetchError::new(ErrorKind::Content, text)
        })?;
        let shown = |text: Option<String>| text.map(|text| one_line(&text));
        let Self { status, release, database, server_errors } = health;
        Ok(Self {
            status: shown(status),
            release: shown(release),
            database: shown(database),
            server_errors,
        })
    }
}
