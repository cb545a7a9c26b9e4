//! `/health` and `/ready`: what smoke tests, monitors and platforms ask.

use std::time::Duration;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use omnitool_database::migration::{self, CheckSchemaError, MigrateError};
use omnitool_environment::EnvironmentName;
use serde::Serialize;

use crate::{
    app::App,
    error::{PageError, chain},
    store,
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
    let question = app.database(|conn| Ok(store::schema_version(conn)?));
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
        server_errors: app.metrics().server_errors(),
    };
    json(code, &health)
}

/// Whether requests may be sent here.
#[derive(Debug, Serialize)]
struct Readiness {
    status: &'static str,
    database: &'static str,
    /// Whether the database's schema is the one of this build.
    schema: &'static str,
}

/// 503 where the database does not answer, or migrations are pending.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    let question = app.database(|conn| match migration::check_current(conn) {
        Ok(_) => Ok("current"),
        Err(CheckSchemaError::Pending { .. }) => Ok("behind"),
        Err(CheckSchemaError::Read(MigrateError::Newer { .. })) => Ok("newer"),
        Err(CheckSchemaError::Read(MigrateError::Read(error))) => Err(PageError::Query(error)),
        Err(CheckSchemaError::Read(error)) => Err(PageError::Schema(error)),
        Err(_) => Ok("unknown"),
    });
    let (database, schema) = match tokio::time::timeout(TIME_LIMIT, question).await {
        Ok(Ok(schema)) => ("ok", schema),
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "the app is not ready: {error}");
            ("unavailable", "unknown")
        }
        Err(_) => ("no answer in time", "unknown"),
    };
    // The release before serves on the schema of the next one, from its release phase on until it is replaced.
    let is_ready = database == "ok" && matches!(schema, "current" | "newer");
    let (code, status) = if is_ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    json(code, &Readiness { status, database, schema })
}

fn json(code: StatusCode, content: &impl Serialize) -> Response {
    match serde_json::to_string(content) {
        Ok(text) => (code, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
