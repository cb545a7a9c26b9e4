//! The Data API: databases, and backups, restores and copies of them.

use std::{sync::Arc, thread};

use chrono::Utc;
use serde_json::{Value, json};

use crate::{
    FaultKind, Shared,
    answer::Answer,
    platform::text,
    server::Request,
    world::{Transfer, secret, transfer_time, uuid},
};

pub(crate) fn answer(shared: &Arc<Shared>, request: &Request, path: &[&str]) -> Answer {
    match (request.method.as_str(), path) {
        (_, ["client", "v11", "databases", id, rest @ ..]) => {
            let Some(id) = shared.world().addon(id).map(|addon| addon.id.clone()) else {
                return missing();
            };
            of_database(shared, request, &id, rest)
        }
        (_, ["client", "v11", "apps", app, "transfers", rest @ ..]) => {
            let Some(app) = shared.world().app(app).map(|app| app.id.clone()) else {
                return missing();
            };
            of_app(shared, request, &app, rest)
        }
        (_, ["postgres", "v0", "databases", id, "credentials", rest @ ..]) => {
            let world = shared.world();
            let Some(addon) = world.addon(id) else { return missing() };
            credentials(&addon.url, request, rest)
        }
        _ => missing(),
    }
}

/// As recorded from the true service: HTML that is labelled as JSON.
fn missing() -> Answer {
    Answer::text(404, "application/json", "<h1>Not Found</h1>")
}

fn credentials(address: &str, request: &Request, rest: &[&str]) -> Answer {
    let url = url::Url::parse(address).ok();
    let credential = json!({
        "uuid": "c0ffee00-0000-4000-8000-000000000000",
        "name": "default",
        "state": "active",
        "database": url.as_ref().map(|url| url.path().trim_start_matches('/').to_owned()),
        "host": url.as_ref().and_then(url::Url::host_str),
        "port": url.as_ref().and_then(url::Url::port),
        "credentials": [{
            "user": url.as_ref().map(url::Url::username),
            "password": url.as_ref().and_then(url::Url::password),
            "state": "active",
            "connections": null,
        }],
    });
    match (request.method.as_str(), rest) {
        ("GET", []) => Answer::ok(&json!([credential])),
        ("GET", ["default"]) => Answer::ok(&credential),
        ("POST", ["default", "credentials_rotation"]) => {
            Answer::ok(&json!({ "message": "Rotating credentials on database" }))
        }
        _ => missing(),
    }
}

fn of_database(shared: &Arc<Shared>, request: &Request, id: &str, rest: &[&str]) -> Answer {
    let body = &request.body;
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            // A follower is looked at to see whether it has caught up; here it does so then.
            if let Err(error) = shared.follow(id) {
                return Answer::error(500, "internal_server_error", &error);
            }
            database(shared, id)
        }
        ("GET", ["wait_status"]) => {
            let mut world = shared.world();
            let Some(addon) = world.addon_mut(id) else { return missing() };
            let is_waiting = addon.looks > 0;
            addon.looks = addon.looks.saturating_sub(1);
            if addon.looks == 0 && addon.state == "provisioning" {
                addon.state = "provisioned";
            }
            let message = if is_waiting { "preparing" } else { "available" };
            Answer::ok(&json!({ "waiting?": is_waiting, "message": message }))
        }
        ("PUT", ["unfollow"]) => {
            if let Err(error) = shared.follow(id) {
                return Answer::error(500, "internal_server_error", &error);
            }
            if let Some(addon) = shared.world().addon_mut(id) {
                addon.follows = None;
            }
            Answer::ok(&json!({ "message": "unfollowing" }))
        }
        ("PUT", ["reset"]) => {
            let url = shared.world().addon(id).map(|addon| addon.url.clone()).unwrap_or_default();
            match shared.server.as_ref().map(|server| server.empty(&url)) {
                Some(Ok(())) => Answer::ok(&json!({ "message": "Reset successful." })),
                _ => Answer::error(500, "internal_server_error", "cannot reset"),
            }
        }
        ("POST", ["backups"]) => begin(shared, id, Work::Backup),
        ("POST", ["restores"]) => begin(shared, id, Work::Restore(text(body, "/backup_url"))),
        ("POST", ["transfers"]) => {
            let work = Work::Copy {
                from_name: text(body, "/from_name"),
                from_url: text(body, "/from_url"),
                to_name: text(body, "/to_name"),
            };
            begin(shared, id, work)
        }
        ("GET", ["transfer-schedules"]) => {
            Answer::ok(&Value::Array(shared.world().schedules.clone()))
        }
        ("POST", ["transfer-schedules"]) => {
            let now = transfer_time(Utc::now());
            let name = text(body, "/schedule_name");
            let hour: u64 =
                body["hour"].as_u64().or_else(|| text(body, "/hour").parse().ok()).unwrap_or(0);
            let schedule = json!({
                "uuid": uuid(), "name": name, "hour": hour, "timezone": text(body, "/timezone"),
                "days": ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"],
                "created_at": now, "updated_at": now, "deleted_at": null, "retain_weeks": 1, "retain_months": 0,
            });
            let mut world = shared.world();
            world.schedules.retain(|found| found["name"] != name);
            world.schedules.push(schedule.clone());
            Answer::created(&schedule)
        }
        ("DELETE", ["transfer-schedules", uuid]) => {
            shared.world().schedules.retain(|found| found["uuid"] != *uuid);
            Answer::ok(&json!({}))
        }
        _ => missing(),
    }
}

fn database(shared: &Arc<Shared>, id: &str) -> Answer {
    let (addon, url, plan, leader, looks, is_behind) = {
        let mut world = shared.world();
        let is_behind = world.faults.happens(&FaultKind::FollowerBehind);
        let Some(addon) = world.addon(id) else { return missing() };
        let leader = addon
            .follows
            .as_deref()
            .and_then(|leader| world.addon(leader))
            .map(|leader| leader.url.clone());
        (addon.name.clone(), addon.url.clone(), addon.plan.clone(), leader, addon.looks, is_behind)
    };
    let (size, tables) = match &shared.server {
        Some(server) => (server.size(&url), server.tables(&url)),
        None => (0, 0),
    };
    let tier = plan.rsplit(':').next().unwrap_or_default().to_owned();
    let mut info = vec![
        json!({ "name": "Plan", "values": [tier] }),
        json!({ "name": "Status", "values": ["Available"] }),
        json!({ "name": "Data Size", "values": [format!("{} kB", size / 1024)] }),
        json!({ "name": "Tables", "values": [tables] }),
        json!({ "name": "PG Version", "values": ["15.8"] }),
        json!({ "name": "Connections", "values": ["2/120"] }),
        json!({ "name": "Continuous Protection", "values": ["Off"] }),
        json!({ "name": "Fork/Follow", "values": ["Available"] }),
    ];
    if let Some(leader) = &leader {
        let behind = if is_behind { "17 commits" } else { "0 commits" };
        info.push(json!({ "name": "Following", "values": [leader], "resolve_db_name": true }));
        info.push(json!({ "name": "Behind By", "values": [behind] }));
    }
    let plan = match tier.starts_with("essential") {
        true => json!(tier),
        false => json!({ "id": 170, "name": tier, "tier": tier.split('-').next() }),
    };
    Answer::ok(&json!({
        "addon_id": id, "name": addon, "resource_url": url, "following": leader, "forked_from": null,
        "hot_standby?": true, "num_bytes": size, "num_tables": tables, "num_connections": 2,
        "postgres_version": "15.8", "plan": plan, "waiting?": looks > 0, "leader": null,
        "available_for_ingress": true, "is_in_recovery?": leader.is_some(), "port": 5432,
        "created_at": Utc::now().format("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string(), "credentials": 1, "info": info,
    }))
}

enum Work {
    Backup,
    Restore(String),
    Copy { from_name: String, from_url: String, to_name: String },
}

fn begin(shared: &Arc<Shared>, addon: &str, work: Work) -> Answer {
    let blob = secret();
    let (transfer, url, fails, empties, warns) = {
        let mut world = shared.world();
        let empties =
            matches!(work, Work::Restore(_)) && world.faults.happens(&FaultKind::FailRestore);
        let fails = world.faults.happens(&FaultKind::FailTransfer);
        let warns = world.faults.happens(&FaultKind::WarnTransfer);
        let Some(found) = world.addon(addon) else { return missing() };
        let (app, url) = (found.app.clone(), found.url.clone());
        // As recorded: of a small plan, and of standard-0.
        let num_keep = if found.plan.contains("essential") { 2 } else { 25 };
        let attachment = world.attachments.iter().find(|attachment| attachment.addon == addon);
        let name = attachment.map_or_else(
            || "DATABASE".to_owned(),
            |found| found.name.trim_start_matches("HEROKU_POSTGRESQL_").to_owned(),
        );
        let stored = format!("https://localhost:{}/backups/{blob}", shared.storage().port());
        let (from, to, blob) = match &work {
            Work::Backup => (
                (name, "pg_dump", url.clone()),
                ("BACKUP".to_owned(), "gof3r", stored),
                Some(blob.clone()),
            ),
            Work::Restore(backup) => (
                ("BACKUP".to_owned(), "htcat", backup.clone()),
                (name, "pg_restore", url.clone()),
                None,
            ),
            Work::Copy { from_name, from_url, to_name } => (
                (from_name.clone(), "pg_dump", from_url.clone()),
                (to_name.clone(), "pg_restore", url.clone()),
                None,
            ),
        };
        let num = world
            .transfers
            .iter()
            .filter(|transfer| transfer.app == app)
            .map(|transfer| transfer.num)
            .max()
            .unwrap_or(0)
            + 1;
        let transfer = Transfer {
            uuid: uuid(),
            num,
            app,
            from_name: from.0,
            from_type: from.1,
            from_url: from.2,
            to_name: to.0,
            to_type: to.1,
            to_url: to.2,
            blob,
            source_bytes: None,
            processed_bytes: 0,
            num_keep,
            succeeded: None,
            warnings: 0,
            created_at: Utc::now(),
            started_at: None,
            finished_at: None,
            canceled_at: None,
            logs: Vec::new(),
        };
        world.transfers.push(transfer.clone());
        (transfer, url, fails, empties, warns)
    };
    let answer = Answer::created(&transfer.json(false));
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let id = transfer.uuid.clone();
        shared.change_transfer(&id, |transfer| transfer.started_at = Some(Utc::now()));
        let done = if empties {
            let emptied = shared.server.as_ref().map(|server| server.empty(&url));
            Err(format!("asked to fail with the database empty: {emptied:?}"))
        } else if fails {
            Err("asked to fail".to_owned())
        } else {
            shared.work(&transfer, &url, &work)
        };
        shared.change_transfer(&id, |transfer| {
            if transfer.canceled_at.is_some() {
                return;
            }
            transfer.finished_at = Some(Utc::now());
            transfer.succeeded = Some(done.is_ok());
            transfer.warnings = u64::from(warns);
            match done {
                Ok(bytes) => {
                    transfer.processed_bytes = bytes;
                    transfer.source_bytes = Some(bytes);
                }
                Err(error) => transfer.logs.push(error),
            }
        });
    });
    answer
}

impl Shared {
    fn change_transfer(&self, uuid: &str, change: impl FnOnce(&mut Transfer)) {
        if let Some(transfer) = self.world().transfers.iter_mut().find(|found| found.uuid == uuid) {
            change(transfer);
        }
    }

    fn work(&self, transfer: &Transfer, url: &str, work: &Work) -> Result<u64, String> {
        let server = self.server.as_ref().ok_or("this emulator has no PostgreSQL server")?;
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |found| found.len());
        match work {
            Work::Backup => {
                let blob = transfer.blob.clone().unwrap_or_default();
                let file = self.folder.join("blobs").join(&blob);
                server.dump(url, &file)?;
                let bytes = size(&file);
                self.world().blobs.insert(blob, file);
                Ok(bytes)
            }
            Work::Restore(backup) => {
                let secret = backup.rsplit('/').next().unwrap_or_default();
                let file = self
                    .world()
                    .blobs
                    .get(secret)
                    .cloned()
                    .ok_or("the backup cannot be downloaded")?;
                server.restore(url, &file)?;
                Ok(size(&file))
            }
            Work::Copy { from_url, .. } => {
                let file = self.folder.join("blobs").join(secret());
                let done = server.dump(from_url, &file).and_then(|()| server.restore(url, &file));
                let bytes = size(&file);
                let _ = std::fs::remove_file(file);
                done.map(|()| bytes)
            }
        }
    }
}

fn of_app(shared: &Arc<Shared>, request: &Request, app: &str, rest: &[&str]) -> Answer {
    let verbose = request.query.contains("verbose=true");
    let mut world = shared.world();
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            let mut found: Vec<&Transfer> =
                world.transfers.iter().filter(|found| found.app == app).collect();
            found.sort_by_key(|found| std::cmp::Reverse(found.num));
            Answer::ok(&Value::Array(found.into_iter().map(|found| found.json(false)).collect()))
        }
        (method, [id, rest @ ..]) => {
            let Some(at) = world.transfers.iter().position(|found| {
                found.app == app && (found.uuid == *id || found.num.to_string() == *id)
            }) else {
                return missing();
            };
            match (method, rest) {
                ("GET", []) => Answer::ok(&world.transfers[at].json(verbose)),
                ("DELETE", []) => {
                    let gone = world.transfers.remove(at);
                    if let Some(blob) = &gone.blob {
                        world.blobs.remove(blob);
                    }
                    Answer::ok(&gone.json(false))
                }
                ("POST", ["actions", "public-url"]) => match &world.transfers[at].blob {
                    Some(blob) => {
                        let expires = transfer_time(Utc::now() + chrono::TimeDelta::hours(1));
                        let url =
                            format!("https://localhost:{}/backups/{blob}", shared.storage().port());
                        Answer::ok(&json!({ "expires_at": expires, "url": url }))
                    }
                    None => missing(),
                },
                ("POST", ["actions", "cancel"]) => {
                    world.transfers[at].canceled_at = Some(Utc::now());
                    Answer::ok(&world.transfers[at].json(false))
                }
                _ => missing(),
            }
        }
        _ => missing(),
    }
}
