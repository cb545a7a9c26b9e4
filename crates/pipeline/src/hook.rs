//! Somebody's own programs around the steps: `.omnitool/hooks/before-STEP` and `after-STEP`.

use std::{
    fmt, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use fs_err as fs;

use crate::StepId;

/// Where hooks are, relative to the project's root.
pub const HOOKS_FOLDER: &str = ".omnitool/hooks";

/// A program that runs before or after a step. See decision 0011 for what a failure of it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When it runs.
    pub moment: Moment,
    /// The step.
    pub step: StepId,
    /// The program.
    pub file: PathBuf,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the step's first action; a failure fails the step.
    Before,
    /// After the step's last action, where the step went well; a failure is a warning.
    After,
}

impl Moment {
    /// The word in the file's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { moment, step, file: _ } = self;
        write!(f, "hook {}-{step}", moment.as_str())?;
        match moment {
            Moment::Before => Ok(()),
            Moment::After => f.write_str(" (a failure is a warning)"),
        }
    }
}

/// Why the hooks cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindHooksError {
    /// The folder cannot be read; the source names it.
    #[error("cannot look for hooks")]
    Read(#[source] io::Error),
    /// A file that looks like a hook and is none would be one that silently never runs.
    #[error("{} is no hook: {reason}", .file.display())]
    NoHook {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The hooks of a project; none where it has no folder of them. Names that start with a dot, and `README` files, are no hooks.
///
/// # Errors
///
/// Fails where the folder cannot be read, and where something in it is not executable or named after no step.
pub fn find_hooks(root: &Path) -> Result<Vec<Hook>, FindHooksError> {
    let folder = root.join(HOOKS_FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        // Whoever needs the folder around it says so.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(error) => return Err(FindHooksError::Read(error)),
    };
    let mut hooks = Vec::new();
    for entry in entries {
        let file = entry.map_err(FindHooksError::Read)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name.starts_with("README") {
            continue;
        }
        let refuse = |reason: String| FindHooksError::NoHook { file: file.clone(), reason };
        let (moment, step) = match (name.strip_prefix("before-"), name.strip_prefix("after-")) {
            (Some(step), _) => (Moment::Before, step),
            (_, Some(step)) => (Moment::After, step),
            _ => return Err(refuse("hooks are named before-STEP or after-STEP".to_owned())),
        };
        let step: StepId = step.parse().map_err(|error| refuse(format!("{error}")))?;
        let metadata = fs::metadata(&file).map_err(FindHooksError::Read)?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            return Err(refuse("it is no file that may be executed".to_owned()));
        }
        hooks.push(Hook { moment, step, file });
    }
    hooks.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(hooks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(root: &Path, name: &str, mode: u32) {
        let file = root.join(HOOKS_FOLDER).join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn hooks_are_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_hooks(folder.path()).unwrap(), []);
        for (name, mode) in
            [("before-release", 0o755), ("after-smoke", 0o700), ("README.md", 0o644)]
        {
            add(folder.path(), name, mode);
        }
        let found: Vec<String> =
            find_hooks(folder.path()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["hook after-smoke (a failure is a warning)", "hook before-release"]);
    }

    #[test]
    fn what_would_never_run_is_refused() {
        for (name, mode) in [("before-lunch", 0o755), ("release", 0o755), ("after-smoke", 0o644)] {
            let folder = tempfile::tempdir().unwrap();
            add(folder.path(), name, mode);
            let error = find_hooks(folder.path()).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
