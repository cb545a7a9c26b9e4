//! Forms that only our own pages can send.

use std::time::Duration;

use axum::{
    Form,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, RawForm, Request as HttpRequest},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::IntoResponse as _,
};
use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use tokio::time;

use crate::{
    app::{App, Visit},
    change::{Request, Selection, Wish},
    error::PageError,
    store::user::{Filter, Show},
    user_change::ActionName,
};

/// How long a form may take to come. Shorter than an answer may take, which would be an error of the app's.
const FORM_LIMIT: Duration = Duration::from_secs(10);
/// The most characters in what users are searched for, as the fields of our pages say it, too. SQLite takes no pattern
/// of more than 50,000 bytes.
const MAX_SEARCH: usize = 200;

/// A form that was sent from one of our pages to the visitor whom it was made for. Every handler of a POST takes one.
#[derive(Debug)]
pub(crate) struct Posted<T> {
    pub(crate) visit: Visit,
    pub(crate) form: T,
}

/// The hidden field that proves it.
#[derive(Deserialize)]
struct FormToken {
    #[serde(default)]
    form_token: String,
}

/// What a page's query asks for. One that cannot be read is refused: a page of more than was asked for might be taken for
/// the answer.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

/// A login.
#[derive(Deserialize)]
pub(crate) struct LoginForm {
    pub(crate) username: String,
    pub(crate) password: SecretString,
    #[serde(default)]
    pub(crate) next: String,
}

/// A form without fields of its own.
#[derive(Debug, Deserialize)]
pub(crate) struct EmptyForm {}

/// A user's own new password.
#[derive(Deserialize)]
pub(crate) struct PasswordForm {
    pub(crate) current: SecretString,
    pub(crate) new: SecretString,
    pub(crate) again: SecretString,
}

/// A change of who may use a tool. Without a fingerprint, what it would do is asked for; with one, it is to be done.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AccessForm {
    pub(crate) tool: i64,
    pub(crate) wish: Wish,
    /// Names as somebody typed them, one per line.
    #[serde(default)]
    pub(crate) users: String,
    /// The very name of a user, as the button on the user's page has it: names of an adopted database may begin or end
    /// with a space, and without it be somebody else's.
    #[serde(default)]
    pub(crate) user: String,
    /// Whom the change is about: the named ones, or those whom the filter matches.
    #[serde(default)]
    pub(crate) scope: Scope,
    #[serde(default, deserialize_with = "search_text")]
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
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) fingerprint: String,
}

/// A change of a user; a fingerprint means the same as in [`AccessForm`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct UserForm {
    pub(crate) action: ActionName,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) fingerprint: String,
}

/// A user to be made. What `confirmed` holds is of no importance, only that it is not empty.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NewUserForm {
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) email: String,
    #[serde(default)]
    pub(crate) admin: String,
    #[serde(default)]
    pub(crate) confirmed: String,
}

impl AccessForm {
    /// What is asked for.
    pub(crate) fn request(&self) -> Request {
        let selection = match self.scope {
            Scope::Matching => {
                Selection::Matching(Filter { text: self.q.clone(), show: self.show })
            }
            Scope::Named => {
                let names: Vec<String> = self
                    .users
                    .lines()
                    .map(str::trim)
                    .chain([&*self.user])
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

/// What users are searched for.
pub(crate) fn search_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.chars().count() > MAX_SEARCH {
        return Err(D::Error::custom("this is too long to search for"));
    }
    Ok(text.trim().to_owned())
}

/// Reads the fields of a form or a query. None of them may hold a NUL: PostgreSQL takes no such text, and SQLite ends a pattern at
/// it, so that a search would find others than those who were searched for.
async fn read_fields<T: DeserializeOwned>(text: Bytes) -> Result<T, PageError> {
    let malformed = || PageError::MalformedForm(StatusCode::BAD_REQUEST);
    if text.contains(&0) || text.windows(3).any(|escape| escape == b"%00") {
        return Err(malformed());
    }
    let mut request = HttpRequest::new(Body::from(text));
    *request.method_mut() = Method::POST;
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, kind);
    Form::from_request(request, &()).await.map(|Form(fields)| fields).map_err(|_| malformed())
}

impl<T: DeserializeOwned> FromRequest<App> for Posted<T> {
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
        let RawForm(text) = time::timeout(FORM_LIMIT, RawForm::from_request(request, app))
            .await
            .map_err(|_| PageError::MalformedForm(StatusCode::REQUEST_TIMEOUT))?
            .map_err(|rejection| PageError::MalformedForm(rejection.into_response().status()))?;
        let FormToken { form_token } = read_fields(text.clone()).await?;
        let owner = visit.session.as_ref().or(visit.form.as_ref());
        if !owner.is_some_and(|token| token.owns_form(&form_token)) {
            return Err(PageError::ForeignForm);
        }
        Ok(Self { visit, form: read_fields(text).await? })
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Asked<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, PageError> {
        let query = parts.uri.query().unwrap_or_default();
        read_fields(Bytes::copy_from_slice(query.as_bytes())).await.map(Self)
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
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use hyper::{body::Frame, service::Service as _};
    use hyper_util::service::TowerToHyperService;
    use omnitool_environment::{DatabaseUrl, EnvironmentName};
    use proptest::prelude::*;

    use super::*;
    use crate::app::{self, Settings};

    /// A body that never comes.
    struct Never;

    impl hyper::body::Body for Never {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_that_does_not_come_is_no_error_of_the_app() {
        let url = DatabaseUrl::sqlite("none.db".as_ref());
        let app = App::new(Settings::new(EnvironmentName::Local, "0001", url));
        let request = HttpRequest::post("/login")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::new(Never))
            .unwrap();
        let started = time::Instant::now();
        let answer = TowerToHyperService::new(app::router(&app)).call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(started.elapsed().as_secs(), FORM_LIMIT.as_secs());
        assert_eq!(app.metrics().server_errors(), 0);
    }

    #[tokio::test]
    async fn no_field_holds_a_nul_however_it_is_written() {
        let read =
            |text: &'static str| read_fields::<FormToken>(Bytes::from_static(text.as_bytes()));
        for text in ["form_token=a%00", "form_token=a\0", "other=%00", "form_token=%%00", "%00=a"] {
            assert!(read(text).await.is_err(), "{text:?}");
        }
        for (text, value) in [("form_token=%2500", "%00"), ("form_token=%0A0", "\n0"), ("", "")] {
            assert_eq!(read(text).await.unwrap().form_token, value);
        }
    }

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
