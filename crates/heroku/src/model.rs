//! What Heroku answers, as far as it is needed. Unknown fields and values never fail.

mod transfer;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use self::transfer::{PublicUrl, Schedule, Transfer, TransferKind, TransferLog};
use crate::Secret;

/// An enumeration that may get more values: those are kept as text.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(from = "String")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// One that this version does not know.
            Other(String),
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Other(text),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                })
            }
        }
    };
}

/// A field that may be absent or `null`, which is the same.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Something by its id, where Heroku says no more about it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Reference {
    /// Its UUID.
    pub id: String,
    /// Its name, where it has one.
    #[serde(default)]
    pub name: Option<String>,
}

/// The account that a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// Its UUID.
    pub id: String,
    /// Its e-mail address.
    pub email: String,
}

/// How many requests are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct RateLimits {
    /// Requests, of 4,500; some 75 come back each minute.
    pub remaining: u32,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct App {
    /// Its UUID.
    pub id: String,
    /// Its unique name.
    pub name: String,
    /// Whether Heroku's router answers in its place. Workers and one-off dynos go on.
    #[serde(default, deserialize_with = "nullable")]
    pub maintenance: bool,
    /// Where it answers.
    #[serde(default)]
    pub web_url: Option<String>,
    /// The system image that it runs on.
    #[serde(default)]
    pub stack: Option<Reference>,
}

/// Config vars by name. Any of them may be a password.
pub type ConfigVars = BTreeMap<String, Secret>;

open_enum! {
    /// Whether a release serves.
    ReleaseStatus {
        /// Its release phase runs.
        Pending = "pending",
        /// It became the current release.
        Succeeded = "succeeded",
        /// Its release phase failed; the release before it goes on serving.
        Failed = "failed",
        /// Its slug is gone.
        Expired = "expired",
    }
}

/// Code and config vars together, which an app has run since the release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Release {
    /// Its UUID.
    pub id: String,
    /// Its number, without the `v`.
    pub version: u64,
    /// Whether it serves.
    pub status: ReleaseStatus,
    /// What made it.
    #[serde(default, deserialize_with = "nullable")]
    pub description: String,
    /// Whether it is the one that dynos run.
    #[serde(default, deserialize_with = "nullable")]
    pub current: bool,
    /// Its code, where it has any.
    #[serde(default)]
    pub slug: Option<Reference>,
    /// Whether it can be rolled back to.
    #[serde(default, deserialize_with = "nullable")]
    pub eligible_for_rollback: bool,
    /// Where its release phase's output can be read.
    #[serde(default)]
    pub output_stream_url: Option<Secret>,
}

/// A tarball of an app that is ready to run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Slug {
    /// Its UUID.
    pub id: String,
    /// Where its bytes go, or are.
    #[serde(default)]
    pub blob: Option<Blob>,
    /// Its maker's name for it.
    #[serde(default)]
    pub commit: Option<String>,
    /// What its process types run.
    #[serde(default, deserialize_with = "nullable")]
    pub process_types: BTreeMap<String, String>,
}

/// Where bytes are put or got.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Blob {
    /// The HTTP method.
    pub method: String,
    /// The address, with a signature.
    pub url: Secret,
}

/// A place for an app's source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Source {
    /// Its two addresses.
    pub source_blob: SourceBlob,
}

/// The addresses of a place for an app's source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SourceBlob {
    /// Where a build reads it.
    pub get_url: Secret,
    /// Where it is put.
    pub put_url: Secret,
}

open_enum! {
    /// How a build stands.
    BuildStatus {
        /// It runs.
        Pending = "pending",
        /// There is a slug.
        Succeeded = "succeeded",
        /// There is none.
        Failed = "failed",
    }
}

/// A build of an app's source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Build {
    /// Its UUID.
    pub id: String,
    /// How it stands.
    pub status: BuildStatus,
    /// The release that it made; it may have failed even so.
    #[serde(default)]
    pub release: Option<Reference>,
    /// What it built.
    #[serde(default)]
    pub slug: Option<Reference>,
    /// Where its output can be read.
    #[serde(default)]
    pub output_stream_url: Option<Secret>,
    /// What it was made of.
    #[serde(default)]
    pub source_blob: Option<BuildSource>,
}

/// What a build was made of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BuildSource {
    /// The caller's name for it, such as a commit.
    #[serde(default)]
    pub version: Option<String>,
}

/// The processes of one type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Formation {
    /// `web`, `release`, …
    #[serde(rename = "type")]
    pub process_type: String,
    /// What they run.
    #[serde(default, deserialize_with = "nullable")]
    pub command: String,
    /// How many there are.
    #[serde(default, deserialize_with = "nullable")]
    pub quantity: u32,
    /// Their size.
    #[serde(default, deserialize_with = "nullable")]
    pub size: String,
}

open_enum! {
    /// How a dyno stands.
    DynoState {
        /// It comes up.
        Starting = "starting",
        /// It runs.
        Up = "up",
        /// It sleeps.
        Idle = "idle",
        /// Its process ended by itself.
        Crashed = "crashed",
        /// It was stopped.
        Down = "down",
    }
}

/// A process of an app.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Dyno {
    /// Its UUID.
    pub id: String,
    /// Its name, such as `web.1` or `run.4711`. Another one may have had it before.
    pub name: String,
    /// When it was made (RFC 3339, UTC).
    #[serde(default, deserialize_with = "nullable")]
    pub created_at: String,
    /// How it stands.
    pub state: DynoState,
    /// What it runs.
    #[serde(default, deserialize_with = "nullable")]
    pub command: String,
    /// `web`, `run`, `release`, …
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub process_type: String,
    /// The release that it runs.
    #[serde(default)]
    pub release: Option<DynoRelease>,
    /// Its console, where it was made with one.
    #[serde(default)]
    pub attach_url: Option<Secret>,
}

/// The release that a dyno runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DynoRelease {
    /// Its UUID.
    pub id: String,
    /// Its number.
    #[serde(default)]
    pub version: Option<u64>,
}

/// A reading of an app's log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogSession {
    /// Where it can be read.
    pub logplex_url: Secret,
}

/// An app's place in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PipelineCoupling {
    /// The app.
    pub app: Reference,
    /// The pipeline.
    pub pipeline: Reference,
    /// `development`, `staging`, `production`, …
    #[serde(default, deserialize_with = "nullable")]
    pub stage: String,
}

open_enum! {
    /// How a promotion stands.
    PromotionStatus {
        /// It goes on.
        Pending = "pending",
        /// The target runs the source's slug.
        Succeeded = "succeeded",
        /// It does not.
        Failed = "failed",
    }
}

/// A promotion to one app.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PromotionTarget {
    /// The app.
    pub app: Reference,
    /// How it stands.
    pub status: PromotionStatus,
    /// Why it failed.
    #[serde(default)]
    pub error_message: Option<String>,
    /// The release that it made.
    #[serde(default)]
    pub release: Option<Reference>,
}

open_enum! {
    /// How an add-on stands.
    AddOnState {
        /// It is being made.
        Provisioning = "provisioning",
        /// It is there.
        Provisioned = "provisioned",
        /// It is being removed.
        Deprovisioning = "deprovisioning",
        /// It is gone, or could not be made.
        Deprovisioned = "deprovisioned",
    }
}

/// An add-on, such as a database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AddOn {
    /// Its UUID.
    pub id: String,
    /// Its unique name.
    pub name: String,
    /// The app that pays for it. Backups are kept under that one.
    #[serde(default)]
    pub app: Option<Reference>,
    /// Its plan, such as `heroku-postgresql:standard-0`; absent unless asked for.
    #[serde(default)]
    pub plan: Option<Reference>,
    /// How it stands; attachments leave it out.
    #[serde(default)]
    pub state: Option<AddOnState>,
    /// The config vars that hold its address.
    #[serde(default, deserialize_with = "nullable")]
    pub config_vars: Vec<String>,
}

impl AddOn {
    /// Whether it is a PostgreSQL database, as far as its plan says.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        let plan = self.plan.as_ref().and_then(|plan| plan.name.as_deref());
        plan.is_some_and(|plan| plan.starts_with("heroku-postgresql:"))
    }

    /// Whether its plan has followers. Essential plans have none.
    #[must_use]
    pub fn has_followers(&self) -> bool {
        let plan = self.plan.as_ref().and_then(|plan| plan.name.as_deref()).unwrap_or_default();
        self.is_postgres()
            && ["standard-", "premium-", "private-", "shield-"].iter().any(|tier| {
                plan.strip_prefix("heroku-postgresql:").is_some_and(|plan| plan.starts_with(tier))
            })
    }
}

/// An add-on under a name in an app.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// Its UUID.
    pub id: String,
    /// Its name, such as `DATABASE`; the config var is that with `_URL`.
    pub name: String,
    /// The add-on.
    pub addon: AddOn,
    /// The app.
    pub app: Reference,
    /// What it gives access to, where that is not all.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// A database.
#[derive(Clone, Debug, Deserialize)]
pub struct Database {
    /// What is said of it to people; values may be texts or numbers.
    #[serde(default, deserialize_with = "nullable")]
    pub info: Vec<DatabaseInfo>,
    /// The leader's address, where it follows one.
    #[serde(default)]
    pub following: Option<Secret>,
    /// How large it is, in bytes.
    #[serde(default)]
    pub num_bytes: Option<u64>,
    /// How many tables it has.
    #[serde(default)]
    pub num_tables: Option<u64>,
    /// The server's version.
    #[serde(default)]
    pub postgres_version: Option<String>,
    /// Its address.
    #[serde(default)]
    pub resource_url: Option<Secret>,
}

/// One line of what is said of a database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DatabaseInfo {
    /// What about.
    pub name: String,
    /// What.
    #[serde(default, deserialize_with = "nullable")]
    pub values: Vec<Value>,
}

impl Database {
    /// The first value of the line `name`, as text.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<String> {
        let line = self.info.iter().find(|line| line.name == name)?;
        match line.values.first()? {
            Value::String(text) => Some(text.clone()),
            value => Some(value.to_string()),
        }
    }

    /// How many commits it is behind its leader; none where it follows nobody, or does not say.
    #[must_use]
    pub fn behind_by(&self) -> Option<u64> {
        self.following.as_ref()?;
        self.info("Behind By")?.split_whitespace().next()?.parse().ok()
    }
}

/// Whether a database can be used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WaitStatus {
    /// Whether one must wait.
    #[serde(rename = "waiting?", default, deserialize_with = "nullable")]
    pub is_waiting: bool,
    /// Whether waiting is in vain.
    #[serde(rename = "error?", default, deserialize_with = "nullable")]
    pub is_error: bool,
    /// For people.
    #[serde(default, deserialize_with = "nullable")]
    pub message: String,
}

/// A user of a database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Credential {
    /// Its name; the owner is `default`.
    pub name: String,
    /// Whether it works.
    #[serde(default, deserialize_with = "nullable")]
    pub state: String,
}
