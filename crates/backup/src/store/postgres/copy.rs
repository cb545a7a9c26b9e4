//! A copy of another server's database beside one of ours, for a refresh.

use std::{fmt, path::Path};

use omnitool_environment::DatabaseUrl;

use super::{
    PostgresStore,
    record::{Purpose, Record},
    restore::pg_restore,
    server::{Server, ServerError},
    temporary::{Temporary, abandoned, drop_abandoned, start_of_name},
};
use crate::store::{Cause, Progress, StoreOptions};

/// What stands between a database's name and a number in the name of a copy that will refresh it.
const REFRESH: &str = "_refresh_";

/// A database beside the one that is refreshed. It goes away with this value; where we are killed, the next run drops it.
pub(crate) struct PostgresCopy {
    server: Server,
    temporary: Option<Temporary>,
    url: DatabaseUrl,
}

impl PostgresCopy {
    /// Restores the dump `file` into a new database on the server of `target`.
    pub(crate) fn restore(
        target: &DatabaseUrl,
        file: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Cause> {
        let store = PostgresStore::new(target, &StoreOptions::default())?;
        let mut server = store.server()?;
        let facts = server.facts(&store.database)?;
        server.check_role(&store.database, facts.as_ref())?;
        let start = start_of_name(&store.database, REFRESH);
        let record = Record::new(Purpose::Refresh, &store.database);
        let temporary = Temporary::create(&mut server, &start, facts.as_ref(), &record)?;
        let name = temporary.name.clone();
        let url = server.url_of(&name);
        let mut copy = Self { server, temporary: Some(temporary), url };
        // What comes from there belongs to our database's owner.
        pg_restore(&store, &mut copy.server, file, &name, true, progress)?;
        Ok(copy)
    }

    pub(crate) const fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Drops it.
    pub(crate) fn drop_now(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let name = temporary.name.clone();
            if let Err(error) = temporary.drop_now(&mut self.server) {
                tracing::warn!(
                    "cannot drop {name}, a copy of another environment's database: {error}"
                );
            }
        }
    }

    /// The copies that killed runs left, by name.
    pub(crate) fn abandoned(target: &DatabaseUrl) -> Result<Vec<String>, Cause> {
        let (mut server, start) = place(target)?;
        Ok(abandoned(&mut server, &start)?.into_iter().map(|listed| listed.name).collect())
    }

    /// Drops the copies that killed runs left.
    pub(crate) fn drop_abandoned(target: &DatabaseUrl) -> Result<(), Cause> {
        let (mut server, start) = place(target)?;
        Ok(drop_abandoned(&mut server, &start)?)
    }
}

fn place(target: &DatabaseUrl) -> Result<(Server, String), Cause> {
    let store = PostgresStore::new(target, &StoreOptions::default())?;
    let server: Result<Server, ServerError> = store.server();
    Ok((server?, start_of_name(&store.database, REFRESH)))
}

impl fmt::Debug for PostgresCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresCopy").field(&self.url).finish()
    }
}

impl Drop for PostgresCopy {
    fn drop(&mut self) {
        self.drop_now();
    }
}
