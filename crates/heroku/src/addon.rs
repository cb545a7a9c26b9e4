//! Add-ons and their attachments: which database is behind `DATABASE_URL`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::{
    AddOn, AddOnState, Attachment, Heroku, HerokuError,
    call::{Api, Call},
    wait::{Standing, until},
};

/// A database of an app, as the Data API needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseAddOn {
    /// The add-on's UUID.
    pub id: String,
    /// The add-on's name.
    pub name: String,
    /// The app that pays for it, under which its backups are.
    pub billing_app: String,
    /// The attachment's name, such as `DATABASE`.
    pub attachment: String,
    /// Its plan, such as `heroku-postgresql:standard-0`.
    pub plan: String,
    /// Whether its plan has followers.
    pub has_followers: bool,
}

impl DatabaseAddOn {
    fn new(attachment: &Attachment) -> Self {
        let addon = &attachment.addon;
        let billing = addon.app.as_ref().unwrap_or(&attachment.app);
        Self {
            id: addon.id.clone(),
            name: addon.name.clone(),
            billing_app: billing.name.clone().unwrap_or_else(|| billing.id.clone()),
            attachment: attachment.name.clone(),
            plan: addon.plan.as_ref().and_then(|plan| plan.name.clone()).unwrap_or_default(),
            has_followers: addon.has_followers(),
        }
    }
}

impl Heroku {
    /// The database that the config var `name` of `app` is the address of. `name` may also be an attachment's name or id,
    /// or an add-on's.
    ///
    /// # Errors
    ///
    /// Fails where there is none, or several that are meant equally.
    pub fn database_of(&self, app: &str, name: &str) -> Result<DatabaseAddOn, HerokuError> {
        let call = Call::new(Api::Platform, "POST", &["actions", "addon-attachments", "resolve"])
            .sdk()
            .header("Accept-Inclusion", "addon:plan,config_vars")
            .json(&json!({ "addon_attachment": name, "app": app }));
        // It only looks, so it may be repeated.
        let found: Vec<Attachment> = self.repeat(&call)?;
        let mut databases: Vec<&Attachment> =
            found.iter().filter(|attachment| attachment.addon.is_postgres()).collect();
        if databases.len() > 1 {
            databases.retain(|attachment| attachment.namespace.is_none());
        }
        match databases.as_slice() {
            [database] => Ok(DatabaseAddOn::new(database)),
            [] => Err(HerokuError::Unusable {
                what: format!("{name} of {app}"),
                kind: "attached PostgreSQL database",
            }),
            several => Err(HerokuError::Unusable {
                what: format!("{name} of {app}, which means {} databases,", several.len()),
                kind: "attached PostgreSQL database",
            }),
        }
    }

    /// An app's add-ons.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn addons(&self, app: &str) -> Result<Vec<AddOn>, HerokuError> {
        self.list(&Call::new(Api::Platform, "GET", &["apps", app, "addons"]), None)
    }

    /// An app's attachments.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn attachments(&self, app: &str) -> Result<Vec<Attachment>, HerokuError> {
        let call = Call::new(Api::Platform, "GET", &["apps", app, "addon-attachments"])
            .header("Accept-Inclusion", "addon:plan,config_vars");
        self.list(&call, None)
    }

    /// Makes an add-on under names of our own, by which a second request is known, and returns at once.
    ///
    /// `config` goes to the provider: `{"follow": "DATABASE_URL"}` makes a follower.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it, such as where the name is taken by something else.
    pub fn create_addon(
        &self,
        app: &str,
        plan: &str,
        name: &str,
        attachment: &str,
        config: &serde_json::Value,
    ) -> Result<AddOn, HerokuError> {
        let find = || {
            Ok(self.addons(app)?.into_iter().find(|addon| {
                let is_gone = matches!(
                    addon.state,
                    Some(AddOnState::Deprovisioned | AddOnState::Deprovisioning)
                );
                addon.name == name && !is_gone
            }))
        };
        if let Some(found) = find()? {
            return Ok(found);
        }
        let call = Call::new(Api::Platform, "POST", &["apps", app, "addons"])
            .header("Accept-Expansion", "plan")
            .json(&json!({
                "attachment": { "name": attachment },
                "config": config,
                "confirm": app,
                "name": name,
                "plan": { "name": plan },
            }));
        match self.create(&call, &mut || find()) {
            // The first of two attempts may have made it.
            Err(error) if error.is_conflict() => find()?.ok_or(error),
            done => done,
        }
    }

    /// Waits until an add-on is there.
    ///
    /// # Errors
    ///
    /// Fails where it could not be made, and where `limit` passes.
    pub fn wait_for_addon(
        &self,
        app: &str,
        name: &str,
        limit: Duration,
    ) -> Result<AddOn, HerokuError> {
        let call = Call::new(Api::Platform, "GET", &["apps", app, "addons", name])
            .header("Accept-Expansion", "addon_service,plan");
        until(&format!("the add-on {name}"), self.pace().database_interval, limit, || {
            let addon: AddOn = self.repeat(&call)?;
            match &addon.state {
                Some(AddOnState::Provisioned) => Ok(Standing::Done(addon)),
                Some(AddOnState::Provisioning) | None => {
                    Ok(Standing::Goes("provisioning".to_owned()))
                }
                Some(state) => Err(HerokuError::Failed {
                    what: format!("the add-on {name}"),
                    why: format!("it is {state}"),
                }),
            }
        })
    }

    /// Removes an add-on with all its data, and waits until it is gone. One that is not there is fine.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it, and where `limit` passes.
    pub fn destroy_addon(&self, app: &str, name: &str, limit: Duration) -> Result<(), HerokuError> {
        let path = ["apps", app, "addons", name];
        let delete = Call::new(Api::Platform, "DELETE", &path).json(&json!({ "force": false }));
        match self.repeat_raw(&delete) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
        let look = Call::new(Api::Platform, "GET", &path);
        until(&format!("that {name} is gone"), self.pace().database_interval, limit, || match self
            .repeat::<AddOn>(
            &look,
        ) {
            Ok(AddOn { state: Some(AddOnState::Deprovisioned), .. }) => Ok(Standing::Done(())),
            Ok(addon) => Ok(Standing::Goes(
                addon.state.map_or_else(|| "there".to_owned(), |state| state.to_string()),
            )),
            Err(error) if error.is_not_found() => Ok(Standing::Done(())),
            Err(error) => Err(error),
        })
    }

    /// Gives an add-on a name in an app. A name that something else has is taken from it: `DATABASE` promotes a database.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn attach(&self, app: &str, addon: &str, name: &str) -> Result<Attachment, HerokuError> {
        let find = || {
            Ok(self
                .attachments(app)?
                .into_iter()
                .find(|attachment| attachment.name == name && attachment.addon.name == addon))
        };
        if let Some(found) = find()? {
            return Ok(found);
        }
        let call = Call::new(Api::Platform, "POST", &["addon-attachments"]).json(&json!({
            "addon": { "name": addon },
            "app": { "name": app },
            "confirm": app,
            "name": name,
            "namespace": null,
        }));
        self.create(&call, &mut || find())
    }

    /// Takes an add-on's name in an app away; its data stays. A name that is not there is fine.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn detach(&self, app: &str, name: &str) -> Result<(), HerokuError> {
        #[derive(Deserialize)]
        struct Found {
            id: String,
        }
        let look = Call::new(Api::Platform, "GET", &["apps", app, "addon-attachments", name]);
        let Found { id } = match self.repeat(&look) {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.repeat_raw(&Call::new(Api::Platform, "DELETE", &["addon-attachments", &id])) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
