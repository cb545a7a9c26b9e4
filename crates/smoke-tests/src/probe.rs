//! A user whose login and tools are tested.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use crate::{
    BaseUrl,
    base_url::is_same_site,
    check::html_page,
    client::{BODY_LIMIT, Client, is_up},
    fetch::{ErrorKind, Fetch, FetchError, Page},
    header::REDACTED,
    html::{Document, FieldKind, Form, FormMethod},
    text::{count, one_line, status_line},
};

/// How many names of tools a message shows.
const SHOWN_TOOLS: usize = 10;

/// A user to log in as, with what this user must see.
#[derive(Clone, Debug)]
pub struct ProbeUser {
    /// The name to log in with.
    pub username: String,
    /// The password to log in with.
    pub password: SecretString,
    /// The names of exactly the tools that the user sees after the login.
    pub tools: BTreeSet<String>,
}

/// The file does not say whom to log in as and what to expect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadProbeUserError {
    /// It cannot be read.
    #[error("cannot read the probe user's file")]
    Read(#[source] io::Error),
    /// It holds something else. It is not quoted, since it may hold a password that does not belong there.
    #[error("{} does not describe a probe user: {message}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeFile {
    username: String,
    tools: BTreeSet<String>,
}

impl ProbeUser {
    /// Reads the TOML file with the user's `username` and `tools`; the password is never in it.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, or has other keys.
    pub fn load(path: &Path, password: SecretString) -> Result<Self, LoadProbeUserError> {
        let text = fs_err::read_to_string(path).map_err(LoadProbeUserError::Read)?;
        let ProbeFile { username, tools } =
            toml::from_str(&text).map_err(|error| LoadProbeUserError::Malformed {
                path: path.to_owned(),
                message: error.message().to_owned(),
            })?;
        Ok(Self { username, password, tools })
    }

    /// Replaces the password in `text`, where an app says it.
    pub(crate) fn redact(&self, text: &str) -> String {
        let password = self.password.expose_secret();
        let encoded: String = form_urlencoded::byte_serialize(password.as_bytes()).collect();
        let json = serde_json::Value::from(password).to_string();
        let json = &json[1..json.len() - 1];
        let mut text = text.replace(password, REDACTED).replace(&encoded, REDACTED);
        text = text.replace(json, REDACTED);
        // As a page says it; templates differ in how they write quotes.
        let html = password.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        for (double, single) in [
            ("\"", "'"),
            ("&quot;", "'"),
            ("&quot;", "&#39;"),
            ("&#34;", "&#39;"),
            ("&quot;", "&#x27;"),
        ] {
            text = text.replace(&html.replace('"', double).replace('\'', single), REDACTED);
        }
        text
    }
}

/// A visit of the probe user, from the login page to after the logout.
#[derive(Debug)]
pub(crate) struct Visit {
    /// Every request, in order.
    pub(crate) fetches: Vec<Fetch>,
    /// What was found.
    pub(crate) verdict: Result<String, FetchError>,
}

/// Logs in by the app's own form, looks at the tools, and logs out.
pub(crate) fn visit(client: &Client<'_>, base: &BaseUrl, user: &ProbeUser) -> Visit {
    let client = client.another_visitor();
    let mut session = Session { client: &client, base, fetches: Vec::new() };
    let verdict = session.log_in(user).and_then(|dashboard| {
        let tools = judge_tools(user, &dashboard);
        // Whatever was found, nobody stays logged in.
        let left = session.log_out(&dashboard);
        let number = tools?;
        left?;
        let username = one_line(&user.username);
        let tools = count(number, "tool");
        Ok(format!("`{username}` logged in, saw exactly the expected {tools}, and logged out"))
    });
    Visit { fetches: session.fetches, verdict }
}

struct Session<'a> {
    client: &'a Client<'a>,
    base: &'a BaseUrl,
    fetches: Vec<Fetch>,
}

/// A page of somebody who is logged in.
struct Dashboard {
    page_url: Url,
    document: Document,
    logout: Form,
}

impl Session<'_> {
    fn log_in(&mut self, user: &ProbeUser) -> Result<Dashboard, FetchError> {
        let page = self.get("login");
        let (page, document) = html_page(page).map_err(|error| at("the login page", &error))?;
        let form = document
            .forms
            .iter()
            .find(|form| form.asks_for_password())
            .ok_or_else(|| content("the login page has no form for a password"))?;
        let (to, body) = (target(page, form)?, filled(form, user));
        let landed = self.client.post(&to, &body, BODY_LIMIT);
        self.fetches.push(landed.clone());
        if let Some(status @ (400..=499)) = landed.status() {
            let text = match status {
                401 | 403 => "the app refuses the user's name or password".to_owned(),
                429 => "the app refuses more attempts to log in for now".to_owned(),
                other => format!("the login was answered {}", status_line(other)),
            };
            return Err(FetchError::new(ErrorKind::Status, text));
        }
        let (page, _) = html_page(&landed).map_err(|error| at("the login", &error))?;
        // Wherever the login leads, the tools are on the dashboard.
        let dashboard = if page.url.path() == self.base.page("dashboard").path() {
            landed
        } else {
            self.get("dashboard").clone()
        };
        let (page, document) =
            html_page(&dashboard).map_err(|error| at("the dashboard", &error))?;
        let logout = document.forms.iter().find(|form| form.leads_to("/logout")).cloned();
        let page_url = page.url.clone();
        match logout {
            Some(logout) => Ok(Dashboard { page_url, document: document.clone(), logout }),
            None => {
                Err(content("after the login, nobody is logged in: there is no form to log out"))
            }
        }
    }

    fn log_out(&mut self, dashboard: &Dashboard) -> Result<(), FetchError> {
        let Dashboard { page_url, document: _, logout } = dashboard;
        let to = form_target(page_url, logout)?;
        let landed = self.client.post(&to, &encoded(logout, |_| None), BODY_LIMIT);
        self.fetches.push(landed.clone());
        let (_, document) = html_page(&landed).map_err(|error| at("the logout", &error))?;
        if document.forms.iter().any(|form| form.leads_to("/logout")) {
            return Err(content("still logged in after the logout"));
        }
        Ok(())
    }

    fn get(&mut self, page: &str) -> &Fetch {
        let fetch = self.client.get(&self.base.page(page), BODY_LIMIT, is_up);
        self.fetches.push(fetch);
        self.fetches.last().expect("it was just put there")
    }
}

fn content(text: &str) -> FetchError {
    FetchError::new(ErrorKind::Content, text)
}

fn at(place: &str, error: &FetchError) -> FetchError {
    FetchError::new(error.kind, format!("{place}: {}", error.message))
}

/// How many tools there are, when they are exactly the expected ones.
fn judge_tools(user: &ProbeUser, dashboard: &Dashboard) -> Result<usize, FetchError> {
    let seen: BTreeSet<String> = dashboard.document.tools.iter().cloned().collect();
    let missing: Vec<&String> = user.tools.difference(&seen).collect();
    let extra: Vec<&String> = seen.difference(&user.tools).collect();
    if missing.is_empty() && extra.is_empty() {
        return Ok(seen.len());
    }
    let mut parts = Vec::new();
    for (what, tools) in [("does not see", missing), ("sees but should not", extra)] {
        if !tools.is_empty() {
            parts.push(format!("{what}: {}", names(&tools)));
        }
    }
    Err(content(&format!("`{}` {}", user.username, parts.join("; "))))
}

fn names(tools: &[&String]) -> String {
    let shown: Vec<&str> = tools.iter().take(SHOWN_TOOLS).map(|tool| tool.as_str()).collect();
    let more = tools.len().saturating_sub(SHOWN_TOOLS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Where the login form is sent, when that is safe.
fn target(page: &Page, form: &Form) -> Result<Url, FetchError> {
    if form.method == FormMethod::Get {
        return Err(content(
            "the login form would send the password in an address, so it was not sent",
        ));
    }
    form_target(&page.url, form)
}

fn form_target(page: &Url, form: &Form) -> Result<Url, FetchError> {
    let to = page.join(&form.action).ok().filter(|to| is_same_site(page, to));
    to.ok_or_else(|| content("a form leads to another site, so it was not sent"))
}

/// The login form as the user fills it in.
fn filled(form: &Form, user: &ProbeUser) -> SecretString {
    encoded(form, |kind| match kind {
        FieldKind::Text => Some(&user.username),
        FieldKind::Password => Some(user.password.expose_secret()),
        FieldKind::Hidden | FieldKind::Other => None,
    })
}

/// The form's fields, each with what `typed` gives for its kind, else with the page's own value.
fn encoded<'a>(form: &'a Form, typed: impl Fn(FieldKind) -> Option<&'a str>) -> SecretString {
    let mut body = form_urlencoded::Serializer::new(String::new());
    for field in &form.fields {
        body.append_pair(&field.name, typed(field.kind).unwrap_or(&field.value));
    }
    body.finish().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(tools: &[&str]) -> ProbeUser {
        ProbeUser {
            username: "probe".to_owned(),
            password: "hunter2 &".to_owned().into(),
            tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
        }
    }

    fn judged(expected: &[&str], seen: &[&str]) -> Result<usize, String> {
        let items: String = seen.iter().map(|tool| format!("<li><a>{tool}</a></li>")).collect();
        let dashboard = Dashboard {
            page_url: "http://h/".parse().unwrap(),
            document: Document::parse(&format!("<ul class=tools>{items}</ul>")),
            logout: Form::default(),
        };
        judge_tools(&user(expected), &dashboard).map_err(|error| error.message)
    }

    #[test]
    fn exactly_the_expected_tools_pass() {
        assert_eq!(judged(&["A", "B"], &["B", "A"]), Ok(2));
        assert_eq!(judged(&[], &[]), Ok(0));
        insta::assert_snapshot!(
            judged(&["A", "B"], &["B", "C"]).unwrap_err(),
            @"`probe` does not see: A; sees but should not: C"
        );
    }

    #[test]
    fn a_form_is_sent_with_its_token_and_nothing_but_the_typed_changes() {
        let page = r#"<form method=post action="/login"><input type=hidden name=form_token value=t>
            <input name=username value=old><input type=password name=password></form>"#;
        let form = Document::parse(page).forms.remove(0);
        let body = filled(&form, &user(&[]));
        assert_eq!(body.expose_secret(), "form_token=t&username=probe&password=hunter2+%26");
    }

    #[test]
    fn a_password_goes_nowhere_else_and_into_no_address() {
        let page = Fetch::answered("https://h/login", 200, "text/html", "x").page.unwrap();
        let to = |action: &str, method| {
            target(&page, &Form { action: action.to_owned(), method, fields: Vec::new() })
        };
        assert_eq!(to("", FormMethod::Post).unwrap().as_str(), "https://h/login");
        assert_eq!(to("/in", FormMethod::Post).unwrap().as_str(), "https://h/in");
        for action in ["http://h/login", "https://evil.example/", "//evil.example/", "data:x"] {
            let error = to(action, FormMethod::Post).unwrap_err();
            assert!(error.message.contains("another site"), "{action}: {error}");
        }
        assert!(to("/login", FormMethod::Get).unwrap_err().message.contains("in an address"));
    }

    #[test]
    fn a_password_that_the_app_says_is_redacted_as_it_is_and_as_it_was_sent() {
        let text = "you typed hunter2 & (hunter2+%26)";
        assert_eq!(user(&[]).redact(text), "you typed [redacted] ([redacted])");
    }

    #[test]
    fn a_password_that_the_app_says_is_redacted_as_pages_and_documents_write_it() {
        let user = ProbeUser { password: "a&<\"'".to_owned().into(), ..user(&[]) };
        let text = "a&amp;&lt;&quot;&#x27; a&amp;&lt;&#34;&#39; a&amp;&lt;\"' a&<\\\"'";
        assert_eq!(user.redact(text), "[redacted] [redacted] [redacted] [redacted]");
    }

    #[test]
    fn a_file_with_another_key_is_refused_without_being_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("probe.toml");
        std::fs::write(&file, "username = \"x\"\ntools = []\npassword = \"hunter2\"\n").unwrap();
        let error = ProbeUser::load(&file, "p".to_owned().into()).unwrap_err().to_string();
        assert!(
            error.contains("unknown field `password`") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
