//! What admins do: users, tools, who may use what, and what happened.

mod access;
mod deployment;
mod export;
mod history;
mod matrix;
mod tool;
mod user;

use axum::{
    Router,
    response::Redirect,
    routing::{get, post},
};

use crate::{app::App, error::PageError, session::AdminError};

/// The routes below `/admin`. Each handler asks for an admin by itself, through [`App::with_admin`].
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/admin", get(async || Redirect::to("/admin/users")))
        .route("/admin/users", get(user::list))
        .route("/admin/users/new", get(user::new).post(user::create))
        .route("/admin/users/{id}", get(user::show))
        .route("/admin/users/{id}/change", post(user::change))
        .route("/admin/tools", get(tool::list))
        .route("/admin/tools/{id}", get(tool::show))
        .route("/admin/access", get(matrix::show))
        .route("/admin/access/change", post(access::change))
        .route("/admin/access/explain", get(matrix::explain))
        .route("/admin/access/export", get(export::export))
        .route("/admin/history", get(history::list))
        .route("/admin/history/{run}", get(history::show))
        .route("/admin/history/{run}/undo", post(access::undo))
        .route("/admin/deployments", get(deployment::show))
}

impl From<AdminError> for PageError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::LoggedOut => Self::LoginNeeded(start()),
            AdminError::NoAdmin => Self::Forbidden,
            AdminError::Query(error) => Self::Query(error),
        }
    }
}

/// Where a form leads whose sender has to log in first: a form cannot be sent again by a link.
fn start() -> crate::form::Destination {
    crate::form::Destination::parse("/admin/users").unwrap_or_default()
}
