//! Backups, restores and copies, and when backups are taken by themselves.

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::nullable;
use crate::Secret;

/// A backup, restore or copy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Transfer {
    /// Its UUID.
    pub uuid: String,
    /// Its number in the app's one list of all kinds.
    pub num: u64,
    /// The name of where from.
    #[serde(default, deserialize_with = "nullable")]
    pub from_name: String,
    /// How it is read.
    #[serde(default, deserialize_with = "nullable")]
    pub from_type: String,
    /// The address of the database that a backup or a copy reads, or of the bytes that a restore does.
    #[serde(default)]
    pub from_url: Option<Secret>,
    /// The name of where to.
    #[serde(default, deserialize_with = "nullable")]
    pub to_name: String,
    /// How it is written.
    #[serde(default, deserialize_with = "nullable")]
    pub to_type: String,
    /// Where a backup's bytes are, or the address of the database that a restore or a copy writes to.
    #[serde(default)]
    pub to_url: Option<Secret>,
    /// Bytes in the database.
    #[serde(default)]
    pub source_bytes: Option<u64>,
    /// Bytes done. 0 for some seconds after a backup has ended.
    #[serde(default, deserialize_with = "nullable")]
    pub processed_bytes: u64,
    /// Whether it went well, once it is finished.
    #[serde(default)]
    pub succeeded: Option<bool>,
    /// Errors that were ignored.
    #[serde(default, deserialize_with = "nullable")]
    pub warnings: u64,
    /// How many of its kind Heroku keeps; older ones expire.
    #[serde(default)]
    pub num_keep: Option<usize>,
    /// When it was asked for, in Heroku's own format.
    #[serde(default, deserialize_with = "nullable")]
    pub created_at: String,
    /// When it began.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<String>,
    /// When somebody stopped it.
    #[serde(default)]
    pub canceled_at: Option<String>,
    /// The schedule that it is from.
    #[serde(default)]
    pub schedule: Option<Value>,
    /// What happened; only where it was asked for.
    #[serde(default, deserialize_with = "nullable")]
    pub logs: Vec<TransferLog>,
}

/// A line of a transfer's log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TransferLog {
    /// The line.
    #[serde(default, deserialize_with = "nullable")]
    pub message: String,
}

/// What a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// A backup that somebody asked for.
    Backup,
    /// A backup of a schedule.
    ScheduledBackup,
    /// A restore of a backup.
    Restore,
    /// A copy between databases.
    Copy,
}

impl Transfer {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> TransferKind {
        match (self.from_type.as_str(), self.to_type.as_str()) {
            ("pg_dump", "pg_restore") => TransferKind::Copy,
            (_, "pg_restore") => TransferKind::Restore,
            _ if self.schedule.is_some() => TransferKind::ScheduledBackup,
            _ => TransferKind::Backup,
        }
    }

    /// Its name in Heroku's own tools, such as `b001`.
    #[must_use]
    pub fn name(&self) -> String {
        let letter = match self.kind() {
            TransferKind::Backup => 'b',
            TransferKind::ScheduledBackup => 'a',
            TransferKind::Restore => 'r',
            TransferKind::Copy => 'c',
        };
        format!("{letter}{:03}", self.num)
    }

    /// Whether it reads the database at this address, by host and name, since users and passwords change; nothing where
    /// that is not known.
    #[must_use]
    pub fn reads(&self, database: &str) -> Option<bool> {
        is_same_database(self.from_url.as_ref()?, database)
    }

    /// Whether it writes to the database at this address; as [`reads`](Self::reads).
    #[must_use]
    pub fn writes(&self, database: &str) -> Option<bool> {
        is_same_database(self.to_url.as_ref()?, database)
    }

    /// Whether it has ended, well or not.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished_at.is_some() || self.canceled_at.is_some()
    }

    /// Whether it ended well.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.finished_at.is_some() && self.canceled_at.is_none() && self.succeeded == Some(true)
    }
}

fn is_same_database(one: &Secret, other: &str) -> Option<bool> {
    let place = |address: &str| {
        let url = Url::parse(address).ok()?;
        Some((url.host_str()?.to_owned(), url.path().to_owned()))
    };
    Some(place(one.expose())? == place(other)?)
}

/// An address that opens a backup for an hour.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PublicUrl {
    /// The address.
    pub url: Secret,
    /// Until when, in Heroku's own format.
    #[serde(default, deserialize_with = "nullable")]
    pub expires_at: String,
}

/// When backups are taken by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Schedule {
    /// Its UUID.
    pub uuid: String,
    /// The database's config var.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// The hour; a number, or a text.
    #[serde(default)]
    pub hour: Value,
    /// The time zone.
    #[serde(default, deserialize_with = "nullable")]
    pub timezone: String,
}
