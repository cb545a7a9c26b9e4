//! The two cookies.

use axum::http::{HeaderMap, HeaderValue, header};
use omnitool_environment::EnvironmentName;

use crate::token::Token;

/// Whether a visitor's browser talks TLS to us, or to the router in front of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Holds a session's token.
    Session,
    /// Holds what the login form is tied to while there is no session.
    Form,
}

/// Browsers share cookies between the ports of a host, so each environment has its own names.
fn name(environment: EnvironmentName, kind: Kind, scheme: Scheme) -> String {
    // Browsers take a name with this prefix only from this very host, over TLS.
    let prefix = match scheme {
        Scheme::Http => "",
        Scheme::Https => "__Host-",
    };
    let kind = match kind {
        Kind::Session => "session",
        Kind::Form => "form",
    };
    format!("{prefix}omnitool_{environment}_{kind}")
}

/// The token that the visitor's cookie holds. Other programs of the host, and other paths of it, may have set cookies of any
/// bytes, also of this name: the first that holds a token counts.
pub(crate) fn read(
    headers: &HeaderMap,
    environment: EnvironmentName,
    kind: Kind,
    scheme: Scheme,
) -> Option<Token> {
    let wanted = name(environment, kind, scheme);
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| str::from_utf8(pair).ok()?.trim().split_once('='))
        .filter(|(name, _)| *name == wanted)
        .find_map(|(_, value)| Token::parse(value))
}

/// A header that makes the browser keep `token`, for `seconds` or until it is closed.
pub(crate) fn set(
    environment: EnvironmentName,
    kind: Kind,
    scheme: Scheme,
    token: &Token,
    seconds: Option<i64>,
) -> HeaderValue {
    let age = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    value(environment, kind, scheme, &format!("{}{age}", token.expose()))
}

/// A header that makes the browser forget the cookie.
pub(crate) fn clear(environment: EnvironmentName, kind: Kind, scheme: Scheme) -> HeaderValue {
    value(environment, kind, scheme, "; Max-Age=0")
}

fn value(environment: EnvironmentName, kind: Kind, scheme: Scheme, content: &str) -> HeaderValue {
    let name = name(environment, kind, scheme);
    let same_site = match kind {
        // A link in an e-mail leads into the session.
        Kind::Session => "Lax",
        Kind::Form => "Strict",
    };
    let secure = match scheme {
        Scheme::Http => "",
        Scheme::Https => "; Secure",
    };
    let text = format!("{name}={content}; Path=/; HttpOnly; SameSite={same_site}{secure}");
    HeaderValue::from_str(&text)
        .expect("names, hexadecimal digits and attributes are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGING: EnvironmentName = EnvironmentName::Staging;

    #[test]
    fn cookies_are_kept_from_scripts_and_other_sites_and_tls_ones_from_clear_text() {
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        let session = set(STAGING, Kind::Session, Scheme::Https, &token, Some(60));
        let form = set(STAGING, Kind::Form, Scheme::Http, &token, None);
        let shown =
            |value: HeaderValue| value.to_str().unwrap().replace(&"ab".repeat(32), "[TOKEN]");
        insta::assert_snapshot!(
            shown(session),
            @"__Host-omnitool_staging_session=[TOKEN]; Max-Age=60; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
        insta::assert_snapshot!(
            shown(form),
            @"omnitool_staging_form=[TOKEN]; Path=/; HttpOnly; SameSite=Strict"
        );
        insta::assert_snapshot!(
            shown(clear(STAGING, Kind::Session, Scheme::Http)),
            @"omnitool_staging_session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn only_this_environments_cookie_counts() {
        let token = Token::generate().unwrap();
        let text = format!(
            "omnitool_local_session={}; omnitool_staging_session={}; x",
            Token::generate().unwrap().expose(),
            token.expose()
        );
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, text.parse().unwrap());
        assert_eq!(read(&headers, STAGING, Kind::Session, Scheme::Http), Some(token));
        assert_eq!(read(&headers, STAGING, Kind::Form, Scheme::Http), None);
        assert_eq!(read(&headers, STAGING, Kind::Session, Scheme::Https), None);
    }

    #[test]
    fn cookies_of_others_hide_ours_neither_by_their_bytes_nor_by_its_name() {
        let token = Token::generate().unwrap();
        let own = format!("omnitool_local_session={}", token.expose());
        let read = |text: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_bytes(text).unwrap());
            read(&headers, EnvironmentName::Local, Kind::Session, Scheme::Http)
        };
        for others in ["theme=é", "omnitool_local_session=garbage", "omnitool_local_session=é"] {
            for text in [format!("{others}; {own}"), format!("{own}; {others}")] {
                assert_eq!(read(text.as_bytes()), Some(token.clone()), "{text}");
            }
            assert_eq!(read(others.as_bytes()), None);
        }
        assert_eq!(read(&[b"theme=\xe9; ", own.as_bytes()].concat()), Some(token));
    }
}
