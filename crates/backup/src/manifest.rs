//! What is known about a backup, in the file beside it.

use std::{collections::BTreeMap, fmt, path::Path};

use chrono::{DateTime, Utc};
use omnitool_environment::EnvironmentName;
use serde::{Deserialize, Serialize};

use crate::BackupId;

const FORMAT: &str = "omnitool.backup";
/// The version of manifests without encryption, which every build reads, and of those with it.
const VERSIONS: [u32; 2] = [1, 2];
const VERSION: u32 = VERSIONS[1];

/// Everything about a backup but its content. It is written last: a backup without its manifest does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// The backup's name.
    pub id: BackupId,
    /// The environment that it was taken of.
    pub environment: EnvironmentName,
    /// The database system whose file it is.
    pub system: System,
    /// The file's name, in the manifest's own folder; of a backup on Heroku, the name that a download would get.
    pub file: String,
    /// Why it was taken.
    pub kind: Kind,
    /// When it was taken (UTC, whole seconds).
    pub created_at: DateTime<Utc>,
    /// The file's length in bytes, as it lies there: encrypted, where it is.
    pub size: u64,
    /// The SHA-256 of the same in hexadecimal; empty of a backup on Heroku that was never downloaded.
    pub sha256: String,
    /// Who can decrypt it: age recipients, which are no secrets; empty where it is not encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encrypted_to: Vec<String>,
    /// The newest migration in it; none where the database was still empty.
    pub schema_version: Option<String>,
    /// The release that the caller named: for [`Kind::BeforeDeploy`] the one about to be deployed, else the one that served.
    pub release: Option<String>,
    /// How many rows each table has.
    pub rows: BTreeMap<String, u64>,
    /// Whether it is never pruned.
    pub pinned: bool,
    /// The last time that it was found to be good; none where it was found to be bad since.
    pub verified: Option<Verified>,
}

/// The database systems that there are backups of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum System {
    /// The file is a SQLite database.
    Sqlite,
    /// The file is a dump of a PostgreSQL database.
    Postgres,
}

/// Why a backup was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Somebody wanted one.
    Manual,
    /// A deployment was about to change the database.
    BeforeDeploy,
    /// A refresh was about to replace the database.
    BeforeRefresh,
    /// A rollback was about to replace the database: the safety copy, which is never chosen as the latest.
    BeforeRollback,
}

/// When and how a backup was found to be good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// When (UTC, whole seconds).
    pub when: DateTime<Utc>,
    /// What was done.
    pub how: Method,
}

/// What was done to find out whether a backup is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// The file was opened as a database: integrity, foreign keys, rows of every table, schema version; and its SHA-256.
    OpenedCopy,
    /// The dump was read to its end: its structure, rows of every table, schema version; and its SHA-256.
    ReadDump,
    /// The dump was read, and restored into a scratch database that holds what its manifest says.
    RestoredDump,
    /// Heroku says that it was finished, succeeded and had no warnings; nobody has looked into it.
    Reported,
    /// Only its SHA-256 was compared with that of the capture: it is encrypted, and there was no key to look into it.
    Digest,
}

/// Why a manifest cannot be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseManifestError {
    /// It is no JSON, or a key is missing, unknown or of the wrong type.
    #[error("it is malformed")]
    Malformed(#[from] serde_json::Error),
    /// It is another kind of file.
    #[error("its format is `{format}`, not `omnitool.backup`")]
    Foreign {
        /// What it says it is.
        format: String,
    },
    /// A newer build wrote it.
    #[error("its version is {version}, and this build reads up to {VERSION}")]
    Newer {
        /// Its version.
        version: u32,
    },
    /// It contradicts the place where it lies, or itself.
    #[error("its {key} is `{found}`, which {problem}")]
    Inconsistent {
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The facts that a new manifest is made of; the rest follows.
pub(crate) struct NewManifest {
    pub(crate) id: BackupId,
    pub(crate) environment: EnvironmentName,
    pub(crate) system: System,
    pub(crate) file: String,
    pub(crate) kind: Kind,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) encrypted_to: Vec<String>,
    pub(crate) schema_version: Option<String>,
    pub(crate) release: Option<String>,
    pub(crate) rows: BTreeMap<String, u64>,
    pub(crate) verified: Verified,
}

impl From<NewManifest> for Manifest {
    fn from(new: NewManifest) -> Self {
        let NewManifest {
            id,
            environment,
            system,
            file,
            kind,
            created_at,
            size,
            sha256,
            encrypted_to,
            schema_version,
            release,
            rows,
            verified,
        } = new;
        Self {
            format: FORMAT.to_owned(),
            version: VERSIONS[usize::from(!encrypted_to.is_empty())],
            id,
            environment,
            system,
            file,
            kind,
            created_at,
            size,
            sha256,
            encrypted_to,
            schema_version,
            release,
            rows,
            pinned: false,
            verified: Some(verified),
        }
    }
}

impl Manifest {
    /// Reads the manifest `text` of the backup `id` of `environment`.
    ///
    /// # Errors
    ///
    /// Fails where it is malformed, has unknown keys, is of a newer version, or speaks of another backup.
    pub fn parse(
        text: &str,
        id: BackupId,
        environment: EnvironmentName,
    ) -> Result<Self, ParseManifestError> {
        // The version decides what else there may be, so it is read first.
        #[derive(Deserialize)]
        struct Header {
            format: String,
            version: u32,
        }
        let Header { format, version } = serde_json::from_str(text)?;
        if format != FORMAT {
            return Err(ParseManifestError::Foreign { format });
        }
        if version > VERSION {
            return Err(ParseManifestError::Newer { version });
        }
        let manifest: Self = serde_json::from_str(text)?;
        manifest.check(id, environment)?;
        Ok(manifest)
    }

    fn check(&self, id: BackupId, environment: EnvironmentName) -> Result<(), ParseManifestError> {
        let inconsistent = |key, found: &dyn fmt::Display, problem| {
            Err(ParseManifestError::Inconsistent { key, found: found.to_string(), problem })
        };
        if self.id != id {
            return inconsistent("id", &self.id, "is not what its file is named after");
        }
        if self.environment != environment {
            return inconsistent("environment", &self.environment, "is not the folder's");
        }
        let in_this_folder =
            Path::new(&self.file).file_name().is_some_and(|name| name == self.file.as_str());
        if !in_this_folder || BackupId::of_file(&self.file) != Some(id) {
            return inconsistent("file", &self.file, "is no file of this backup");
        }
        let is_sha256 =
            self.sha256.len() == 64 && self.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_sha256 {
            return inconsistent("sha256", &self.sha256, "is no SHA-256");
        }
        Ok(())
    }

    /// The file's text.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Kind {
    /// The name as it stands in flags and manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::BeforeDeploy => "before-deploy",
            Self::BeforeRefresh => "before-refresh",
            Self::BeforeRollback => "before-rollback",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Method {
    /// The name as it stands in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenedCopy => "opened-copy",
            Self::ReadDump => "read-dump",
            Self::RestoredDump => "restored-dump",
            Self::Reported => "reported",
            Self::Digest => "digest",
        }
    }
}

impl System {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    /// What a backup's file ends with, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite3",
            Self::Postgres => "pgdump",
        }
    }

    /// How its backups are found to be good where they are taken.
    pub(crate) const fn method(self) -> Method {
        match self {
            Self::Sqlite => Method::OpenedCopy,
            Self::Postgres => Method::ReadDump,
        }
    }

    /// The same where they were rehearsed as well.
    pub(crate) const fn rehearsed(self) -> Method {
        match self {
            Self::Sqlite => Method::OpenedCopy,
            Self::Postgres => Method::RestoredDump,
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The manifest of a verified manual backup of staging with three users.
    pub(crate) fn manifest(number: u32) -> Manifest {
        let when = DateTime::from_timestamp(1_795_000_000 + i64::from(number) * 60, 0).unwrap();
        NewManifest {
            id: BackupId::new(number),
            environment: EnvironmentName::Staging,
            system: System::Sqlite,
            file: format!("{}-20261118T083640Z-omnitool.sqlite3", BackupId::new(number)),
            kind: Kind::Manual,
            created_at: when,
            size: 4096,
            sha256: "ab".repeat(32),
            encrypted_to: Vec::new(),
            schema_version: Some("20261123000005".to_owned()),
            release: None,
            rows: BTreeMap::from([("users".to_owned(), 3)]),
            verified: Verified { when, how: Method::OpenedCopy },
        }
        .into()
    }

    /// The same with a change.
    pub(crate) fn changed(number: u32, change: impl FnOnce(&mut Manifest)) -> Manifest {
        let mut manifest = manifest(number);
        change(&mut manifest);
        manifest
    }

    fn parse(text: &str) -> Result<Manifest, ParseManifestError> {
        Manifest::parse(text, BackupId::new(1), EnvironmentName::Staging)
    }

    #[test]
    fn the_format_stays_as_it_was() {
        let text = manifest(1).to_json().unwrap();
        insta::assert_snapshot!(text, @r#"
        {
          "format": "omnitool.backup",
          "version": 1,
          "id": "b001",
          "environment": "staging",
          "system": "sqlite",
          "file": "b001-20261118T083640Z-omnitool.sqlite3",
          "kind": "manual",
          "created_at": "2026-11-18T11:07:40Z",
          "size": 4096,
          "sha256": "abababababababababababababababababababababababababababababababab",
          "schema_version": "20261123000005",
          "release": null,
          "rows": {
            "users": 3
          },
          "pinned": false,
          "verified": {
            "when": "2026-11-18T11:07:40Z",
            "how": "opened-copy"
          }
        }
        "#);
        assert_eq!(parse(&text).unwrap(), manifest(1));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = manifest(1).to_json().unwrap();
        let refused = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            let error = parse(&good.replace(from, to)).unwrap_err();
            match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }
        };
        insta::assert_snapshot!(
            [
                refused("\"pinned\"", "\"colour\": 1, \"pinned\""),
                refused("\"version\": 1", "\"version\": 3"),
                refused("omnitool.backup", "omnitool.tool-access"),
                refused("\"id\": \"b001\"", "\"id\": \"b002\""),
                refused("\"staging\"", "\"production\""),
                refused("\"b001-", "\"../b001-"),
                refused("\"b001-", "\"b002-"),
                refused("ab\"", "xy\""),
                refused("\"size\": 4096", "\"size\": -1"),
            ]
            .join("\n"),
            @r"
        it is malformed: unknown field `colour`, expected one of `format`, `version`, `id`, `environment`, `system`, `file`, `kind`, `created_at`, `size`, `sha256`, `encrypted_to`, `schema_version`, `release`, `rows`, `pinned`, `verified` at line 17 column 10
        its version is 3, and this build reads up to 2
        its format is `omnitool.tool-access`, not `omnitool.backup`
        its id is `b002`, which is not what its file is named after
        its environment is `production`, which is not the folder's
        its file is `../b001-20261118T083640Z-omnitool.sqlite3`, which is no file of this backup
        its file is `b002-20261118T083640Z-omnitool.sqlite3`, which is no file of this backup
        its sha256 is `abababababababababababababababababababababababababababababababxy`, which is no SHA-256
        it is malformed: invalid value: integer `-1`, expected u64 at line 10 column 12
        "
        );
        assert!(parse("").is_err());
        assert!(parse(&good[..good.len() / 2]).is_err());
    }
}
