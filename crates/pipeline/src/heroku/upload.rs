//! The three ways of a release to Heroku, up to the moment at which Heroku makes it.

use std::path::PathBuf;

use fs_err as fs;
use omnitool_heroku::{
    Build, BuildStatus, Follow, HerokuError, NewRelease, Release, Source, SourceVersion,
};
use serde::{Deserialize, Serialize};

use super::{
    HerokuPlatform, HerokuPlatformError, RELEASE_LIMIT,
    ledger::{Label, Ledger},
    slug, source, tail,
};
use crate::{Artifact, Stream, Watch, file};

/// What the run deploys, as far as it is on Heroku.
#[derive(Clone, Debug)]
pub(super) struct Uploaded {
    pub(super) label: Label,
    pub(super) made: Made,
}

/// What Heroku makes a release of.
#[derive(Clone, Debug)]
pub(super) enum Made {
    /// A slug that has its bytes.
    Slug(String),
    /// Sources, with their SHA-256.
    Source { source: Source, sha256: String },
    /// What staging runs.
    Promotion { pipeline: String, source: String, target: String },
}

/// What this machine remembers of an upload, should it die before the slug is released: slugs cannot be listed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    label: String,
    slug: String,
}

impl HerokuPlatform {
    pub(super) fn install_slug(
        &self,
        ledger: &Ledger,
        label: &Label,
        artifact: &Artifact,
    ) -> Result<(Made, String), HerokuPlatformError> {
        let found = self.find_slug(ledger, label)?;
        let is_there = if found.is_some() { " already" } else { "" };
        let slug = match found {
            Some(slug) => slug,
            None => self.upload(label, artifact)?,
        };
        let said = format!("the slug of release {} is uploaded{is_there}", label.release);
        Ok((Made::Slug(slug), said))
    }

    pub(super) fn install_source(
        &self,
        label: &Label,
        artifact: &Artifact,
    ) -> Result<(Made, String), HerokuPlatformError> {
        let packed = self.folder.join(".source.partial");
        let upload = || {
            let revision = artifact.revision.as_ref();
            let sha256 = source::pack(&self.root, revision, label.release, &packed)?;
            // One that nobody builds does nothing.
            let source = self.heroku.create_source()?;
            self.heroku.upload(&source.source_blob.put_url, &|| std::fs::File::open(&packed))?;
            let said = format!("the sources of release {} are uploaded", label.release);
            Ok((Made::Source { source, sha256 }, said))
        };
        let uploaded = upload();
        // It can be made again at any time; that it may stay changes nothing.
        let _ = fs::remove_file(&packed);
        uploaded
    }

    pub(super) fn install_promotion(
        &self,
        label: &Label,
    ) -> Result<(Made, String), HerokuPlatformError> {
        let refuse = |reason: String| HerokuPlatformError::NotPromotable { reason };
        let staging = self.staging.as_deref();
        let staging = staging.ok_or_else(|| refuse("nobody said which app that is".to_owned()))?;
        let ledger = Ledger::read(&self.heroku, staging)?;
        let runs = ledger.current().and_then(|current| ledger.label(current));
        if !runs.is_some_and(|runs| runs.is_same(label)) {
            let runs = runs.map_or_else(|| "something else".to_owned(), ToString::to_string);
            return Err(refuse(format!("{staging} runs {runs}, not {label}")));
        }
        let (source, target) = (self.heroku.app(staging)?, self.heroku.app(&self.app)?);
        let place = |app: &str| self.heroku.pipeline_coupling(app);
        match (place(staging)?, place(&self.app)?) {
            (Some(one), Some(other)) if one.pipeline.id == other.pipeline.id => {
                let pipeline = one.pipeline.id;
                let said = format!("{staging} runs the artifact of release {}", label.release);
                Ok((Made::Promotion { pipeline, source: source.id, target: target.id }, said))
            }
            _ => Err(refuse(format!("{staging} and {} are in no common pipeline", self.app))),
        }
    }

    /// The slug of `label`, where it has its bytes already.
    fn find_slug(&self, ledger: &Ledger, label: &Label) -> Result<Option<String>, HerokuError> {
        let released = ledger.attempts(label).find_map(|found| found.slug.as_ref());
        if let Some(slug) = released {
            return Ok(Some(slug.id.clone()));
        }
        let Some(Memory { label: known, slug }) = self.recall() else { return Ok(None) };
        if known != label.to_string() {
            return Ok(None);
        }
        match self.heroku.slug(&self.app, &slug) {
            Ok(found) => Ok((found.commit == Some(known)).then_some(slug)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn memory(&self) -> PathBuf {
        self.folder.join("slug.json")
    }

    /// A memory that is missing or damaged only costs another upload.
    fn recall(&self) -> Option<Memory> {
        serde_json::from_slice(&fs::read(self.memory()).ok()?).ok()
    }

    fn upload(&self, label: &Label, artifact: &Artifact) -> Result<String, HerokuPlatformError> {
        let packed_into = self.folder.join(".slug.partial");
        let upload = || {
            let packed = slug::pack(artifact, label.release, &packed_into)?;
            let types: Vec<(&str, &str)> = packed
                .process_types
                .iter()
                .map(|(name, command)| (name.as_str(), command.as_str()))
                .collect();
            let commit = label.to_string();
            let slug = self.heroku.create_slug(&self.app, &types, &commit, &packed.sha256)?;
            let blob = slug.blob.ok_or_else(|| HerokuError::Failed {
                what: format!("the slug {}", slug.id),
                why: "Heroku does not say where its bytes go".to_owned(),
            })?;
            self.heroku.upload(&blob.url, &|| std::fs::File::open(&packed_into))?;
            let memory = Memory { label: commit, slug: slug.id.clone() };
            file::write_json(&self.memory(), &memory)
                .map_err(|source| HerokuPlatformError::Io { what: "remember the slug", source })?;
            Ok(slug.id)
        };
        let uploaded = upload();
        // It can be made again at any time; that it may stay changes nothing.
        let _ = fs::remove_file(&packed_into);
        uploaded
    }

    /// Lets Heroku make the release, and returns it while its release phase runs.
    pub(super) fn make_release(
        &mut self,
        uploaded: &Uploaded,
        watch: &mut Watch<'_>,
    ) -> Result<Release, HerokuPlatformError> {
        let Uploaded { label, made } = uploaded;
        let asked =
            |error: HerokuError| HerokuPlatformError::from(error).unless_refused(label.release);
        match made {
            Made::Slug(slug) => {
                let description = label.description();
                let new = NewRelease::Slug { slug, description: &description };
                self.heroku.create_release(&self.app, new).map_err(asked)
            }
            Made::Source { source, sha256 } => self.build(label, source, sha256, watch),
            Made::Promotion { pipeline, source, target } => {
                let promoted = self.heroku.promote(
                    pipeline,
                    source,
                    target,
                    RELEASE_LIMIT,
                    watch.interrupted(),
                );
                // One whose release phase failed has made a release, too, which says more.
                let ledger = self.ledger().map_err(|error| error.unseen(label.release))?;
                match (ledger.attempts(label).next().cloned(), promoted) {
                    (
                        Some(release),
                        Ok(_) | Err(HerokuError::Failed { .. } | HerokuError::Stopped { .. }),
                    ) => Ok(release),
                    (_, Err(error)) => Err(asked(error)),
                    (None, Ok(_)) => {
                        let (app, release) = (self.app.clone(), label.release);
                        Err(HerokuPlatformError::NoRelease { app, release }.unseen(release))
                    }
                }
            }
        }
    }

    /// Builds the sources, unless that was begun already.
    fn build(
        &self,
        label: &Label,
        source: &Source,
        sha256: &str,
        watch: &mut Watch<'_>,
    ) -> Result<Release, HerokuPlatformError> {
        let build = match self.begun(label)? {
            Some(build) => build,
            None => {
                let version = label.to_string();
                let version = SourceVersion { version: &version, sha256 };
                let created = self.heroku.create_build(&self.app, source, version);
                created.map_err(|error| {
                    HerokuPlatformError::from(error).unless_refused(label.release)
                })?
            }
        };
        self.built(label, &build, watch).map_err(|error| error.unseen(label.release))
    }

    /// Waits for the end of all builds that go on, whoever began them.
    pub(super) fn wait_for_builds(&self, watch: &mut Watch<'_>) -> Result<(), HerokuPlatformError> {
        for build in self.heroku.builds(&self.app)? {
            if build.status == BuildStatus::Pending {
                let name = version_of(&build).unwrap_or(&build.id);
                self.follow_build(&build, &format!("the build of {name}"), watch)?;
            }
        }
        Ok(())
    }

    /// The build of `label` that goes on.
    fn begun(&self, label: &Label) -> Result<Option<Build>, HerokuError> {
        let version = label.to_string();
        Ok(self.heroku.builds(&self.app)?.into_iter().find(|build| {
            version_of(build) == Some(&version) && build.status == BuildStatus::Pending
        }))
    }

    /// Follows a build to its end; returns how it ended, with the lines that it printed.
    fn follow_build(
        &self,
        build: &Build,
        what: &str,
        watch: &mut Watch<'_>,
    ) -> Result<(Build, Vec<String>), HerokuPlatformError> {
        let stop = watch.interrupted();
        let mut said: Vec<String> = Vec::new();
        let mut see = |line: &str| {
            watch.line(Stream::Stdout, line);
            said.push(line.to_owned());
        };
        let follow = Follow { see: &mut see, stop };
        let build = self.heroku.follow_build(&self.app, &build.id, RELEASE_LIMIT, follow)?;
        if build.status == BuildStatus::Pending {
            return Err(HerokuPlatformError::Interrupted { what: what.to_owned() });
        }
        Ok((build, said))
    }

    /// Follows a build to its end; returns the release that Heroku makes then.
    fn built(
        &self,
        label: &Label,
        build: &Build,
        watch: &mut Watch<'_>,
    ) -> Result<Release, HerokuPlatformError> {
        let what = format!("the build of release {}", label.release);
        let (build, said) = self.follow_build(build, &what, watch)?;
        match (&build.status, &build.release) {
            (BuildStatus::Succeeded, Some(release)) => {
                Ok(self.heroku.release(&self.app, &release.id)?)
            }
            _ => {
                let said = tail(said);
                Err(HerokuPlatformError::BuildFailed { release: label.release, said })
            }
        }
    }
}

/// What the caller of a build called its sources.
fn version_of(build: &Build) -> Option<&str> {
    build.source_blob.as_ref()?.version.as_deref()
}
