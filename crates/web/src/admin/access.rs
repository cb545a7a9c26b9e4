//! Changing who may use what: what a change would do, doing it, and undoing it.

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};

use crate::{
    app::{App, Visit},
    change::{self, ChangeError, Names, Request},
    error::PageError,
    form::{AccessForm, Posted, Scope, UndoForm, given},
    page::{self, change::Target},
};

/// Shows what a change does, and does it when that is confirmed.
pub(crate) async fn change(
    State(app): State<App>,
    Posted { visit, form }: Posted<AccessForm>,
) -> Result<Response, PageError> {
    let scope = match form.scope {
        Scope::Named => "named",
        Scope::Matching => "matching",
    };
    let mut fields = vec![
        ("tool", form.tool.to_string()),
        ("wish", form.wish.as_str().to_owned()),
        ("scope", scope.to_owned()),
    ];
    match form.scope {
        Scope::Named => {
            fields.push(("users", form.users.clone()));
            fields.push(("user", form.user.clone()));
        }
        Scope::Matching => {
            fields.push(("q", form.q.clone()));
            fields.push(("show", form.show.as_str().to_owned()));
        }
    }
    let target = Target {
        action: "/admin/access/change".to_owned(),
        fields,
        back: format!("/admin/tools/{}", form.tool),
    };
    let steps = Steps { request: form.request(), target };
    steps.take(&app, &visit, form.reason, form.fingerprint).await
}

/// The same for the opposite of what was done.
pub(crate) async fn undo(
    State(app): State<App>,
    Path(run): Path<i64>,
    Posted { visit, form }: Posted<UndoForm>,
) -> Result<Response, PageError> {
    let target = Target {
        action: format!("/admin/history/{run}/undo"),
        fields: Vec::new(),
        back: format!("/admin/history/{run}"),
    };
    let steps = Steps { request: Request::Undo { run }, target };
    steps.take(&app, &visit, form.reason, form.fingerprint).await
}

/// A change that is first shown, then done.
struct Steps {
    request: Request,
    target: Target,
}

impl Steps {
    async fn take(
        self,
        app: &App,
        visit: &Visit,
        reason: String,
        fingerprint: String,
    ) -> Result<Response, PageError> {
        let Self { request, target } = self;
        let settings = app.settings();
        if fingerprint.is_empty() {
            let (login, planned) = app
                .with_admin(visit, super::start(), move |conn, _| Ok(change::plan(conn, &request)))
                .await?;
            let plan = planned.map_err(refusal)?;
            let page = page::change::confirm(settings, &login, &plan, &target, &reason, false);
            return Ok(page.into_response());
        }
        let given_reason = given(&reason).map(ToOwned::to_owned);
        let turn = app.turn_to_write().await?;
        let (login, applied) = app
            .with_admin(visit, super::start(), move |conn, admin| {
                let reason = given_reason.as_deref();
                Ok(change::apply(conn, &request, reason, &fingerprint, admin))
            })
            .await?;
        drop(turn);
        match applied {
            Ok(Some(run)) => {
                Ok(Redirect::to(&format!("/admin/history/{run}?done=yes")).into_response())
            }
            Ok(None) => Ok(Redirect::to(&target.back).into_response()),
            Err(ChangeError::Stale(plan)) => {
                let page = page::change::confirm(settings, &login, &plan, &target, &reason, true);
                Ok((StatusCode::CONFLICT, page).into_response())
            }
            Err(error) => Err(refusal(error)),
        }
    }
}

fn refusal(error: ChangeError) -> PageError {
    let refused = |title, text: String| PageError::Refused { title, text };
    match error {
        ChangeError::UnknownTool => PageError::NotFound,
        ChangeError::NothingToUndo => refused(
            "This cannot be undone here",
            "Only what an admin changed here can be undone here. What a program did is undone by importing what was there before.".to_owned(),
        ),
        ChangeError::NobodyNamed => refused(
            "Nobody is named",
            "Write the names of users, one per line. Nothing was changed.".to_owned(),
        ),
        ChangeError::UnknownUsers(Names { count, first }) => {
            let more = count - first.len() as u64;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = first.join(", ");
            let text = format!("There are no users of these names: {names}{more}. Nothing was changed.");
            refused("Unknown users", text)
        }
        ChangeError::LongReason => refused(
            "The reason is too long",
            "It may have 500 characters. Nothing was changed.".to_owned(),
        ),
        ChangeError::Stale(_) => {
            refused("Nothing was changed", "Somebody has changed this meanwhile. Try again.".to_owned())
        }
        ChangeError::Admin(error) => error.into(),
        ChangeError::Query(error) => PageError::Query(error),
    }
}
