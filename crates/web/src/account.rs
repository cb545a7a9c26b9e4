//! What users do about themselves.

use axum::{
    extract::State,
    http::{StatusCode, Uri, header},
    response::{AppendHeaders, IntoResponse as _, Response},
};
use maud::Markup;
use omnitool_database::{AnyConnection, write_transaction};

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
    let (viewer, user) = find(&app, &visit, account.clone()).await?;
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
    let change = OwnChange { viewer, old, new: hash, before: visit.session, token: token.clone() };
    let turn = app.turn_to_write().await?;
    let outcome = app.database(move |conn| Ok(change.apply(conn)?)).await?;
    drop(turn);
    match outcome {
        Outcome::Done => {}
        Outcome::SessionOver => return Err(PageError::LoginNeeded(account)),
        Outcome::ChangedElsewhere => {
            return refuse(StatusCode::CONFLICT, "The password was changed elsewhere meanwhile.");
        }
    }
    let seconds = Some(session::LIFETIME.num_seconds());
    let keep = cookie::set(app.environment(), Kind::Session, visit.scheme, &token, seconds);
    let login = Login { viewer: login.viewer, form_token: token.form_token() };
    let said = Notice::Done("Your password is changed, and your other sessions have ended.");
    let page = page::account::account(app.settings(), &login, &user, Some(&said));
    Ok((AppendHeaders([(header::SET_COOKIE, keep)]), page).into_response())
}

/// A new password of whoever has the session `before`.
struct OwnChange {
    viewer: Viewer,
    /// The hash that the current password was checked against.
    old: String,
    new: String,
    before: Option<Token>,
    /// Of the session that then begins.
    token: Token,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Somebody has ended the session meanwhile: an admin, or the same user elsewhere.
    SessionOver,
    ChangedElsewhere,
}

impl OwnChange {
    /// Changes nothing where something else has changed while the passwords were hashed.
    fn apply(&self, conn: &mut AnyConnection) -> diesel::QueryResult<Outcome> {
        let Self { viewer, old, new, before, token } = self;
        write_transaction(conn, |conn| {
            // First, so that whoever resets the password at the same time is waited for and then seen.
            let is_same = user::lock_credential(conn, viewer.id, old)?;
            let still = match before {
                Some(before) => session::find(conn, before)?,
                None => None,
            };
            if still.is_none_or(|still| still.id != viewer.id) {
                return Ok(Outcome::SessionOver);
            }
            if !is_same {
                return Ok(Outcome::ChangedElsewhere);
            }
            user::set_password_hash(conn, viewer.id, new)?;
            session::replace_all(conn, viewer.id, token)?;
            user::insert_event(conn, &viewer.username, viewer.id, "change-password", None)?;
            Ok(Outcome::Done)
        })
    }
}

async fn find(app: &App, visit: &Visit, here: Destination) -> Result<(Viewer, UserRow), PageError> {
    app.with_visitor(visit, |conn, viewer| {
        let viewer = viewer.ok_or(PageError::LoginNeeded(here))?;
        let user = user::find_user(conn, viewer.id)?.ok_or(PageError::NotFound)?;
        Ok((viewer, user))
    })
    .await
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use omnitool_database::schema::users;
    use omnitool_testing::{TestDatabase, fixture, on_both_databases};

    use super::*;
    use crate::session::Proof;

    /// A change that a user has asked for who is logged in.
    fn under_way(conn: &mut AnyConnection) -> OwnChange {
        let (id, old) = (fixture::user(conn, "alice"), "!".to_owned());
        let before = Token::generate().unwrap();
        let proof = Proof { user_id: id, password_hash: old.clone(), new_hash: None };
        assert!(session::open(conn, &proof, &before, None).unwrap());
        let viewer = Viewer { id, username: "alice".to_owned(), is_admin: false };
        let token = Token::generate().unwrap();
        OwnChange { viewer, old, new: "own".to_owned(), before: Some(before), token }
    }

    fn stored(conn: &mut AnyConnection) -> String {
        users::table.select(users::password_hash).first(conn).unwrap()
    }

    fn the_password_stays_where_the_session_has_ended_or_the_user_meanwhile(db: TestDatabase) {
        let conn = &mut db.connection();
        let change = under_way(conn);
        let set_active = |conn: &mut _, is| user::set_active(conn, change.viewer.id, is).unwrap();
        set_active(conn, false);
        assert_eq!(change.apply(conn).unwrap(), Outcome::SessionOver);
        set_active(conn, true);
        user::delete_sessions_of(conn, change.viewer.id).unwrap();
        assert_eq!(change.apply(conn).unwrap(), Outcome::SessionOver);
        assert_eq!(stored(conn), "!");
        assert_eq!(session::find(conn, &change.token).unwrap(), None);
    }

    fn the_password_stays_where_it_was_changed_elsewhere_meanwhile(db: TestDatabase) {
        let conn = &mut db.connection();
        let change = under_way(conn);
        user::set_password_hash(conn, change.viewer.id, "other").unwrap();
        assert_eq!(change.apply(conn).unwrap(), Outcome::ChangedElsewhere);
        assert_eq!(stored(conn), "other");
        user::set_password_hash(conn, change.viewer.id, "!").unwrap();
        assert_eq!(change.apply(conn).unwrap(), Outcome::Done);
        assert_eq!(stored(conn), "own");
        assert_eq!(session::find(conn, &change.token).unwrap(), Some(change.viewer.clone()));
        assert_eq!(change.apply(conn).unwrap(), Outcome::SessionOver);
    }

    on_both_databases!(
        the_password_stays_where_the_session_has_ended_or_the_user_meanwhile,
        the_password_stays_where_it_was_changed_elsewhere_meanwhile,
    );
}
