//! Databases: what they are, whether they can be used, whom they follow.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    Credential, Database, DatabaseAddOn, Heroku, HerokuError, WaitStatus,
    call::{Api, Call},
    wait::{Standing, until},
};

impl Heroku {
    /// What a database says of itself. It holds passwords, which stay hidden.
    ///
    /// # Errors
    ///
    /// Fails where there is none.
    pub fn database(&self, database: &DatabaseAddOn) -> Result<Database, HerokuError> {
        self.repeat(&Call::new(Api::Data, "GET", &["client", "v11", "databases", &database.id]))
    }

    /// Waits until a database can be used.
    ///
    /// # Errors
    ///
    /// Fails where it never can, and where `limit` passes.
    pub fn wait_for_database(
        &self,
        database: &DatabaseAddOn,
        limit: Duration,
    ) -> Result<(), HerokuError> {
        let path = ["client", "v11", "databases", &database.id, "wait_status"];
        let call = Call::new(Api::Data, "GET", &path);
        let what = format!("the database {}", database.name);
        until(&what, self.pace().database_interval, limit, || {
            match self.repeat::<WaitStatus>(&call) {
                Ok(WaitStatus { is_error: true, message, .. }) => {
                    Err(HerokuError::Failed { what: what.clone(), why: message })
                }
                Ok(WaitStatus { is_waiting: false, .. }) => Ok(Standing::Done(())),
                Ok(WaitStatus { message, .. }) => Ok(Standing::Goes(message)),
                // A database that was just asked for is not known at once.
                Err(error) if error.is_not_found() => Ok(Standing::Goes("unknown".to_owned())),
                Err(error) => Err(error),
            }
        })
    }

    /// Waits until a follower has all that its leader has.
    ///
    /// # Errors
    ///
    /// Fails where it follows nobody, and where `limit` passes.
    pub fn wait_for_follower(
        &self,
        follower: &DatabaseAddOn,
        limit: Duration,
    ) -> Result<(), HerokuError> {
        let what = format!("that {} has caught up", follower.name);
        until(&what, self.pace().database_interval, limit, || {
            let database = self.database(follower)?;
            if database.following.is_none() {
                return Err(HerokuError::Failed {
                    what: what.clone(),
                    why: "it follows nobody".to_owned(),
                });
            }
            match database.behind_by() {
                Some(0) => Ok(Standing::Done(())),
                Some(behind) => Ok(Standing::Goes(format!("{behind} commits behind"))),
                None => Ok(Standing::Goes("how far it is behind cannot be read".to_owned())),
            }
        })
    }

    /// Ends following, for good, and waits until that is so. One that follows nobody is fine.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it, and where `limit` passes.
    pub fn unfollow(&self, follower: &DatabaseAddOn, limit: Duration) -> Result<(), HerokuError> {
        if self.database(follower)?.following.is_none() {
            return Ok(());
        }
        let path = ["client", "v11", "databases", &follower.id, "unfollow"];
        self.repeat_raw(&Call::new(Api::Data, "PUT", &path))?;
        let what = format!("that {} follows nobody", follower.name);
        until(&what, self.pace().database_interval, limit, || {
            Ok(match self.database(follower)?.following {
                None => Standing::Done(()),
                Some(_) => Standing::Goes("it still follows".to_owned()),
            })
        })
    }

    /// The users of a database, without their passwords.
    ///
    /// # Errors
    ///
    /// Fails where there is no such database.
    pub fn credentials(&self, database: &DatabaseAddOn) -> Result<Vec<Credential>, HerokuError> {
        let path = ["postgres", "v0", "databases", &database.id, "credentials"];
        self.repeat(&Call::new(Api::Data, "GET", &path))
    }

    /// Gives a user of a database a new password. Heroku then sets the config var, which makes a release.
    ///
    /// # Errors
    ///
    /// Fails where there is no such user.
    pub fn rotate_credential(
        &self,
        database: &DatabaseAddOn,
        credential: &str,
    ) -> Result<String, HerokuError> {
        #[derive(Deserialize)]
        struct Rotated {
            message: String,
        }
        let path = [
            "postgres",
            "v0",
            "databases",
            &database.id,
            "credentials",
            credential,
            "credentials_rotation",
        ];
        let call = Call::new(Api::Data, "POST", &path).json(&serde_json::json!({}));
        // Twice is as good as once: what counts is that the old password ends.
        self.repeat::<Rotated>(&call).map(|rotated| rotated.message)
    }
}
