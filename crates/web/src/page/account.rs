//! What users see of themselves.

use maud::{Markup, html};

use super::{Login, Notice, form_token, layout, notice};
use crate::{app::Settings, password, store::user::UserRow};

/// The user's own data, and the form for a new password.
pub(crate) fn account(
    settings: &Settings,
    login: &Login,
    user: &UserRow,
    said: Option<&Notice>,
) -> Markup {
    let body = html! {
        h1 { "Your account" }
        (notice(said))
        dl #account-data {
            dt { "User name" } dd { (user.username) }
            dt { "E-mail address" } dd { (user.email.as_deref().unwrap_or("none")) }
            dt { "Telephone number" } dd { (user.phone_number.as_deref().unwrap_or("none")) }
        }
        p { "Ask an administrator to change these." }
        section.narrow aria-labelledby="change-password" {
            h2 #change-password { "Change your password" }
            form #password-form method="post" action="/account/password" {
                (form_token(login))
                // Password managers want to know whose password it is.
                input type="text" name="username" autocomplete="username" value=(user.username) hidden readonly;
                label for="current" { "Current password" }
                input #current name="current" type="password" autocomplete="current-password" required;
                label for="new" { "New password" }
                input #new name="new" type="password" autocomplete="new-password" required
                    minlength=(password::MIN_LENGTH) aria-describedby="new-hint";
                p.hint #new-hint { "At least " (password::MIN_LENGTH) " characters. A few words are easier to remember than signs." }
                label for="again" { "New password again" }
                input #again name="again" type="password" autocomplete="new-password" required;
                p.hint { "All your other sessions end." }
                button type="submit" { "Change password" }
            }
        }
    };
    layout(settings, "Your account", Some(login), &body)
}
