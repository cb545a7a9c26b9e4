//! Sessions: who is logged in.

use chrono::{NaiveDateTime, TimeDelta, Utc};
use omnitool_database::{AnyConnection, write_transaction};

use crate::{
    store::{self, NewSessionRow, ViewerRow, dashboard::EntryRow},
    token::Token,
    viewers::Viewers,
};

/// How long a session lasts, used or not: a working day and a bit.
pub(crate) const LIFETIME: TimeDelta = TimeDelta::hours(12);

/// Whoever is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Viewer {
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) is_admin: bool,
}

impl From<ViewerRow> for Viewer {
    fn from(ViewerRow { id, username, is_admin }: ViewerRow) -> Self {
        Self { id, username, is_admin }
    }
}

/// An admin who does something, and the session that shows it.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) viewer: Viewer,
    pub(crate) session: Token,
}

/// Why somebody may not do as an admin does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("the session is over")]
    LoggedOut,
    #[error("the viewer is no admin")]
    NoAdmin,
    #[error("the database refused")]
    Query(#[from] diesel::result::Error),
}

impl Admin {
    /// Asks whether this still is an admin, in the transaction that writes and after what it has waited for: others may
    /// have deactivated or demoted the admin in that time.
    pub(crate) fn check(&self, conn: &mut AnyConnection) -> Result<(), AdminError> {
        match find(conn, &self.session)? {
            Some(viewer) if viewer.is_admin => Ok(()),
            Some(_) => Err(AdminError::NoAdmin),
            None => Err(AdminError::LoggedOut),
        }
    }
}

/// The active user who has the session with this token, unless it is over.
pub(crate) fn find(conn: &mut AnyConnection, token: &Token) -> diesel::QueryResult<Option<Viewer>> {
    Ok(store::find_viewer(conn, &token.sha256(), Utc::now().naive_utc())?.map(Viewer::from))
}

/// [`find`], with the tools that the user may use, by name. One question where `viewers` has guessed right.
pub(crate) fn find_dashboard(
    conn: &mut AnyConnection,
    token: &Token,
    viewers: &Viewers,
) -> diesel::QueryResult<Option<(Viewer, Vec<EntryRow>)>> {
    let (token_sha256, now) = (token.sha256(), Utc::now().naive_utc());
    if let Some(viewer) = viewers.guess(&token_sha256) {
        let entries = store::dashboard::list_entries(conn, &token_sha256, now, &viewer)?;
        // Where there is nothing, the user may have no tools, or no longer be who it was.
        if !entries.is_empty() {
            return Ok(Some((viewer, entries)));
        }
    }
    let Some(viewer) = store::find_viewer(conn, &token_sha256, now)?.map(Viewer::from) else {
        return Ok(None);
    };
    let entries = store::dashboard::list_entries(conn, &token_sha256, now, &viewer)?;
    viewers.remember(token_sha256, viewer.clone());
    Ok(Some((viewer, entries)))
}

/// What a login has shown: that somebody knows the password behind `password_hash`.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) user_id: i64,
    pub(crate) password_hash: String,
    /// A hash of today to put in its place, where it is an old one.
    pub(crate) new_hash: Option<String>,
}

/// Opens a session under `token`, closes the one that the browser had before, and forgets those that are over.
///
/// Does nothing and says `false` where the user is no longer active or has another hash than `proof` is about: checking a
/// password takes long, and whoever resets it or deactivates the user meanwhile wants no session to begin.
pub(crate) fn open(
    conn: &mut AnyConnection,
    proof: &Proof,
    token: &Token,
    before: Option<&Token>,
) -> diesel::QueryResult<bool> {
    let now = Utc::now().naive_utc();
    write_transaction(conn, |conn| {
        // The user first and sessions then, as everybody does it who ends sessions: nobody waits crosswise.
        if !store::user::lock_credential(conn, proof.user_id, &proof.password_hash)? {
            return Ok(false);
        }
        if let Some(hash) = &proof.new_hash {
            store::user::set_password_hash(conn, proof.user_id, hash)?;
        }
        if let Some(before) = before {
            store::delete_session(conn, &before.sha256())?;
        }
        store::delete_expired_sessions(conn, now)?;
        insert(conn, proof.user_id, token, now)?;
        Ok(true)
    })
}

/// Ends all of the user's sessions and opens a new one under `token`, in the caller's transaction.
pub(crate) fn replace_all(
    conn: &mut AnyConnection,
    user_id: i64,
    token: &Token,
) -> diesel::QueryResult<()> {
    store::user::delete_sessions_of(conn, user_id)?;
    insert(conn, user_id, token, Utc::now().naive_utc())
}

/// Closes the session with this token, if there is one.
pub(crate) fn close(conn: &mut AnyConnection, token: &Token) -> diesel::QueryResult<()> {
    store::delete_session(conn, &token.sha256())?;
    Ok(())
}

fn insert(
    conn: &mut AnyConnection,
    user_id: i64,
    token: &Token,
    now: NaiveDateTime,
) -> diesel::QueryResult<()> {
    let token_sha256 = token.sha256();
    let row = NewSessionRow {
        token_sha256: &token_sha256,
        user_id,
        created_at: now,
        expires_at: now + LIFETIME,
    };
    store::insert_session(conn, &row)?;
    Ok(())
}

/// A new admin with a session.
#[cfg(test)]
pub(crate) fn log_in_admin(conn: &mut AnyConnection, username: &str) -> Admin {
    let id = omnitool_testing::fixture::user(conn, username);
    store::user::set_admin(conn, id, true).unwrap();
    let session = Token::generate().unwrap();
    let proof = Proof { user_id: id, password_hash: "!".to_owned(), new_hash: None };
    assert!(open(conn, &proof, &session, None).unwrap());
    Admin { viewer: Viewer { id, username: username.to_owned(), is_admin: true }, session }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use omnitool_database::schema::{user_session, users};
    use omnitool_testing::{TestDatabase, fixture, on_both_databases};

    use super::*;
    use crate::user_change::{self, Action};

    fn alice(conn: &mut AnyConnection, new_hash: Option<&str>) -> Proof {
        Proof {
            user_id: fixture::user(conn, "alice"),
            password_hash: "!".to_owned(),
            new_hash: new_hash.map(ToOwned::to_owned),
        }
    }

    fn nobody_is_an_admin_any_more_who_was_demoted_or_logged_out(db: TestDatabase) {
        let conn = &mut db.connection();
        let root = log_in_admin(conn, "root");
        root.check(conn).unwrap();
        store::user::set_admin(conn, root.viewer.id, false).unwrap();
        assert!(matches!(root.check(conn), Err(AdminError::NoAdmin)));
        store::user::set_admin(conn, root.viewer.id, true).unwrap();
        store::user::set_active(conn, root.viewer.id, false).unwrap();
        assert!(matches!(root.check(conn), Err(AdminError::LoggedOut)));
        store::user::set_active(conn, root.viewer.id, true).unwrap();
        root.check(conn).unwrap();
        close(conn, &root.session).unwrap();
        assert!(matches!(root.check(conn), Err(AdminError::LoggedOut)));
    }

    fn stored(conn: &mut AnyConnection, proof: &Proof) -> String {
        let user = users::table.find(proof.user_id);
        user.select(users::password_hash).first(conn).unwrap()
    }

    fn sessions(conn: &mut AnyConnection) -> i64 {
        user_session::table.count().get_result(conn).unwrap()
    }

    fn change(conn: &mut AnyConnection, user_id: i64, action: &Action) {
        let root = log_in_admin(conn, "root");
        let plan = user_change::plan(conn, user_id, action.clone()).unwrap();
        let fingerprint = plan.fingerprint();
        let _ = user_change::apply(conn, user_id, action.clone(), Some("new"), &fingerprint, &root)
            .unwrap();
        close(conn, &root.session).unwrap();
    }

    fn no_session_is_opened_for_a_password_that_was_reset_meanwhile(db: TestDatabase) {
        let conn = &mut db.connection();
        let proof = alice(conn, Some("rehashed"));
        change(conn, proof.user_id, &Action::ResetPassword);
        assert!(!open(conn, &proof, &Token::generate().unwrap(), None).unwrap());
        let stored = stored(conn, &proof);
        assert_eq!((stored.as_str(), sessions(conn)), ("new", 0));
    }

    fn no_session_is_opened_for_a_user_who_was_deactivated_meanwhile(db: TestDatabase) {
        let conn = &mut db.connection();
        let proof = alice(conn, None);
        let token = Token::generate().unwrap();
        assert!(open(conn, &proof, &token, None).unwrap());
        change(conn, proof.user_id, &Action::Deactivate);
        assert!(!open(conn, &proof, &Token::generate().unwrap(), Some(&token)).unwrap());
        assert_eq!(sessions(conn), 0);
    }

    fn a_login_that_replaces_an_old_hash_opens_its_session(db: TestDatabase) {
        let conn = &mut db.connection();
        let proof = alice(conn, Some("rehashed"));
        assert!(open(conn, &proof, &Token::generate().unwrap(), None).unwrap());
        let stored = stored(conn, &proof);
        assert_eq!((stored.as_str(), sessions(conn)), ("rehashed", 1));
    }

    on_both_databases!(
        nobody_is_an_admin_any_more_who_was_demoted_or_logged_out,
        no_session_is_opened_for_a_password_that_was_reset_meanwhile,
        no_session_is_opened_for_a_user_who_was_deactivated_meanwhile,
        a_login_that_replaces_an_old_hash_opens_its_session,
    );
}
