//! Every page, made from samples, for `omnitool check`.

use std::collections::{HashMap, HashSet};

use axum::http::StatusCode;
use chrono::NaiveDateTime;
use omnitool_environment::EnvironmentName;
use omnitool_tool_access::{Change, Explanation, FactSource, Reason};

use super::{
    Login, LoginProblem, Notice, account, change, dashboard, deployment, error, history, home,
    login, matrix, tool, user,
};
use crate::{
    app::Settings,
    change::Plan,
    deployment::{Backup, Outcome, Overview, Run, Step},
    error::Explanation as ErrorText,
    form::{Destination, NewUserForm},
    session::Viewer,
    store::{
        dashboard::EntryRow,
        history::{NamedEventRow, RunRow},
        tool::{ExclusionRow, ToolRow},
        user::{EventRow, Filter, UserRow},
    },
    user_change::{Action, UserPlan},
};

/// What nobody should see as it is.
const HOSTILE: &str = "<script>alert(1)</script>\"'&";

/// Every page with a hostile text wherever one can be.
pub(crate) fn samples(settings: &Settings) -> Vec<(&'static str, String)> {
    let hostile = HOSTILE.to_owned();
    let sample = Login {
        viewer: Viewer { id: 1, username: hostile.clone(), is_admin: true },
        form_token: hostile.clone(),
    };
    let somebody = Some(&sample);
    let tools =
        [EntryRow { name: hostile.clone(), description: hostile.clone(), route: hostile.clone() }];
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    let next = Destination::default();
    let wrong = LoginProblem::Wrong;
    let mut pages = vec![
        ("home", home(settings, somebody)),
        ("login", login(settings, HOSTILE, Some(&next), HOSTILE, Some(&wrong))),
        ("dashboard", dashboard(settings, somebody, &tools, "script")),
        ("empty dashboard", dashboard(settings, somebody, &[], HOSTILE)),
        ("tool", super::tool(settings, somebody, &tool_row())),
        ("error", error(settings, failed, &ErrorText::of(failed), HOSTILE)),
    ];
    pages.extend(admin_samples(settings, &sample));
    pages.into_iter().map(|(name, page)| (name, page.into_string())).collect()
}

fn tool_row() -> ToolRow {
    ToolRow {
        id: 1,
        name: HOSTILE.to_owned(),
        description: HOSTILE.to_owned(),
        route: HOSTILE.to_owned(),
        is_default: true,
        is_active: false,
    }
}

fn user_row() -> UserRow {
    UserRow {
        id: 1,
        username: HOSTILE.to_owned(),
        email: Some(HOSTILE.to_owned()),
        phone_number: Some(HOSTILE.to_owned()),
        is_admin: true,
        is_active: false,
        created_at: NaiveDateTime::default(),
    }
}

fn event_row() -> EventRow {
    EventRow {
        id: 1,
        happened_at: NaiveDateTime::default(),
        author: HOSTILE.to_owned(),
        user_id: 1,
        username: HOSTILE.to_owned(),
        change: "phone-number".to_owned(),
        previous: Some(HOSTILE.to_owned()),
    }
}

fn run_row() -> RunRow {
    RunRow {
        id: 1,
        program: HOSTILE.to_owned(),
        admin: Some(HOSTILE.to_owned()),
        run_id: None,
        happened_at: NaiveDateTime::default(),
    }
}

fn admin_samples(settings: &Settings, login: &Login) -> Vec<(&'static str, maud::Markup)> {
    let (user_row, hostile) = (user_row(), HOSTILE.to_owned());
    let choices = [tool::Choice { id: 1, name: hostile.clone() }];
    let state = tool::ToolState {
        tool: tool_row(),
        is_for_everyone: true,
        grant: Some(hostile.clone()),
        exclusion: Some(Some(hostile.clone())),
    };
    let summary = tool::ToolSummary {
        tool: tool_row(),
        standing: tool::Standing::RenamedTo(hostile.clone()),
        is_for_everyone: false,
        grants: 2,
        exclusions: 2,
    };
    let excluded = [ExclusionRow { username: hostile.clone(), reason: Some(hostile.clone()) }];
    let users = user::UserList {
        filter: &Filter { text: hostile.clone(), ..Filter::default() },
        users: std::slice::from_ref(&user_row),
        count: 2,
        next: Some(hostile.clone()),
        tools: &choices,
    };
    let event = NamedEventRow {
        change: hostile.clone(),
        user_id: 1,
        username: Some(hostile.clone()),
        tool: Some(hostile.clone()),
    };
    let mut form = NewUserForm::default();
    form.username.clone_from(&hostile);
    form.email = hostile;
    let plan = UserPlan { user: user_row.clone(), action: Action::Activate, password_sha256: None };
    let access_plan = Plan::new(tool_row(), Some(Change::GrantEveryone));
    let target = change::Target {
        action: HOSTILE.to_owned(),
        fields: vec![("users", HOSTILE.to_owned())],
        back: HOSTILE.to_owned(),
    };
    let details = user::Details { tools: &[state], events: &[event_row()] };
    let granted = [HOSTILE.to_owned()];
    let tool_details = tool::Details { effective: 1, granted: &granted, excluded: &excluded };
    let entry = history::Entry { run: &run_row(), events: &[event], count: 2 };
    let said = Some(&Notice::Done("done"));
    let overview = Ok(overview());
    vec![
        ("account", account::account(settings, login, &user_row, said)),
        ("users", user::list(settings, login, &users)),
        ("user", user::show(settings, login, &user_row, &details, said)),
        ("new user", user::new(settings, login, &form, Some(HOSTILE))),
        ("new user, confirmed", user::confirm_new(settings, login, &form, &granted)),
        ("password", user::password(settings, login, "New", 1, HOSTILE, HOSTILE)),
        ("change of a user", user::confirm(settings, login, &plan, HOSTILE, true)),
        (
            "change of access",
            change::confirm(settings, login, &access_plan, &target, HOSTILE, true),
        ),
        ("tools", tool::list(settings, login, std::slice::from_ref(&summary))),
        ("tool of admins", tool::show(settings, login, &summary, &tool_details)),
        ("history", history::list(settings, login, &[run_row()], None, &[event_row()], Some(1))),
        ("change", history::entry(settings, login, &entry, said)),
        ("access matrix", matrix::matrix(settings, login, &window())),
        ("explanation", matrix::explain(settings, login, &explanation(), 1, 1)),
        ("deployments", deployment::deployments(settings, login, Some(&overview))),
    ]
}

fn window() -> matrix::Window {
    matrix::Window {
        filter: Filter::default(),
        users: vec![user_row()],
        count: 2,
        next: Some(HOSTILE.to_owned()),
        letters: vec!["<".to_owned()],
        tools: vec![tool_row()],
        wildcards: HashSet::new(),
        grants: HashMap::new(),
        exclusions: HashSet::new(),
        files: vec![EnvironmentName::Local],
        against: Some(EnvironmentName::Local),
        comparison: Some(Err(HOSTILE.to_owned())),
    }
}

fn explanation() -> Explanation {
    let fact = FactSource {
        origin: HOSTILE.to_owned(),
        since: NaiveDateTime::default(),
        reason: Some(HOSTILE.to_owned()),
    };
    Explanation {
        user: HOSTILE.to_owned(),
        tool: HOSTILE.to_owned(),
        may_use: false,
        reason: Reason::Excluded,
        grant: None,
        wildcard: None,
        exclusion: Some(fact),
        deleted: None,
        history: Vec::new(),
    }
}

fn overview() -> Overview {
    let text = HOSTILE.to_owned();
    let step = Step {
        id: text.clone(),
        outcome: Outcome::Failed(text.clone()),
        duration_ms: Some(1),
        evidence: vec![text.clone()],
    };
    let run = Run {
        id: text.clone(),
        started_at: text.clone(),
        user: text.clone(),
        release: text.clone(),
        outcome: Outcome::Failed(text.clone()),
        duration_ms: Some(1),
        steps: vec![step],
        problem: Some(text.clone()),
    };
    let backup = Backup {
        id: text.clone(),
        created_at: text.clone(),
        kind: text.clone(),
        size: 1,
        state: text.clone(),
        is_pinned: true,
    };
    let (journals, backups_folder) = (text.clone(), text);
    Overview { journals, runs: Some(vec![run]), backups_folder, backups: Some(vec![backup]) }
}
