//! Pipelines: what staging runs goes to production.

use std::time::Duration;

use serde_json::json;

use crate::{
    Heroku, HerokuError, PipelineCoupling, PromotionStatus, PromotionTarget, Reference,
    call::{Api, Call},
    wait::{Standing, until_stopped},
};

impl Heroku {
    /// The app's place in a pipeline; none where it has none.
    ///
    /// # Errors
    ///
    /// Fails where there is no answer.
    pub fn pipeline_coupling(&self, app: &str) -> Result<Option<PipelineCoupling>, HerokuError> {
        let call = Call::new(Api::Platform, "GET", &["apps", app, "pipeline-couplings"]);
        match self.repeat(&call) {
            Ok(coupling) => Ok(Some(coupling)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All apps of a pipeline.
    ///
    /// # Errors
    ///
    /// Fails where there is no such pipeline.
    pub fn pipeline_apps(&self, pipeline: &str) -> Result<Vec<PipelineCoupling>, HerokuError> {
        self.list(
            &Call::new(Api::Platform, "GET", &["pipelines", pipeline, "pipeline-couplings"]),
            None,
        )
    }

    /// Gives the slug of the app `source` to the app `target`, both by id, and waits until that is done. Config vars stay
    /// as they are; the target's release phase runs.
    ///
    /// # Errors
    ///
    /// Fails where the promotion does, where `limit` passes, and where `stop` says that nobody waits any longer: it goes on.
    pub fn promote(
        &self,
        pipeline: &str,
        source: &str,
        target: &str,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<PromotionTarget, HerokuError> {
        let before = self.newest_release(target)?.map_or(0, |release| release.version);
        let call = Call::new(Api::Platform, "POST", &["pipeline-promotions"]).json(&json!({
            "pipeline": { "id": pipeline },
            "source": { "app": { "id": source } },
            "targets": [{ "app": { "id": target } }],
        }));
        // Promotions cannot be listed; the release that one makes can.
        let promotion: Option<Reference> = self.create(&call, &mut || {
            let newest = self.newest_release(target)?;
            let is_new = newest.is_some_and(|release| {
                release.version > before && release.description.starts_with("Promote ")
            });
            Ok(is_new.then_some(None))
        })?;
        let Some(promotion) = promotion else {
            return self.wait_for_promoted_release(target, before, limit, stop);
        };
        let call = Call::new(
            Api::Platform,
            "GET",
            &["pipeline-promotions", &promotion.id, "promotion-targets"],
        );
        let what = format!("the promotion to {target}");
        until_stopped(&what, self.pace().release_interval, limit, stop, || {
            let targets: Vec<PromotionTarget> = self.repeat(&call)?;
            let Some(found) = targets.into_iter().find(|found| found.app.id == target) else {
                return Ok(Standing::Goes("not begun".to_owned()));
            };
            match &found.status {
                PromotionStatus::Succeeded => Ok(Standing::Done(found)),
                PromotionStatus::Pending => Ok(Standing::Goes("pending".to_owned())),
                status => Err(HerokuError::Failed {
                    what: format!("the promotion to {target}"),
                    why: found.error_message.unwrap_or_else(|| status.to_string()),
                }),
            }
        })
    }

    fn wait_for_promoted_release(
        &self,
        target: &str,
        before: u64,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<PromotionTarget, HerokuError> {
        let newer = self.releases(target, 20)?.into_iter().find(|release| {
            release.version > before && release.description.starts_with("Promote ")
        });
        let Some(release) = newer else {
            let call = crate::CallName { method: "POST", path: "/pipeline-promotions".to_owned() };
            return Err(HerokuError::Doubtful { call });
        };
        let release = self.wait_for_release_until(target, &release.id, limit, stop)?;
        Ok(PromotionTarget {
            app: Reference { id: target.to_owned(), name: None },
            status: PromotionStatus::Succeeded,
            error_message: None,
            release: Some(Reference { id: release.id, name: None }),
        })
    }
}
