//! Numbered release folders and the link to the one that serves.

use std::{
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use chrono::{SecondsFormat, Utc};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::LocalPlatformError;
use crate::{Artifact, ReleaseId, Revision, file, unpack_artifact};

const FORMAT: &str = "omnitool.release";
const VERSION: u32 = 1;

/// `releases/NNNN` and `current`.
#[derive(Debug)]
pub(super) struct Releases {
    folder: PathBuf,
    current: PathBuf,
}

/// `release.json` in a release's folder: where the release came from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    format: String,
    version: u32,
    release: ReleaseId,
    /// The release that was current when this one was installed.
    replaces: Option<ReleaseId>,
    artifact: String,
    revision: Option<Revision>,
    installed_at: String,
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> LocalPlatformError {
    move |source| LocalPlatformError::Io { what, source }
}

impl Releases {
    pub(super) fn new(environment: &Path) -> Self {
        Self { folder: environment.join("releases"), current: environment.join("current") }
    }

    pub(super) fn folder_of(&self, release: ReleaseId) -> PathBuf {
        self.folder_named(&release.to_string())
    }

    pub(super) fn folder_named(&self, release: &str) -> PathBuf {
        self.folder.join(release)
    }

    /// All releases, oldest first.
    pub(super) fn list(&self) -> Result<Vec<ReleaseId>, LocalPlatformError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_error("list the releases")(source)),
        };
        let mut releases = Vec::new();
        for entry in entries {
            let name = entry.map_err(io_error("list the releases"))?.file_name();
            // What is no release, such as one that was never made whole, is nobody's.
            releases.extend(name.to_str().and_then(|name| name.parse::<ReleaseId>().ok()));
        }
        releases.sort();
        Ok(releases)
    }

    /// The release that `current` points to.
    pub(super) fn current(&self) -> Result<Option<ReleaseId>, LocalPlatformError> {
        match fs::read_link(&self.current) {
            Ok(target) => Ok(target
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.parse().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(LocalPlatformError::NotALink { link: self.current.clone() })
            }
            Err(source) => Err(io_error("read the link to the current release")(source)),
        }
    }

    /// Makes `current` point to `release`, or removes it. At no time is there no link, or half of one.
    pub(super) fn switch(&self, release: Option<ReleaseId>) -> Result<(), LocalPlatformError> {
        let temporary = self.current.with_file_name(".current.partial");
        let switch = || -> io::Result<()> {
            for leftover in [&temporary, &self.current].iter().take(match release {
                Some(_) => 1,
                None => 2,
            }) {
                match fs::remove_file(leftover) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            if let Some(release) = release {
                symlink(Path::new("releases").join(release.to_string()), &temporary)?;
                fs::rename(&temporary, &self.current)?;
            }
            Ok(())
        };
        switch().map_err(io_error("switch the link to the current release"))
    }

    /// Unpacks `artifact` as `release`. The release is there when it is whole, or not at all.
    pub(super) fn install(
        &self,
        release: ReleaseId,
        artifact: &Artifact,
    ) -> Result<(), LocalPlatformError> {
        if self.folder_of(release).is_dir() {
            // A run that continues another one finds what that one has installed.
            let found = self.origin(release).map(|origin| origin.artifact);
            return match found {
                Some(found) if found == artifact.sha256 => Ok(()),
                found => Err(LocalPlatformError::OtherArtifact { release, found }),
            };
        }
        let partial = self.folder.join(format!(".{release}.partial"));
        let install = || {
            if partial.exists() {
                fs::remove_dir_all(&partial).map_err(io_error("remove half a release"))?;
            }
            unpack_artifact(artifact, &partial)?;
            let origin = Origin {
                format: FORMAT.to_owned(),
                version: VERSION,
                release,
                replaces: self.current()?,
                artifact: artifact.sha256.clone(),
                revision: artifact.revision.clone(),
                installed_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            };
            file::write_json(&partial.join("release.json"), &origin)
                .and_then(|()| fs::rename(&partial, self.folder_of(release)))
                .map_err(io_error("install the release"))
        };
        install().inspect_err(|_| {
            // A full disk is emptied again; that this may fail, too, changes nothing.
            let _ = fs::remove_dir_all(&partial);
        })
    }

    /// Removes all releases but the newest `keep`, the current one, and the one before it.
    pub(super) fn remove_old(&self, keep: usize) -> Result<Vec<ReleaseId>, LocalPlatformError> {
        let current = self.current()?;
        let before = current.and_then(|current| self.before(current));
        let releases = self.list()?;
        let old = &releases[..releases.len().saturating_sub(keep)];
        let mut removed = Vec::new();
        for &release in old {
            if Some(release) != current && Some(release) != before {
                fs::remove_dir_all(self.folder_of(release))
                    .map_err(io_error("remove an old release"))?;
                removed.push(release);
            }
        }
        Ok(removed)
    }

    /// The release that was current when `release` was installed.
    pub(super) fn before(&self, release: ReleaseId) -> Option<ReleaseId> {
        self.origin(release).and_then(|origin| origin.replaces)
    }

    fn origin(&self, release: ReleaseId) -> Option<Origin> {
        let text = fs::read(self.folder_of(release).join("release.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ReleaseId {
        text.parse().unwrap()
    }

    /// An environment with these releases, each of which replaced the one that is given with it.
    fn environment(releases: &[(&str, Option<&str>)]) -> (tempfile::TempDir, Releases) {
        let folder = tempfile::tempdir().unwrap();
        let all = Releases::new(folder.path());
        for (release, replaces) in releases {
            fs::create_dir_all(all.folder_named(release)).unwrap();
            let origin = Origin {
                format: FORMAT.to_owned(),
                version: VERSION,
                release: id(release),
                replaces: replaces.map(id),
                artifact: String::new(),
                revision: None,
                installed_at: String::new(),
            };
            file::write_json(&all.folder_named(release).join("release.json"), &origin).unwrap();
        }
        (folder, all)
    }

    #[test]
    fn neither_the_current_release_nor_the_one_before_it_is_removed() {
        let (folder, releases) = environment(&[
            ("0001", None),
            ("0002", Some("0001")),
            ("0003", Some("0002")),
            ("0004", Some("0002")),
            ("0005", Some("0002")),
            ("0006", Some("0002")),
        ]);
        // Releases after 0003 did not come up.
        releases.switch(Some(id("0003"))).unwrap();
        fs::create_dir(folder.path().join("releases/notes")).unwrap();
        assert_eq!(releases.remove_old(2).unwrap(), [id("0001"), id("0004")]);
        assert_eq!(releases.list().unwrap(), [id("0002"), id("0003"), id("0005"), id("0006")]);
        assert_eq!(releases.remove_old(2).unwrap(), []);
    }

    #[test]
    fn the_link_is_switched_and_removed() {
        let (folder, releases) = environment(&[("0001", None), ("0002", Some("0001"))]);
        assert_eq!(releases.current().unwrap(), None);
        for release in ["0001", "0002"] {
            releases.switch(Some(id(release))).unwrap();
            assert_eq!(releases.current().unwrap(), Some(id(release)));
            assert!(folder.path().join("current/release.json").exists());
        }
        releases.switch(None).unwrap();
        assert_eq!(releases.current().unwrap(), None);
        releases.switch(None).unwrap();
    }

    #[test]
    fn what_is_no_link_is_refused_and_left_alone() {
        let (folder, releases) = environment(&[("0001", None)]);
        let link = folder.path().join("current");
        fs::write(&link, "mine").unwrap();
        let error = releases.current().unwrap_err();
        assert!(matches!(error, LocalPlatformError::NotALink { .. }), "{error}");
        assert_eq!(fs::read(&link).unwrap(), b"mine");
    }

    #[test]
    fn a_release_that_is_there_is_of_this_artifact_or_refused() {
        let (folder, releases) = environment(&[("0001", None)]);
        let artifact = |sha256: &str| Artifact {
            file: folder.path().join("gone.tar.gz"),
            sha256: sha256.to_owned(),
            size: 0,
            revision: None,
            origin: crate::Origin::Reused,
        };
        releases.install(id("0001"), &artifact("")).unwrap();
        let error = releases.install(id("0001"), &artifact("abc")).unwrap_err();
        assert!(matches!(error, LocalPlatformError::OtherArtifact { .. }), "{error}");
    }

    #[test]
    fn a_release_that_cannot_be_unpacked_is_not_there() {
        let (folder, releases) = environment(&[("0001", None)]);
        let artifact = Artifact {
            file: folder.path().join("gone.tar.gz"),
            sha256: String::new(),
            size: 0,
            revision: None,
            origin: crate::Origin::Reused,
        };
        let error = releases.install(id("0002"), &artifact).unwrap_err();
        assert!(matches!(error, LocalPlatformError::Unpack(_)), "{error}");
        assert_eq!(fs::read_dir(folder.path().join("releases")).unwrap().count(), 1);
    }
}
