//! The export file: names, versions and limits of its format.

use std::path::PathBuf;

use omnitool_environment::EnvironmentName;

mod error;
mod guard;
mod header;
mod list;
mod reader;
mod writer;

pub use error::{FileProblem, ReadAccessFileError};
pub(crate) use reader::{Needle, locate, read, read_with};
pub(crate) use writer::{Written, write};

/// The value of the key `format`.
pub const FORMAT: &str = "omnitool.tool-access";
/// The newest version of the format, and the one that is written.
pub const VERSION: u64 = 1;
/// Where exports are committed, relative to the project's root.
pub const DEFAULT_FOLDER: &str = "data/tool_access_exports";

/// The longest text in a file, in bytes as written; a name of 500 characters is far below, however it is escaped.
pub(crate) const LONGEST_TEXT: usize = 16 * 1024;
/// The most bytes between two texts; indentation is far below.
pub(crate) const LONGEST_GAP: usize = 64 * 1024;
/// The most tools that a file may speak about.
pub(crate) const MOST_TOOLS: usize = 65_536;
/// How many bytes the names of a file may take in memory.
pub(crate) const MOST_NAME_BYTES: usize = 256 << 20;
/// How many bytes the facts of a file may take in memory, at one bit per user and tool.
pub(crate) const MOST_FACT_BYTES: usize = 256 << 20;

/// The file that an environment's export is committed as.
///
/// ```
/// use omnitool_environment::EnvironmentName;
/// let file = omnitool_tool_access::default_file(EnvironmentName::Local);
/// assert_eq!(file.to_str(), Some("data/tool_access_exports/local_tool_access.json"));
/// ```
#[must_use]
pub fn default_file(environment: EnvironmentName) -> PathBuf {
    PathBuf::from(format!("{DEFAULT_FOLDER}/{environment}_tool_access.json"))
}

/// What a file says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileHeader {
    /// The environment whose facts it holds, where it says so.
    pub environment: Option<String>,
    /// Which format it has.
    pub layout: FileLayout,
    /// How many grants a flat list has, the same one twice counted twice.
    #[serde(skip)]
    pub(crate) grants: Option<u64>,
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileLayout {
    /// Ours, with a scope.
    #[default]
    Canonical,
    /// A flat list of grants, as older systems export it. It has no scope.
    Flat,
}

/// The lists that a tool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactList {
    /// Users who must not use the tool.
    Excluded,
    /// Users who may.
    Granted,
}

impl std::fmt::Display for FactList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Excluded => "excluded",
            Self::Granted => "granted",
        })
    }
}
