//! Where the app is.

use std::{fmt, str::FromStr};

use url::Url;

/// The address of an app: `http` or `https`, with a host; its path ends in `/`.
///
/// Credentials in it (`https://user:password@host`) are sent with each request and never shown: `Display` and `Debug`
/// leave them out.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// A text that no app can be reached at. It does not repeat the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseBaseUrlError {
    /// It is no URL at all.
    #[error("not a URL")]
    Malformed(#[source] url::ParseError),
    /// It is a URL of another kind.
    #[error("must start with http:// or https:// and name a host, not `{scheme}:`")]
    Scheme {
        /// What it starts with.
        scheme: String,
    },
}

impl FromStr for BaseUrl {
    type Err = ParseBaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut url = Url::parse(text.trim()).map_err(ParseBaseUrlError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(ParseBaseUrlError::Scheme { scheme: url.scheme().to_owned() });
        }
        url.set_query(None);
        url.set_fragment(None);
        if !url.path().ends_with('/') {
            let folder = format!("{}/", url.path());
            url.set_path(&folder);
        }
        Ok(Self(url))
    }
}

impl BaseUrl {
    /// The address of `page`, which is relative to the app's own.
    pub(crate) fn page(&self, page: &str) -> Url {
        let mut url = self.0.clone();
        let path = format!("{}{page}", url.path());
        url.set_path(&path);
        url
    }

    /// Whether connections to it are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Gives `url`, which must be of this app, the credentials of this address and no others.
    pub(crate) fn authorize(&self, url: &mut Url) {
        // These fail only for URLs without a host, and `url` has one.
        let _ = url.set_username(self.0.username());
        let _ = url.set_password(self.0.password());
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&shown(&self.0))
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseUrl({self})")
    }
}

/// `url` without credentials.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for URLs that can have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// Whether `to` belongs to the site that `from` is of: the same host and port, or the step from http to https on it.
pub(crate) fn is_same_site(from: &Url, to: &Url) -> bool {
    let same_origin =
        from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    let upgrade = from.scheme() == "http"
        && to.scheme() == "https"
        && from.port().is_none()
        && to.port().is_none();
    matches!(to.scheme(), "http" | "https") && from.host() == to.host() && (same_origin || upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BaseUrl {
        text.parse().unwrap()
    }

    fn same_site(from: &str, to: &str) -> bool {
        is_same_site(&Url::parse(from).unwrap(), &Url::parse(to).unwrap())
    }

    #[test]
    fn pages_are_below_the_address_whether_or_not_it_ends_in_a_slash() {
        assert_eq!(base("http://h:5000").page("login").as_str(), "http://h:5000/login");
        assert_eq!(base("http://h/tools").page("login").as_str(), "http://h/tools/login");
        assert_eq!(base("http://h/tools/?x#y").page("").as_str(), "http://h/tools/");
    }

    #[test]
    fn credentials_are_sent_and_not_shown() {
        let base = base("https://tester:hunter2@h/");
        assert_eq!(base.page("").as_str(), "https://tester:hunter2@h/");
        assert_eq!(base.to_string(), "https://h/");
        assert_eq!(format!("{base:?}"), "BaseUrl(https://h/)");
    }

    #[test]
    fn credentials_of_a_redirect_are_replaced() {
        let mut url = Url::parse("http://eve:x@h/login").unwrap();
        base("http://h/").authorize(&mut url);
        assert_eq!(url.as_str(), "http://h/login");
    }

    #[test]
    fn an_address_that_is_no_web_address_is_refused_without_being_shown() {
        for text in ["localhost:5000", "ftp://u:hunter2@h/", "file:///etc/passwd", "http://", "x"] {
            let error = text.parse::<BaseUrl>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        insta::assert_snapshot!(
            "localhost:5000".parse::<BaseUrl>().unwrap_err(),
            @"must start with http:// or https:// and name a host, not `localhost:`"
        );
    }

    #[test]
    fn only_the_same_host_and_port_are_the_same_site() {
        assert!(same_site("http://h/a", "http://h:80/b"));
        assert!(same_site("http://h/", "https://h/"));
        assert!(!same_site("https://h/", "http://h/"));
        assert!(!same_site("http://h:5000/", "https://h/"));
        assert!(!same_site("http://h:5000/", "http://h:5001/"));
        assert!(!same_site("http://h/", "http://evil.h/"));
        assert!(!same_site("http://h/", "file:///h/"));
    }
}
