//! Making users.

use omnitool_database::{AnyConnection, write_transaction};
use omnitool_tool_access::{Author, ChangeAccessError, Origin, grant_defaults};
use omnitool_tool_registry::is_hidden;

use crate::{
    password::{HashPasswordError, Password},
    session::{Admin, AdminError},
    store::{self, NewUserRow},
};

/// The greatest number of characters in a user name.
pub(crate) const MAX_USERNAME: usize = 150;

/// Whether a user administers others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Uses tools.
    User,
    /// Also decides who uses which tool.
    Admin,
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Unique name.
    pub username: String,
    /// Contact address, unique where given.
    pub email: Option<String>,
    /// Whether the user administers others.
    pub role: Role,
    /// The first password.
    pub password: Password,
}

/// A user that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedUser {
    /// Key.
    pub id: i64,
    /// The default tools that the user was granted, sorted by name.
    pub granted: Vec<String>,
}

/// Why a user was not made; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateUserError {
    /// A name that could not be typed or told from another.
    #[error(
        "the user name must have 1 to {MAX_USERNAME} characters, none of them one that cannot be seen, and no space at its ends"
    )]
    Username,
    /// An address that is none.
    #[error("`{email}` is no e-mail address")]
    Email {
        /// What was given.
        email: String,
    },
    /// There is such a user.
    #[error("there already is a user `{username}`")]
    UsernameTaken {
        /// The name.
        username: String,
    },
    /// Another user has this address.
    #[error("there already is a user with the e-mail address {email}")]
    EmailTaken {
        /// The address.
        email: String,
    },
    /// The database has users, and demo users are for those without any.
    #[error("the database already has users")]
    NotEmpty,
    /// The password cannot be generated or hashed.
    #[error(transparent)]
    Password(#[from] HashPasswordError),
    /// The default tools cannot be granted.
    #[error("cannot grant the default tools")]
    Grant(#[from] ChangeAccessError),
    /// The database refused.
    #[error("cannot write the user to the database")]
    Write(#[from] diesel::result::Error),
}

/// Makes a user and grants the default tools, in one transaction.
///
/// # Errors
///
/// Fails where the name or the address is taken or none, or the database refuses; nothing is then written.
pub fn create_user(
    conn: &mut AnyConnection,
    user: &NewUser,
) -> Result<CreatedUser, CreateUserError> {
    check(user)?;
    // Before the transaction, since others wait for its lock.
    let password_hash = user.password.hash()?;
    write_transaction(conn, |conn| insert(conn, user, &password_hash, store::PROGRAM))
}

/// Why an admin did not make a user; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateHashedError {
    #[error(transparent)]
    Create(#[from] CreateUserError),
    #[error("whoever asked for it is no admin any more")]
    Admin(#[from] AdminError),
}

impl From<diesel::result::Error> for CreateHashedError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Create(error.into())
    }
}

/// Makes a user whose password is hashed already, as `admin` asked for it.
pub(crate) fn create_hashed(
    conn: &mut AnyConnection,
    user: &NewUser,
    password_hash: &str,
    admin: &Admin,
) -> Result<CreatedUser, CreateHashedError> {
    check(user)?;
    write_transaction(conn, |conn| {
        let created = insert(conn, user, password_hash, &admin.viewer.username)?;
        // Last, since only the statements that write wait for others here.
        admin.check(conn)?;
        Ok(created)
    })
}

/// Whether the user could be made now, and which default tools it would be granted.
pub(crate) fn plan_user(
    conn: &mut AnyConnection,
    user: &NewUser,
) -> Result<Vec<String>, CreateUserError> {
    check(user)?;
    check_unique(conn, user)?;
    let tools = store::tool::list_tools(conn)?;
    let defaults = tools.into_iter().filter(|tool| tool.is_default && tool.is_active);
    Ok(defaults.map(|tool| tool.name).collect())
}

/// Makes the demo users `admin`, `alice`, `user_a`, `user_b` and `user_c` with random passwords, in one transaction.
///
/// Returns each with its password, which is stored nowhere.
///
/// # Errors
///
/// Fails where the database has any user, or refuses; nothing is then written.
pub fn create_demo_users(
    conn: &mut AnyConnection,
) -> Result<Vec<(NewUser, CreatedUser)>, CreateUserError> {
    if store::any_user_exists(conn)? {
        return Err(CreateUserError::NotEmpty);
    }
    let mut users = Vec::new();
    for username in ["admin", "alice", "user_a", "user_b", "user_c"] {
        let user = NewUser {
            username: username.to_owned(),
            email: Some(format!("{username}@example.com")),
            role: if username == "admin" { Role::Admin } else { Role::User },
            password: Password::generate()?,
        };
        let hash = user.password.hash()?;
        users.push((user, hash));
    }
    write_transaction(conn, |conn| {
        // Again, since somebody may have made one while the passwords were hashed.
        if store::any_user_exists(conn)? {
            return Err(CreateUserError::NotEmpty);
        }
        let made = users.into_iter().map(|(user, hash)| {
            let created = insert(conn, &user, &hash, store::PROGRAM)?;
            Ok((user, created))
        });
        made.collect()
    })
}

fn check(user: &NewUser) -> Result<(), CreateUserError> {
    let NewUser { username, email, role: _, password: _ } = user;
    let length = username.chars().count();
    if !(1..=MAX_USERNAME).contains(&length)
        || username.chars().any(is_hidden)
        || username.trim() != username
    {
        return Err(CreateUserError::Username);
    }
    if let Some(email) = email {
        // Only a message shows whether an address works; this finds what is clearly something else.
        let parts = email.split_once('@');
        let works = parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
        if !works || email.chars().any(|c| is_hidden(c) || c.is_whitespace()) {
            return Err(CreateUserError::Email { email: email.clone() });
        }
    }
    Ok(())
}

fn insert(
    conn: &mut AnyConnection,
    user: &NewUser,
    password_hash: &str,
    author: &str,
) -> Result<CreatedUser, CreateUserError> {
    check_unique(conn, user)?;
    let NewUser { username, email, role, password: _ } = user;
    let row = NewUserRow {
        username,
        email: email.as_deref(),
        password_hash,
        is_admin: *role == Role::Admin,
    };
    let id = store::insert_user(conn, &row)?;
    store::user::insert_event(conn, author, id, "create", None)?;
    let defaults = Author::program(store::PROGRAM, Origin::Default);
    let granted = grant_defaults(conn, id, &defaults)?;
    Ok(CreatedUser { id, granted })
}

fn check_unique(conn: &mut AnyConnection, user: &NewUser) -> Result<(), CreateUserError> {
    let NewUser { username, email, role: _, password: _ } = user;
    if store::username_exists(conn, username)? {
        return Err(CreateUserError::UsernameTaken { username: username.clone() });
    }
    if let Some(email) = email
        && store::email_exists(conn, email)?
    {
        return Err(CreateUserError::EmailTaken { email: email.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(username: &str, email: Option<&str>) -> NewUser {
        NewUser {
            username: username.to_owned(),
            email: email.map(ToOwned::to_owned),
            role: Role::User,
            password: Password::generate().unwrap(),
        }
    }

    #[test]
    fn names_that_cannot_be_told_apart_are_refused() {
        let long = "x".repeat(151);
        for name in
            ["", " ", "alice ", " alice", "al\nice", "alice\u{200b}", "\u{202e}ecila", &long]
        {
            assert!(matches!(check(&user(name, None)), Err(CreateUserError::Username)), "{name}");
        }
        for name in ["alice", "Alice Smith", "ålice@example.com", "x"] {
            check(&user(name, None)).unwrap();
        }
    }

    #[test]
    fn what_is_clearly_no_address_is_refused() {
        for email in ["", "alice", "@example.com", "alice@host", "al ice@example.com"] {
            let error = check(&user("alice", Some(email))).unwrap_err();
            assert!(matches!(error, CreateUserError::Email { .. }), "{email}");
        }
        check(&user("alice", Some("alice@example.com"))).unwrap();
    }
}
