//! Database → file.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
};

use omnitool_database::{AnyConnection, read_snapshot};
use omnitool_environment::EnvironmentName;

use crate::{
    Counts,
    facts::{Facts, ToolFacts},
    file::{self, ReadAccessFileError, Written},
    name::printable,
    store,
};

/// How many differences are listed; all are counted.
const MOST_LISTED: usize = 200;

/// The facts of a database at one moment, ready to be written.
///
/// They take one bit per user and tool, and each name once.
#[derive(Debug)]
pub struct Export {
    environment: EnvironmentName,
    facts: Facts,
}

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exported {
    /// The facts in the file.
    #[serde(flatten)]
    pub counts: Counts,
    /// Grants that were left out since the user is excluded from the tool, so that they have no effect.
    pub without_effect: u64,
}

impl Exported {
    /// What counts as a grant for people: who was let in, one by one or all at once.
    #[must_use]
    pub const fn grants_and_wildcards(&self) -> u64 {
        self.counts.grants + self.counts.wildcards
    }
}

/// The database cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("cannot read who may use what")]
pub struct ExportError(#[from] diesel::result::Error);

impl Export {
    /// Reads all facts in one snapshot.
    ///
    /// ```
    /// # use omnitool_database::AnyConnection;
    /// # use omnitool_environment::EnvironmentName;
    /// use omnitool_tool_access::Export;
    ///
    /// fn bytes(conn: &mut AnyConnection) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    ///     let mut bytes = Vec::new();
    ///     Export::load(conn, EnvironmentName::Local)?.write(&mut bytes)?;
    ///     Ok(bytes)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails where the database does.
    pub fn load(
        conn: &mut AnyConnection,
        environment: EnvironmentName,
    ) -> Result<Self, ExportError> {
        let facts = read_snapshot(conn, store::facts::load)?;
        Ok(Self { environment, facts })
    }

    /// The environment whose facts these are.
    #[must_use]
    pub const fn environment(&self) -> EnvironmentName {
        self.environment
    }

    /// Writes the canonical file: the same facts give the same bytes from either kind of database.
    ///
    /// # Errors
    ///
    /// Fails where `out` does.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<Exported> {
        let Written { counts, without_effect } = file::write(&self.facts, self.environment, out)?;
        Ok(Exported { counts, without_effect })
    }

    /// Compares with the file that is there, by user and tool.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read.
    pub fn compare(&self, committed: &Path) -> Result<Comparison, ReadAccessFileError> {
        let mut comparison = Comparison::new(committed);
        let mut same = Same::open(committed);
        if self.write(&mut same).is_ok() && same.ends_here() {
            return Ok(comparison);
        }
        comparison.differs = true;
        let (facts, header) = file::read(committed)?;
        let users = users_of_both(&self.facts, &facts);
        comparison.compare_scope(&self.facts, &facts);
        for (name, tool) in &self.facts.tools {
            let other = facts.tools.get(name);
            comparison.compare_tool(name, tool, other, &users);
        }
        for (name, tool) in &facts.tools {
            if !self.facts.tools.contains_key(name) {
                comparison.compare_missing_tool(name, tool, &facts);
            }
        }
        if header.environment.as_deref() != Some(self.environment.as_str()) {
            comparison.note(Difference::Environment {
                file: header.environment.unwrap_or_else(|| "none".to_owned()),
                database: self.environment,
            });
        }
        Ok(comparison)
    }
}

/// One difference between the database and the file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Difference {
    /// The file is another environment's.
    Environment {
        /// What the file says.
        file: String,
        /// What the database is stamped.
        database: EnvironmentName,
    },
    /// A fact that only the database has.
    OnlyInDatabase(Fact),
    /// A fact that only the file has; an export over the file drops it.
    OnlyInFile(Fact),
    /// A user whom only the database has.
    UserOnlyInDatabase {
        /// The user.
        user: String,
    },
    /// A user whom only the file has.
    UserOnlyInFile {
        /// The user.
        user: String,
    },
    /// A tool that only the database has.
    ToolOnlyInDatabase {
        /// The tool.
        tool: String,
    },
    /// A tool that only the file has.
    ToolOnlyInFile {
        /// The tool.
        tool: String,
    },
}

/// A fact by names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Fact {
    /// The tool.
    pub tool: String,
    /// The user; `None` is everyone.
    pub user: Option<String>,
    /// Which kind of fact.
    pub fact: FactKind,
}

/// The kinds of fact.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum FactKind {
    /// This user may use the tool.
    Grant,
    /// Everyone may.
    Wildcard,
    /// This user must not.
    Exclusion,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tool, user, fact } = self;
        let (tool, user) = (printable(tool), user.as_deref().map(printable));
        match (fact, user) {
            (FactKind::Wildcard, _) | (FactKind::Grant, None) => write!(f, "{tool}: everyone"),
            (FactKind::Grant, Some(user)) => write!(f, "{tool}: {user} granted"),
            (FactKind::Exclusion, user) => {
                write!(f, "{tool}: {} excluded", user.as_deref().unwrap_or("everyone"))
            }
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { file, database } => {
                let file = printable(file);
                write!(f, "environment: `{file}` in the file, `{database}` in the database")
            }
            Self::OnlyInDatabase(fact) => write!(f, "+ {fact}"),
            Self::OnlyInFile(fact) => write!(f, "- {fact}"),
            Self::UserOnlyInDatabase { user } => write!(f, "+ user {}", printable(user)),
            Self::UserOnlyInFile { user } => write!(f, "- user {}", printable(user)),
            Self::ToolOnlyInDatabase { tool } => write!(f, "+ tool {}", printable(tool)),
            Self::ToolOnlyInFile { tool } => write!(f, "- tool {}", printable(tool)),
        }
    }
}

/// How a committed file differs from the database.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Comparison {
    /// The committed file.
    pub file: PathBuf,
    /// Whether an export would change the file's bytes.
    pub differs: bool,
    /// Facts that only the database has.
    pub added: u64,
    /// Facts that only the file has, so that an export drops them.
    pub dropped: u64,
    /// Differences by tool and user, as many as are worth listing.
    pub differences: Vec<Difference>,
    /// How many differences are not listed.
    pub unlisted: u64,
}

impl Comparison {
    fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            differs: false,
            added: 0,
            dropped: 0,
            differences: Vec::new(),
            unlisted: 0,
        }
    }

    fn note(&mut self, difference: Difference) {
        match difference {
            Difference::OnlyInDatabase(_) => self.added += 1,
            Difference::OnlyInFile(_) => self.dropped += 1,
            _ => {}
        }
        if self.differences.len() < MOST_LISTED {
            self.differences.push(difference);
        } else {
            self.unlisted += 1;
        }
    }

    fn compare_scope(&mut self, own: &Facts, file: &Facts) {
        for user in own.roster.sorted() {
            let user = own.roster.name(user);
            if file.roster.find(user).is_none() {
                self.note(Difference::UserOnlyInDatabase { user: user.to_owned() });
            }
        }
        for user in file.roster.sorted() {
            let user = file.roster.name(user);
            if own.roster.find(user).is_none() {
                self.note(Difference::UserOnlyInFile { user: user.to_owned() });
            }
        }
    }

    fn compare_tool(
        &mut self,
        name: &str,
        own: &ToolFacts,
        file: Option<&ToolFacts>,
        users: &[BothUser<'_>],
    ) {
        let empty = ToolFacts::default();
        if file.is_none() {
            self.note(Difference::ToolOnlyInDatabase { tool: name.to_owned() });
        }
        let file = file.unwrap_or(&empty);
        let fact = |user: Option<&str>, fact| Fact {
            tool: name.to_owned(),
            user: user.map(str::to_owned),
            fact,
        };
        match (own.everyone == Some(true), file.everyone == Some(true)) {
            (true, false) => self.note(Difference::OnlyInDatabase(fact(None, FactKind::Wildcard))),
            (false, true) => self.note(Difference::OnlyInFile(fact(None, FactKind::Wildcard))),
            _ => {}
        }
        for (user, own_user, file_user) in users {
            let is = |excluded: bool, tool: &ToolFacts, ordinal: &Option<u32>| {
                ordinal.is_some_and(|ordinal| {
                    // A grant of an excluded user is in no export.
                    let is_excluded = tool.is_excluded(ordinal);
                    if excluded { is_excluded } else { tool.is_granted(ordinal) && !is_excluded }
                })
            };
            for (excluded, kind) in [(true, FactKind::Exclusion), (false, FactKind::Grant)] {
                match (is(excluded, own, own_user), is(excluded, file, file_user)) {
                    (true, false) => self.note(Difference::OnlyInDatabase(fact(Some(user), kind))),
                    (false, true) => self.note(Difference::OnlyInFile(fact(Some(user), kind))),
                    _ => {}
                }
            }
        }
    }

    fn compare_missing_tool(&mut self, name: &str, file: &ToolFacts, facts: &Facts) {
        self.note(Difference::ToolOnlyInFile { tool: name.to_owned() });
        let fact = |user: Option<&str>, fact| Fact {
            tool: name.to_owned(),
            user: user.map(str::to_owned),
            fact,
        };
        if file.everyone == Some(true) {
            self.note(Difference::OnlyInFile(fact(None, FactKind::Wildcard)));
        }
        for user in facts.roster.sorted() {
            let user_name = Some(facts.roster.name(user));
            if file.is_excluded(user) {
                self.note(Difference::OnlyInFile(fact(user_name, FactKind::Exclusion)));
            } else if file.is_granted(user) {
                self.note(Difference::OnlyInFile(fact(user_name, FactKind::Grant)));
            }
        }
    }
}

/// One line for people: what an export would change.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, differs, added, dropped, differences, unlisted } = self;
        let file = file.display();
        if !differs {
            return write!(f, "{file} is what an export gives");
        }
        if differences.is_empty() {
            return write!(f, "{file} has the same facts, but not in canonical form");
        }
        writeln!(
            f,
            "{file} differs from the database: an export adds {added} facts and drops {dropped}"
        )?;
        for difference in differences {
            writeln!(f, "  {difference}")?;
        }
        if *unlisted > 0 {
            writeln!(f, "  … and {unlisted} more")?;
        }
        Ok(())
    }
}

/// A user's name, and the ordinals in the database's facts and in the file's.
type BothUser<'a> = (&'a str, Option<u32>, Option<u32>);

/// The users of both sides, by name.
fn users_of_both<'a>(own: &'a Facts, file: &'a Facts) -> Vec<BothUser<'a>> {
    let mut users: Vec<BothUser<'a>> = own
        .roster
        .sorted()
        .into_iter()
        .map(|user| {
            let name = own.roster.name(user);
            (name, Some(user), file.roster.find(name))
        })
        .collect();
    for user in file.roster.sorted() {
        let name = file.roster.name(user);
        if own.roster.find(name).is_none() {
            users.push((name, None, Some(user)));
        }
    }
    users.sort_by_key(|user| user.0);
    users
}

/// Compares what is written with what a file holds, a piece at a time.
struct Same {
    file: Option<io::BufReader<std::fs::File>>,
}

impl Same {
    fn open(file: &Path) -> Self {
        Self { file: std::fs::File::open(file).ok().map(io::BufReader::new) }
    }

    /// Whether all that was written is all that the file holds.
    fn ends_here(self) -> bool {
        self.file
            .is_some_and(|mut file| io::BufRead::fill_buf(&mut file).is_ok_and(<[u8]>::is_empty))
    }
}

impl Write for Same {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        let is_same = self
            .file
            .as_mut()
            .is_some_and(|file| io::Read::read_exact(file, &mut there).is_ok() && there == bytes);
        if is_same { Ok(bytes.len()) } else { Err(io::Error::other("it differs")) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
