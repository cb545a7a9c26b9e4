//! Pipelines, and promotions through them.

use std::sync::Arc;

use chrono::Utc;
use serde_json::{Value, json};

use super::text;
use crate::{
    Shared,
    answer::Answer,
    world::{Coupling, Promotion, platform_time, uuid},
};

pub(super) fn coupling_json(coupling: &Coupling) -> Value {
    json!({
        "app": { "id": coupling.app },
        "id": coupling.id,
        "pipeline": { "id": coupling.pipeline },
        "stage": coupling.stage,
    })
}

pub(super) fn couple(shared: &Arc<Shared>, body: &Value) -> Answer {
    let mut world = shared.world();
    let Some(app) = world
        .app(&text(body, "/app"))
        .or_else(|| world.app(&text(body, "/app/id")))
        .map(|app| app.id.clone())
    else {
        return Answer::not_found("app");
    };
    let wanted = match text(body, "/pipeline") {
        id if id.is_empty() => text(body, "/pipeline/id"),
        id => id,
    };
    let Some(pipeline) = world
        .pipelines
        .iter()
        .find(|found| found.id == wanted || found.name == wanted)
        .map(|found| found.id.clone())
    else {
        return Answer::not_found("pipeline");
    };
    let coupling = Coupling { id: uuid(), app, pipeline, stage: text(body, "/stage") };
    let answer = coupling_json(&coupling);
    world.couplings.push(coupling);
    Answer::created(&answer)
}

pub(super) fn promote(shared: &Arc<Shared>, body: &Value) -> Answer {
    let source = text(body, "/source/app/id");
    let found = {
        let world = shared.world();
        world.app(&source).and_then(|app| {
            let slug = app.slug(app.current()?.slug.as_deref()?)?.clone();
            Some((app.name.clone(), app.current()?.version, slug))
        })
    };
    let Some((name, version, slug)) = found else {
        return Answer::invalid("The source app has no release to promote");
    };
    let mut targets = Vec::new();
    for target in body["targets"].as_array().into_iter().flatten() {
        let app = text(target, "/app/id");
        {
            let mut world = shared.world();
            let Some(found) = world.app_mut(&app) else { return Answer::not_found("app") };
            found.slugs.push(slug.clone());
        }
        let description = format!("Promote {name} v{version}");
        let release = shared.release(&app, &description, Some(slug.id.clone()), None);
        targets.push((app, Some(release), "pending", None));
    }
    let promotion = Promotion { id: uuid(), pipeline: text(body, "/pipeline/id"), source, targets };
    let answer = json!({
        "created_at": platform_time(Utc::now()),
        "id": promotion.id,
        "pipeline": { "id": promotion.pipeline },
        "source": { "app": { "id": promotion.source } },
        "status": "pending",
        "updated_at": platform_time(Utc::now()),
    });
    shared.world().promotions.push(promotion);
    Answer::created(&answer)
}

pub(super) fn promotion_targets(shared: &Arc<Shared>, id: &str) -> Answer {
    let world = shared.world();
    let Some(promotion) = world.promotions.iter().find(|found| found.id == id) else {
        return Answer::not_found("pipeline promotion");
    };
    let targets = promotion.targets.iter().map(|(app, release, _, _)| {
        let found = world
            .app(app)
            .and_then(|app| app.releases.iter().find(|found| Some(&found.id) == release.as_ref()));
        let (status, error) = match found.map(|release| release.status) {
            Some("succeeded") => ("succeeded", None),
            Some("failed") => ("failed", Some("The release phase failed")),
            _ => ("pending", None),
        };
        json!({
            "app": { "id": app },
            "error_message": error,
            "id": format!("{id}-{app}"),
            "pipeline_promotion": { "id": id },
            "release": release.as_ref().map(|id| json!({ "id": id })),
            "status": status,
        })
    });
    Answer::ok(&Value::Array(targets.collect()))
}
