//! The keys of a file's outermost object, and in which order they may come.

use super::{FileHeader, FileLayout, error::FileProblem};

/// Which keys were seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    keys: Vec<&'static str>,
}

const EXPECTED: &str = "`format`, `version`, `environment`, `users` and `tools`, or those of a flat list: `version`, \
     `environment`, `exported_at`, `total_grants` and `grants`";
const KEYS: [&str; 8] =
    ["format", "version", "environment", "users", "tools", "exported_at", "total_grants", "grants"];

impl Seen {
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// Notes `key` and returns its known name.
    pub(crate) fn note(&mut self, key: &str) -> Result<&'static str, FileProblem> {
        let known = KEYS
            .into_iter()
            .find(|known| *known == key)
            .ok_or_else(|| FileProblem::UnknownKey { key: key.to_owned(), expected: EXPECTED })?;
        if self.has(known) {
            return Err(FileProblem::RepeatedKey { key: key.to_owned() });
        }
        let early = |needs| FileProblem::KeyTooEarly { key: key.to_owned(), needs };
        let is_mixed = match known {
            // What follows can only be understood when the version is known.
            "users" | "tools" if !self.has("format") => {
                return Err(if self.has("grants") {
                    FileProblem::MixedFormats { key: key.to_owned() }
                } else {
                    early("format")
                });
            }
            "users" | "tools" if !self.has("version") => return Err(early("version")),
            // Names in `tools` are checked against the scope.
            "users" if self.has("tools") => {
                return Err(FileProblem::KeyTooEarly { key: "tools".to_owned(), needs: "users" });
            }
            "exported_at" | "total_grants" | "grants" => self.has("format"),
            "format" => self.has("grants") || self.has("exported_at") || self.has("total_grants"),
            _ => false,
        };
        if is_mixed {
            return Err(FileProblem::MixedFormats { key: key.to_owned() });
        }
        self.keys.push(known);
        Ok(known)
    }

    /// The layout, once all keys were seen.
    pub(crate) fn layout(&self) -> Result<FileLayout, FileProblem> {
        let missing = |key| Err(FileProblem::MissingKey { key });
        if self.has("grants") {
            return Ok(FileLayout::Flat);
        }
        if !self.has("format") {
            return missing(if self.has("total_grants") { "grants" } else { "format" });
        }
        if !self.has("version") {
            return missing("version");
        }
        if !self.has("tools") {
            return missing("tools");
        }
        Ok(FileLayout::Canonical)
    }
}

/// Checks the environment: ours is one of three, older systems had other names.
pub(crate) fn check_environment(header: &FileHeader) -> Result<(), FileProblem> {
    match (&header.environment, header.layout) {
        (Some(name), FileLayout::Canonical)
            if name.parse::<omnitool_environment::EnvironmentName>().is_err() =>
        {
            Err(FileProblem::UnknownEnvironment { found: name.clone() })
        }
        _ => Ok(()),
    }
}
