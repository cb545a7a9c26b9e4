//! `omnitool create-user`.

use std::{
    fmt::Write as _,
    io::{self, Read as _},
};

use omnitool_cli::{Failure, Format, Outcome, Target, TargetArgs, print, print_json};
use omnitool_database::{Mode, connect};
use omnitool_environment::EnvironmentName;
use omnitool_web::{CreateUserError, NewUser, Password, Role, create_demo_users, create_user};
use serde::Serialize;

const EXAMPLES: &str = "\
The user is granted the default tools. Without --password-stdin, a password is generated and
printed this once; it is stored nowhere.

Demo users are admin (an admin), alice, user_a, user_b and user_c. They are made only in a
database without users, and neither in production nor on Heroku.

Examples:
  omnitool create-user alice --email alice@example.com
  omnitool create-user admin --admin --env staging
  read -rs PASSWORD && printf %s \"$PASSWORD\" | omnitool create-user bob --password-stdin
  omnitool create-user --demo-users --env local";

/// Make a user, or the demo users
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The user's unique name
    #[arg(required_unless_present = "demo_users")]
    name: Option<String>,

    /// The user administers others
    #[arg(long)]
    admin: bool,

    /// The user's contact address
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,

    /// Read the password from stdin instead of generating one
    #[arg(long)]
    password_stdin: bool,

    /// Make the demo users instead, in a database without users
    #[arg(long, conflicts_with_all = ["name", "admin", "email", "password_stdin"])]
    demo_users: bool,
}

/// Why there will be no demo users here.
#[derive(Debug, thiserror::Error)]
enum RefuseDemoUsersError {
    #[error("demo users are not made in production")]
    Production,
    #[error("demo users are not made on Heroku")]
    Heroku,
}

/// The password cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the password from stdin")]
struct ReadPasswordError(#[source] io::Error);

#[derive(Serialize)]
struct Report {
    summary: String,
    users: Vec<User>,
}

#[derive(Serialize)]
struct User {
    username: String,
    /// Only where it was generated; who gave one knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    is_admin: bool,
}

pub(crate) fn run(
    args: Args,
    target: &TargetArgs,
    format: Format,
    dyno: Option<&str>,
) -> Result<Outcome, Failure> {
    if args.demo_users && dyno.is_some() {
        return Err(Failure::refused(RefuseDemoUsersError::Heroku));
    }
    let Target { environment, database_url } = target.resolve()?;
    let connected = connect(&database_url, environment, Mode::Write);
    let (mut conn, environment) = connected.map_err(crate::connect_failure)?;
    let report = match args.name {
        None if environment == EnvironmentName::Production => {
            return Err(Failure::refused(RefuseDemoUsersError::Production));
        }
        None => {
            let made = create_demo_users(&mut conn).map_err(failure)?;
            let users: Vec<User> =
                made.into_iter().map(|(user, _)| User::new(user, Shown::Once)).collect();
            Report { summary: format!("created {} demo users", users.len()), users }
        }
        Some(username) => {
            let (password, shown) = if args.password_stdin {
                (read_password()?, Shown::Never)
            } else {
                (Password::generate()?, Shown::Once)
            };
            let role = if args.admin { Role::Admin } else { Role::User };
            let user = NewUser { username, email: args.email, role, password };
            let created = create_user(&mut conn, &user).map_err(failure)?;
            let number = match created.granted.len() {
                1 => "1 default tool".to_owned(),
                number => format!("{number} default tools"),
            };
            let summary = format!("created user {} with {number}", user.username);
            Report { summary, users: vec![User::new(user, shown)] }
        }
    };
    match format {
        Format::Text => print(&report.text())?,
        Format::Json => print_json(&report)?,
    }
    Ok(Outcome::Done)
}

/// Whether the password is printed.
#[derive(Clone, Copy)]
enum Shown {
    Once,
    Never,
}

impl User {
    fn new(user: NewUser, shown: Shown) -> Self {
        let NewUser { username, email: _, role, password } = user;
        let password = match shown {
            Shown::Once => Some(password.expose().to_owned()),
            Shown::Never => None,
        };
        Self { username, password, is_admin: role == Role::Admin }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.summary);
        if self.users.iter().any(|user| user.password.is_some()) {
            text.push_str("passwords, shown only this once:\n");
        }
        for User { username, password, is_admin } in &self.users {
            if let Some(password) = password {
                let role = if *is_admin { "  (admin)" } else { "" };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {username:<10}  {password}{role}");
            }
        }
        text
    }
}

fn read_password() -> Result<Password, Failure> {
    let mut text = String::new();
    // A little more than a password may have, so that a wrong file is refused instead of read whole.
    io::stdin().take(4096).read_to_string(&mut text).map_err(ReadPasswordError)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Password::new(line.to_owned().into()).map_err(|error| {
        Failure::refused(error)
            .hint("choose a longer one, or leave out --password-stdin to have one generated")
    })
}

fn failure(error: CreateUserError) -> Failure {
    match error {
        CreateUserError::Username | CreateUserError::Email { .. } => Failure::usage(error),
        CreateUserError::UsernameTaken { .. } | CreateUserError::EmailTaken { .. } => {
            Failure::refused(error).hint("nothing was changed; choose another")
        }
        CreateUserError::NotEmpty => Failure::refused(error)
            .hint("nothing was changed; make a single user with: omnitool create-user NAME"),
        error => Failure::failed(error),
    }
}
