//! What a restore notes about the databases that it makes and keeps: in their comments, where every other run finds it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::BackupId;

/// The comment on a database of ours, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What the database is for.
    pub(super) omnitool: Purpose,
    /// Whose copy it is.
    pub(super) database: String,
    /// The backup that was, or is, being restored.
    pub(super) restoring: Option<String>,
    /// The safety backup of what was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) safety_backup: Option<BackupId>,
    /// When it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) replaced_at: Option<DateTime<Utc>>,
    /// Whether the restore that replaced it came to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) finished: bool,
}

/// What a database of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Purpose {
    /// A backup is looked at in it.
    Scratch,
    /// A backup is restored into it.
    Restore,
    /// Another environment's database is copied into it.
    Refresh,
    /// It was replaced and is kept.
    Replaced,
}

impl Record {
    pub(super) fn new(omnitool: Purpose, database: &str) -> Self {
        Self {
            omnitool,
            database: database.to_owned(),
            restoring: None,
            safety_backup: None,
            replaced_at: None,
            finished: false,
        }
    }

    /// The record in a database's comment; none where it is somebody's text.
    pub(super) fn parse(comment: &str) -> Option<Self> {
        serde_json::from_str(comment).ok()
    }

    pub(super) fn is_record(comment: &str) -> bool {
        Self::parse(comment).is_some()
    }

    pub(super) fn to_comment(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and times are JSON")
    }
}
