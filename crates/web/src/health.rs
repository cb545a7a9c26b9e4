//! `/health`: what smoke tests and monitors ask.

use std::time::Duration;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use omnitool_database::migration;
use omnitool_environment::EnvironmentName;
use serde::Serialize;

use crate::{
    app::App,
    error::{PageError, chain},
};

/// How long the database may take to answer.
const TIME_LIMIT: Duration = Duration::from_millis(1900);

/// Says nothing that a visitor must not know: no address, no name, no cause.
#[derive(Debug, Serialize)]
struct Health<'a> {
    status: &'static str,
    release: &'a str,
    schema_version: Option<String>,
    database: &'static str,
    environment: EnvironmentName,
    /// Since the app started, not counting this page.
    server_errors: u64,
}

pub(crate) async fn health(State(app): State<App>) -> Response {
    let question = app.database(|conn| {
        let status = migration::status(conn).map_err(|error| match error {
            migration::MigrateError::Read(error) => PageError::Query(error),
            other => PageError::Schema(other),
        })?;
        Ok(status.schema_version().map(ToOwned::to_owned))
    });
    let (code, status, database, schema_version) =
        match tokio::time::timeout(TIME_LIMIT, question).await {
            Ok(Ok(version)) => (StatusCode::OK, "ok", "ok", version),
            Ok(Err(error)) => {
                tracing::warn!(error = chain(&error), "the database cannot be used: {error}");
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "unavailable", None)
            }
            Err(_) => {
                tracing::warn!("the database did not answer in {} ms", TIME_LIMIT.as_millis());
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "no answer in time", None)
            }
        };
    let settings = app.settings();
    let health = Health {
        status,
        release: &settings.release,
        schema_version,
        database,
        environment: settings.environment,
        server_errors: app.server_errors(),
    };
    match serde_json::to_string(&health) {
        Ok(text) => (code, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
