//! Add-ons and attachments.

use std::sync::Arc;

use chrono::Utc;
use serde_json::{Value, json};

use crate::{
    Shared,
    answer::Answer,
    platform::text,
    server::Request,
    world::{AddOn, Attachment, World, secret, uuid},
};

const COLORS: [&str; 6] = ["NAVY", "AMBER", "OLIVE", "TEAL", "PINK", "COPPER"];

pub(crate) fn answer(shared: &Arc<Shared>, request: &Request, path: &[&str]) -> Answer {
    let body = &request.body;
    match (request.method.as_str(), path) {
        ("POST", ["actions", "addon-attachments", "resolve"]) => resolve_attachment(shared, body),
        ("POST", ["actions", "addons", "resolve"]) => {
            let world = shared.world();
            let wanted = text(body, "/addon");
            let app = world.app(&text(body, "/app")).map(|app| app.id.clone());
            let by_attachment =
                find_attachment(&world, &wanted, app.as_deref()).map(|found| found.addon.clone());
            let found = by_attachment
                .as_deref()
                .and_then(|id| world.addon(id))
                .or_else(|| world.addon(&wanted));
            match found {
                Some(found) => Answer::ok(&json!([world.addon_json(found)])),
                None => Answer::not_found("add-on"),
            }
        }
        ("GET", ["addon-attachments"]) => {
            let world = shared.world();
            Answer::ok(&Value::Array(
                world.attachments.iter().map(|found| world.attachment_json(found)).collect(),
            ))
        }
        ("POST", ["addon-attachments"]) => attach(shared, body),
        ("DELETE", ["addon-attachments", id]) => detach(shared, id),
        ("GET", ["addons", addon]) => {
            let world = shared.world();
            world.addon(addon).map_or_else(
                || Answer::not_found("add-on"),
                |found| Answer::ok(&world.addon_json(found)),
            )
        }
        ("GET", ["addons", addon, "addon-attachments"]) => {
            let world = shared.world();
            let Some(id) = world.addon(addon).map(|addon| addon.id.clone()) else {
                return Answer::not_found("add-on");
            };
            let found = world.attachments.iter().filter(|found| found.addon == id);
            Answer::ok(&Value::Array(found.map(|found| world.attachment_json(found)).collect()))
        }
        _ => Answer::error(404, "not_found", "The requested API endpoint was not found."),
    }
}

pub(crate) fn of_app(shared: &Arc<Shared>, request: &Request, app: &str, rest: &[&str]) -> Answer {
    match (request.method.as_str(), rest) {
        ("GET", ["addons"]) => {
            let world = shared.world();
            let found = world.addons.iter().filter(|addon| addon.app == app);
            Answer::ok(&Value::Array(found.map(|addon| world.addon_json(addon)).collect()))
        }
        ("POST", ["addons"]) => create(shared, app, &request.body),
        ("GET", ["addons", addon]) => {
            let mut world = shared.world();
            if let Some(found) = world.addon_mut(addon) {
                found.looks = found.looks.saturating_sub(1);
                if found.looks == 0 && found.state == "provisioning" {
                    found.state = "provisioned";
                }
            }
            world.addon(addon).map_or_else(
                || Answer::not_found("add-on"),
                |found| Answer::ok(&world.addon_json(found)),
            )
        }
        ("DELETE", ["addons", addon]) => destroy(shared, app, addon),
        ("GET", ["addon-attachments"]) => {
            let world = shared.world();
            let found = world.attachments.iter().filter(|found| found.app == app);
            Answer::ok(&Value::Array(found.map(|found| world.attachment_json(found)).collect()))
        }
        ("GET", ["addon-attachments", name]) => {
            let world = shared.world();
            let found =
                world.attachments.iter().find(|found| found.app == app && found.name == *name);
            found.map_or_else(
                || Answer::not_found("add-on attachment"),
                |found| Answer::ok(&world.attachment_json(found)),
            )
        }
        _ => Answer::error(404, "not_found", "The requested API endpoint was not found."),
    }
}

fn find_attachment<'a>(
    world: &'a World,
    wanted: &str,
    app: Option<&str>,
) -> Option<&'a Attachment> {
    let name = wanted.strip_suffix("_URL").unwrap_or(wanted);
    world.attachments.iter().find(|found| {
        found.id == wanted || (app.is_none_or(|app| found.app == app) && found.name == name)
    })
}

fn resolve_attachment(shared: &Arc<Shared>, body: &Value) -> Answer {
    let world = shared.world();
    let app = world.app(&text(body, "/app")).map(|app| app.id.clone());
    let wanted = text(body, "/addon_attachment");
    let found: Vec<Value> = match find_attachment(&world, &wanted, app.as_deref()) {
        Some(found) => vec![world.attachment_json(found)],
        None => {
            let addon = world.addon(&wanted).map(|addon| addon.id.clone());
            let found = world.attachments.iter().filter(|found| {
                Some(&found.addon) == addon.as_ref()
                    && app.as_deref().is_none_or(|app| found.app == app)
            });
            found.take(1).map(|found| world.attachment_json(found)).collect()
        }
    };
    if found.is_empty() {
        Answer::not_found("add-on attachment")
    } else {
        Answer::ok(&Value::Array(found))
    }
}

fn create(shared: &Arc<Shared>, app: &str, body: &Value) -> Answer {
    let plan = match text(body, "/plan/name") {
        plan if plan.is_empty() => text(body, "/plan"),
        plan => plan,
    };
    if !plan.starts_with("heroku-postgresql") {
        return Answer::invalid("This emulator has no such add-on");
    }
    let name = match text(body, "/name") {
        name if name.is_empty() => format!("postgresql-{}-{}", &secret()[..6], &secret()[..5]),
        name => name,
    };
    let leader = match body["config"]["follow"].as_str() {
        None => None,
        Some(follow) => {
            let world = shared.world();
            let id = find_attachment(&world, follow, Some(app)).map(|found| found.addon.clone());
            match id.as_deref().or(Some(follow)).and_then(|id| world.addon(id)) {
                None => return Answer::not_found("add-on"),
                Some(leader) if leader.plan.contains("essential") => {
                    return Answer::invalid("This plan does not support followers");
                }
                Some(leader) => Some(leader.id.clone()),
            }
        }
    };
    if shared.world().addon(&name).is_some() {
        return Answer::invalid("Name is already taken");
    }
    match shared.add_database(app, &name, &plan, body["attachment"]["name"].as_str(), leader) {
        Ok(()) => {
            let world = shared.world();
            world.addon(&name).map_or_else(
                || Answer::not_found("add-on"),
                |found| Answer::created(&world.addon_json(found)),
            )
        }
        Err(error) => Answer::error(500, "internal_server_error", &error),
    }
}

impl Shared {
    /// Makes a database, and attaches it.
    pub(crate) fn add_database(
        self: &Arc<Self>,
        app: &str,
        name: &str,
        plan: &str,
        attachment: Option<&str>,
        leader: Option<String>,
    ) -> Result<(), String> {
        let server = self.server.as_ref().ok_or("this emulator has no PostgreSQL server")?;
        let database = format!("heroku_{}", &secret()[..16]);
        server.create(&database)?;
        let url = server.address(&database);
        let app_id = self.world().app(app).map(|app| app.id.clone()).ok_or("no such app")?;
        let id = uuid();
        {
            let mut world = self.world();
            let taken = |name: &str| {
                world.attachments.iter().any(|found| found.app == app_id && found.name == name)
            };
            let attached = match attachment {
                Some(name) => name.to_owned(),
                None if !taken("DATABASE") => "DATABASE".to_owned(),
                None => {
                    let color =
                        COLORS.iter().find(|color| !taken(&format!("HEROKU_POSTGRESQL_{color}")));
                    format!("HEROKU_POSTGRESQL_{}", color.unwrap_or(&"GRAY"))
                }
            };
            world.attachments.push(Attachment {
                id: uuid(),
                app: app_id.clone(),
                addon: id.clone(),
                name: attached,
                created_at: Utc::now(),
            });
            world.addons.push(AddOn {
                id: id.clone(),
                name: name.to_owned(),
                app: app_id,
                plan: plan.to_owned(),
                state: "provisioning",
                url,
                follows: leader.clone(),
                looks: 2,
                created_at: Utc::now(),
            });
        }
        if leader.is_some() {
            self.follow(&id)?;
        }
        Ok(())
    }

    /// Brings a follower up to its leader.
    pub(crate) fn follow(&self, follower: &str) -> Result<(), String> {
        let Some(server) = &self.server else { return Ok(()) };
        let (from, to) = {
            let world = self.world();
            let Some(follower) = world.addon(follower) else { return Ok(()) };
            let Some(leader) = follower.follows.as_deref().and_then(|leader| world.addon(leader))
            else {
                return Ok(());
            };
            (leader.url.clone(), follower.url.clone())
        };
        let file = self.folder.join(format!("{}.follow", secret()));
        let done = server.dump(&from, &file).and_then(|()| server.restore(&to, &file));
        let _ = std::fs::remove_file(file);
        done
    }
}

fn destroy(shared: &Arc<Shared>, app: &str, addon: &str) -> Answer {
    let mut world = shared.world();
    let Some(at) = world
        .addons
        .iter()
        .position(|found| (found.name == addon || found.id == addon) && found.app == app)
    else {
        return Answer::not_found("add-on");
    };
    let mut gone = world.addons.remove(at);
    gone.state = "deprovisioned";
    let answer = Answer::ok(&world.addon_json(&gone));
    world.attachments.retain(|found| found.addon != gone.id);
    drop(world);
    if let (Some(server), Some(name)) = (&shared.server, gone.url.rsplit('/').next()) {
        let name = name.split('?').next().unwrap_or(name);
        if let Err(error) = server.drop(name) {
            return Answer::error(500, "internal_server_error", &error);
        }
    }
    answer
}

fn attach(shared: &Arc<Shared>, body: &Value) -> Answer {
    let (app, name, addon, slug) = {
        let world = shared.world();
        let wanted = match text(body, "/addon/name") {
            name if name.is_empty() => text(body, "/addon"),
            name => name,
        };
        let Some(addon) = world.addon(&wanted) else { return Answer::not_found("add-on") };
        let wanted = match text(body, "/app/name") {
            name if name.is_empty() => text(body, "/app"),
            name => name,
        };
        let Some(app) = world.app(&wanted) else { return Answer::not_found("app") };
        let taken = |name: &str| {
            world.attachments.iter().any(|found| found.app == app.id && found.name == name)
        };
        let name = match body["name"].as_str() {
            Some(name) => name.to_owned(),
            None => {
                let color =
                    COLORS.iter().find(|color| !taken(&format!("HEROKU_POSTGRESQL_{color}")));
                format!("HEROKU_POSTGRESQL_{}", color.unwrap_or(&"GRAY"))
            }
        };
        let slug = app.current().and_then(|release| release.slug.clone());
        (app.id.clone(), name, (addon.id.clone(), addon.name.clone()), slug)
    };
    let (addon, addon_name) = addon;
    let old = {
        let mut world = shared.world();
        let old = world.attachments.iter().position(|found| found.app == app && found.name == name);
        old.map(|at| world.attachments.remove(at))
    };
    if let Some(old) = old {
        let old_name =
            shared.world().addon(&old.addon).map(|addon| addon.name.clone()).unwrap_or_default();
        shared.release(&app, &format!("Detach {name} (@ref:{old_name})"), slug.clone(), None);
    }
    let attachment = Attachment {
        id: uuid(),
        app: app.clone(),
        addon,
        name: name.clone(),
        created_at: Utc::now(),
    };
    let answer = {
        let mut world = shared.world();
        let answer = Answer::created(&world.attachment_json(&attachment));
        world.attachments.push(attachment);
        if let Some(app) = world.app_mut(&app) {
            app.old_database = None;
        }
        answer
    };
    shared.release(&app, &format!("Attach {name} (@ref:{addon_name})"), slug, None);
    answer
}

fn detach(shared: &Arc<Shared>, id: &str) -> Answer {
    let (gone, slug, answer) = {
        let mut world = shared.world();
        let Some(at) = world.attachments.iter().position(|found| found.id == id) else {
            return Answer::not_found("add-on attachment");
        };
        let gone = world.attachments.remove(at);
        let answer = Answer::ok(&world.attachment_json(&gone));
        let slug = world.app(&gone.app).and_then(|app| app.current()?.slug.clone());
        (gone, slug, answer)
    };
    shared.release(&gone.app, &format!("Detach {}", gone.name), slug, None);
    answer
}
