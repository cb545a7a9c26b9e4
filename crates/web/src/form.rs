//! Forms that only our own pages can send.

use axum::{
    Form,
    extract::{FromRequest, FromRequestParts as _, Request as HttpRequest},
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
};
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    app::{App, Visit},
    change::{Request, Selection, Wish},
    error::PageError,
    store::user::{Filter, Show},
    user_change::ActionName,
};

/// A form that was sent from one of our pages to the visitor whom it was made for. Every handler of a POST takes one.
#[derive(Debug)]
pub(crate) struct Posted<T> {
    pub(crate) visit: Visit,
    pub(crate) form: T,
}

/// The hidden field that proves it.
pub(crate) trait FormToken {
    fn form_token(&self) -> &str;
}

/// A login.
#[derive(Deserialize)]
pub(crate) struct LoginForm {
    form_token: String,
    pub(crate) username: String,
    pub(crate) password: SecretString,
    #[serde(default)]
    pub(crate) next: String,
}

/// A form without fields of its own.
#[derive(Debug, Deserialize)]
pub(crate) struct EmptyForm {
    form_token: String,
}

/// A user's own new password.
#[derive(Deserialize)]
pub(crate) struct PasswordForm {
    form_token: String,
    pub(crate) current: SecretString,
    pub(crate) new: SecretString,
    pub(crate) again: SecretString,
}

/// A change of who may use a tool. Without a fingerprint, what it would do is asked for; with one, it is to be done.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AccessForm {
    form_token: String,
    pub(crate) tool: i64,
    pub(crate) wish: Wish,
    /// Names, one per line.
    #[serde(default)]
    pub(crate) users: String,
    /// Whom the change is about: the named ones, or those whom the filter matches.
    #[serde(default)]
    pub(crate) scope: Scope,
    #[serde(default)]
    pub(crate) q: String,
    #[serde(default)]
    pub(crate) show: Show,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) fingerprint: String,
}

/// Whom a change is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    #[default]
    Named,
    Matching,
}

/// The way back from a change of who may use a tool.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct UndoForm {
    form_token: String,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) fingerprint: String,
}

/// A change of a user; a fingerprint means the same as in [`AccessForm`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct UserForm {
    form_token: String,
    pub(crate) action: ActionName,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) fingerprint: String,
}

/// A user to be made. What `confirmed` holds is of no importance, only that it is not empty.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NewUserForm {
    form_token: String,
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) email: String,
    #[serde(default)]
    pub(crate) admin: String,
    #[serde(default)]
    pub(crate) confirmed: String,
}

macro_rules! form_token {
    ($($form:ty),+ $(,)?) => {
        $(
            impl FormToken for $form {
                fn form_token(&self) -> &str {
                    &self.form_token
                }
            }
        )+
    };
}

form_token!(LoginForm, EmptyForm, PasswordForm, AccessForm, UndoForm, UserForm, NewUserForm);

impl AccessForm {
    /// What is asked for.
    pub(crate) fn request(&self) -> Request {
        let selection = match self.scope {
            Scope::Matching => {
                Selection::Matching(Filter { text: self.q.trim().to_owned(), show: self.show })
            }
            Scope::Named => {
                let names: Vec<String> = self
                    .users
                    .lines()
                    .map(str::trim)
                    .filter(|name| !name.is_empty())
                    .map(ToOwned::to_owned)
                    .collect();
                if names.is_empty() { Selection::Nobody } else { Selection::Named(names) }
            }
        };
        Request::Wish { tool_id: self.tool, wish: self.wish, selection }
    }
}

/// A text that was typed, where there is one.
pub(crate) fn given(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty()).then_some(text)
}

impl<T: FormToken + DeserializeOwned> FromRequest<App> for Posted<T> {
    type Rejection = PageError;

    async fn from_request(request: HttpRequest, app: &App) -> Result<Self, PageError> {
        if comes_from_elsewhere(request.headers()) {
            return Err(PageError::ForeignForm);
        }
        let (mut parts, body) = request.into_parts();
        let visit = match Visit::from_request_parts(&mut parts, app).await {
            Ok(visit) => visit,
            Err(never) => match never {},
        };
        let request = HttpRequest::from_parts(parts, body);
        let Form(form) = Form::<T>::from_request(request, app).await.map_err(|rejection| {
            match rejection.into_response().status() {
                // The field that proves where the form comes from is among the missing ones.
                StatusCode::UNPROCESSABLE_ENTITY => PageError::ForeignForm,
                status => PageError::MalformedForm(status),
            }
        })?;
        let owner = visit.session.as_ref().or(visit.form.as_ref());
        if owner.is_some_and(|token| token.owns_form(form.form_token())) {
            Ok(Self { visit, form })
        } else {
            Err(PageError::ForeignForm)
        }
    }
}

/// Whether the browser says that another site sent the request. Programs say nothing, and no page can make them send
/// somebody else's cookies.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text("origin") else { return false };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_none() || authority != text("host")
}

/// A path of this app that a login leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination(String);

impl Default for Destination {
    fn default() -> Self {
        Self("/dashboard".to_owned())
    }
}

impl Destination {
    /// Accepts a path, so that a link to the login page cannot lead to another site after it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let ours = text.len() <= 512
            && text.starts_with('/')
            // Browsers read `//host` and `/\host` as another site, and drop tabs and line ends before they look.
            && !text.starts_with("//")
            && !text.contains('\\')
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        ours.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The login page that leads here.
    pub(crate) fn login_page(&self) -> String {
        let escaped: String = self
            .0
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        format!("/login?next={escaped}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_form_of_another_site_is_told_by_what_the_browser_says() {
        let elsewhere = |pairs| comes_from_elsewhere(&headers(pairs));
        assert!(elsewhere(&[("sec-fetch-site", "cross-site")]));
        assert!(elsewhere(&[("sec-fetch-site", "same-site")]));
        assert!(elsewhere(&[("origin", "http://evil.example"), ("host", "h:5000")]));
        assert!(elsewhere(&[("origin", "http://h:5001"), ("host", "h:5000")]));
        assert!(elsewhere(&[("origin", "null"), ("host", "h")]));
        assert!(elsewhere(&[("origin", "http://h")]));
        assert!(!elsewhere(&[("sec-fetch-site", "same-origin")]));
        assert!(!elsewhere(&[("origin", "http://h:5000"), ("host", "h:5000")]));
        assert!(!elsewhere(&[("host", "h:5000")]));
    }

    #[test]
    fn a_login_leads_nowhere_else() {
        for text in [
            "",
            "dashboard",
            "//evil.example",
            "/\\evil.example",
            "/a\\b",
            "/\t/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/a b",
            "/\n",
        ] {
            assert_eq!(Destination::parse(text), None, "{text}");
        }
        let page = Destination::parse("/dashboard?q=in voice".replace(' ', "+").as_str()).unwrap();
        assert_eq!(page.login_page(), "/login?next=/dashboard%3Fq%3Din%2Bvoice");
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_on_this_site(text in ".{0,40}") {
            let base = omnitool_environment::Url::parse("http://omnitool.test/").unwrap();
            if let Some(destination) = Destination::parse(&text) {
                let target = base.join(destination.as_str()).unwrap();
                prop_assert_eq!(target.origin(), base.origin());
            }
        }
    }
}
