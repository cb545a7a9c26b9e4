//! Tools, as admins see them.

use std::collections::{HashMap, HashSet};

use axum::{
    extract::{Path, State},
    http::Uri,
};
use maud::Markup;
use omnitool_tool_registry::{Definitions, Resolution};

use crate::{
    app::{App, Visit},
    error::PageError,
    handler::here,
    page::{
        self,
        tool::{Details, Standing, ToolSummary},
    },
    store::tool as store,
};

/// How many names a tool's page lists.
const LISTED: i64 = 200;

pub(crate) async fn list(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
) -> Result<Markup, PageError> {
    let (login, (tools, wildcards, grants, exclusions)) = app
        .with_admin(&visit, here(&uri), |conn, _| {
            let tools = store::list_tools(conn)?;
            let wildcards: HashSet<i64> = store::list_wildcards(conn)?.into_iter().collect();
            let grants: HashMap<i64, i64> = store::count_grants(conn)?.into_iter().collect();
            let exclusions: HashMap<i64, i64> =
                store::count_exclusions(conn)?.into_iter().collect();
            Ok((tools, wildcards, grants, exclusions))
        })
        .await?;
    let settings = app.settings();
    let summary = |tool: store::ToolRow| ToolSummary {
        standing: standing(settings.definitions.as_ref(), &tool.name),
        is_for_everyone: wildcards.contains(&tool.id),
        grants: grants.get(&tool.id).copied().unwrap_or_default(),
        exclusions: exclusions.get(&tool.id).copied().unwrap_or_default(),
        tool,
    };
    let tools: Vec<ToolSummary> = tools.into_iter().map(summary).collect();
    Ok(page::tool::list(settings, &login, &tools))
}

pub(crate) async fn show(
    State(app): State<App>,
    visit: Visit,
    Path(id): Path<i64>,
    uri: Uri,
) -> Result<Markup, PageError> {
    let definitions = app.settings().definitions.clone();
    let (login, (summary, effective, granted, excluded)) = app
        .with_admin(&visit, here(&uri), move |conn, _| {
            let tool = store::find_tool(conn, id)?.ok_or(PageError::NotFound)?;
            let of_tool = |counts: Vec<(i64, i64)>| {
                counts.into_iter().find(|(tool, _)| *tool == id).map_or(0, |(_, count)| count)
            };
            let summary = ToolSummary {
                standing: standing(definitions.as_ref(), &tool.name),
                is_for_everyone: store::list_wildcards(conn)?.contains(&id),
                grants: of_tool(store::count_grants(conn)?),
                exclusions: of_tool(store::count_exclusions(conn)?),
                tool,
            };
            let effective = store::count_users_of(conn, id)?;
            let granted = store::list_grants_of(conn, id, LISTED)?;
            let excluded = store::list_exclusions_of(conn, id, LISTED)?;
            Ok((summary, effective, granted, excluded))
        })
        .await?;
    let details = Details { effective, granted: &granted, excluded: &excluded };
    Ok(page::tool::show(app.settings(), &login, &summary, &details))
}

fn standing(definitions: Option<&Definitions>, name: &str) -> Standing {
    match definitions.map(|definitions| definitions.resolve(name)) {
        None | Some(Resolution::Defined) => Standing::Defined,
        Some(Resolution::Renamed(new)) => Standing::RenamedTo(new.to_owned()),
        Some(Resolution::Deleted) => Standing::Deleted,
        Some(Resolution::Unknown) => Standing::Unknown,
    }
}
