//! Answers that are no success.

use std::{borrow::Cow, error::Error, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use omnitool_tool_access::{ExplainError, ExportError, QueryAccessError};

use crate::{form::Destination, password::HashPasswordError, user::CreateUserError};

/// Why a request gets another page than it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    #[error("nobody is logged in")]
    LoginNeeded(Destination),
    #[error("the viewer may not use this")]
    Forbidden,
    #[error("there is no such page")]
    NotFound,
    #[error("the form is not one of ours, or too old")]
    ForeignForm,
    #[error("the form cannot be read")]
    MalformedForm(StatusCode),
    /// What was asked for cannot be done, and why, for the visitor.
    #[error("refused: {text}")]
    Refused { title: &'static str, text: String },
    #[error("no connection to the database")]
    Connect(#[from] r2d2::Error),
    #[error("the database refused a query")]
    Query(#[from] diesel::result::Error),
    #[error("the database refused to say who may use what")]
    Access(#[from] QueryAccessError),
    #[error("the database refused to say why somebody may use something")]
    Explain(#[source] ExplainError),
    #[error("cannot export who may use what")]
    Export(#[from] ExportError),
    #[error("cannot hash a password")]
    Hash(#[from] HashPasswordError),
    #[error("cannot make the user")]
    CreateUser(#[source] CreateUserError),
    #[error("cannot read which migrations are applied")]
    Schema(#[source] omnitool_database::migration::MigrateError),
    #[error("the system gives no random numbers")]
    Random(#[from] getrandom::Error),
    #[error("a task was lost")]
    Task(#[from] tokio::task::JoinError),
    #[error("a queue is closed")]
    Queue(#[from] tokio::sync::AcquireError),
    #[error("a handler panicked")]
    Panicked,
    #[error("a worker thread gave no answer")]
    Worker,
    #[error("the answer took longer than {} s", .0.as_secs())]
    TooSlow(Duration),
}

/// What an error page says; the frame around all routes makes the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) title: &'static str,
    pub(crate) text: Cow<'static, str>,
}

impl PageError {
    /// Whether the connection may be at fault.
    pub(crate) const fn is_the_databases(&self) -> bool {
        matches!(
            self,
            Self::Query(_)
                | Self::Access(_)
                | Self::Explain(_)
                | Self::Export(_)
                | Self::CreateUser(_)
                | Self::Schema(_)
        )
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::LoginNeeded(_) => StatusCode::SEE_OTHER,
            Self::Forbidden | Self::ForeignForm => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MalformedForm(status) => *status,
            Self::Refused { .. } => StatusCode::CONFLICT,
            Self::Connect(_)
            | Self::Query(_)
            | Self::Access(_)
            | Self::Explain(_)
            | Self::Export(_)
            | Self::CreateUser(_)
            | Self::Schema(_)
            | Self::TooSlow(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Random(_)
            | Self::Task(_)
            | Self::Queue(_)
            | Self::Hash(_)
            | Self::Worker
            | Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(error = chain(&self), "the request failed: {self}");
        }
        let mut response = match &self {
            Self::LoginNeeded(destination) => {
                return Redirect::to(&destination.login_page()).into_response();
            }
            Self::ForeignForm => {
                let title = "This form is no longer valid";
                let text = "Go back, reload the page and send it again.".into();
                (status, axum::Extension(Explanation { title, text })).into_response()
            }
            Self::Refused { title, text } => {
                let text = text.clone().into();
                (status, axum::Extension(Explanation { title, text })).into_response()
            }
            _ => status.into_response(),
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl Explanation {
    /// What to say where there is nothing special to say.
    pub(crate) fn of(status: StatusCode) -> Self {
        let (title, text) = match status {
            StatusCode::FORBIDDEN => {
                ("You may not open this page", "Ask an administrator if you need it for your work.")
            }
            StatusCode::NOT_FOUND => {
                ("There is no such page", "The address may be mistyped, or the page has moved.")
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                ("This page cannot be used like that", "Open it from the dashboard.")
            }
            StatusCode::REQUEST_TIMEOUT => {
                ("This took too long to arrive", "Go back and send it again.")
            }
            StatusCode::PAYLOAD_TOO_LARGE => ("This is too large", "Send less at once."),
            StatusCode::SERVICE_UNAVAILABLE => (
                "Not available right now",
                "The app cannot answer this at the moment. Try again in a minute.",
            ),
            status if status.is_server_error() => {
                ("Something went wrong", "The error was noted. Try again in a minute.")
            }
            _ => ("This request cannot be understood", "Go back and try again."),
        };
        Self { title, text: text.into() }
    }
}

/// The causes of `error`, for the log.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(cause.to_string().trim_end());
        source = cause.source();
    }
    text
}
