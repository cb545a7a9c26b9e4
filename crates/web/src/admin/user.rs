//! User management.

use std::collections::{HashMap, HashSet};

use axum::{
    Form,
    extract::{Path, State, rejection::FormRejection},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Redirect, Response},
};
use maud::Markup;
use omnitool_database::AnyConnection;
use serde::Deserialize;

use crate::{
    app::{App, Visit},
    error::PageError,
    form::{Asked, NewUserForm, Posted, UserForm, given, search_text},
    handler::here,
    page::{
        self, Notice,
        tool::{Choice, ToolState},
        user::{Details, UserList},
    },
    password::Password,
    store::{
        self,
        user::{Filter, Show, Start, UserRow},
    },
    user::{self, CreateHashedError, CreateUserError, NewUser, Role},
    user_change::{self, Action, UserChangeError, UserPlan},
};

/// Users on a page.
const PAGE: usize = 50;
/// Events on a user's page.
const EVENTS: i64 = 20;

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default, deserialize_with = "search_text")]
    q: String,
    #[serde(default)]
    show: Show,
    #[serde(default)]
    after: String,
}

#[derive(Default, Deserialize)]
pub(crate) struct ShowQuery {
    #[serde(default)]
    done: String,
}

pub(crate) async fn list(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
    Asked(ListQuery { q, show, after }): Asked<ListQuery>,
) -> Result<Markup, PageError> {
    let filter = Filter { text: q, show };
    let asked = filter.clone();
    let (login, (mut users, count, tools)) = app
        .with_admin(&visit, here(&uri), move |conn, _| {
            let start = if after.is_empty() { Start::Beginning } else { Start::After(after) };
            let users = store::user::list_users(conn, &asked, &start, PAGE as i64 + 1)?;
            let count = store::user::count_users(conn, &asked)?;
            let tools = store::tool::list_tools(conn)?;
            Ok((users, count, tools))
        })
        .await?;
    let next = (users.len() > PAGE).then(|| users.truncate(PAGE));
    let next = next.and_then(|()| users.last().map(|user| user.username.clone()));
    let tools: Vec<Choice> =
        tools.into_iter().map(|tool| Choice { id: tool.id, name: tool.name }).collect();
    let list = UserList { filter: &filter, users: &users, count, next, tools: &tools };
    Ok(page::user::list(app.settings(), &login, &list))
}

pub(crate) async fn show(
    State(app): State<App>,
    visit: Visit,
    Path(id): Path<i64>,
    uri: Uri,
    query: Result<Form<ShowQuery>, FormRejection>,
) -> Result<Markup, PageError> {
    let (login, (user, tools, events)) = app
        .with_admin(&visit, here(&uri), move |conn, _| {
            let user = store::user::find_user(conn, id)?.ok_or(PageError::NotFound)?;
            let tools = tools_of(conn, id)?;
            let events = store::user::list_events(conn, Some(id), None, EVENTS)?;
            Ok((user, tools, events))
        })
        .await?;
    let is_done = query.is_ok_and(|Form(query)| query.done == "yes");
    let said = is_done.then_some(Notice::Done("Done. It can be undone below."));
    let details = Details { tools: &tools, events: &events };
    Ok(page::user::show(app.settings(), &login, &user, &details, said.as_ref()))
}

fn tools_of(conn: &mut AnyConnection, user_id: i64) -> Result<Vec<ToolState>, PageError> {
    let tools = store::tool::list_tools(conn)?;
    let wildcards: HashSet<i64> = store::tool::list_wildcards(conn)?.into_iter().collect();
    let grants = store::tool::list_grants(conn, &[user_id])?;
    let mut grants: HashMap<i64, String> =
        grants.into_iter().map(|(_, tool, origin)| (tool, origin)).collect();
    let exclusions = store::tool::list_exclusions(conn, &[user_id])?;
    let mut exclusions: HashMap<i64, Option<String>> =
        exclusions.into_iter().map(|(_, tool, reason)| (tool, reason)).collect();
    let state = |tool: store::tool::ToolRow| ToolState {
        is_for_everyone: wildcards.contains(&tool.id),
        grant: grants.remove(&tool.id),
        exclusion: exclusions.remove(&tool.id),
        tool,
    };
    Ok(tools.into_iter().map(state).collect())
}

pub(crate) async fn new(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
) -> Result<Markup, PageError> {
    let (login, ()) = app.with_admin(&visit, here(&uri), |_, _| Ok(())).await?;
    Ok(page::user::new(app.settings(), &login, &NewUserForm::default(), None))
}

/// Shows what making the user does, and does it when that is confirmed.
pub(crate) async fn create(
    State(app): State<App>,
    Posted { visit, form }: Posted<NewUserForm>,
) -> Result<Response, PageError> {
    let wanted = NewUser {
        username: form.username.clone(),
        email: given(&form.email).map(ToOwned::to_owned),
        role: if form.admin.is_empty() { Role::User } else { Role::Admin },
        password: Password::generate()?,
    };
    let (asked, start) = (wanted.clone(), super::start());
    let (login, planned) =
        app.with_admin(&visit, start, move |conn, _| Ok(user::plan_user(conn, &asked))).await?;
    let settings = app.settings();
    let again = |error: CreateUserError| {
        if matches!(error, CreateUserError::Write(_) | CreateUserError::Grant(_)) {
            return Err(PageError::CreateUser(error));
        }
        let text = sentence(&error.to_string());
        let page = page::user::new(settings, &login, &form, Some(&text));
        Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
    };
    let defaults = match planned {
        Ok(defaults) => defaults,
        Err(error) => return again(error),
    };
    if form.confirmed.is_empty() {
        return Ok(page::user::confirm_new(settings, &login, &form, &defaults).into_response());
    }
    let password = wanted.password.clone();
    let hash = app.hash(move || password.hash()).await??;
    let asked = wanted.clone();
    let turn = app.turn_to_write().await?;
    let (_, created) = app
        .with_admin(&visit, super::start(), move |conn, admin| {
            Ok(user::create_hashed(conn, &asked, &hash, admin))
        })
        .await?;
    drop(turn);
    match created {
        Ok(created) => {
            let (id, name) = (created.id, &wanted.username);
            let password = wanted.password.expose();
            let page =
                page::user::password(settings, &login, "The user is made", id, name, password);
            Ok(page.into_response())
        }
        Err(CreateHashedError::Create(error)) => again(error),
        Err(CreateHashedError::Admin(error)) => Err(error.into()),
    }
}

/// Shows what a change does, and does it when that is confirmed.
pub(crate) async fn change(
    State(app): State<App>,
    Path(id): Path<i64>,
    Posted { visit, form }: Posted<UserForm>,
) -> Result<Response, PageError> {
    let action = Action::new(form.action, &form.value).map_err(refusal)?;
    let settings = app.settings();
    if form.fingerprint.is_empty() {
        let (login, planned) = app
            .with_admin(&visit, super::start(), move |conn, _| {
                Ok(user_change::plan(conn, id, action))
            })
            .await?;
        let plan = planned.map_err(refusal)?;
        let page = page::user::confirm(settings, &login, &plan, &form.value, false);
        return Ok(page.into_response());
    }
    // Nobody but an admin makes the app hash passwords.
    app.with_admin(&visit, super::start(), |_, _| Ok(())).await?;
    let password = match action {
        Action::ResetPassword => Some(Password::generate()?),
        _ => None,
    };
    let hash = match password.clone() {
        Some(password) => Some(app.hash(move || password.hash()).await??),
        None => None,
    };
    let fingerprint = form.fingerprint.clone();
    let turn = app.turn_to_write().await?;
    let (login, applied) = app
        .with_admin(&visit, super::start(), move |conn, admin| {
            Ok(user_change::apply(conn, id, action, hash.as_deref(), &fingerprint, admin))
        })
        .await?;
    drop(turn);
    match applied {
        Ok(UserPlan { user: UserRow { username, .. }, .. }) => Ok(match password {
            Some(password) => {
                let title = "The password is reset";
                page::user::password(settings, &login, title, id, &username, password.expose())
                    .into_response()
            }
            None => Redirect::to(&format!("/admin/users/{id}?done=yes")).into_response(),
        }),
        Err(UserChangeError::Stale(plan)) => {
            let page = page::user::confirm(settings, &login, &plan, &form.value, true);
            Ok((StatusCode::CONFLICT, page).into_response())
        }
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: UserChangeError) -> PageError {
    let refused = |title, text: &str| PageError::Refused { title, text: text.to_owned() };
    match error {
        UserChangeError::UnknownUser => PageError::NotFound,
        UserChangeError::LastAdmin => refused(
            "The last active admin stays",
            "Without an active admin, nobody could change users any more. Make somebody else an admin first.",
        ),
        UserChangeError::PhoneNumber => refused(
            "This is no telephone number",
            "A telephone number has digits, spaces and the signs + - . / ( ), and at most 32 of them. Nothing was changed.",
        ),
        UserChangeError::Stale(_) => {
            refused("Nothing was changed", "Somebody has changed this user meanwhile. Try again.")
        }
        UserChangeError::Admin(error) => error.into(),
        UserChangeError::Query(error) => PageError::Query(error),
    }
}

/// An error's text as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        let first: String = first.to_uppercase().collect();
        format!("{first}{}.", chars.as_str())
    })
}
