//! What users do about themselves.

use axum::{
    extract::State,
    http::{StatusCode, Uri, header},
    response::{AppendHeaders, IntoResponse as _, Response},
};
use maud::Markup;
use omnitool_database::write_transaction;

use crate::{
    app::{App, Visit},
    cookie::{self, Kind},
    error::PageError,
    form::{Destination, PasswordForm, Posted},
    handler::here,
    page::{self, Login, Notice},
    password::{self, Password, Verdict},
    session::{self, Viewer},
    store::{
        self,
        user::{self, UserRow},
    },
    token::Token,
};

use std::time::Instant;

use secrecy::ExposeSecret as _;

pub(crate) async fn show(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
) -> Result<Markup, PageError> {
    let (viewer, user) = find(&app, &visit, here(&uri)).await?;
    let form_token = visit.session.as_ref().map(Token::form_token).unwrap_or_default();
    let login = Login { viewer, form_token };
    Ok(page::account::account(app.settings(), &login, &user, None))
}

/// Changes the password of whoever is logged in, ends all of the user's sessions, and begins a new one for this browser.
pub(crate) async fn change_password(
    State(app): State<App>,
    Posted { visit, form }: Posted<PasswordForm>,
) -> Result<Response, PageError> {
    let account = Destination::parse("/account").unwrap_or_default();
    let (viewer, user) = find(&app, &visit, account).await?;
    let form_token = visit.session.as_ref().map(Token::form_token).unwrap_or_default();
    let login = Login { viewer: viewer.clone(), form_token };
    let refuse = |status, text| {
        let page =
            page::account::account(app.settings(), &login, &user, Some(&Notice::Wrong(text)));
        Ok((status, page).into_response())
    };
    let PasswordForm { current, new, again, .. } = form;
    if new.expose_secret() != again.expose_secret() {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "The two new passwords are not the same.");
    }
    let Ok(new) = Password::new(new) else {
        let text = "The new password must have at least 12 characters, and at most 1024 bytes.";
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, text);
    };
    // Whoever finds an open browser may guess no more than somebody at the login page.
    let now = Instant::now();
    let Ok(attempt) = app.attempts().begin(visit.address, &viewer.username, now) else {
        let text = "Too many attempts. Try again in some minutes.";
        return refuse(StatusCode::TOO_MANY_REQUESTS, text);
    };
    let name = viewer.username.clone();
    let credential = app.database(move |conn| Ok(store::find_credential(conn, &name)?)).await?;
    let old = credential.map(|row| row.password_hash);
    let checked = old.clone();
    let hash = app
        .hash(move || match password::verify(&current, checked.as_deref()) {
            Verdict::Wrong => Ok(None),
            Verdict::Right | Verdict::RightButOld => new.hash().map(Some),
        })
        .await??;
    let (Some(hash), Some(old)) = (hash, old) else {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "The current password is wrong.");
    };
    app.attempts().succeeded(attempt);
    let token = Token::generate()?;
    let (opened, author) = (token.clone(), viewer.username.clone());
    let changed = app
        .database(move |conn| {
            Ok(write_transaction(conn, |conn| {
                // Somebody else has changed it meanwhile: an admin, or the same user elsewhere.
                if user::replace_password_hash(conn, viewer.id, &old, &hash)? == 0 {
                    return Ok::<_, diesel::result::Error>(false);
                }
                session::replace_all(conn, viewer.id, &opened)?;
                user::insert_event(conn, &author, viewer.id, "change-password", None)?;
                Ok(true)
            })?)
        })
        .await?;
    if !changed {
        return refuse(StatusCode::CONFLICT, "The password was changed elsewhere meanwhile.");
    }
    let seconds = Some(session::LIFETIME.num_seconds());
    let keep = cookie::set(app.environment(), Kind::Session, visit.scheme, &token, seconds);
    let login = Login { viewer: login.viewer, form_token: token.form_token() };
    let said = Notice::Done("Your password is changed, and your other sessions have ended.");
    let page = page::account::account(app.settings(), &login, &user, Some(&said));
    Ok((AppendHeaders([(header::SET_COOKIE, keep)]), page).into_response())
}

async fn find(app: &App, visit: &Visit, here: Destination) -> Result<(Viewer, UserRow), PageError> {
    app.with_visitor(visit, |conn, viewer| {
        let viewer = viewer.ok_or(PageError::LoginNeeded(here))?;
        let user = user::find_user(conn, viewer.id)?.ok_or(PageError::NotFound)?;
        Ok((viewer, user))
    })
    .await
}
