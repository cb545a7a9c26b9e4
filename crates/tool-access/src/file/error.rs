//! What is wrong with a file, and where.

use std::{io, path::PathBuf};

use super::{FORMAT, FactList, VERSION};
use crate::name::printable;

/// A file with who may use what cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", .file.display(), place(*.line, *.column))]
pub struct ReadAccessFileError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// The byte in the line up to which was read, from 1.
    pub column: usize,
    /// What is wrong there.
    #[source]
    pub problem: FileProblem,
}

fn place(line: usize, column: usize) -> String {
    if line == 0 { " cannot be read".to_owned() } else { format!(", line {line}, column {column}") }
}

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// The operating system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no JSON, or not of the expected shape.
    #[error("{}", printable(.0))]
    Syntax(String),
    /// It ends in the middle.
    #[error("the file ends here, in the middle: it is truncated")]
    Truncated,
    /// It holds bytes that are no UTF-8.
    #[error("this is not UTF-8: save the file as UTF-8")]
    NotUtf8,
    /// A text is longer than any name, or there is a gap that no writer makes.
    #[error("there is a {what} of more than {limit} bytes, which no export has")]
    TooLong {
        /// Text or gap.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// It speaks about more than can be kept in memory.
    #[error("the file has too many {what}: at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// It is some other file.
    #[error("the format is `{}`, and this is not an export: expected `{FORMAT}`", printable(.found))]
    OtherFormat {
        /// The value of `format`.
        found: String,
    },
    /// It was written by a newer build, or by none.
    #[error("the file has version {found}, and this build reads version {VERSION}")]
    OtherVersion {
        /// The value of `version`.
        found: u64,
    },
    /// A key that no version of the format has; ignoring it could give somebody access.
    #[error("unknown key `{}`; expected {expected}", printable(.key))]
    UnknownKey {
        /// The key.
        key: String,
        /// Which keys there are.
        expected: &'static str,
    },
    /// A key twice, of which JSON readers would take one or the other.
    #[error("the key `{}` appears twice", printable(.key))]
    RepeatedKey {
        /// The key.
        key: String,
    },
    /// A key that every such file has is not there.
    #[error("the key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A key comes before one that it needs.
    #[error("the key `{}` must come after `{needs}`", printable(.key))]
    KeyTooEarly {
        /// The key.
        key: String,
        /// The key that it needs.
        needs: &'static str,
    },
    /// A key of the flat format in a file of ours, or the other way round.
    #[error("the key `{}` belongs to another format than the keys before it", printable(.key))]
    MixedFormats {
        /// The key.
        key: String,
    },
    /// An environment that nobody knows.
    #[error("unknown environment `{}`; expected local, staging or production", printable(.found))]
    UnknownEnvironment {
        /// The value of `environment`.
        found: String,
    },
    /// A name with no characters.
    #[error("an empty name")]
    EmptyName,
    /// A user twice in `users`.
    #[error("`{}` is listed twice in `users`{}", printable(.user), first(*.first_line))]
    DuplicateUser {
        /// The user.
        user: String,
        /// Where it was listed first; 0 where that is not known.
        first_line: usize,
    },
    /// A user twice in one list of a tool.
    #[error("`{}` is listed twice in `{list}` of `{}`{}", printable(.user), printable(.tool), first(*.first_line))]
    DuplicateFact {
        /// The user.
        user: String,
        /// The list.
        list: FactList,
        /// The tool.
        tool: String,
        /// Where it was listed first; 0 where that is not known.
        first_line: usize,
    },
    /// A tool twice.
    #[error("the tool `{}` appears twice{}", printable(.tool), first(*.first_line))]
    DuplicateTool {
        /// The tool.
        tool: String,
        /// Where it was first; 0 where that is not known.
        first_line: usize,
    },
    /// The file says both that the user may and must not use the tool.
    #[error("`{}` is both granted `{}` and excluded from it{}", printable(.user), printable(.tool), first(*.first_line))]
    GrantedAndExcluded {
        /// The user.
        user: String,
        /// The tool.
        tool: String,
        /// Where the other entry is; 0 where that is not known.
        first_line: usize,
    },
    /// A fact about a user for whom the file does not speak.
    #[error("`{}` is not listed in `users`, so the file does not speak for this user", printable(.user))]
    OutsideScope {
        /// The user.
        user: String,
    },
    /// The number in `total_grants` is not that of the grants; something was lost.
    #[error(
        "`total_grants` says {stated}, but there are {counted} grants: the file is incomplete or edited"
    )]
    WrongTotal {
        /// What the file says.
        stated: u64,
        /// What it has.
        counted: u64,
    },
}

fn first(line: usize) -> String {
    if line == 0 { String::new() } else { format!("; the first time was on line {line}") }
}
