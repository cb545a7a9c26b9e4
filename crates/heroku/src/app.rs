//! Account, apps, config vars, formation, dynos.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use crate::{
    Account, App, ConfigVars, Dyno, DynoState, Formation, Heroku, HerokuError, RateLimits,
    call::{Api, Call},
    wait::{Standing, until_stopped},
};

fn get(segments: &[&str]) -> Call {
    Call::new(Api::Platform, "GET", segments)
}

impl Heroku {
    /// The account that the token belongs to.
    ///
    /// # Errors
    ///
    /// Fails where the token is none.
    pub fn account(&self) -> Result<Account, HerokuError> {
        self.repeat(&get(&["account"]))
    }

    /// What the token may do: `global`, or some of `identity`, `read`, `write`, `read-protected`, `write-protected`.
    ///
    /// # Errors
    ///
    /// Fails where Heroku does not say.
    pub fn scopes(&self) -> Result<Vec<String>, HerokuError> {
        #[derive(serde::Deserialize)]
        struct Authorization {
            scope: Vec<String>,
        }
        self.repeat::<Authorization>(&get(&["oauth", "authorizations", "~"]))
            .map(|authorization| authorization.scope)
    }

    /// How many requests are left. Asking costs none.
    ///
    /// # Errors
    ///
    /// Fails where there is no answer.
    pub fn rate_limits(&self) -> Result<RateLimits, HerokuError> {
        self.repeat(&get(&["account", "rate-limits"]))
    }

    /// The app `app`, a name or an id.
    ///
    /// # Errors
    ///
    /// Fails where there is none, or it may not be seen.
    pub fn app(&self, app: &str) -> Result<App, HerokuError> {
        self.repeat(&get(&["apps", app]))
    }

    /// Lets Heroku's router answer in the app's place, or not any more.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn set_maintenance(&self, app: &str, on: bool) -> Result<App, HerokuError> {
        let call = Call::new(Api::Platform, "PATCH", &["apps", app]);
        self.repeat(&call.json(&json!({ "maintenance": on })))
    }

    /// The app's config vars.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn config_vars(&self, app: &str) -> Result<ConfigVars, HerokuError> {
        self.repeat(&get(&["apps", app, "config-vars"]))
    }

    /// Sets those of `wanted` that differ, and removes those without a value. Returns the names of what it changed: where
    /// that is none, no release was made and no dyno restarted.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn set_config_vars(
        &self,
        app: &str,
        wanted: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<String>, HerokuError> {
        let now = self.config_vars(app)?;
        let changes: BTreeMap<&String, &Option<String>> = wanted
            .iter()
            .filter(|(name, value)| now.get(*name).map(crate::Secret::expose) != value.as_deref())
            .collect();
        if !changes.is_empty() {
            let call = Call::new(Api::Platform, "PATCH", &["apps", app, "config-vars"]);
            // Setting them makes a release, so that a lost answer is no reason to set them again.
            self.create::<ConfigVars>(&call.json(&changes), &mut || {
                let now = self.config_vars(app)?;
                let is_set = changes.iter().all(|(name, value)| {
                    now.get(*name).map(crate::Secret::expose) == value.as_deref()
                });
                Ok(is_set.then_some(now))
            })?;
        }
        Ok(changes.into_keys().cloned().collect())
    }

    /// The app's process types.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn formation(&self, app: &str) -> Result<Vec<Formation>, HerokuError> {
        self.list(&get(&["apps", app, "formation"]), None)
    }

    /// Sets how many processes of a type run.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app or type.
    pub fn scale(
        &self,
        app: &str,
        process_type: &str,
        quantity: u32,
    ) -> Result<Vec<Formation>, HerokuError> {
        let call = Call::new(Api::Platform, "PATCH", &["apps", app, "formation"]);
        let update = json!({ "updates": [{ "type": process_type, "quantity": quantity }] });
        self.repeat(&call.json(&update))
    }

    /// The app's processes.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn dynos(&self, app: &str) -> Result<Vec<Dyno>, HerokuError> {
        self.list(&get(&["apps", app, "dynos"]), None)
    }

    /// One process; none where it has ended.
    ///
    /// # Errors
    ///
    /// Fails where there is no answer.
    pub fn dyno(&self, app: &str, dyno: &str) -> Result<Option<Dyno>, HerokuError> {
        match self.repeat(&get(&["apps", app, "dynos", dyno])) {
            Ok(dyno) => Ok(Some(dyno)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends a process, as Ctrl-C does not: it gets 30 seconds.
    ///
    /// # Errors
    ///
    /// Fails where there is no answer; not where it has ended already.
    pub fn stop_dyno(&self, app: &str, dyno: &str) -> Result<(), HerokuError> {
        let call =
            Call::new(Api::Platform, "POST", &["apps", app, "dynos", dyno, "actions", "stop"]);
        match self.repeat_raw(&call) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Starts all processes anew.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn restart(&self, app: &str) -> Result<(), HerokuError> {
        self.repeat_raw(&Call::new(Api::Platform, "DELETE", &["apps", app, "dynos"])).map(drop)
    }

    /// Waits until all processes of the formation run the release `version` or a newer one.
    ///
    /// # Errors
    ///
    /// Fails where one crashes or `limit` passes, and where `stop` says that nobody waits any longer.
    pub fn wait_for_dynos(
        &self,
        app: &str,
        version: u64,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Dyno>, HerokuError> {
        let what = format!("that all dynos of {app} run v{version}");
        until_stopped(&what, self.pace().release_interval, limit, stop, || {
            let dynos: Vec<Dyno> = self
                .dynos(app)?
                .into_iter()
                .filter(|dyno| !matches!(dyno.process_type.as_str(), "run" | "release"))
                .collect();
            let is_new = |dyno: &Dyno| {
                dyno.release
                    .as_ref()
                    .and_then(|release| release.version)
                    .is_some_and(|v| v >= version)
            };
            if let Some(crashed) =
                dynos.iter().find(|dyno| is_new(dyno) && dyno.state == DynoState::Crashed)
            {
                return Err(HerokuError::Failed {
                    what: format!("{} of {app}", crashed.name),
                    why: format!("it crashed in release v{version}; see its log"),
                });
            }
            let running = dynos
                .iter()
                .filter(|dyno| {
                    is_new(dyno) && matches!(dyno.state, DynoState::Up | DynoState::Idle)
                })
                .count();
            // While old ones are replaced by new ones there may be neither.
            let wanted: u32 = self.formation(app)?.iter().map(|found| found.quantity).sum();
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).max(dynos.len());
            if running == wanted {
                return Ok(Standing::Done(dynos));
            }
            Ok(Standing::Goes(format!("{running} of {wanted} run it")))
        })
    }
}
