//! The Platform API.

mod pipelines;

use std::{collections::BTreeMap, sync::Arc, thread};

use chrono::Utc;
use serde_json::{Value, json};

use self::pipelines::{couple, coupling_json, promote, promotion_targets};
use crate::{
    FaultKind, Shared,
    answer::Answer,
    process::{Plan, unpack},
    server::Request,
    world::{self, App, Build, Pipeline, Release, Slug, platform_time, secret, uuid},
};

/// Answers a request of the Platform API.
pub(crate) fn answer(shared: &Arc<Shared>, request: &Request) -> Answer {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    let body = &request.body;
    match (request.method.as_str(), path.as_slice()) {
        ("GET", ["account"] | ["users", _]) => Answer::ok(&json!({
            "id": world::USER, "email": world::EMAIL, "name": "Dev", "verified": true,
            "two_factor_authentication": false, "federated": false, "allow_tracking": false,
        })),
        ("GET", ["oauth", "authorizations", "~"]) => Answer::ok(&json!({
            "id": "authorization", "description": "of the tests", "scope": shared.scope, "updated_at": world::platform_time(chrono::Utc::now()),
        })),
        ("GET", ["account", "rate-limits"]) => {
            Answer::ok(&json!({ "remaining": shared.world().remaining }))
        }
        ("GET", ["account", "features" | "keys"] | ["teams"]) => Answer::ok(&json!([])),
        ("GET", ["apps"]) => {
            let apps: Vec<Value> = shared.world().apps.iter().map(App::json).collect();
            Answer::page(&apps, "name", request.range())
        }
        ("POST", ["apps"]) => create_app(shared, body),
        (_, ["apps", app, rest @ ..]) => {
            let Some(id) = shared.world().app(app).map(|app| app.id.clone()) else {
                return Answer::not_found("app");
            };
            of_app(shared, request, &id, rest)
        }
        ("POST", ["sources"]) => {
            let secret = secret();
            let url = format!("{}/__blob/{secret}", shared.address());
            Answer::created(&json!({ "source_blob": { "get_url": url, "put_url": url } }))
        }
        ("POST", ["pipelines"]) => {
            let pipeline = Pipeline { id: uuid(), name: text(body, "/name") };
            let answer = json!({ "id": pipeline.id, "name": pipeline.name });
            shared.world().pipelines.push(pipeline);
            Answer::created(&answer)
        }
        ("GET", ["pipelines", id]) => {
            match shared.world().pipelines.iter().find(|found| found.id == *id || found.name == *id)
            {
                Some(found) => Answer::ok(&json!({ "id": found.id, "name": found.name })),
                None => Answer::not_found("pipeline"),
            }
        }
        ("GET", ["pipelines"]) => {
            let all: Vec<Value> = shared
                .world()
                .pipelines
                .iter()
                .map(|found| json!({ "id": found.id, "name": found.name }))
                .collect();
            Answer::ok(&Value::Array(all))
        }
        ("GET", ["pipelines", id, "pipeline-couplings"]) => {
            let world = shared.world();
            let found =
                world.couplings.iter().filter(|found| found.pipeline == *id).map(coupling_json);
            Answer::ok(&Value::Array(found.collect()))
        }
        ("POST", ["pipeline-couplings"]) => couple(shared, body),
        ("POST", ["filters", "apps"]) => {
            let world = shared.world();
            let wanted: Vec<&str> = body["in"]["id"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let apps =
                world.apps.iter().filter(|app| wanted.contains(&app.id.as_str())).map(App::json);
            Answer::ok(&Value::Array(apps.collect()))
        }
        ("POST", ["pipeline-promotions"]) => promote(shared, body),
        ("GET", ["pipeline-promotions", id, "promotion-targets"]) => promotion_targets(shared, id),
        _ => crate::addons::answer(shared, request, &path),
    }
}

pub(crate) fn text(body: &Value, pointer: &str) -> String {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn create_app(shared: &Arc<Shared>, body: &Value) -> Answer {
    let name = match text(body, "/name") {
        name if name.is_empty() => format!("app-{}", &secret()[..8]),
        name => name,
    };
    if shared.world().app(&name).is_some() {
        return Answer::invalid("Name is already taken");
    }
    match shared.add_app(&name) {
        Ok(()) => Answer::created(&shared.world().app(&name).map(App::json).unwrap_or_default()),
        Err(error) => Answer::error(500, "internal_server_error", &error.to_string()),
    }
}

fn of_app(shared: &Arc<Shared>, request: &Request, app: &str, rest: &[&str]) -> Answer {
    let body = &request.body;
    let address = shared.address();
    let mut world = shared.world();
    let Some(found) = world.app_mut(app) else { return Answer::not_found("app") };
    match (request.method.as_str(), rest) {
        ("GET", []) => Answer::ok(&found.json()),
        ("PATCH", []) => {
            if let Some(maintenance) = body["maintenance"].as_bool() {
                found.maintenance = maintenance;
            }
            Answer::ok(&found.json())
        }
        ("GET", ["config-vars"]) => {
            drop(world);
            let mut world = shared.world();
            let is_hidden = world.faults.happens(&FaultKind::Unreachable);
            let mut found = world.app(app).map(|app| world.config_of(app)).unwrap_or_default();
            for value in found.values_mut().filter(|_| is_hidden) {
                if value.starts_with("postgres") {
                    "postgres://somebody@127.0.0.1:1/nothing".clone_into(value);
                }
            }
            Answer::ok(&json!(found))
        }
        ("PATCH", ["config-vars"]) => {
            drop(world);
            set_config(shared, app, body)
        }
        ("GET", ["releases"]) => {
            let releases: Vec<Value> = found
                .releases
                .iter()
                .map(|release| found.release_json(release, &address))
                .collect();
            Answer::page(&releases, "version", request.range())
        }
        ("POST", ["releases"]) => {
            drop(world);
            create_release(shared, app, body)
        }
        ("GET", ["releases", release, rest @ ..]) => {
            let wanted = release.trim_start_matches('v');
            let release = found
                .releases
                .iter()
                .find(|found| found.id == *release || found.version.to_string() == wanted);
            match (release, rest) {
                (Some(release), []) => Answer::ok(&found.release_json(release, &address)),
                (Some(release), ["config-vars"]) => Answer::ok(&json!(release.config)),
                _ => Answer::not_found("release"),
            }
        }
        ("POST", ["slugs"]) => {
            let types = body["process_types"].as_object().into_iter().flatten();
            let slug = Slug {
                id: uuid(),
                process_types: types
                    .filter_map(|(name, command)| {
                        Some((name.clone(), command.as_str()?.to_owned()))
                    })
                    .collect(),
                commit: body["commit"].as_str().map(str::to_owned),
                checksum: body["checksum"].as_str().map(str::to_owned),
                blob: secret(),
            };
            let url = format!("{address}/__blob/{}", slug.blob);
            let answer = slug_json(&slug, "put", &url);
            found.slugs.push(slug);
            Answer::created(&answer)
        }
        ("GET", ["slugs", slug]) => match found.slug(slug) {
            Some(slug) => {
                let url = format!("{address}/__blob/{}", slug.blob);
                Answer::ok(&slug_json(slug, "get", &url))
            }
            None => Answer::not_found("slug"),
        },
        ("GET", ["builds"]) => {
            let builds: Vec<Value> =
                found.builds.iter().map(|build| found.build_json(build, &address)).collect();
            Answer::page(&builds, "created_at", request.range())
        }
        ("GET", ["builds", id]) => match found.builds.iter().find(|build| build.id == *id) {
            Some(build) => Answer::ok(&found.build_json(build, &address)),
            None => Answer::not_found("build"),
        },
        ("POST", ["builds"]) => {
            drop(world);
            create_build(shared, app, body)
        }
        ("GET", ["formation"]) => Answer::ok(&Value::Array(found.formation_json())),
        ("PATCH", ["formation"]) => {
            for update in body["updates"].as_array().into_iter().flatten() {
                let quantity = match &update["quantity"] {
                    Value::String(text) => text.parse().ok(),
                    value => value.as_u64().and_then(|quantity| u32::try_from(quantity).ok()),
                };
                if let (Some(process_type), Some(quantity)) = (update["type"].as_str(), quantity) {
                    found.formation.insert(process_type.to_owned(), quantity);
                }
            }
            let answer = Answer::ok(&Value::Array(found.formation_json()));
            drop(world);
            shared.restart_web(app);
            answer
        }
        ("GET", ["pipeline-couplings"]) => {
            match world.couplings.iter().find(|coupling| coupling.app == app) {
                Some(coupling) => Answer::ok(&coupling_json(coupling)),
                None => Answer::not_found("pipeline coupling"),
            }
        }
        (_, ["dynos", rest @ ..]) => {
            drop(world);
            dynos(shared, request, app, rest)
        }
        ("POST", ["log-sessions"]) => {
            let dyno =
                body["dyno"].as_str().or_else(|| body["dyno_name"].as_str()).unwrap_or_default();
            let lines = usize::try_from(body["lines"].as_u64().unwrap_or(100)).unwrap_or(100);
            let shown: Vec<String> = found
                .log
                .iter()
                .filter(|(source, _)| dyno.is_empty() || source.contains(&format!("[{dyno}]")))
                .map(|(_, line)| line.clone())
                .collect();
            let shown = shown[shown.len().saturating_sub(lines)..].to_vec();
            let secret = secret();
            world.log_sessions.insert(secret.clone(), shown);
            let now = platform_time(Utc::now());
            Answer::created(&json!({
                "created_at": now, "id": uuid(), "updated_at": now,
                "logplex_url": format!("{address}/__log/{secret}"),
            }))
        }
        (_, ["addons" | "addon-attachments", ..]) => {
            drop(world);
            crate::addons::of_app(shared, request, app, rest)
        }
        _ => Answer::error(
            404,
            "not_found",
            "The requested API endpoint was not found. Are you using the right HTTP verb (i.e. `GET` vs. `POST`), and did you specify your intended version with the `Accept` header?",
        ),
    }
}

fn slug_json(slug: &Slug, method: &str, url: &str) -> Value {
    json!({
        "id": slug.id,
        "commit": slug.commit,
        "checksum": slug.checksum,
        "process_types": slug.process_types,
        "stack": { "id": "stack", "name": "heroku-24" },
        "blob": { "method": method, "url": url },
    })
}

fn set_config(shared: &Arc<Shared>, app: &str, body: &Value) -> Answer {
    let mut names = Vec::new();
    {
        let mut world = shared.world();
        let Some(app) = world.app_mut(app) else { return Answer::not_found("app") };
        for (name, value) in body.as_object().into_iter().flatten() {
            names.push(name.clone());
            match value.as_str() {
                Some(value) => app.config.insert(name.clone(), value.to_owned()),
                None => app.config.remove(name),
            };
        }
    }
    let slug = shared.world().app(app).and_then(|app| app.current()?.slug.clone());
    shared.release(app, &format!("Set {} config vars", names.join(", ")), slug, None);
    let world = shared.world();
    Answer::ok(&json!(world.app(app).map(|app| world.config_of(app))))
}

fn create_release(shared: &Arc<Shared>, app: &str, body: &Value) -> Answer {
    let (description, slug, config) = {
        let world = shared.world();
        let Some(app) = world.app(app) else { return Answer::not_found("app") };
        if let Some(slug) = body["slug"].as_str() {
            if app.slug(slug).is_none_or(|slug| !world.blobs.contains_key(&slug.blob)) {
                return Answer::invalid("The slug does not exist, or has no bytes");
            }
            let description = match text(body, "/description") {
                text if text.is_empty() => format!("Deploy {}", &slug[..8]),
                text => text,
            };
            (description, Some(slug.to_owned()), None)
        } else {
            let wanted = text(body, "/release");
            let Some(old) = app.releases.iter().find(|release| release.id == wanted) else {
                return Answer::not_found("release");
            };
            if old.slug.is_none() || old.status != "succeeded" {
                return Answer::invalid("Cannot roll back to a release that is not eligible");
            }
            (format!("Rollback to v{}", old.version), old.slug.clone(), Some(old.config.clone()))
        }
    };
    if config.is_some() {
        let mut world = shared.world();
        if world.faults.happens(&FaultKind::OldDatabase) {
            let other = world.other_database_of(app);
            if let Some(app) = world.app_mut(app) {
                app.old_database = other;
            }
        }
    }
    let id = shared.release(app, &description, slug, config);
    let world = shared.world();
    let found = world.app(app).and_then(|app| {
        let release = app.releases.iter().find(|release| release.id == id)?;
        Some(app.release_json(release, &shared.address()))
    });
    found.map_or_else(|| Answer::not_found("release"), |found| Answer::created(&found))
}

impl Shared {
    /// Makes a release and lets its release phase run; returns its id at once.
    pub(crate) fn release(
        self: &Arc<Self>,
        app: &str,
        description: &str,
        slug: Option<String>,
        config: Option<BTreeMap<String, String>>,
    ) -> String {
        let id = uuid();
        let (release, command) = {
            let mut world = self.world();
            let Some(found) = world.app_mut(app) else { return id };
            if let Some(config) = config {
                found.config = config;
            }
            let config = found.config.clone();
            let command = slug
                .as_deref()
                .and_then(|slug| found.slug(slug))
                .and_then(|slug| slug.process_types.get("release").cloned());
            let release = Release {
                id: id.clone(),
                version: found.releases.last().map_or(0, |release| release.version) + 1,
                status: if command.is_some() { "pending" } else { "succeeded" },
                description: description.to_owned(),
                current: false,
                slug,
                config,
                output: command.is_some().then(secret),
                created_at: Utc::now(),
            };
            if found.formation.is_empty() && release.slug.is_some() {
                found.formation.insert("web".to_owned(), 1);
            }
            found.releases.push(release.clone());
            (release, command)
        };
        match command {
            None => self.make_current(app, &release.id),
            Some(command) => {
                let (shared, app) = (Arc::clone(self), app.to_owned());
                thread::spawn(move || {
                    let is_well = shared.run_release_phase(&app, &release, &command);
                    if is_well {
                        shared.make_current(&app, &release.id);
                    } else if let Some(found) = shared.world().app_mut(&app)
                        && let Some(found) =
                            found.releases.iter_mut().find(|found| found.id == release.id)
                    {
                        found.status = "failed";
                    }
                });
            }
        }
        id
    }

    fn make_current(self: &Arc<Self>, app: &str, release: &str) {
        {
            let mut world = self.world();
            let Some(found) = world.app_mut(app) else { return };
            for other in &mut found.releases {
                other.current = other.id == release;
                if other.current {
                    other.status = "succeeded";
                }
            }
        }
        self.restart_web(app);
    }
}

fn create_build(shared: &Arc<Shared>, app: &str, body: &Value) -> Answer {
    let build = Build {
        id: uuid(),
        status: "pending",
        source: body["source_blob"].clone(),
        slug: None,
        release: None,
        output: secret(),
        created_at: Utc::now(),
    };
    let (id, output) = (build.id.clone(), build.output.clone());
    let answer = {
        let mut world = shared.world();
        world.outputs.insert(output.clone(), "-----> Building on the Heroku-24 stack\n".to_owned());
        let Some(found) = world.app_mut(app) else { return Answer::not_found("app") };
        let answer = found.build_json(&build, &shared.address());
        found.builds.push(build);
        answer
    };
    let url = text(body, "/source_blob/url");
    let version = text(body, "/source_blob/version");
    let (shared, app) = (Arc::clone(shared), app.to_owned());
    thread::spawn(move || {
        let blob = url.rsplit('/').next().unwrap_or_default().to_owned();
        let built = build_slug(&shared, &app, &blob, &version);
        let mut release = None;
        if let Ok(slug) = &built {
            release =
                Some(shared.release(&app, &format!("Deploy {version}"), Some(slug.clone()), None));
        }
        let mut world = shared.world();
        let line = match &built {
            Ok(_) => "-----> Launching...\n".to_owned(),
            Err(error) => format!(" !     {error}\n !     Push rejected, failed to compile app.\n"),
        };
        world.outputs.entry(output).or_default().push_str(&line);
        if let Some(found) =
            world.app_mut(&app).and_then(|app| app.builds.iter_mut().find(|build| build.id == id))
        {
            found.status = if built.is_ok() { "succeeded" } else { "failed" };
            found.slug = built.ok();
            found.release = release;
        }
    });
    Answer::created(&answer)
}

/// Takes the source as it is for the slug, as a buildpack for prebuilt programs does. Its Procfile says what runs.
fn build_slug(
    shared: &Arc<Shared>,
    app: &str,
    blob: &str,
    version: &str,
) -> Result<String, String> {
    if shared.world().faults.happens(&FaultKind::FailBuild) {
        return Err("asked to fail".to_owned());
    }
    let source = shared.world().blobs.get(blob).cloned().ok_or("there is no source")?;
    let id = uuid();
    let folder = shared.folder.join("slugs").join(&id);
    let unpacked = folder.join("app");
    std::fs::create_dir_all(&unpacked).map_err(|error| error.to_string())?;
    unpack(&source, &unpacked)
        .map_err(|error| format!("the source cannot be unpacked: {error}"))?;
    let procfile = std::fs::read_to_string(unpacked.join("Procfile"))
        .map_err(|_| "No Procfile, so no process types".to_owned())?;
    let types = procfile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, command)| (name.trim().to_owned(), command.trim().to_owned()));
    let slug = Slug {
        id: id.clone(),
        process_types: types.collect(),
        commit: Some(version.to_owned()),
        checksum: None,
        blob: blob.to_owned(),
    };
    shared.world().app_mut(app).ok_or("the app is gone")?.slugs.push(slug);
    Ok(id)
}

fn dynos(shared: &Arc<Shared>, request: &Request, app: &str, rest: &[&str]) -> Answer {
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            let world = shared.world();
            let Some(app) = world.app(app) else { return Answer::not_found("app") };
            Answer::ok(&Value::Array(app.dynos.iter().map(|dyno| app.dyno_json(dyno)).collect()))
        }
        ("GET", [dyno]) => {
            let world = shared.world();
            let found = world.app(app).and_then(|app| {
                let dyno =
                    app.dynos.iter().find(|found| found.name == *dyno || found.id == *dyno)?;
                Some(app.dyno_json(dyno))
            });
            found.map_or_else(|| Answer::not_found("dyno"), |found| Answer::ok(&found))
        }
        ("POST", []) => {
            let body = &request.body;
            let Some(command) = body["command"].as_str() else {
                return Answer::invalid("Command is required");
            };
            let variables = body["env"].as_object().into_iter().flatten();
            let plan = Plan {
                id: uuid(),
                app: app.to_owned(),
                process_type: body["type"].as_str().unwrap_or("run").to_owned(),
                command: command.to_owned(),
                variables: variables
                    .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                    .collect(),
                size: body["size"].as_str().unwrap_or("Basic").to_owned(),
                attach: body["attach"].as_bool().unwrap_or(false),
                time_to_live: body["time_to_live"].as_u64(),
            };
            match shared.start_one_off(plan) {
                Ok(name) => {
                    let world = shared.world();
                    let found = world.app(app).and_then(|app| {
                        let dyno = app.dynos.iter().find(|dyno| dyno.name == name)?;
                        Some(app.dyno_json(dyno))
                    });
                    // A command may end before its answer is written.
                    let ended = || json!({ "id": uuid(), "name": name, "state": "down", "command": command, "type": "run" });
                    Answer::created(&found.unwrap_or_else(ended))
                }
                Err(error) => Answer::error(409, "conflict", &error),
            }
        }
        ("DELETE", []) => {
            shared.restart_web(app);
            Answer::json(202, &json!({}))
        }
        ("POST", [dyno, "actions", "stop"]) | ("DELETE", [dyno]) => {
            let is_there = shared.world().app(app).is_some_and(|app| {
                app.dynos.iter().any(|found| found.name == *dyno || found.id == *dyno)
            });
            if !is_there {
                return Answer::not_found("dyno");
            }
            shared.stop_dynos(app, |found| found.name == *dyno || found.id == *dyno);
            Answer::json(202, &json!({}))
        }
        _ => Answer::not_found("dyno"),
    }
}
