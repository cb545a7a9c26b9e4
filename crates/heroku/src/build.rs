//! Slugs and builds: how code gets there.

use std::{fs::File, io, time::Duration};

use serde_json::json;

use crate::{
    Build, BuildStatus, CallName, Heroku, HerokuError, Secret, Slug, Source,
    call::{Api, Call, without_address},
    follow::Follow,
    wait::{Standing, until},
};

/// What is known of a source that is to be built.
#[derive(Clone, Copy, Debug)]
pub struct SourceVersion<'a> {
    /// The caller's name for it, such as a commit; it tells the build from others.
    pub version: &'a str,
    /// Hexadecimal SHA-256 of the tarball.
    pub sha256: &'a str,
}

impl Heroku {
    /// Makes a slug that has no bytes yet. `commit` tells it from others.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn create_slug(
        &self,
        app: &str,
        process_types: &[(&str, &str)],
        commit: &str,
        sha256: &str,
    ) -> Result<Slug, HerokuError> {
        let types: std::collections::BTreeMap<&str, &str> = process_types.iter().copied().collect();
        let call = Call::new(Api::Platform, "POST", &["apps", app, "slugs"]).json(&json!({
            "process_types": types,
            "commit": commit,
            "checksum": format!("SHA256:{sha256}"),
        }));
        // A slug that nobody releases does nothing, so a second one does no harm; and slugs cannot be listed.
        self.create(&call, &mut || Ok(None))
    }

    /// A slug by its id.
    ///
    /// # Errors
    ///
    /// Fails where the app has no such slug.
    pub fn slug(&self, app: &str, slug: &str) -> Result<Slug, HerokuError> {
        self.repeat(&Call::new(Api::Platform, "GET", &["apps", app, "slugs", slug]))
    }

    /// Copies the bytes of a slug of a release to `to`; returns how many there are.
    ///
    /// # Errors
    ///
    /// Fails where Heroku does not say where they are, or they do not come.
    pub fn download_slug(
        &self,
        slug: &Slug,
        to: &mut dyn io::Write,
        limit: Duration,
    ) -> Result<u64, HerokuError> {
        let failed = |why: String| HerokuError::Failed {
            what: format!("the download of the slug {}", slug.id),
            why,
        };
        let Some(blob) = &slug.blob else {
            return Err(failed("Heroku does not say where it is".to_owned()));
        };
        let request =
            self.agent.get(blob.url.expose()).config().timeout_global(Some(limit)).build();
        let response =
            request.call().map_err(|error| failed(without_address(error).to_string()))?;
        if response.status().as_u16() != 200 {
            let status = response.status().as_u16();
            return Err(failed(format!("the storage answered with status {status}")));
        }
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        io::copy(&mut reader, to).map_err(|error| failed(error.to_string()))
    }

    /// A place for an app's source.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn create_source(&self) -> Result<Source, HerokuError> {
        // One that nobody uses does nothing.
        self.create(&Call::new(Api::Platform, "POST", &["sources"]), &mut || Ok(None))
    }

    /// Puts a file's bytes where `url` says; repeats it, since that gives the same.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, or its bytes are not taken.
    pub fn upload(
        &self,
        url: &Secret,
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<(), HerokuError> {
        let name = || CallName { method: "PUT", path: "blob".to_owned() };
        let mut pause = self.pace().first_pause;
        for attempt in 1.. {
            let file = open().map_err(|error| HerokuError::NoAnswer {
                call: name(),
                attempts: attempt,
                source: Box::new(error.into()),
            })?;
            // The signature is of an empty type, and of no token.
            let sent = self
                .agent
                .put(url.expose())
                .config()
                .timeout_global(Some(Duration::from_secs(30 * 60)))
                .build()
                .header("Content-Type", "")
                .send(file);
            let is_last = attempt >= self.pace().attempts;
            match sent {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) if is_last || response.status().as_u16() < 500 => {
                    return Err(HerokuError::Refused {
                        call: name(),
                        status: response.status().as_u16(),
                        id: "storage".to_owned(),
                        message: "the storage did not take the bytes".to_owned(),
                    });
                }
                Err(source) if is_last => {
                    let source = Box::new(without_address(source));
                    return Err(HerokuError::NoAnswer { call: name(), attempts: attempt, source });
                }
                Ok(_) | Err(_) => {}
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        unreachable!("the loop ends with its last attempt")
    }

    /// Builds the source at `source`, and returns at once.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn create_build(
        &self,
        app: &str,
        source: &Source,
        version: SourceVersion<'_>,
    ) -> Result<Build, HerokuError> {
        let before: Vec<String> = self.builds(app)?.into_iter().map(|build| build.id).collect();
        let call = Call::new(Api::Platform, "POST", &["apps", app, "builds"]).json(&json!({
            "source_blob": {
                "url": source.source_blob.get_url.expose(),
                "version": version.version,
                "checksum": format!("SHA256:{}", version.sha256),
            }
        }));
        self.create(&call, &mut || {
            Ok(self.builds(app)?.into_iter().find(|build| {
                let found = build.source_blob.as_ref().and_then(|source| source.version.as_deref());
                found == Some(version.version) && !before.contains(&build.id)
            }))
        })
    }

    /// The app's newest builds.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn builds(&self, app: &str) -> Result<Vec<Build>, HerokuError> {
        let call = Call::new(Api::Platform, "GET", &["apps", app, "builds"]);
        let range = "created_at ..; max=10, order=desc";
        let answer = self.repeat_raw(&call.clone().header("Range", range))?;
        crate::call::parse(&call, &answer.body)
    }

    /// Follows a build until it has ended, well or not. That it went well does not mean that its release did.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be looked at, and where `limit` passes.
    pub fn follow_build(
        &self,
        app: &str,
        build: &str,
        limit: Duration,
        follow: Follow<'_>,
    ) -> Result<Build, HerokuError> {
        let call = Call::new(Api::Platform, "GET", &["apps", app, "builds", build]);
        self.follow(&format!("the build of {app}"), limit, follow, || {
            let build: Build = self.repeat(&call)?;
            let is_pending = build.status == BuildStatus::Pending;
            Ok((build.output_stream_url.clone(), is_pending, build))
        })
    }

    /// Waits for the end of a build. That it went well does not mean that its release did.
    ///
    /// # Errors
    ///
    /// Fails where the build does, with the end of its output, and where `limit` passes.
    pub fn wait_for_build(
        &self,
        app: &str,
        build: &str,
        limit: Duration,
    ) -> Result<Build, HerokuError> {
        let call = Call::new(Api::Platform, "GET", &["apps", app, "builds", build]);
        until(&format!("the build of {app}"), self.pace().release_interval, limit, || {
            let build: Build = self.repeat(&call)?;
            match &build.status {
                BuildStatus::Succeeded => Ok(Standing::Done(build)),
                BuildStatus::Pending => Ok(Standing::Goes("pending".to_owned())),
                status => {
                    let output =
                        build.output_stream_url.as_ref().and_then(|url| self.output(url).ok());
                    let tail: Vec<String> = output
                        .map(|text| text.lines().rev().take(20).map(str::to_owned).collect())
                        .unwrap_or_default();
                    let tail: Vec<String> = tail.into_iter().rev().collect();
                    Err(HerokuError::Failed {
                        what: format!("the build of {app}"),
                        why: format!("it is {status}\n{}", tail.join("\n")),
                    })
                }
            }
        })
    }
}
