//! Everything that the emulated Heroku knows, and how it says it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{console::Feed, fault::Faults};

static COUNTER: AtomicU64 = AtomicU64::new(1);

/// A new UUID. Its first part says of what, so that logs of tests can be read.
pub(crate) fn uuid() -> String {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut random = [0_u8; 8];
    let _ = getrandom::fill(&mut random);
    let random = u64::from_le_bytes(random);
    format!(
        "{number:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        random & 0xffff,
        (random >> 16) & 0xfff,
        (random >> 28) & 0xfff,
        random >> 16 & 0xffff_ffff_ffff,
    )
}

/// A secret for an address.
pub(crate) fn secret() -> String {
    let mut bytes = [0_u8; 16];
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The Platform API's way of writing a time.
pub(crate) fn platform_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The way of transfers.
pub(crate) fn transfer_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S +0000").to_string()
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) apps: Vec<App>,
    pub(crate) addons: Vec<AddOn>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) schedules: Vec<Value>,
    pub(crate) pipelines: Vec<Pipeline>,
    pub(crate) couplings: Vec<Coupling>,
    pub(crate) promotions: Vec<Promotion>,
    /// Bytes by the secret of their address.
    pub(crate) blobs: BTreeMap<String, PathBuf>,
    /// Texts that can be read at an address.
    pub(crate) outputs: BTreeMap<String, String>,
    /// What log sessions show.
    pub(crate) log_sessions: BTreeMap<String, Vec<String>>,
    /// Consoles that wait for somebody, by secret.
    pub(crate) consoles: BTreeMap<String, Arc<Feed>>,
    pub(crate) faults: Faults,
    /// `METHOD /path` of each request, in order.
    pub(crate) requests: Vec<String>,
    pub(crate) remaining: u32,
}

pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) maintenance: bool,
    pub(crate) config: BTreeMap<String, String>,
    /// The address of a database that a rollback has brought back in place of the attached one's.
    pub(crate) old_database: Option<String>,
    pub(crate) releases: Vec<Release>,
    pub(crate) slugs: Vec<Slug>,
    pub(crate) builds: Vec<Build>,
    pub(crate) formation: BTreeMap<String, u32>,
    pub(crate) dynos: Vec<Dyno>,
    pub(crate) log: Vec<(String, String)>,
    pub(crate) next_dyno: u32,
    /// Where Heroku's router answers for it.
    pub(crate) router: SocketAddr,
    pub(crate) created_at: DateTime<Utc>,
}

#[derive(Clone)]
pub(crate) struct Slug {
    pub(crate) id: String,
    pub(crate) process_types: BTreeMap<String, String>,
    pub(crate) commit: Option<String>,
    pub(crate) checksum: Option<String>,
    /// The secret of the address that its bytes are put to.
    pub(crate) blob: String,
}

#[derive(Clone)]
pub(crate) struct Release {
    pub(crate) id: String,
    pub(crate) version: u64,
    pub(crate) status: &'static str,
    pub(crate) description: String,
    pub(crate) current: bool,
    pub(crate) slug: Option<String>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) output: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
}

#[derive(Clone)]
pub(crate) struct Build {
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) source: Value,
    pub(crate) slug: Option<String>,
    pub(crate) release: Option<String>,
    pub(crate) output: String,
    pub(crate) created_at: DateTime<Utc>,
}

pub(crate) struct Dyno {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) process_type: String,
    pub(crate) command: String,
    pub(crate) state: &'static str,
    pub(crate) release: (String, u64),
    pub(crate) size: String,
    pub(crate) process: Option<u32>,
    /// Where a web process listens.
    pub(crate) port: Option<u16>,
    pub(crate) attach_url: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
}

pub(crate) struct AddOn {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The app that pays.
    pub(crate) app: String,
    pub(crate) plan: String,
    pub(crate) state: &'static str,
    /// The real database.
    pub(crate) url: String,
    /// The add-on that it follows.
    pub(crate) follows: Option<String>,
    /// How many looks it still says that it is being made.
    pub(crate) looks: u32,
    pub(crate) created_at: DateTime<Utc>,
}

pub(crate) struct Attachment {
    pub(crate) id: String,
    pub(crate) app: String,
    pub(crate) addon: String,
    pub(crate) name: String,
    pub(crate) created_at: DateTime<Utc>,
}

#[derive(Clone)]
pub(crate) struct Transfer {
    pub(crate) uuid: String,
    pub(crate) num: u64,
    pub(crate) app: String,
    pub(crate) from_name: String,
    pub(crate) from_type: &'static str,
    pub(crate) from_url: String,
    pub(crate) to_name: String,
    pub(crate) to_type: &'static str,
    pub(crate) to_url: String,
    /// The secret of its bytes' address, where it is a backup.
    pub(crate) blob: Option<String>,
    pub(crate) source_bytes: Option<u64>,
    pub(crate) processed_bytes: u64,
    /// How many of its kind the plan keeps.
    pub(crate) num_keep: u64,
    pub(crate) succeeded: Option<bool>,
    pub(crate) warnings: u64,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) canceled_at: Option<DateTime<Utc>>,
    pub(crate) logs: Vec<String>,
}

pub(crate) struct Pipeline {
    pub(crate) id: String,
    pub(crate) name: String,
}

pub(crate) struct Coupling {
    pub(crate) id: String,
    pub(crate) app: String,
    pub(crate) pipeline: String,
    pub(crate) stage: String,
}

pub(crate) struct Promotion {
    pub(crate) id: String,
    pub(crate) pipeline: String,
    pub(crate) source: String,
    /// App, release, status, error.
    pub(crate) targets: Vec<(String, Option<String>, &'static str, Option<String>)>,
}

pub(crate) const EMAIL: &str = "dev@example.com";
pub(crate) const USER: &str = "01234567-89ab-4def-8123-456789abcdef";

fn user() -> Value {
    json!({ "id": USER, "email": EMAIL })
}

impl World {
    pub(crate) fn app(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.name == name || app.id == name)
    }

    pub(crate) fn app_mut(&mut self, name: &str) -> Option<&mut App> {
        self.apps.iter_mut().find(|app| app.name == name || app.id == name)
    }

    pub(crate) fn addon(&self, name: &str) -> Option<&AddOn> {
        self.addons.iter().find(|addon| addon.name == name || addon.id == name)
    }

    pub(crate) fn addon_mut(&mut self, name: &str) -> Option<&mut AddOn> {
        self.addons.iter_mut().find(|addon| addon.name == name || addon.id == name)
    }

    pub(crate) fn app_reference(&self, id: &str) -> Value {
        match self.app(id) {
            Some(app) => json!({ "id": app.id, "name": app.name }),
            None => json!({ "id": id, "name": id }),
        }
    }

    pub(crate) fn addon_json(&self, addon: &AddOn) -> Value {
        let vars: Vec<String> = self
            .attachments
            .iter()
            .filter(|attachment| attachment.addon == addon.id && attachment.app == addon.app)
            .map(|attachment| format!("{}_URL", attachment.name))
            .collect();
        json!({
            "actions": [],
            "addon_service": { "id": "6c67493d-8fc2-4cd4-9161-4f1ec11cbe69", "name": "heroku-postgresql", "human_name": "Heroku Postgres", "cli_plugin_name": "heroku-pg", "state": "ga", "supports_multiple_installations": true, "supports_sharing": true },
            "app": self.app_reference(&addon.app),
            "billed_price": { "cents": 5000, "contract": false, "unit": "month" },
            "billing_entity": { "id": addon.app, "name": self.app(&addon.app).map(|app| app.name.clone()), "type": "app" },
            "config_vars": vars,
            "created_at": platform_time(addon.created_at),
            "id": addon.id,
            "name": addon.name,
            "plan": plan_json(&addon.plan),
            "provider_id": format!("resource{}@heroku.com", &addon.id[..8]),
            "provision_message": "The database should be available in 1-2 minutes.",
            "state": addon.state,
            "updated_at": platform_time(addon.created_at),
            "web_url": format!("https://data.heroku.com/datastores/{}", addon.id),
        })
    }

    pub(crate) fn attachment_json(&self, attachment: &Attachment) -> Value {
        let addon = self.addon(&attachment.addon);
        json!({
            "addon": {
                "id": attachment.addon,
                "name": addon.map(|addon| addon.name.clone()),
                "app": addon.map(|addon| self.app_reference(&addon.app)),
                "plan": addon.map(|addon| json!({ "id": "plan", "name": addon.plan })),
            },
            "app": self.app_reference(&attachment.app),
            "config_vars": [format!("{}_URL", attachment.name)],
            "created_at": platform_time(attachment.created_at),
            "id": attachment.id,
            "name": attachment.name,
            "namespace": null,
            "updated_at": platform_time(attachment.created_at),
            "web_url": format!("https://data.heroku.com/datastores/{}", attachment.addon),
            "log_input_url": null,
        })
    }

    /// The config vars of an app, those of its attachments included.
    pub(crate) fn config_of(&self, app: &App) -> BTreeMap<String, String> {
        let mut config = app.config.clone();
        for attachment in self.attachments.iter().filter(|attachment| attachment.app == app.id) {
            if let Some(addon) = self.addon(&attachment.addon) {
                config.insert(format!("{}_URL", attachment.name), addon.url.clone());
            }
        }
        if let Some(url) = &app.old_database {
            config.insert("DATABASE_URL".to_owned(), url.clone());
        }
        config
    }

    /// Where an app's other database is, which is not attached as `DATABASE`.
    pub(crate) fn other_database_of(&self, app: &str) -> Option<String> {
        let app = &self.app(app)?.id;
        let mut attached = self.attachments.iter().filter(|found| found.app == *app);
        let current = &attached.find(|found| found.name == "DATABASE")?.addon;
        let other = self.addons.iter().find(|addon| addon.app == *app && addon.id != *current);
        other.map(|addon| addon.url.clone())
    }

    pub(crate) fn log(&mut self, app: &str, source: &str, line: &str) {
        if let Some(app) = self.app_mut(app) {
            let at = Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f+00:00");
            app.log.push((source.to_owned(), format!("{at} {source}: {line}")));
        }
    }
}

fn plan_json(plan: &str) -> Value {
    json!({
        "id": "4f2a8b9c-0d1e-4f2a-8b9c-0d1e4f2a8b9c",
        "name": plan,
        "human_name": plan.rsplit(':').next(),
        "price": { "cents": 5000, "contract": false, "unit": "month", "metered": false },
    })
}

impl App {
    pub(crate) fn json(&self) -> Value {
        let released = self.releases.last().map(|release| platform_time(release.created_at));
        json!({
            "acm": false,
            "archived_at": null,
            "build_stack": { "id": "stack", "name": "heroku-24" },
            "buildpack_provided_description": null,
            "created_at": platform_time(self.created_at),
            "generation": { "id": "generation", "name": "cedar" },
            "git_url": format!("https://git.heroku.com/{}.git", self.name),
            "id": self.id,
            "internal_routing": false,
            "maintenance": self.maintenance,
            "name": self.name,
            "organization": null,
            "owner": user(),
            "region": { "id": "region", "name": "us" },
            "released_at": released,
            "repo_size": 0,
            "slug_size": 0,
            "space": null,
            "stack": { "id": "stack", "name": "heroku-24" },
            "team": null,
            "updated_at": platform_time(self.created_at),
            "web_url": format!("http://{}/", self.router),
        })
    }

    pub(crate) fn current(&self) -> Option<&Release> {
        self.releases.iter().rev().find(|release| release.current)
    }

    pub(crate) fn slug(&self, id: &str) -> Option<&Slug> {
        self.slugs.iter().find(|slug| slug.id == id)
    }

    pub(crate) fn release_json(&self, release: &Release, address: &str) -> Value {
        let eligible = release.slug.is_some() && release.status == "succeeded";
        let slug = release.slug.as_ref().map(|id| json!({ "id": id }));
        let artifacts: Vec<Value> =
            release.slug.iter().map(|id| json!({ "type": "slug", "id": id })).collect();
        json!({
            "addon_plan_names": [],
            "app": { "id": self.id, "name": self.name },
            "artifacts": artifacts,
            "created_at": platform_time(release.created_at),
            "current": release.current,
            "description": release.description,
            "eligible_for_rollback": eligible,
            "id": release.id,
            "output_stream_url": release.output.as_ref().map(|secret| format!("{address}/__output/{secret}")),
            "slug": slug,
            "status": release.status,
            "updated_at": platform_time(release.created_at),
            "user": user(),
            "version": release.version,
        })
    }

    pub(crate) fn build_json(&self, build: &Build, address: &str) -> Value {
        json!({
            "app": { "id": self.id },
            "buildpacks": [],
            "created_at": platform_time(build.created_at),
            "id": build.id,
            "output_stream_url": format!("{address}/__output/{}", build.output),
            "release": build.release.as_ref().map(|id| json!({ "id": id })),
            "slug": build.slug.as_ref().map(|id| json!({ "id": id })),
            "source_blob": build.source,
            "stack": "heroku-24",
            "status": build.status,
            "updated_at": platform_time(build.created_at),
            "user": user(),
        })
    }

    pub(crate) fn dyno_json(&self, dyno: &Dyno) -> Value {
        json!({
            "app": { "id": self.id, "name": self.name },
            "attach_url": dyno.attach_url,
            "command": dyno.command,
            "created_at": platform_time(dyno.created_at),
            "id": dyno.id,
            "name": dyno.name,
            "release": { "id": dyno.release.0, "version": dyno.release.1 },
            "size": dyno.size,
            "state": dyno.state,
            "type": dyno.process_type,
            "updated_at": platform_time(dyno.created_at),
        })
    }

    pub(crate) fn formation_json(&self) -> Vec<Value> {
        let types = self
            .current()
            .and_then(|release| release.slug.as_deref())
            .and_then(|slug| self.slug(slug))
            .map(|slug| slug.process_types.clone())
            .unwrap_or_default();
        types
            .iter()
            .map(|(process_type, command)| {
                json!({
                    "app": { "id": self.id, "name": self.name },
                    "command": command,
                    "created_at": platform_time(self.created_at),
                    "dyno_size": { "id": "size", "name": "Basic" },
                    "id": format!("{process_type}-formation"),
                    "quantity": self.formation.get(process_type).copied().unwrap_or(0),
                    "size": "Basic",
                    "type": process_type,
                    "updated_at": platform_time(self.created_at),
                })
            })
            .collect()
    }
}

impl Transfer {
    /// Whether its size can be seen already.
    fn is_settled(&self) -> bool {
        let settles = chrono::TimeDelta::milliseconds(400);
        self.finished_at.is_some_and(|at| Utc::now() - at > settles)
    }

    pub(crate) fn json(&self, verbose: bool) -> Value {
        let time = |time: Option<DateTime<Utc>>| time.map(transfer_time);
        let mut value = json!({
            "uuid": self.uuid,
            "num": self.num,
            "from_name": self.from_name,
            "from_type": self.from_type,
            "from_url": self.from_url,
            "to_name": self.to_name,
            "to_type": self.to_type,
            "to_url": self.to_url,
            "options": {},
            "source_bytes": self.source_bytes,
            // As the true service: the size comes some seconds after the success.
            "processed_bytes": if self.is_settled() { self.processed_bytes } else { 0 },
            "succeeded": self.succeeded,
            "warnings": self.warnings,
            "created_at": transfer_time(self.created_at),
            "started_at": time(self.started_at),
            "canceled_at": time(self.canceled_at),
            "updated_at": time(self.finished_at),
            "finished_at": time(self.finished_at),
            "deleted_at": null,
            "purged_at": null,
            "num_keep": self.num_keep,
        });
        if verbose {
            let at = transfer_time(self.created_at);
            value["logs"] = self
                .logs
                .iter()
                .map(|message| json!({ "created_at": at, "level": "info", "message": message }))
                .collect();
        }
        value
    }
}
