//! What an admin's change of a user does, as a value: planned, shown, and then applied as it was shown.

use omnitool_database::{AnyConnection, read_snapshot, write_transaction};
use sha2::{Digest as _, Sha256};

use crate::{
    session::{Admin, AdminError},
    store::user::{self as store, UserRow},
    token,
};

/// The most characters in a telephone number; the longest international one has 15 digits, and people write spaces.
const MAX_PHONE_NUMBER: usize = 32;

/// What can be done to a user, as forms and the history name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ActionName {
    Activate,
    Deactivate,
    MakeAdmin,
    RemoveAdmin,
    ResetPassword,
    PhoneNumber,
}

/// What is to be done to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Activate,
    Deactivate,
    MakeAdmin,
    RemoveAdmin,
    ResetPassword,
    PhoneNumber(Option<String>),
}

/// What a change does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct UserPlan {
    pub(crate) user: UserRow,
    pub(crate) action: Action,
    /// A digest of the hash that a reset replaces; none where the password stays, which may be hashed anew any time.
    pub(crate) password_sha256: Option<String>,
}

/// Why there is no plan, or it was not applied; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserChangeError {
    #[error("there is no such user")]
    UnknownUser,
    #[error("this is the last active admin")]
    LastAdmin,
    #[error("this is no telephone number")]
    PhoneNumber,
    /// The user has changed since the plan was shown.
    #[error("the plan is not what was shown")]
    Stale(Box<UserPlan>),
    #[error("whoever asked for it is no admin any more")]
    Admin(#[from] AdminError),
    #[error("the database refused")]
    Query(#[from] diesel::result::Error),
}

impl ActionName {
    const ALL: [Self; 6] = [
        Self::Activate,
        Self::Deactivate,
        Self::MakeAdmin,
        Self::RemoveAdmin,
        Self::ResetPassword,
        Self::PhoneNumber,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
            Self::MakeAdmin => "make-admin",
            Self::RemoveAdmin => "remove-admin",
            Self::ResetPassword => "reset-password",
            Self::PhoneNumber => "phone-number",
        }
    }

    /// The action that takes back what the history calls `change`, if there is one.
    pub(crate) fn opposite_of(change: &str) -> Option<Self> {
        // Whoever was made stays in the history, and may not log in any more.
        if change == "create" {
            return Some(Self::Deactivate);
        }
        match Self::ALL.into_iter().find(|action| action.as_str() == change)? {
            Self::Activate => Some(Self::Deactivate),
            Self::Deactivate => Some(Self::Activate),
            Self::MakeAdmin => Some(Self::RemoveAdmin),
            Self::RemoveAdmin => Some(Self::MakeAdmin),
            Self::PhoneNumber => Some(Self::PhoneNumber),
            // Nobody knows the password that was there before.
            Self::ResetPassword => None,
        }
    }
}

impl Action {
    /// The action of this name; `value` is the new telephone number.
    pub(crate) fn new(name: ActionName, value: &str) -> Result<Self, UserChangeError> {
        Ok(match name {
            ActionName::Activate => Self::Activate,
            ActionName::Deactivate => Self::Deactivate,
            ActionName::MakeAdmin => Self::MakeAdmin,
            ActionName::RemoveAdmin => Self::RemoveAdmin,
            ActionName::ResetPassword => Self::ResetPassword,
            ActionName::PhoneNumber => Self::PhoneNumber(phone_number(value)?),
        })
    }

    pub(crate) const fn name(&self) -> ActionName {
        match self {
            Self::Activate => ActionName::Activate,
            Self::Deactivate => ActionName::Deactivate,
            Self::MakeAdmin => ActionName::MakeAdmin,
            Self::RemoveAdmin => ActionName::RemoveAdmin,
            Self::ResetPassword => ActionName::ResetPassword,
            Self::PhoneNumber(_) => ActionName::PhoneNumber,
        }
    }
}

/// A telephone number as somebody writes it; none where nothing was written.
fn phone_number(text: &str) -> Result<Option<String>, UserChangeError> {
    let text = text.trim();
    let is_plain = |c: char| c.is_ascii_digit() || "+-./() ".contains(c);
    if text.is_empty() {
        Ok(None)
    } else if text.len() <= MAX_PHONE_NUMBER
        && text.chars().all(is_plain)
        && text.chars().any(|c| c.is_ascii_digit())
    {
        Ok(Some(text.to_owned()))
    } else {
        Err(UserChangeError::PhoneNumber)
    }
}

impl UserPlan {
    /// What `action` does to the user, where `active_admins` are those.
    fn find(
        conn: &mut AnyConnection,
        user_id: i64,
        action: Action,
        active_admins: &[i64],
    ) -> Result<Self, UserChangeError> {
        let user = store::find_user(conn, user_id)?.ok_or(UserChangeError::UnknownUser)?;
        let mut plan = Self::new(user, action, active_admins)?;
        if plan.action == Action::ResetPassword {
            let hash = store::find_password_hash(conn, user_id)?;
            plan.password_sha256 = hash.map(|hash| token::hex(&Sha256::digest(hash)));
        }
        Ok(plan)
    }

    /// Pure: whether `action` may be done to `user`, where `active_admins` are those.
    fn new(user: UserRow, action: Action, active_admins: &[i64]) -> Result<Self, UserChangeError> {
        let takes_an_admin = matches!(action, Action::Deactivate | Action::RemoveAdmin);
        if takes_an_admin && active_admins == [user.id] {
            return Err(UserChangeError::LastAdmin);
        }
        Ok(Self { user, action, password_sha256: None })
    }

    /// Whether it is so already.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.action {
            Action::Activate => self.user.is_active,
            Action::Deactivate => !self.user.is_active,
            Action::MakeAdmin => self.user.is_admin,
            Action::RemoveAdmin => !self.user.is_admin,
            Action::ResetPassword => false,
            Action::PhoneNumber(number) => self.user.phone_number == *number,
        }
    }

    /// Tells plans apart that change something else, or start from something else. A reset starts from the password that
    /// is there, so that its form works once: sent again, it would make another password that nobody is told.
    pub(crate) fn fingerprint(&self) -> String {
        let UserRow { id, username, email: _, phone_number, is_admin, is_active, created_at: _ } =
            &self.user;
        let text = format!(
            "{id}\0{username}\0{phone_number:?}\0{is_admin}\0{is_active}\0{:?}\0{:?}",
            self.action, self.password_sha256
        );
        token::hex(&Sha256::digest(text))
    }
}

/// What `action` would do to the user. Reads only.
pub(crate) fn plan(
    conn: &mut AnyConnection,
    user_id: i64,
    action: Action,
) -> Result<UserPlan, UserChangeError> {
    read_snapshot(conn, |conn| {
        let admins = store::list_active_admins(conn)?;
        UserPlan::find(conn, user_id, action, &admins)
    })
}

/// Does what was shown, in one transaction. `password_hash` is the new one, where the password is reset.
///
/// Fails where that would not be what was shown, by `fingerprint`.
pub(crate) fn apply(
    conn: &mut AnyConnection,
    user_id: i64,
    action: Action,
    password_hash: Option<&str>,
    fingerprint: &str,
    admin: &Admin,
) -> Result<UserPlan, UserChangeError> {
    write_transaction(conn, |conn| {
        // First, so that of two who remove each other the second sees what the first did.
        let admins = store::lock_active_admins(conn)?;
        admin.check(conn)?;
        let plan = UserPlan::find(conn, user_id, action, &admins)?;
        if plan.fingerprint() != fingerprint {
            return Err(UserChangeError::Stale(Box::new(plan)));
        }
        if plan.is_empty() {
            return Ok(plan);
        }
        let mut previous = None;
        match &plan.action {
            Action::Activate => store::set_active(conn, user_id, true)?,
            Action::Deactivate => {
                store::set_active(conn, user_id, false)?;
                // After the user's row, which a login locks: one that came before has its session here, and one that
                // comes later sees what was done.
                store::delete_sessions_of(conn, user_id)?
            }
            Action::MakeAdmin => store::set_admin(conn, user_id, true)?,
            Action::RemoveAdmin => store::set_admin(conn, user_id, false)?,
            Action::ResetPassword => {
                let Some(hash) = password_hash else {
                    return Err(UserChangeError::Stale(Box::new(plan)));
                };
                store::set_password_hash(conn, user_id, hash)?;
                store::delete_sessions_of(conn, user_id)?
            }
            Action::PhoneNumber(number) => {
                previous = Some(plan.user.phone_number.clone().unwrap_or_default());
                store::set_phone_number(conn, user_id, number.as_deref())?
            }
        };
        let change = plan.action.name().as_str();
        store::insert_event(conn, &admin.viewer.username, user_id, change, previous.as_deref())?;
        Ok(plan)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserRow {
        UserRow {
            id,
            username: format!("user_{id}"),
            email: None,
            phone_number: None,
            is_admin: true,
            is_active: true,
            created_at: chrono::NaiveDateTime::default(),
        }
    }

    #[test]
    fn the_last_active_admin_stays_one() {
        for action in [Action::Deactivate, Action::RemoveAdmin] {
            let error = UserPlan::new(user(1), action.clone(), &[1]).unwrap_err();
            assert!(matches!(error, UserChangeError::LastAdmin));
            let _ = UserPlan::new(user(1), action.clone(), &[1, 2]).unwrap();
            let _ = UserPlan::new(user(3), action, &[1]).unwrap();
        }
        let _ = UserPlan::new(user(1), Action::ResetPassword, &[1]).unwrap();
    }

    #[test]
    fn telephone_numbers_are_taken_as_people_write_them() {
        for number in ["+41 44 123 45 67", "(030) 123-456", "044/1234567"] {
            assert_eq!(phone_number(number).unwrap().as_deref(), Some(number));
        }
        assert_eq!(phone_number("  ").unwrap(), None);
        for text in ["none", "+", "<b>1</b>", "1\n2", &"1".repeat(33)] {
            assert!(phone_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_done_can_be_taken_back_but_for_a_password() {
        for action in ActionName::ALL {
            let back = ActionName::opposite_of(action.as_str());
            assert_eq!(back.is_none(), action == ActionName::ResetPassword);
            if let Some(back) = back {
                assert_eq!(ActionName::opposite_of(back.as_str()), Some(action));
            }
        }
        assert_eq!(ActionName::opposite_of("create"), Some(ActionName::Deactivate));
    }
}
