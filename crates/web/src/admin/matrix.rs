//! The access matrix, and what explains it.

use axum::{extract::State, http::Uri};
use maud::Markup;
use omnitool_database::{AnyConnection, Mode, open, read_snapshot};
use omnitool_environment::EnvironmentName;
use omnitool_tool_access::{self as access, ExplainError};
use serde::Deserialize;

use crate::{
    app::{App, Settings, Visit},
    comparison::{Comparison, file_of},
    error::{PageError, chain},
    form::{Asked, search_text},
    handler::here,
    page::{self, matrix::Window},
    store::{
        self,
        user::{Filter, Show, Start},
    },
};

/// Cells in a window; a plan lists as many facts, so that a comparison is complete.
const CELLS: usize = 1000;
/// The most users in a window.
const MOST_USERS: usize = 50;

#[derive(Deserialize)]
pub(crate) struct MatrixQuery {
    #[serde(default, deserialize_with = "search_text")]
    q: String,
    #[serde(default)]
    show: Show,
    #[serde(default)]
    after: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    against: String,
}

#[derive(Deserialize)]
pub(crate) struct ExplainQuery {
    #[serde(default)]
    user: String,
    #[serde(default)]
    tool: String,
}

pub(crate) async fn show(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
    Asked(query): Asked<MatrixQuery>,
) -> Result<Markup, PageError> {
    let settings = app.settings().clone();
    let (login, mut window) = app
        .with_admin(&visit, here(&uri), {
            let settings = settings.clone();
            move |conn, _| {
                let mut window = read_snapshot(conn, |conn| read(conn, &query))?;
                window.files = list_files(&settings);
                window.against =
                    window.files.iter().copied().find(|name| name.as_str() == query.against);
                Ok(window)
            }
        })
        .await?;
    if let Some(environment) = window.against {
        let names: Vec<String> = window.users.iter().map(|user| user.username.clone()).collect();
        let compared = move || compare(&settings, environment, &names);
        window.comparison = app.one_at_a_time(compared).await?;
    }
    Ok(page::matrix::matrix(app.settings(), &login, &window))
}

/// The users of the window with their facts, in one snapshot.
fn read(conn: &mut AnyConnection, query: &MatrixQuery) -> diesel::QueryResult<Window> {
    let filter = Filter { text: query.q.clone(), show: query.show };
    let start = match (&*query.after, &*query.from) {
        ("", "") => Start::Beginning,
        ("", from) => Start::From(from.to_owned()),
        (after, _) => Start::After(after.to_owned()),
    };
    let tools = store::tool::list_tools(conn)?;
    let size = (CELLS / tools.len().max(1)).clamp(1, MOST_USERS);
    let mut users =
        store::user::list_users(conn, &filter, &start, i64::try_from(size + 1).unwrap_or(1))?;
    let has_more = users.len() > size;
    users.truncate(size);
    let ids: Vec<i64> = users.iter().map(|user| user.id).collect();
    let grants = store::tool::list_grants(conn, &ids)?;
    let exclusions = store::tool::list_exclusions(conn, &ids)?;
    Ok(Window {
        count: store::user::count_users(conn, &filter)?,
        letters: store::user::list_first_letters(conn)?,
        filter,
        next: users.last().filter(|_| has_more).map(|user| user.username.clone()),
        users,
        tools,
        wildcards: store::tool::list_wildcards(conn)?.into_iter().collect(),
        grants: grants.into_iter().map(|(user, tool, origin)| ((user, tool), origin)).collect(),
        exclusions: exclusions.into_iter().map(|(user, tool, _)| (user, tool)).collect(),
        files: Vec::new(),
        against: None,
        comparison: None,
    })
}

/// The environments whose export files are there.
fn list_files(settings: &Settings) -> Vec<EnvironmentName> {
    let Some(folder) = &settings.access_files else { return Vec::new() };
    let is_there = |environment: &EnvironmentName| file_of(folder, *environment).is_file();
    EnvironmentName::ALL.into_iter().filter(is_there).collect()
}

/// Compares the users of the window with the export file of the environment `against`. A connection and a thread of its own,
/// since those of the pools would keep the memory that the comparison takes.
fn compare(
    settings: &Settings,
    against: EnvironmentName,
    users: &[String],
) -> Option<Result<Comparison, String>> {
    let file = file_of(settings.access_files.as_ref()?, against);
    let definitions = settings.definitions.as_ref();
    let conn = open(&settings.database_url, Mode::Read).map_err(|error| chain(&error));
    Some(conn.and_then(|mut conn| {
        Comparison::read(&mut conn, settings.environment, definitions, &file, users)
    }))
}

pub(crate) async fn explain(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
    Asked(ExplainQuery { user, tool }): Asked<ExplainQuery>,
) -> Result<Markup, PageError> {
    let (login, (explanation, user_id, tool_id)) = app
        .with_admin(&visit, here(&uri), move |conn, _| {
            let explanation = access::explain(conn, &user, &tool).map_err(|error| match error {
                ExplainError::UnknownUser { .. } | ExplainError::UnknownTool { .. } => {
                    PageError::NotFound
                }
                error => PageError::Explain(error),
            })?;
            let user_id = store::user::find_user_ids(conn, &[user])?.first().map(|(id, _)| *id);
            let tools = store::tool::list_tools(conn)?;
            let tool_id = tools.into_iter().find(|row| row.name == tool).map(|row| row.id);
            match (user_id, tool_id) {
                (Some(user_id), Some(tool_id)) => Ok((explanation, user_id, tool_id)),
                _ => Err(PageError::NotFound),
            }
        })
        .await?;
    Ok(page::matrix::explain(app.settings(), &login, &explanation, user_id, tool_id))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use axum::{
        body::Body,
        http::{Request, StatusCode},
    };
    use diesel::prelude::*;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use omnitool_database::schema::{user_session, users};
    use omnitool_testing::{Dialect, TestDatabase, fixture};

    use super::*;
    use crate::{app, token::Token};

    #[tokio::test]
    async fn the_matrix_waits_for_no_comparison_of_somebody_else() {
        let db = TestDatabase::migrated(Dialect::Sqlite);
        let conn = &mut db.connection();
        let root = fixture::user(conn, "root");
        diesel::update(users::table.find(root))
            .set(users::is_admin.eq(true))
            .execute(conn)
            .unwrap();
        let token = Token::generate().unwrap();
        let now = chrono::Utc::now().naive_utc();
        diesel::insert_into(user_session::table)
            .values((
                user_session::token_sha256.eq(token.sha256()),
                user_session::user_id.eq(root),
                user_session::created_at.eq(now),
                user_session::expires_at.eq(now + chrono::TimeDelta::hours(1)),
            ))
            .execute(conn)
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("local_tool_access.json"), "{").unwrap();
        let access_files = Some(folder.path().to_owned());
        let settings = Settings::new(EnvironmentName::Local, "0001", db.url().clone());
        let app = App::new(Settings { access_files, ..settings });

        let ((begin, begun), (go_on, end)) = (mpsc::channel(), mpsc::channel::<()>());
        let same = app.clone();
        let comparison = tokio::spawn(async move {
            let body = move || begin.send(()).is_ok() && end.recv().is_ok();
            same.one_at_a_time(body).await
        });
        while begun.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        let request = Request::get("/admin/access")
            .header("cookie", format!("omnitool_local_session={}", token.expose()))
            .body(Body::empty())
            .unwrap();
        let answer = TowerToHyperService::new(app::router(&app)).call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let page = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        assert!(String::from_utf8_lossy(&page).contains("compare with local"), "{page:?}");
        drop(go_on);
        comparison.await.unwrap().unwrap();
    }
}
