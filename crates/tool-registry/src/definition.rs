//! `data/tools.toml`, checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::lint::{self, Problems};

/// What `data/tools.toml` says: the tools, and what became of older ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definitions {
    tools: Vec<ToolDefinition>,
    deprecated: BTreeMap<String, Deprecation>,
}

/// A tool as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolDefinition {
    /// Unique name, the key by which grants, exports and deprecations know the tool.
    pub name: String,
    /// One sentence for the dashboard.
    pub description: String,
    /// Unique path under the app's address.
    pub route: String,
    /// Whether new users are granted it.
    pub is_default: bool,
    /// Whether anybody may use it.
    pub is_active: bool,
}

/// What became of a tool that is not defined any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deprecation {
    /// It is now this defined tool.
    RenamedTo(String),
    /// It is gone, with its grants.
    Deleted,
}

/// What a tool's name means today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution<'a> {
    /// A defined tool.
    Defined,
    /// An older name of this defined tool.
    Renamed(&'a str),
    /// A tool that is gone.
    Deleted,
    /// A name that the file has never heard of.
    Unknown,
}

/// Why tool definitions could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadToolsError {
    /// The file cannot be read; the source names it.
    #[error("cannot read the tool definitions")]
    Read(#[source] io::Error),
    /// The file is not what is expected; the source gives line and column.
    #[error("cannot understand the tool definitions in {file}")]
    Parse {
        /// The file.
        file: PathBuf,
        /// What is wrong and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The file is well formed and contradicts itself; the source lists everything that is wrong.
    #[error("the tool definitions in {file} are not consistent")]
    Lint {
        /// The file.
        file: PathBuf,
        /// All problems, by line.
        #[source]
        source: Problems,
    },
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) tool: Vec<RawTool>,
    #[serde(default)]
    pub(crate) deprecated: BTreeMap<Spanned<String>, Spanned<RawDeprecation>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTool {
    pub(crate) name: Spanned<String>,
    description: String,
    pub(crate) route: Spanned<String>,
    is_default: bool,
    is_active: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected the new name, or false for a deleted tool")]
pub(crate) enum RawDeprecation {
    Target(String),
    Switch(bool),
}

impl Definitions {
    /// Where the file is, relative to a project's root.
    pub const DEFAULT_FILE: &str = "data/tools.toml";

    /// The definitions that are compiled into the programs.
    ///
    /// # Errors
    ///
    /// Fails only where the build itself is broken; a test proves that it is not.
    pub fn shipped() -> Result<Self, LoadToolsError> {
        let text = include_str!("../../../data/tools.toml");
        Self::parse(text, Path::new(Self::DEFAULT_FILE))
    }

    /// Reads and checks `file`.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, is malformed, has unknown keys or contradicts itself.
    pub fn load(file: &Path) -> Result<Self, LoadToolsError> {
        let text = fs_err::read_to_string(file).map_err(LoadToolsError::Read)?;
        Self::parse(&text, file)
    }

    /// Checks `text`; `file` is only named in errors.
    ///
    /// # Errors
    ///
    /// Fails where the text is malformed, has unknown keys or contradicts itself.
    pub fn parse(text: &str, file: &Path) -> Result<Self, LoadToolsError> {
        let parsed: File = toml::from_str(text).map_err(|source| LoadToolsError::Parse {
            file: file.to_owned(),
            source: Box::new(source),
        })?;
        let problems = lint::lint(&parsed, text, file);
        if !problems.is_empty() {
            return Err(LoadToolsError::Lint { file: file.to_owned(), source: problems });
        }
        Ok(Self::from_linted(parsed))
    }

    fn from_linted(File { tool, deprecated }: File) -> Self {
        let tools = tool
            .into_iter()
            .map(|RawTool { name, description, route, is_default, is_active }| ToolDefinition {
                name: name.into_inner(),
                description,
                route: route.into_inner(),
                is_default,
                is_active,
            })
            .collect();
        let next: BTreeMap<&str, Option<&str>> = deprecated
            .iter()
            .map(|(old, new)| (old.get_ref().as_str(), new.get_ref().target()))
            .collect();
        let collapsed = next.keys().map(|old| ((*old).to_owned(), collapse(old, &next))).collect();
        Self { tools, deprecated: collapsed }
    }

    /// The tools, in the file's order.
    #[must_use]
    pub fn tools(&self) -> &[ToolDefinition] {
        &self.tools
    }

    /// What became of older tools; chains are collapsed, so that a new name is always a defined tool.
    #[must_use]
    pub const fn deprecated(&self) -> &BTreeMap<String, Deprecation> {
        &self.deprecated
    }

    /// What `name` means today.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Resolution<'_> {
        if self.tools.iter().any(|tool| tool.name == name) {
            return Resolution::Defined;
        }
        match self.deprecated.get(name) {
            Some(Deprecation::RenamedTo(new)) => Resolution::Renamed(new),
            Some(Deprecation::Deleted) => Resolution::Deleted,
            None => Resolution::Unknown,
        }
    }
}

impl RawDeprecation {
    /// The new name, or `None` where the tool is deleted.
    pub(crate) fn target(&self) -> Option<&str> {
        match self {
            Self::Target(name) => Some(name),
            Self::Switch(_) => None,
        }
    }
}

/// Follows `next` from `name` to its end, which exists because the linter refuses cycles.
fn collapse(name: &str, next: &BTreeMap<&str, Option<&str>>) -> Deprecation {
    let mut name = name;
    let mut seen = BTreeSet::new();
    while seen.insert(name) {
        match next.get(name) {
            Some(Some(new)) => name = new,
            Some(None) => return Deprecation::Deleted,
            None => break,
        }
    }
    Deprecation::RenamedTo(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn parse(text: &str) -> Result<Definitions, LoadToolsError> {
        Definitions::parse(text, Path::new("tools.toml"))
    }

    fn tool(name: &str) -> String {
        let route = name.replace(' ', "_");
        format!(
            "[[tool]]\nname = {name:?}\ndescription = \"\"\nroute = \"/{route}\"\n\
             is_default = false\nis_active = true\n"
        )
    }

    #[test]
    fn the_shipped_definitions_are_consistent() {
        let definitions = Definitions::shipped().unwrap();
        assert!(definitions.tools().len() >= 14);
        assert!(definitions.tools().iter().filter(|tool| tool.is_default).count() >= 3);
        assert_eq!(definitions.tools().iter().filter(|tool| !tool.is_active).count(), 1);
        assert_eq!(
            definitions.resolve("Email Templates management"),
            Resolution::Renamed("Email Templates")
        );
        assert_eq!(definitions.resolve("Old Calculator"), Resolution::Deleted);
        assert_eq!(definitions.resolve("Invoice Generator"), Resolution::Defined);
        assert_eq!(definitions.resolve("invoice generator"), Resolution::Unknown);
    }

    #[test]
    fn chains_collapse_to_their_end() {
        let text = tool("c") + "[deprecated]\na = \"b\"\nb = \"c\"\nx = \"y\"\ny = false\n";
        let definitions = parse(&text).unwrap();
        assert_eq!(definitions.resolve("a"), Resolution::Renamed("c"));
        assert_eq!(definitions.resolve("b"), Resolution::Renamed("c"));
        assert_eq!(definitions.resolve("x"), Resolution::Deleted);
    }

    #[test]
    fn a_malformed_file_is_refused_with_line_and_column() {
        let error = parse("[[tool]]\nname = \n").unwrap_err();
        assert_eq!(error.to_string(), "cannot understand the tool definitions in tools.toml");
        insta::assert_snapshot!(error.source().unwrap(), @r"
        TOML parse error at line 2, column 8
          |
        2 | name = 
          |        ^
        string values must be quoted, expected literal string
        ");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse(&(tool("a") + "is_actve = true\n")).unwrap_err();
        insta::assert_snapshot!(error.source().unwrap(), @r"
        TOML parse error at line 7, column 1
          |
        7 | is_actve = true
          | ^^^^^^^^
        unknown field `is_actve`, expected one of `name`, `description`, `route`, `is_default`, `is_active`
        ");
    }

    #[test]
    fn a_deprecation_is_a_name_or_false() {
        let error = parse(&(tool("a") + "[deprecated]\nb = 1\n")).unwrap_err();
        insta::assert_snapshot!(error.source().unwrap(), @r"
        TOML parse error at line 8, column 5
          |
        8 | b = 1
          |     ^
        expected the new name, or false for a deleted tool
        ");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Definitions::load(Path::new("no/such/tools.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the tool definitions");
        assert!(error.source().unwrap().to_string().contains("no/such/tools.toml"));
    }
}
