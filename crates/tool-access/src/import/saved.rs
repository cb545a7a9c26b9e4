//! Plans that are kept, looked at, and applied exactly as they are.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
};

use omnitool_database::AnyConnection;
use omnitool_environment::EnvironmentName;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

use super::{ImportError, ImportPlan};
use crate::{Change, Counts, facts::Roster, file, store};

const FORMAT: &str = "omnitool.tool-access-plan";
const VERSION: u64 = 1;
/// How many changes are resolved at once.
const BATCH: usize = 1000;

/// A plan that was saved. Its changes stay in the file until they are applied.
#[derive(Debug)]
pub struct SavedPlan {
    file: PathBuf,
    target_sha256: String,
    content_sha256: String,
    plan: ImportPlan,
}

/// Why a saved plan cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SavedPlanError {
    /// The file cannot be read.
    #[error("cannot read the plan {}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is another kind of file, or of a newer build.
    #[error("{} is not a plan that this build applies (`{format}`, version {version})", .file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What it says it is.
        format: String,
        /// And its version.
        version: u64,
    },
    /// It is another environment's.
    #[error("the plan is for {planned}, and this database is {actual}")]
    Environment {
        /// Whose plan it is.
        planned: EnvironmentName,
        /// What the database is.
        actual: EnvironmentName,
    },
    /// The target is not as it was.
    #[error("the target's users, tools or facts changed since the plan was made")]
    Stale,
    /// What it says, or its changes, are not what was saved.
    #[error("the plan {} was edited or is incomplete: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What does not fit.
        what: String,
    },
}

/// Writes `plan` with its staged changes.
pub(super) fn write(
    conn: &mut AnyConnection,
    plan: &ImportPlan,
    out: &mut dyn Write,
) -> Result<(), ImportError> {
    let failed = |error: io::Error| {
        ImportError::Database(diesel::result::Error::SerializationError(Box::new(error)))
    };
    let target = fingerprint(conn, plan.environment)?;
    let removes = plan.removed != Counts::default();
    let head = serde_json::to_string(plan).map_err(|error| failed(error.into()))?;
    write!(out, "{{\n  \"format\": \"{FORMAT}\",\n  \"version\": {VERSION},\n").map_err(failed)?;
    write!(out, "  \"target_sha256\": \"{target}\",\n  \"plan\": {head},\n  \"changes\": [")
        .map_err(failed)?;
    let mut content = Content::begin(plan);
    let mut separator = "\n    ";
    store::import::each_change(conn, plan.sources, removes, &mut |change, user, tool| {
        content.add(change, user, tool);
        let line = serde_json::to_string(&(change.as_str(), user, tool))
            .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?;
        write!(out, "{separator}{line}")
            .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?;
        separator = ",\n    ";
        Ok(())
    })?;
    let content = content.end();
    write!(out, "\n  ],\n  \"content_sha256\": \"{content}\"\n}}\n").map_err(failed)
}

/// What a plan says and all of its changes, in one number: what somebody looked at is what is applied.
struct Content(Sha256);

impl Content {
    fn begin(plan: &ImportPlan) -> Self {
        // Numbers, names and lists: nothing of it fails to be written.
        Self(Sha256::new_with_prefix(serde_json::to_vec(plan).unwrap_or_default()))
    }

    fn add(&mut self, change: Change, user: &str, tool: &str) {
        // No text of UTF-8 has this byte.
        for part in [change.as_str(), user, tool] {
            self.0.update(part);
            self.0.update([0xff]);
        }
    }

    fn end(self) -> String {
        hex(self.0)
    }
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the target's users, tools and facts are, in one number.
fn fingerprint(
    conn: &mut AnyConnection,
    environment: EnvironmentName,
) -> Result<String, diesel::result::Error> {
    let facts = store::facts::load(conn)?;
    let mut digest = Digest(Sha256::new());
    file::write(&facts, environment, &mut digest)
        .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?;
    // The canonical form leaves these out.
    for (name, tool) in &facts.tools {
        for user in (0..).take(facts.roster.len()) {
            if tool.is_granted(user) && tool.is_excluded(user) {
                digest.0.update(format!("{name}\0{}\0", facts.roster.name(user)));
            }
        }
    }
    Ok(hex(digest.0))
}

struct Digest(Sha256);

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SavedPlan {
    /// Reads a plan, but for its changes.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read or is no plan of this build.
    pub fn load(file: &Path) -> Result<Self, SavedPlanError> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Head {
            format: String,
            version: u64,
            target_sha256: String,
            plan: ImportPlan,
            #[serde(rename = "changes")]
            _changes: IgnoredAny,
            content_sha256: String,
        }
        let head: Head = read(file, |parser| serde::Deserialize::deserialize(parser))?;
        let Head { format, version, target_sha256, plan, _changes, content_sha256 } = head;
        if format != FORMAT || version != VERSION {
            return Err(SavedPlanError::Format { file: file.to_owned(), format, version });
        }
        Ok(Self { file: file.to_owned(), target_sha256, content_sha256, plan })
    }

    /// What it says it does.
    pub const fn plan(&self) -> &ImportPlan {
        &self.plan
    }

    /// Checks that the target is the plan's, and stages the changes.
    pub(super) fn stage(
        &self,
        conn: &mut AnyConnection,
        environment: EnvironmentName,
    ) -> Result<ImportPlan, ImportError> {
        let planned = self.plan.environment;
        if planned != environment {
            return Err(SavedPlanError::Environment { planned, actual: environment }.into());
        }
        if fingerprint(conn, environment)? != self.target_sha256 {
            return Err(SavedPlanError::Stale.into());
        }
        let (roster, user_ids) = store::facts::load_users(conn)?;
        let tools = store::query::list_tool_ids(conn)?;
        let mut staging =
            Staging { conn, roster, user_ids, tools, rows: HashMap::new(), failed: None };
        let mut counts = HashMap::new();
        let mut content = Content::begin(&self.plan);
        let result = read(&self.file, |parser| {
            Changes(&mut |change, user, tool| {
                *counts.entry(change).or_insert(0_u64) += 1;
                content.add(change, user, tool);
                staging.add(change, user, tool)
            })
            .deserialize(parser)
        });
        if let Some(error) = staging.failed.take() {
            return Err(error.into());
        }
        result?;
        staging.flush()?;
        let count = |change| counts.get(&change).copied().unwrap_or(0);
        let added = Counts {
            grants: count(Change::Grant),
            wildcards: count(Change::GrantEveryone),
            exclusions: count(Change::Exclude),
        };
        let removed = Counts {
            grants: count(Change::Revoke),
            wildcards: count(Change::RevokeEveryone),
            exclusions: count(Change::Include),
        };
        let what = if added != self.plan.added || removed != self.plan.removed {
            Some("its changes are not as many as it says")
        } else if content.end() != self.content_sha256 {
            Some("it does not have the checksum that it names")
        } else {
            None
        };
        if let Some(what) = what {
            let (file, what) = (self.file.clone(), what.to_owned());
            return Err(SavedPlanError::Damaged { file, what }.into());
        }
        let foreign_keys = store::import::foreign_key_check(conn, added.grants, 0)?;
        Ok(ImportPlan { foreign_keys, ..self.plan.clone() })
    }
}

/// Resolves changes and stages them, many at once.
struct Staging<'c> {
    conn: &'c mut AnyConnection,
    roster: Roster,
    user_ids: Vec<i64>,
    tools: HashMap<String, i64>,
    rows: HashMap<Change, Vec<(i64, i64)>>,
    failed: Option<diesel::result::Error>,
}

impl Staging<'_> {
    fn add(&mut self, change: Change, user: &str, tool: &str) -> Result<(), String> {
        let is_everyone = matches!(change, Change::GrantEveryone | Change::RevokeEveryone);
        let user_id = match self.roster.find(user) {
            _ if is_everyone => store::history::EVERYONE,
            Some(user) => self.user_ids[user as usize],
            None => return Err(format!("there is no user `{user}`")),
        };
        let tool_id = *self.tools.get(tool).ok_or_else(|| format!("there is no tool `{tool}`"))?;
        let rows = self.rows.entry(change).or_default();
        rows.push((user_id, tool_id));
        if rows.len() == BATCH {
            let written = store::import::fill_changes(self.conn, change, rows);
            rows.clear();
            if let Err(error) = written {
                self.failed = Some(error);
                return Err("stopped".to_owned());
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), diesel::result::Error> {
        for (change, rows) in std::mem::take(&mut self.rows) {
            store::import::fill_changes(self.conn, change, &rows)?;
        }
        Ok(())
    }
}

type JsonParser<'p> = &'p mut serde_json::Deserializer<serde_json::de::IoRead<BufReader<File>>>;

fn read<T>(
    file: &Path,
    parse: impl FnOnce(JsonParser<'_>) -> Result<T, serde_json::Error>,
) -> Result<T, SavedPlanError> {
    let failed = |source| SavedPlanError::Read { file: file.to_owned(), source };
    let opened = File::open(file).map_err(|error| failed(serde_json::Error::io(error)))?;
    let mut parser = serde_json::Deserializer::from_reader(BufReader::new(opened));
    let value = parse(&mut parser).map_err(failed)?;
    parser.end().map_err(failed)?;
    Ok(value)
}

type OnChange<'f> = &'f mut dyn FnMut(Change, &str, &str) -> Result<(), String>;

/// The outermost object, of which only the changes are looked at.
struct Changes<'f>(OnChange<'f>);

impl<'de> DeserializeSeed<'de> for Changes<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Changes<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plan")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "changes" {
                map.next_value_seed(ChangeList(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct ChangeList<'f>(OnChange<'f>);

impl<'de> DeserializeSeed<'de> for ChangeList<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ChangeList<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of changes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some((change, user, tool)) = list.next_element::<(Change, String, String)>()? {
            (self.0)(change, &user, &tool).map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}
