//! The variables that an environment's programs get.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::LocalPlatformError;
use crate::{ConfigChange, Variable, file};

/// `config.json`, with mode 0600.
#[derive(Debug)]
pub(super) struct Config {
    file: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    variables: BTreeMap<String, String>,
}

impl Config {
    pub(super) fn new(folder: &Path) -> Self {
        Self { file: folder.join("config.json") }
    }

    /// All variables; none where none were ever set.
    pub(super) fn load(&self) -> Result<BTreeMap<String, String>, LocalPlatformError> {
        match fs::read(&self.file) {
            Ok(text) => match serde_json::from_slice::<Document>(&text) {
                Ok(document) => Ok(document.variables),
                Err(source) => Err(LocalPlatformError::Damaged { file: self.file.clone(), source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(LocalPlatformError::Io { what: "read the variables", source }),
        }
    }

    /// Sets those that differ. Others that somebody has added stay.
    pub(super) fn set(&self, variables: &[Variable]) -> Result<ConfigChange, LocalPlatformError> {
        let mut all = self.load()?;
        let mut set = Vec::new();
        for variable in variables {
            if all.get(variable.name()).map(String::as_str) != Some(variable.expose()) {
                all.insert(variable.name().to_owned(), variable.expose().to_owned());
                set.push(variable.name().to_owned());
            }
        }
        if !set.is_empty() {
            file::write_json(&self.file, &Document { variables: all })
                .map_err(|source| LocalPlatformError::Io { what: "set the variables", source })?;
        }
        Ok(ConfigChange { unchanged: variables.len() - set.len(), set })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_what_differs_is_set_and_what_others_added_stays() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path());
        fs::write(folder.path().join("config.json"), r#"{"variables":{"MAIL":"on","PORT":"1"}}"#)
            .unwrap();
        let variables =
            [Variable::plain("PORT", "1"), Variable::secret("DATABASE_URL", "sqlite:x")];
        let change = config.set(&variables).unwrap();
        assert_eq!(change, ConfigChange { set: vec!["DATABASE_URL".to_owned()], unchanged: 1 });
        let change = config.set(&variables).unwrap();
        assert_eq!(change, ConfigChange { set: vec![], unchanged: 2 });
        assert_eq!(config.load().unwrap()["MAIL"], "on");
        let mode = fs::metadata(folder.path().join("config.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        fs::write(&file, "{").unwrap();
        let error = Config::new(folder.path()).set(&[Variable::plain("A", "1")]).unwrap_err();
        assert!(matches!(error, LocalPlatformError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"{");
    }
}
