//! What each page does.

use std::time::{Duration, Instant};

use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use maud::Markup;
use omnitool_tool_access as access;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::{
    app::{App, Visit},
    attempts::TooMany,
    cookie::{self, Kind},
    error::PageError,
    form::{Destination, EmptyForm, LoginForm, Posted},
    page::{self, Login, LoginProblem},
    password::{self, Verdict},
    session::{self, Proof, Viewer},
    store::{self, CredentialRow},
    token::Token,
    user,
};

/// A refused login is answered no sooner: how long the answer takes must not tell who exists, nor whose hash is of which
/// kind. Waiting occupies no thread.
const REFUSAL_TIME: Duration = Duration::from_millis(500);

/// The query of the login page.
#[derive(Default, Deserialize)]
pub(crate) struct LoginQuery {
    #[serde(default)]
    next: String,
}

/// The query of the dashboard.
#[derive(Default, Deserialize)]
pub(crate) struct DashboardQuery {
    #[serde(default)]
    q: String,
}

pub(crate) async fn home(State(app): State<App>, visit: Visit) -> Result<Markup, PageError> {
    // Without a session, the page is there even when the database is not.
    let viewer = match visit.session {
        Some(_) => app.with_visitor(&visit, |_, viewer| Ok(viewer)).await?,
        None => None,
    };
    Ok(page::home(app.settings(), login(&visit, viewer).as_ref()))
}

pub(crate) async fn login_page(
    State(app): State<App>,
    visit: Visit,
    query: Result<Form<LoginQuery>, FormRejection>,
) -> Result<Response, PageError> {
    let next = query.ok().and_then(|Form(query)| Destination::parse(&query.next));
    if visit.session.is_some() && app.with_visitor(&visit, |_, viewer| Ok(viewer)).await?.is_some()
    {
        return Ok(to(next.as_ref()));
    }
    show_login(&app, &visit, StatusCode::OK, next.as_ref(), "", None)
}

pub(crate) async fn log_in(
    State(app): State<App>,
    Posted { visit, form }: Posted<LoginForm>,
) -> Result<Response, PageError> {
    let next = Destination::parse(&form.next);
    let LoginForm { username, password, .. } = form;
    let refuse = |status, problem| {
        // A password typed into the wrong field is not shown on a screen.
        let shown = if username.chars().count() <= user::MAX_USERNAME { &*username } else { "" };
        show_login(&app, &visit, status, next.as_ref(), shown, Some(problem))
    };
    let started = Instant::now();
    let attempt = match app.attempts().begin(visit.address, &username, started) {
        Ok(attempt) => attempt,
        Err(TooMany { retry_after }) => {
            tracing::warn!(client = %visit.address, "too many attempts to log in");
            let mut response =
                refuse(StatusCode::TOO_MANY_REQUESTS, LoginProblem::TooMany(retry_after))?;
            let seconds = HeaderValue::from(retry_after.as_secs() + 1);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            return Ok(response);
        }
    };
    let token = Token::generate()?;
    let mut is_open = false;
    // A second look is for two first logins of a user of the Python system at once: of both, one puts a hash of today in
    // the place of the other's. Whoever knows no more than a password that was reset meanwhile does not pass it.
    for _ in 0..2 {
        let Some(proof) = verify(&app, &username, &password).await? else { break };
        let (opened, before) = (token.clone(), visit.session.clone());
        let _turn = app.turn_to_write().await?;
        is_open = app
            .database(move |conn| Ok(session::open(conn, &proof, &opened, before.as_ref())?))
            .await?;
        if is_open {
            break;
        }
    }
    app.metrics().count_login(is_open);
    if !is_open {
        // Hashes of the Python system take another time to check than ours.
        tokio::time::sleep_until((started + REFUSAL_TIME).into()).await;
        return refuse(StatusCode::UNAUTHORIZED, LoginProblem::Wrong);
    }
    app.attempts().succeeded(attempt);
    let (environment, scheme) = (app.environment(), visit.scheme);
    let seconds = Some(session::LIFETIME.num_seconds());
    let cookies = AppendHeaders([
        (header::SET_COOKIE, cookie::set(environment, Kind::Session, scheme, &token, seconds)),
        (header::SET_COOKIE, cookie::clear(environment, Kind::Form, scheme)),
    ]);
    Ok((cookies, to(next.as_ref())).into_response())
}

/// Proves that this is the password of this active user; none where it is not.
async fn verify(
    app: &App,
    username: &str,
    password: &SecretString,
) -> Result<Option<Proof>, PageError> {
    let (credential, old) = if username.chars().count() > user::MAX_USERNAME
        || password.expose_secret().len() > password::MAX_BYTES
    {
        (None, None)
    } else {
        let (username, same) = (username.to_owned(), app.clone());
        app.database(move |conn| {
            Ok((store::find_credential(conn, &username)?, same.old_hash(conn)?))
        })
        .await?
    };
    // Checked in any case: how long the answer takes must not tell who exists or is active.
    let verdict = {
        let hash = credential.as_ref().map(|row| row.password_hash.clone());
        let password = password.clone();
        app.hash(move || password::verify_evenly(&password, hash.as_deref(), old.as_deref()))
            .await?
    };
    let Some(CredentialRow { user_id, password_hash, is_active: true }) = credential else {
        return Ok(None);
    };
    let new_hash = match verdict {
        Verdict::Wrong => return Ok(None),
        Verdict::Right => None,
        Verdict::RightButOld => {
            let password = password.clone();
            Some(app.hash(move || password::rehash(password)).await??)
        }
    };
    Ok(Some(Proof { user_id, password_hash, new_hash }))
}

pub(crate) async fn log_out(
    State(app): State<App>,
    Posted { visit, form: _ }: Posted<EmptyForm>,
) -> Result<Response, PageError> {
    if let Some(token) = visit.session {
        let _turn = app.turn_to_write().await?;
        app.database(move |conn| Ok(session::close(conn, &token)?)).await?;
    }
    let forget = cookie::clear(app.environment(), Kind::Session, visit.scheme);
    Ok(([(header::SET_COOKIE, forget)], Redirect::to("/")).into_response())
}

pub(crate) async fn dashboard(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
    query: Result<Form<DashboardQuery>, FormRejection>,
) -> Result<Markup, PageError> {
    let Some(token) = visit.session else { return Err(PageError::LoginNeeded(here(&uri))) };
    let query = query.map_or_else(|_| String::new(), |Form(query)| query.q);
    let same = app.clone();
    // The page is made by the thread that has read the rows: giving their memory back from another one takes longer.
    app.database(move |conn| {
        let found = session::find_dashboard(conn, &token, same.viewers())?;
        let (viewer, tools) = found.ok_or_else(|| PageError::LoginNeeded(here(&uri)))?;
        let login = Login { viewer, form_token: token.form_token() };
        Ok(page::dashboard(same.settings(), Some(&login), &tools, &query))
    })
    .await
}

/// Tools of `data/tools.toml` that are pages of the app itself. Access to the tool is asked first; the page then asks
/// whether the viewer is an admin.
const OWN_PAGES: [(&str, &str); 3] = [
    ("/user_management", "/admin/users"),
    ("/my_profile", "/account"),
    ("/audit_log", "/admin/history"),
];

/// The built-in page of the tool at this path.
pub(crate) async fn tool(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
) -> Result<Response, PageError> {
    let (here, route) = (here(&uri), uri.path().to_owned());
    let (viewer, tool) = app
        .with_visitor(&visit, move |conn, viewer| {
            let candidates = store::tool::list_tools_at(conn, &route)?;
            if candidates.is_empty() {
                return Err(PageError::NotFound);
            }
            let viewer = viewer.ok_or(PageError::LoginNeeded(here))?;
            // Whoever is excluded from one must not come in by another one that was left at its route.
            if store::tool::is_excluded_from_any(conn, viewer.id, &candidates)? {
                return Err(PageError::Forbidden);
            }
            for tool in candidates {
                if access::may_use(conn, viewer.id, tool.id)? {
                    return Ok((viewer, tool));
                }
            }
            Err(PageError::Forbidden)
        })
        .await?;
    if let Some((_, page)) = OWN_PAGES.into_iter().find(|(route, _)| *route == tool.route) {
        return Ok(Redirect::to(page).into_response());
    }
    let login = login(&visit, Some(viewer));
    Ok(page::tool(app.settings(), login.as_ref(), &tool).into_response())
}

/// The login page, with the cookie that its form is tied to where the browser has none.
fn show_login(
    app: &App,
    visit: &Visit,
    status: StatusCode,
    next: Option<&Destination>,
    username: &str,
    problem: Option<LoginProblem>,
) -> Result<Response, PageError> {
    let page = |token: &Token| {
        page::login(app.settings(), &token.form_token(), next, username, problem.as_ref())
    };
    if let Some(token) = visit.session.as_ref().or(visit.form.as_ref()) {
        return Ok((status, page(token)).into_response());
    }
    let token = Token::generate()?;
    let keep = cookie::set(app.environment(), Kind::Form, visit.scheme, &token, None);
    Ok((status, [(header::SET_COOKIE, keep)], page(&token)).into_response())
}

/// Whoever is logged in, with what a page needs for the way out.
fn login(visit: &Visit, viewer: Option<Viewer>) -> Option<Login> {
    let form_token = visit.session.as_ref()?.form_token();
    Some(Login { viewer: viewer?, form_token })
}

fn to(next: Option<&Destination>) -> Response {
    Redirect::to(next.map_or("/dashboard", Destination::as_str)).into_response()
}

/// The page that was asked for, to come back to after a login.
pub(crate) fn here(uri: &Uri) -> Destination {
    let page = uri.path_and_query().map_or("/", |page| page.as_str());
    Destination::parse(page).unwrap_or_default()
}
