//! The release artifact: the programs and `data/` in one file that is the same wherever it is packed from the same input.

mod hash;
mod pack;
mod store;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    hash::{Hashed, hex},
    pack::append,
    store::{remove_old_artifacts, unpacked_programs},
};
pub use self::{
    pack::{PackArtifactError, check_required_data, pack_artifact},
    store::{FindArtifactError, UnpackArtifactError, find_artifact, unpack_artifact},
};

/// The programs that a release consists of, as far as they have been built.
pub const PROGRAMS: [&str; 10] = [
    "backup-database",
    "export-tool-access",
    "import-tool-access",
    "migrate-db",
    "omnitool",
    "rollback-migration",
    "smoke-tests",
    "sync-data-prod-to-staging",
    "sync-tools",
    "verify-migration",
];

/// What a release cannot do without, relative to the project's root.
pub const REQUIRED_DATA: [&str; 3] = [
    "data/environments.toml",
    "data/tool_access_exports/local_tool_access.json",
    "data/tools.toml",
];

/// What runs where on Heroku, relative to the project's root. Other platforms do not need it.
pub(crate) const PROCFILE: &str = "Procfile";

const FORMAT: &str = "omnitool.artifact";
const VERSION: u32 = 1;

/// What an artifact is packed from.
#[derive(Clone, Debug)]
pub struct ArtifactSource {
    /// The folder with the built programs.
    pub programs: PathBuf,
    /// The project's root, which holds `data/`.
    pub root: PathBuf,
    /// The commit that is checked out, where there is one.
    pub revision: Option<Revision>,
}

/// The commit that an artifact was packed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// The commit's hash.
    pub commit: String,
    /// Whether files differed from the commit.
    pub modified: bool,
}

/// A packed artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The file.
    pub file: PathBuf,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// What it was packed from.
    pub revision: Option<Revision>,
    /// Whether it had to be packed.
    pub origin: Origin,
}

/// Whether an artifact had to be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was packed.
    Packed,
    /// Its input was unchanged, so it was there already.
    Reused,
    /// It was asked for by its SHA-256.
    Found,
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, path::Path};

    use fs_err as fs;

    use super::{pack::MANIFEST, *};

    fn project(folder: &Path) -> ArtifactSource {
        for file in REQUIRED_DATA {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "content").unwrap();
        }
        fs::create_dir_all(folder.join("data/backups/staging")).unwrap();
        fs::write(folder.join("data/backups/staging/b001.db"), "personal").unwrap();
        fs::create_dir_all(folder.join("target")).unwrap();
        fs::write(folder.join("target/migrate-db"), "program").unwrap();
        fs::write(folder.join("target/something-else"), "program").unwrap();
        ArtifactSource {
            programs: folder.join("target"),
            root: folder.to_owned(),
            revision: Some(Revision { commit: "abc".to_owned(), modified: false }),
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_in_every_folder() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = pack_artifact(&project(one.path()), &one.path().join("store")).unwrap();
        let source = project(two.path());
        let program = two.path().join("target/migrate-db");
        fs::set_permissions(program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let second = pack_artifact(&source, &two.path().join("store")).unwrap();
        assert_eq!(first.sha256, second.sha256);
        assert_eq!(fs::read(first.file).unwrap(), fs::read(second.file).unwrap());
    }

    #[test]
    fn an_artifact_is_reused_until_its_input_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (source, store) = (project(folder.path()), folder.path().join("store"));
        let first = pack_artifact(&source, &store).unwrap();
        assert_eq!(first.origin, Origin::Packed);
        let again = pack_artifact(&source, &store).unwrap();
        assert_eq!((again.origin, &again.sha256), (Origin::Reused, &first.sha256));
        fs::write(folder.path().join("data/tools.toml"), "changed").unwrap();
        let changed = pack_artifact(&source, &store).unwrap();
        assert_eq!(changed.origin, Origin::Packed);
        assert_ne!(changed.sha256, first.sha256);
        fs::remove_file(&changed.file).unwrap();
        assert_eq!(pack_artifact(&source, &store).unwrap().origin, Origin::Packed);
    }

    #[test]
    fn an_artifact_that_was_damaged_is_packed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (source, store) = (project(folder.path()), folder.path().join("store"));
        let first = pack_artifact(&source, &store).unwrap();
        let mut bytes = fs::read(&first.file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&first.file, bytes).unwrap();
        let again = pack_artifact(&source, &store).unwrap();
        assert_eq!((again.origin, &again.sha256), (Origin::Packed, &first.sha256));
        unpack_artifact(&again, &folder.path().join("release")).unwrap();
    }

    #[test]
    fn an_artifact_holds_programs_and_data_but_no_backups() {
        let folder = tempfile::tempdir().unwrap();
        let artifact =
            pack_artifact(&project(folder.path()), &folder.path().join("store")).unwrap();
        let into = folder.path().join("release");
        unpack_artifact(&artifact, &into).unwrap();
        let mode = |file: &str| fs::metadata(into.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("bin/migrate-db") & 0o700, 0o700);
        assert_eq!(mode("data/tools.toml") & 0o700, 0o600);
        assert!(!into.join("bin/something-else").exists());
        assert!(!into.join("data/backups").exists());
        assert!(fs::read_to_string(into.join(MANIFEST)).unwrap().contains("\"commit\": \"abc\""));
    }

    #[test]
    fn only_the_newest_artifacts_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (source, store) = (project(folder.path()), folder.path().join("store"));
        let pack = |content: &str| {
            fs::write(folder.path().join("data/tools.toml"), content).unwrap();
            pack_artifact(&source, &store).unwrap()
        };
        let all: Vec<Artifact> = ["a", "b", "c"].into_iter().map(pack).collect();
        remove_old_artifacts(&store, &all[0], 2).unwrap();
        let there = all.iter().map(|artifact| artifact.file.exists()).collect::<Vec<_>>();
        assert_eq!(there, [true, false, true]);
        assert_eq!(fs::read_dir(&store).unwrap().count(), 4);
        assert_eq!(pack("a").origin, Origin::Reused);
        assert_eq!(pack("b").origin, Origin::Packed);
    }

    #[test]
    fn a_damaged_artifact_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut artifact =
            pack_artifact(&project(folder.path()), &folder.path().join("store")).unwrap();
        artifact.sha256 = "0".repeat(64);
        let error = unpack_artifact(&artifact, &folder.path().join("release")).unwrap_err();
        assert!(matches!(error, UnpackArtifactError::Changed { .. }), "{error}");
    }

    #[test]
    fn missing_input_is_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (source, store) = (project(folder.path()), folder.path().join("store"));
        fs::remove_file(folder.path().join("data/tools.toml")).unwrap();
        let error = pack_artifact(&source, &store).unwrap_err();
        insta::assert_snapshot!(error, @"data/tools.toml is missing, so no release can be made");
        fs::write(folder.path().join("data/tools.toml"), "").unwrap();
        fs::remove_file(folder.path().join("target/migrate-db")).unwrap();
        let error = pack_artifact(&source, &store).unwrap_err();
        assert!(matches!(error, PackArtifactError::NoPrograms { .. }), "{error}");
        assert!(!store.exists());
    }

    #[test]
    fn an_artifact_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::write(&store, "a file where the folder should be").unwrap();
        let error = pack_artifact(&project(folder.path()), &store).unwrap_err();
        assert!(matches!(error, PackArtifactError::Write { .. }), "{error}");
    }
}
