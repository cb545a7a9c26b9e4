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
    let against = query.against.clone();
    let (login, mut window) = app
        .with_admin(&visit, here(&uri), move |conn, _| {
            Ok(read_snapshot(conn, |conn| read(conn, &query))?)
        })
        .await?;
    if !against.is_empty() || settings.access_files.is_some() {
        let compared = move || {
            compare(&settings, &mut window, &against);
            window
        };
        window = app.one_at_a_time(compared).await?;
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

/// Compares the window with the export file of the environment `against`, if one is asked for. A connection and a thread
/// of its own, since those of the pools would keep the memory that the comparison takes.
fn compare(settings: &Settings, window: &mut Window, against: &str) {
    let Some(folder) = &settings.access_files else { return };
    window.files = EnvironmentName::ALL
        .into_iter()
        .filter(|environment| file_of(folder, *environment).is_file())
        .collect();
    window.against = window.files.iter().copied().find(|name| name.as_str() == against);
    window.comparison = window.against.map(|environment| {
        let names: Vec<String> = window.users.iter().map(|user| user.username.clone()).collect();
        let file = file_of(folder, environment);
        let definitions = settings.definitions.as_ref();
        let mut conn = open(&settings.database_url, Mode::Read).map_err(|error| chain(&error))?;
        Comparison::read(&mut conn, settings.environment, definitions, &file, &names)
    });
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
