//! What an HTML page links and says.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};
use url::Url;

/// The parts of an HTML page that the tests look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    /// The text of `<title>`, without surrounding space.
    pub(crate) title: String,
    /// The texts of the `<h1>`, without surrounding space.
    pub(crate) headings: Vec<String>,
    /// The stylesheets and scripts, in the page's order, as written.
    pub(crate) links: Vec<Link>,
    /// Whether there is a field to type a password into.
    pub(crate) password_field: bool,
    base: Option<String>,
}

/// A link to a stylesheet or a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// What the page expects there.
    pub(crate) kind: AssetKind,
    /// The address as written.
    pub(crate) address: String,
}

/// The kinds of static assets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssetKind {
    Css,
    Js,
}

impl AssetKind {
    /// How a person calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Css => "CSS",
            Self::Js => "JS",
        }
    }

    /// Whether a browser takes this media type for such an asset.
    pub(crate) fn accepts(self, media_type: &str) -> bool {
        match self {
            Self::Css => media_type == "text/css",
            Self::Js => matches!(
                media_type,
                "text/javascript" | "application/javascript" | "application/x-javascript"
            ),
        }
    }
}

/// Titles and headings that only an error page has; each must stand at the beginning.
const ERROR_BEGINNINGS: [&str; 6] = ["error", "400", "404", "500", "502", "503"];

/// Parts of titles and headings that only an error page has.
const ERROR_PARTS: [&str; 9] = [
    "application error",
    "bad gateway",
    "gateway timeout",
    "internal server error",
    "not found",
    "server error",
    "service unavailable",
    "something went wrong",
    "traceback",
];

/// Texts of crashes, wherever they stand in a page.
const CRASHES: [&str; 2] = ["Traceback (most recent call last)", "panicked at "];

impl Document {
    /// Reads a page, however broken its HTML is.
    pub(crate) fn parse(html: &str) -> Self {
        let mut emitter = DefaultEmitter::default();
        // Otherwise the text of a script would be read as tags.
        emitter.naively_switch_states(true);
        let mut document = Self::default();
        let mut open: Option<(Vec<u8>, String)> = None;
        for token in Tokenizer::new_with_emitter(html, emitter) {
            let Ok(token) = token;
            match token {
                Token::StartTag(tag) => {
                    document.start_tag(&tag);
                    if matches!(tag.name.as_slice(), b"title" | b"h1") {
                        open = Some((tag.name.0, String::new()));
                    }
                }
                Token::String(text) => {
                    if let Some((_, collected)) = &mut open {
                        collected.push_str(&String::from_utf8_lossy(&text));
                    }
                }
                Token::EndTag(tag) => {
                    if let Some((name, text)) = open.take_if(|(name, _)| *name == tag.name.0) {
                        document.end_text(&name, text.trim());
                    }
                }
                _ => {}
            }
        }
        document
    }

    fn start_tag(&mut self, tag: &StartTag<()>) {
        let attribute = |name: &str| {
            let value = tag.attributes.get(name.as_bytes())?;
            Some(String::from_utf8_lossy(value).trim().to_owned())
        };
        let is = |name: &str, wanted: &str| {
            attribute(name).is_some_and(|value| {
                value.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case(wanted))
            })
        };
        let link = |kind, address: Option<String>| {
            address.filter(|address| !address.is_empty()).map(|address| Link { kind, address })
        };
        match tag.name.as_slice() {
            b"base" if self.base.is_none() => self.base = attribute("href"),
            b"link" if is("rel", "stylesheet") => {
                self.links.extend(link(AssetKind::Css, attribute("href")));
            }
            b"link" if is("rel", "modulepreload") => {
                self.links.extend(link(AssetKind::Js, attribute("href")));
            }
            b"script" => self.links.extend(link(AssetKind::Js, attribute("src"))),
            b"input" if is("type", "password") => self.password_field = true,
            _ => {}
        }
    }

    fn end_text(&mut self, name: &[u8], text: &str) {
        match name {
            b"title" if self.title.is_empty() => self.title = text.to_owned(),
            b"h1" => self.headings.push(text.to_owned()),
            _ => {}
        }
    }

    /// The stylesheets and scripts with their whole addresses; `page` is where the page came from. Addresses that
    /// cannot be understood are returned as written.
    pub(crate) fn assets(&self, page: &Url) -> Vec<(AssetKind, Result<Url, String>)> {
        let base = self.base.as_deref().and_then(|base| page.join(base).ok());
        let base = base.as_ref().unwrap_or(page);
        self.links
            .iter()
            .map(|link| (link.kind, base.join(&link.address).map_err(|_| link.address.clone())))
            .collect()
    }
}

/// What betrays `html` as an error page, if anything does.
pub(crate) fn error_page(document: &Document, html: &str) -> Option<String> {
    let betrays = |text: &&String| {
        let text = text.to_lowercase();
        ERROR_PARTS.iter().any(|part| text.contains(part))
            || ERROR_BEGINNINGS.iter().any(|beginning| {
                text.strip_prefix(beginning)
                    .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
            })
    };
    let said = std::iter::once(&document.title).chain(&document.headings).find(betrays);
    let crash = || CRASHES.into_iter().find(|crash| html.contains(crash)).map(str::to_owned);
    said.cloned().or_else(crash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<!DOCTYPE html><html><head><title> Tools &amp; more </title>
        <LINK REL="preload Stylesheet" HREF="/static/app.css?v=1"><link rel=icon href=/favicon.ico>
        <link rel="modulepreload" href="m.js"><script src='app.js' defer></script>
        <script>document.write("<script src=fake.js>" + "<h1>500</h1>")</script>
        <!-- <script src="commented.js"></script> --><script src=""></script></head>
        <body><h1>All <b>tools</b></h1><input name=p type=Password></body></html>"#;

    #[test]
    fn stylesheets_and_scripts_are_found_and_nothing_else() {
        let document = Document::parse(PAGE);
        let page = Url::parse("http://h/tools/login").unwrap();
        let assets: Vec<_> = document
            .assets(&page)
            .into_iter()
            .map(|(kind, url)| format!("{} {}", kind.name(), url.unwrap()))
            .collect();
        assert_eq!(
            assets,
            [
                "CSS http://h/static/app.css?v=1",
                "JS http://h/tools/m.js",
                "JS http://h/tools/app.js"
            ]
        );
    }

    #[test]
    fn title_headings_and_password_field_are_read() {
        let document = Document::parse(PAGE);
        assert_eq!(document.title, "Tools & more");
        assert_eq!(document.headings, ["All tools"]);
        assert!(document.password_field);
        assert_eq!(error_page(&document, PAGE), None);
    }

    #[test]
    fn a_base_moves_relative_links() {
        let html = r#"<base href="/static/"><base href="/other/"><script src="a.js"></script>"#;
        let assets = Document::parse(html).assets(&Url::parse("http://h/x").unwrap());
        assert_eq!(assets[0].1.as_ref().unwrap().as_str(), "http://h/static/a.js");
    }

    #[test]
    fn error_pages_betray_themselves() {
        for html in [
            "<title>Application Error</title>",
            "<title>500 Internal Server Error</title>",
            "<h1>Something went wrong</h1>",
            "<title>omnitool</title><h1>404</h1>",
            "<h1>Error: no database</h1>",
            "<p>thread 'main' panicked at src/main.rs:1</p>",
        ] {
            assert!(error_page(&Document::parse(html), html).is_some(), "{html}");
        }
    }

    #[test]
    fn words_that_only_look_like_errors_do_not() {
        for html in [
            "<title>Errors of the month</title>",
            "<h1>5000 tools</h1>",
            "<title>Invoice Generator</title><p>not found</p>",
            "",
        ] {
            assert_eq!(error_page(&Document::parse(html), html), None, "{html}");
        }
    }
}
