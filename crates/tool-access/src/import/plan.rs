//! What an import does, as a value.

use std::{fmt, path::PathBuf};

use omnitool_environment::EnvironmentName;

use super::{ImportError, Mode, RemovalLimit};
use crate::{
    Counts, Fact, FactKind, FileLayout,
    name::{disturbs, printable},
    store,
};

/// How many facts or names a plan lists; all are counted.
pub(crate) const MOST_LISTED: usize = 1000;
/// How many of them the text shows without being asked for all.
const MOST_SHOWN: usize = 20;

/// What an import does to the target.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ImportPlan {
    /// What it may do.
    pub mode: Mode,
    /// The target.
    pub environment: EnvironmentName,
    /// The file.
    pub source: PathBuf,
    /// The environment that the file comes from, where it says so.
    pub source_environment: Option<String>,
    /// The file's format.
    pub layout: FileLayout,
    /// Hex SHA-256 of the file.
    pub file_sha256: String,
    /// The facts in the file: added + present + skipped + refused.
    pub read: Counts,
    /// Facts that the target lacks and gets.
    pub added: Counts,
    /// Facts of the file that the target has already; also those that the file has twice.
    pub present: u64,
    /// Facts of the file that do not fit the target.
    pub skipped: Skipped,
    /// Facts that were refused: always 0, since one that has to be refused stops the whole import.
    pub refused: u64,
    /// Facts that the target loses.
    pub removed: Counts,
    /// Grants that the target has although the file excludes the user. The exclusion wins, so they have no effect.
    pub without_effect: u64,
    /// What the target has against the file and keeps.
    pub contradiction_count: u64,
    /// The first contradictions, each with the command that settles it.
    pub contradictions: Vec<Contradiction>,
    /// The added facts, where they are few.
    pub additions: Vec<Fact>,
    /// The removed facts, as many as are worth listing.
    pub removals: Vec<Fact>,
    /// How many users of the file the target does not have.
    pub unknown_user_count: u64,
    /// The first of them.
    pub unknown_users: Vec<String>,
    /// How many exclusions of such users were skipped. Nothing keeps these users out once they are created.
    pub unknown_exclusion_count: u64,
    /// The first of them.
    pub unknown_exclusions: Vec<Fact>,
    /// Tools that the file names by an older name.
    pub resolved: Vec<ResolvedTool>,
    /// How many facts the target has in the file's scope (in all, for an overwrite).
    pub scope: u64,
    /// How foreign keys are checked, where there is a choice.
    pub foreign_keys: Option<ForeignKeyCheck>,
    #[serde(skip)]
    pub(crate) sources: store::import::Sources,
}

/// Facts of the file that do not fit the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Skipped {
    /// About users whom the target does not have.
    pub unknown_users: u64,
    /// About tools that are deleted.
    pub deleted_tools: u64,
    /// That a flat list has again.
    pub duplicates: u64,
}

impl Skipped {
    /// All that are skipped, for whatever reason.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.unknown_users + self.deleted_tools + self.duplicates
    }
}

/// A tool that the file names by an older name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ResolvedTool {
    /// The name in the file.
    pub old: String,
    /// The name in the target, or `None` where the tool is deleted.
    pub new: Option<String>,
}

/// Something that the target has against the file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Contradiction {
    /// What the target has and the file, which speaks for it, does not.
    #[serde(flatten)]
    pub fact: Fact,
    /// The command that removes it.
    pub command: String,
}

/// How PostgreSQL's foreign keys are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForeignKeyCheck {
    /// For each row as it is added.
    EachRow,
    /// For all rows at the end of the transaction, which is faster for many; readers wait meanwhile.
    OnceAtTheEnd,
}

impl ImportPlan {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added == Counts::default() && self.removed == Counts::default()
    }

    /// One line: what changes.
    #[must_use]
    pub fn summary(&self) -> String {
        self.sentence("added", "removed")
    }

    /// One line: what would change.
    #[must_use]
    pub fn dry_summary(&self) -> String {
        self.sentence("would add", "would remove")
    }

    fn sentence(&self, add: &str, remove: &str) -> String {
        let mut parts = Vec::new();
        if self.is_empty() {
            parts.push(format!("nothing to do: {} already present", facts(self.present)));
        }
        for (verb, counts) in [(add, self.added), (remove, self.removed)] {
            if counts != Counts::default() {
                parts.push(format!("{verb} {counts}"));
            }
        }
        let skipped = self.skipped.total();
        if skipped > 0 {
            parts.push(format!("skipped {}", facts(skipped)));
        }
        if self.unknown_exclusion_count > 0 {
            let what = plural(self.unknown_exclusion_count, "exclusion");
            parts.push(format!("{what} of unknown users NOT imported"));
        }
        if self.contradiction_count > 0 {
            parts.push(plural(self.contradiction_count, "contradiction"));
        }
        parts.join("; ")
    }

    /// Whether no more is removed than `limit` allows, which an import asks before it applies the plan.
    ///
    /// # Errors
    ///
    /// [`ImportError::TooManyRemovals`] where more is.
    pub fn check_limit(&self, limit: RemovalLimit) -> Result<(), ImportError> {
        let is_limited = match self.mode {
            Mode::Merge => false,
            Mode::Sync => true,
            Mode::Overwrite => limit != RemovalLimit::Quarter,
        };
        let (removed, limit) = (self.removed.total(), limit.of(self.scope));
        if is_limited && removed > limit {
            let (mode, scope) = (self.mode, self.scope);
            return Err(ImportError::TooManyRemovals { mode, removed, scope, limit });
        }
        Ok(())
    }

    /// The plan for people; `everything` that is listed, not only the first of each kind.
    #[must_use]
    pub fn text(&self, shown: Shown) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_text(&mut text, shown);
        text
    }

    fn write_text(&self, f: &mut dyn fmt::Write, shown: Shown) -> fmt::Result {
        let from =
            self.source_environment.as_deref().map_or_else(String::new, |e| format!(" (from {e})"));
        writeln!(
            f,
            "{} of {}{from} into {}",
            self.mode.as_str(),
            self.source.display(),
            self.environment
        )?;
        if self.layout == FileLayout::Flat {
            writeln!(f, "  flat list of an older system: grants only, no scope")?;
        }
        for ResolvedTool { old, new } in &self.resolved {
            match new {
                Some(new) => {
                    writeln!(f, "  tool `{}` is now `{}`", printable(old), printable(new))?;
                }
                None => {
                    writeln!(f, "  tool `{}` is deleted: its facts are skipped", printable(old))?;
                }
            }
        }
        writeln!(f, "  read      {}", self.read)?;
        writeln!(f, "  added     {}", self.added)?;
        list_facts(f, '+', &self.additions, self.added.total(), shown)?;
        writeln!(f, "  present   {}", facts(self.present))?;
        writeln!(f, "  skipped   {}", facts(self.skipped.total()))?;
        writeln!(f, "  refused   {}", facts(self.refused))?;
        if self.mode != Mode::Merge {
            writeln!(f, "  removed   {}", self.removed)?;
            list_facts(f, '-', &self.removals, self.removed.total(), shown)?;
        }
        if self.skipped.duplicates > 0 {
            writeln!(f, "  {} in the file more than once", facts(self.skipped.duplicates))?;
        }
        if self.unknown_user_count > 0 {
            writeln!(f, "  {} unknown here", plural(self.unknown_user_count, "user"))?;
            if shown == Shown::Everything {
                for user in &self.unknown_users {
                    writeln!(f, "    {}", printable(user))?;
                }
                rest(f, self.unknown_user_count, self.unknown_users.len())?;
            }
        }
        self.write_unknown_exclusions(f, shown)?;
        self.write_contradictions(f, shown)?;
        if self.foreign_keys == Some(ForeignKeyCheck::OnceAtTheEnd) {
            writeln!(f, "  foreign keys are checked once at the end; readers wait meanwhile")?;
        }
        Ok(())
    }

    fn write_unknown_exclusions(&self, f: &mut dyn fmt::Write, shown: Shown) -> fmt::Result {
        if self.unknown_exclusion_count == 0 {
            return Ok(());
        }
        let what = plural(self.unknown_exclusion_count, "exclusion");
        writeln!(
            f,
            "  WARNING: {what} of users unknown here; nothing keeps them out once they exist"
        )?;
        let most = shown.most();
        for fact in self.unknown_exclusions.iter().take(most) {
            writeln!(f, "    {fact}")?;
        }
        rest(f, self.unknown_exclusion_count, self.unknown_exclusions.len().min(most))?;
        writeln!(f, "    after creating them, and before they log in, import this file again")
    }

    fn write_contradictions(&self, f: &mut dyn fmt::Write, shown: Shown) -> fmt::Result {
        if self.mode == Mode::Merge && self.without_effect > 0 {
            let grants = plural(self.without_effect, "grant");
            writeln!(f, "  {grants} without effect here, since the file excludes the user")?;
        }
        if self.contradiction_count > 0 {
            let what = plural(self.contradiction_count, "contradiction");
            writeln!(f, "  {what}: the target has what the file, which speaks for it, has not")?;
            let most = shown.most();
            for Contradiction { fact, command } in self.contradictions.iter().take(most) {
                writeln!(f, "    {fact}\n      to remove it: {command}")?;
            }
            rest(f, self.contradiction_count, self.contradictions.len().min(most))?;
            writeln!(f, "    to keep them: export-tool-access --env {}", self.environment)?;
        }
        Ok(())
    }
}

/// How much of a plan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The first of each kind.
    Some,
    /// Everything that the plan lists.
    Everything,
}

impl Shown {
    const fn most(self) -> usize {
        match self {
            Self::Some => MOST_SHOWN,
            Self::Everything => MOST_LISTED,
        }
    }
}

fn list_facts(
    f: &mut dyn fmt::Write,
    sign: char,
    facts: &[Fact],
    count: u64,
    shown: Shown,
) -> fmt::Result {
    let most = shown.most();
    for fact in facts.iter().take(most) {
        writeln!(f, "    {sign} {fact}")?;
    }
    // Where none is listed, the number on the line above says it all.
    if facts.is_empty() { Ok(()) } else { rest(f, count, facts.len().min(most)) }
}

fn rest(f: &mut dyn fmt::Write, count: u64, listed: usize) -> fmt::Result {
    match count.saturating_sub(listed as u64) {
        0 => Ok(()),
        more => writeln!(f, "    … and {more} more"),
    }
}

pub(crate) fn plural(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn facts(count: u64) -> String {
    plural(count, "fact")
}

/// The first few names, and how many more there are.
pub(crate) fn list(names: &[String], count: usize) -> String {
    let mut text: Vec<String> = names.iter().map(|name| format!("`{}`", printable(name))).collect();
    if count > names.len() {
        text.push(format!("and {} more", count - names.len()));
    }
    text.join(", ")
}

impl Contradiction {
    pub(crate) fn new(fact: Fact, source: &std::path::Path, environment: EnvironmentName) -> Self {
        let kind = match fact.fact {
            FactKind::Grant => "grant",
            FactKind::Wildcard => "wildcard",
            FactKind::Exclusion => "exclusion",
        };
        // By its kind, too: whoever closes a tool to everyone must not lift the exclusions from it.
        let mut command = format!(
            "import-tool-access --env {environment} --source {} --mode sync --fact {kind} --tool {}",
            quote(&source.display().to_string()),
            quote(&fact.tool)
        );
        if let Some(user) = &fact.user {
            command.push_str(&format!(" --user {}", quote(user)));
        }
        command.push_str(" --confirm");
        Self { fact, command }
    }
}

/// Quotes `text` for a shell where it needs that, in one line that acts on no terminal.
fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        text.to_owned()
    } else if text.chars().any(disturbs) {
        let escaped = |c: char| match c {
            '\'' | '\\' => format!("\\{c}"),
            c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
            c if disturbs(c) => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        };
        format!("$'{}'", text.chars().map(escaped).collect::<String>())
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
