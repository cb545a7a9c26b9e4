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
    /// The first stylesheets and scripts, in the page's order, as written.
    pub(crate) links: Vec<Link>,
    /// Whether there is a field to type a password into.
    pub(crate) password_field: bool,
    /// The forms, in the page's order.
    pub(crate) forms: Vec<Form>,
    /// The tools that the page lists: the first link of each entry in a `<ul class="tools">`.
    pub(crate) tools: Vec<String>,
    base: Option<String>,
}

/// A form, as far as it takes to send it as a browser does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// Where it is sent, as written; to the page itself where nothing is.
    pub(crate) action: String,
    /// Whether it is sent in a body.
    pub(crate) method: FormMethod,
    /// Its named input fields.
    pub(crate) fields: Vec<Field>,
}

/// How a form is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FormMethod {
    /// In the address, where logs show it.
    #[default]
    Get,
    /// In the body.
    Post,
}

/// A named field of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) kind: FieldKind,
}

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldKind {
    /// The page's own value, such as the token that ties the form to the visitor.
    Hidden,
    /// One line to type.
    Text,
    /// A password to type.
    Password,
    /// Anything else.
    Other,
}

impl Form {
    /// Whether it asks for a password.
    pub(crate) fn asks_for_password(&self) -> bool {
        self.fields.iter().any(|field| field.kind == FieldKind::Password)
    }

    /// Whether it is sent to a path that ends in `end`.
    pub(crate) fn leads_to(&self, end: &str) -> bool {
        self.action.split(['?', '#']).next().is_some_and(|path| path.ends_with(end))
    }
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

/// How many of a page's links are kept. Far fewer are fetched; no page that people made has as many.
const LINK_LIMIT: usize = 1000;

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
        let mut place = Place::default();
        for token in Tokenizer::new_with_emitter(html, emitter) {
            let Ok(token) = token;
            match token {
                Token::StartTag(tag) => {
                    document.start_tag(&tag, &mut place);
                    let names_tool = place.entry == Entry::Unnamed && tag.name.as_slice() == b"a";
                    if matches!(tag.name.as_slice(), b"title" | b"h1") || names_tool {
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
                        if name == b"a" {
                            place.entry = Entry::Named;
                        }
                    }
                    match tag.name.as_slice() {
                        b"form" => place.in_form = false,
                        b"ul" => place.entry = Entry::None,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        document
    }

    fn start_tag(&mut self, tag: &StartTag<()>, place: &mut Place) {
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
        let has_room = self.links.len() < LINK_LIMIT;
        match tag.name.as_slice() {
            b"base" if self.base.is_none() => self.base = attribute("href"),
            b"link" if has_room && is("rel", "stylesheet") => {
                self.links.extend(link(AssetKind::Css, attribute("href")));
            }
            b"link" if has_room && is("rel", "modulepreload") => {
                self.links.extend(link(AssetKind::Js, attribute("href")));
            }
            b"script" if has_room => self.links.extend(link(AssetKind::Js, attribute("src"))),
            b"form" => {
                let post =
                    attribute("method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
                self.forms.push(Form {
                    action: attribute("action").unwrap_or_default(),
                    method: if post { FormMethod::Post } else { FormMethod::Get },
                    fields: Vec::new(),
                });
                place.in_form = true;
            }
            b"input" => {
                let kind = field_kind(attribute("type").as_deref());
                self.password_field |= kind == FieldKind::Password;
                let form = self.forms.last_mut().filter(|_| place.in_form);
                if let (Some(form), Some(name)) = (form, attribute("name")) {
                    let value = tag.attributes.get(b"value".as_slice());
                    let value = value.map(|value| String::from_utf8_lossy(value).into_owned());
                    form.fields.push(Field { name, value: value.unwrap_or_default(), kind });
                }
            }
            b"ul" if is("class", "tools") => place.entry = Entry::Named,
            b"li" if place.entry != Entry::None => place.entry = Entry::Unnamed,
            _ => {}
        }
    }

    fn end_text(&mut self, name: &[u8], text: &str) {
        match name {
            b"title" if self.title.is_empty() => self.title = text.to_owned(),
            b"h1" => self.headings.push(text.to_owned()),
            b"a" => self.tools.push(text.to_owned()),
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

/// Where in a page the reader is.
#[derive(Debug, Default)]
struct Place {
    in_form: bool,
    entry: Entry,
}

/// Where in the list of tools the reader is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Entry {
    /// Outside.
    #[default]
    None,
    /// In an entry whose name is still to come.
    Unnamed,
    /// Behind an entry's name, or before the first entry.
    Named,
}

fn field_kind(kind: Option<&str>) -> FieldKind {
    let kind = kind.map(str::to_ascii_lowercase);
    match kind.as_deref() {
        Some("hidden") => FieldKind::Hidden,
        Some("password") => FieldKind::Password,
        None | Some("" | "text" | "email") => FieldKind::Text,
        Some(_) => FieldKind::Other,
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
    fn forms_are_read_with_what_they_would_send() {
        let html = r#"<input name=outside><form action="/login" METHOD=Post>
            <input type=hidden name=form_token value=" a&amp;b "><input name="username" value="x">
            <input type="PASSWORD" name="password"><input type=submit></form>
            <form action="/logout?x"><input type=hidden name=t value=1></form><input name=after>"#;
        let document = Document::parse(html);
        let field = |name: &str, value: &str, kind| {
            let (name, value) = (name.to_owned(), value.to_owned());
            Field { name, value, kind }
        };
        assert_eq!(document.forms.len(), 2);
        let login = &document.forms[0];
        assert_eq!((&*login.action, login.method), ("/login", FormMethod::Post));
        assert_eq!(
            login.fields,
            [
                field("form_token", " a&b ", FieldKind::Hidden),
                field("username", "x", FieldKind::Text),
                field("password", "", FieldKind::Password),
            ]
        );
        assert!(login.asks_for_password() && !document.forms[1].asks_for_password());
        assert!(document.forms[1].leads_to("/logout") && !login.leads_to("/logout"));
        assert_eq!(document.forms[1].method, FormMethod::Get);
        assert_eq!(document.forms[1].fields.len(), 1);
    }

    #[test]
    fn listed_tools_are_named_by_the_first_link_of_each_entry() {
        let html = r#"<ul><li><a>menu</a></li></ul><a>x</a><ul class="wide tools">
            <li><a href="/a">A &amp; <b>B</b></a><p>text <a href=/more>more</a></p></li>
            <li><a href="/c"> C </a></li></ul><li><a>after</a></li>"#;
        assert_eq!(Document::parse(html).tools, ["A & B", "C"]);
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
