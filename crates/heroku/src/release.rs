//! Releases: made, waited for, rolled back to.

use std::time::Duration;

use serde_json::json;

use crate::{
    ConfigVars, Heroku, HerokuError, Release, ReleaseStatus, Secret,
    call::{Api, Call, V3_SDK},
    follow::Follow,
    wait::{Standing, until_stopped},
};

/// A release that is to be made.
#[derive(Clone, Copy, Debug)]
pub enum NewRelease<'a> {
    /// Of a slug that was uploaded.
    Slug {
        /// The slug's id.
        slug: &'a str,
        /// What it is for, which tells it from others.
        description: &'a str,
    },
    /// Of the code and config vars of an earlier one, by its UUID.
    RollbackTo(&'a str),
}

impl Heroku {
    /// The newest releases of `app`, newest first, at most `count`.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn releases(&self, app: &str, count: usize) -> Result<Vec<Release>, HerokuError> {
        let call = Call::new(Api::Platform, "GET", &["apps", app, "releases"]).sdk();
        let range = format!("version ..; max={count}, order=desc");
        let answer = self.repeat_raw(&call.clone().header("Range", range))?;
        let mut releases: Vec<Release> = crate::call::parse(&call, &answer.body)?;
        releases.truncate(count);
        Ok(releases)
    }

    /// The newest release; none where the app has none.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn newest_release(&self, app: &str) -> Result<Option<Release>, HerokuError> {
        Ok(self.releases(app, 1)?.into_iter().next())
    }

    /// The release that dynos run; none where the app has none.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn current_release(&self, app: &str) -> Result<Option<Release>, HerokuError> {
        Ok(self.releases(app, 200)?.into_iter().find(|release| release.current))
    }

    /// One release, by its id or number.
    ///
    /// # Errors
    ///
    /// Fails where there is none.
    pub fn release(&self, app: &str, release: &str) -> Result<Release, HerokuError> {
        self.repeat(&Call::new(Api::Platform, "GET", &["apps", app, "releases", release]))
    }

    /// The config vars that a release had.
    ///
    /// # Errors
    ///
    /// Fails where there is no such release.
    pub fn release_config_vars(&self, app: &str, release: &str) -> Result<ConfigVars, HerokuError> {
        self.repeat(&Call::new(
            Api::Platform,
            "GET",
            &["apps", app, "releases", release, "config-vars"],
        ))
    }

    /// Makes a release, and returns at once: its release phase may run for long.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn create_release(&self, app: &str, new: NewRelease<'_>) -> Result<Release, HerokuError> {
        let before = self.newest_release(app)?.map_or(0, |release| release.version);
        let (body, description, slug) = match new {
            NewRelease::Slug { slug, description } => {
                let body = json!({ "slug": slug, "description": description });
                (body, description.to_owned(), Some(slug))
            }
            NewRelease::RollbackTo(release) => {
                let version = self.release(app, release)?.version;
                (json!({ "release": release }), format!("Rollback to v{version}"), None)
            }
        };
        let is_it = |release: &Release| {
            let found = release.slug.as_ref().map(|slug| slug.id.as_str());
            release.version > before
                && release.description == description
                && slug.is_none_or(|slug| found == Some(slug))
        };
        let mut call = Call::new(Api::Platform, "POST", &["apps", app, "releases"]).json(&body);
        if matches!(new, NewRelease::RollbackTo(_)) {
            call.accept = V3_SDK;
        }
        self.create(&call, &mut || {
            Ok(self.releases(app, 20)?.into_iter().find(|release| is_it(release)))
        })
    }

    /// Follows a release until its release phase has ended, well or not.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be looked at, and where `limit` passes.
    pub fn follow_release(
        &self,
        app: &str,
        release: &str,
        limit: Duration,
        follow: Follow<'_>,
    ) -> Result<Release, HerokuError> {
        self.follow(&format!("release {release} of {app}"), limit, follow, || {
            let release = self.release(app, release)?;
            let is_pending = release.status == ReleaseStatus::Pending;
            Ok((release.output_stream_url.clone(), is_pending, release))
        })
    }

    /// Waits for the end of the release phase.
    ///
    /// # Errors
    ///
    /// Fails where the release does, with the end of its output, and where `limit` passes.
    pub fn wait_for_release(
        &self,
        app: &str,
        release: &str,
        limit: Duration,
    ) -> Result<Release, HerokuError> {
        self.wait_for_release_until(app, release, limit, &|| false)
    }

    pub(crate) fn wait_for_release_until(
        &self,
        app: &str,
        release: &str,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Release, HerokuError> {
        let what = format!("release {release} of {app}");
        until_stopped(&what, self.pace().release_interval, limit, stop, || {
            let found = self.release(app, release)?;
            match &found.status {
                ReleaseStatus::Succeeded => Ok(Standing::Done(found)),
                ReleaseStatus::Pending => Ok(Standing::Goes("pending".to_owned())),
                status => {
                    let output =
                        found.output_stream_url.as_ref().and_then(|url| self.output(url).ok());
                    let tail = output.map(|text| last_lines(&text, 20)).unwrap_or_default();
                    Err(HerokuError::Failed {
                        what: format!("release v{} of {app}", found.version),
                        why: match tail.is_empty() {
                            true => format!("it is {status}"),
                            false => format!("it is {status}; its release phase said:\n{tail}"),
                        },
                    })
                }
            }
        })
    }

    /// What a release phase or build has printed so far. The address answers 404 until it has begun.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be read.
    pub fn output(&self, url: &Secret) -> Result<String, HerokuError> {
        let response = self.open_signed(url.expose(), "output")?;
        let mut text = Vec::new();
        let mut reader = response.into_body().into_with_config().limit(16 << 20).reader();
        // What was read before a broken connection is better than nothing.
        let _ = std::io::Read::read_to_end(&mut reader, &mut text);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
