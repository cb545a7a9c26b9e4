//! `data/masking.toml`: what becomes of each column.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use toml::Spanned;

/// What becomes of a column's values. NULL stays NULL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// They stay.
    Keep,
    /// An address that cannot be delivered, made from the row's key.
    Email,
    /// A name made from the row's key.
    Name,
    /// A telephone number in no country, made from the row's key.
    Phone,
    /// A keyed hash of the value: equal values stay equal.
    Hash,
    /// NULL.
    Null,
    /// This text.
    Fixed(String),
}

/// What becomes of every column that somebody has thought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskingRules {
    pub(super) drop_rows: BTreeSet<String>,
    pub(super) tables: BTreeMap<String, BTreeMap<String, Rule>>,
}

/// Why masking rules could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadMaskingError {
    /// The file cannot be read; the source names it.
    #[error("cannot read the masking rules")]
    Read(#[source] io::Error),
    /// The file is not what is expected; the source gives line and column.
    #[error("cannot understand the masking rules in {file}")]
    Parse {
        /// The file.
        file: PathBuf,
        /// What is wrong and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The file is well formed and has rules that there are not, or contradicts itself; the source lists all of it.
    #[error("the masking rules in {file} are not consistent")]
    Lint {
        /// The file.
        file: PathBuf,
        /// All problems, by line.
        #[source]
        source: RuleProblems,
    },
}

/// Everything that is wrong with a file, by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblems {
    file: PathBuf,
    problems: Vec<(usize, String)>,
}

impl fmt::Display for RuleProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, problem)) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {problem}", self.file.display())?;
        }
        Ok(())
    }
}

impl Error for RuleProblems {}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    drop_rows: Vec<Spanned<String>>,
    #[serde(default)]
    tables: BTreeMap<Spanned<String>, BTreeMap<String, Spanned<toml::Value>>>,
}

impl MaskingRules {
    /// Where the file is, relative to a project's root.
    pub const DEFAULT_FILE: &str = "data/masking.toml";

    /// The rules that are compiled into the programs.
    ///
    /// # Errors
    ///
    /// Fails only where the build itself is broken; a test proves that it is not.
    pub fn shipped() -> Result<Self, LoadMaskingError> {
        let text = include_str!("../../../../data/masking.toml");
        Self::parse(text, Path::new(Self::DEFAULT_FILE))
    }

    /// Reads and checks `file`.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, is malformed, has unknown keys or rules, or contradicts itself.
    pub fn load(file: &Path) -> Result<Self, LoadMaskingError> {
        let text = fs_err::read_to_string(file).map_err(LoadMaskingError::Read)?;
        Self::parse(&text, file)
    }

    /// Checks `text`; `file` is only named in errors.
    ///
    /// # Errors
    ///
    /// Fails where the text is malformed, has unknown keys or rules, or contradicts itself.
    pub fn parse(text: &str, file: &Path) -> Result<Self, LoadMaskingError> {
        let File { drop_rows, tables } = toml::from_str(text).map_err(|source| {
            LoadMaskingError::Parse { file: file.to_owned(), source: Box::new(source) }
        })?;
        let line = |offset: usize| {
            1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
        };
        let mut rules = Self::default();
        let mut problems = Vec::new();
        for table in drop_rows {
            let start = table.span().start;
            let table = table.into_inner();
            if tables.contains_key(table.as_str()) {
                let problem =
                    format!("the rows of `{table}` are dropped, so that its columns need no rules");
                problems.push((line(start), problem));
            }
            rules.drop_rows.insert(table);
        }
        for (table, columns) in tables {
            let table = table.into_inner();
            for (column, value) in columns {
                match Rule::read(value.get_ref()) {
                    Ok(rule) => {
                        rules.tables.entry(table.clone()).or_default().insert(column, rule);
                    }
                    Err(problem) => {
                        let problem = format!("{table}.{column}: {problem}");
                        problems.push((line(value.span().start), problem));
                    }
                }
            }
        }
        if problems.is_empty() {
            return Ok(rules);
        }
        problems.sort();
        let source = RuleProblems { file: file.to_owned(), problems };
        Err(LoadMaskingError::Lint { file: file.to_owned(), source })
    }
}

impl Rule {
    fn read(value: &toml::Value) -> Result<Self, String> {
        const KNOWN: &str = "known: keep, email, name, phone, hash, null, { fixed = \"text\" }";
        if let Some(table) = value.as_table() {
            return match (table.len(), table.get("fixed").and_then(toml::Value::as_str)) {
                (1, Some(text)) => Ok(Self::Fixed(text.to_owned())),
                _ => Err(format!("this is no rule ({KNOWN})")),
            };
        }
        match value.as_str() {
            Some("keep") => Ok(Self::Keep),
            Some("email") => Ok(Self::Email),
            Some("name") => Ok(Self::Name),
            Some("phone") => Ok(Self::Phone),
            Some("hash") => Ok(Self::Hash),
            Some("null") => Ok(Self::Null),
            Some("drop-rows") => {
                Err("whole tables are dropped: name it in `drop_rows` instead".to_owned())
            }
            Some(other) => Err(format!("unknown rule `{other}` ({KNOWN})")),
            None => Err(format!("this is no rule ({KNOWN})")),
        }
    }

    /// The name as it stands in the file.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Email => "email",
            Self::Name => "name",
            Self::Phone => "phone",
            Self::Hash => "hash",
            Self::Null => "null",
            Self::Fixed(_) => "fixed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MaskingRules, LoadMaskingError> {
        MaskingRules::parse(text, Path::new("masking.toml"))
    }

    fn refused(text: &str) -> String {
        let error = parse(text).unwrap_err();
        error.source().map_or_else(|| error.to_string(), ToString::to_string)
    }

    #[test]
    fn the_shipped_rules_are_consistent() {
        let rules = MaskingRules::shipped().unwrap();
        assert_eq!(rules.tables["users"]["email"], Rule::Email);
        assert!(rules.drop_rows.contains("user_session"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let text = refused("drop_rows = []\ndrop_tables = [\"x\"]\n");
        assert!(text.contains("line 2") && text.contains("drop_tables"), "{text}");
    }

    #[test]
    fn a_column_that_is_classified_twice_is_refused() {
        let text = refused("[tables.users]\nid = \"keep\"\nid = \"null\"\n");
        assert!(text.contains("line 3") && text.contains("duplicate key"), "{text}");
    }

    #[test]
    fn everything_that_is_no_rule_is_listed_at_once() {
        insta::assert_snapshot!(
            refused(
                "drop_rows = [\"notes\"]\n[tables.users]\nemail = \"mail\"\nid = 1\nname = { fixed = \"x\", also = 1 }\n\
                 session = \"drop-rows\"\n[tables.notes]\nid = \"keep\"\n"
            ),
            @r#"
        masking.toml:1: the rows of `notes` are dropped, so that its columns need no rules
        masking.toml:3: users.email: unknown rule `mail` (known: keep, email, name, phone, hash, null, { fixed = "text" })
        masking.toml:4: users.id: this is no rule (known: keep, email, name, phone, hash, null, { fixed = "text" })
        masking.toml:5: users.name: this is no rule (known: keep, email, name, phone, hash, null, { fixed = "text" })
        masking.toml:6: users.session: whole tables are dropped: name it in `drop_rows` instead
        "#
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = MaskingRules::load(Path::new("no-such.toml")).unwrap_err();
        assert!(error.source().unwrap().to_string().contains("no-such.toml"));
    }
}
