use omnitool_testing::{Dialect, TestDatabase};

use crate::running::Running;

/// The addresses that the page links in this attribute.
fn links<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    page.split(&format!("{attribute}=\"/static/"))
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect()
}

#[test]
fn pages_link_assets_that_are_there_and_may_be_kept() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let app = Running::start(&db);
    let visitor = app.visitor();
    let home = visitor.get("/").body;
    let (styles, scripts) = (links(&home, "href"), links(&home, "src"));
    assert_eq!((styles.len(), scripts.len()), (2, 1), "{home}");
    for link in styles.iter().chain(&scripts) {
        let asset = visitor.get(&format!("/static/{link}"));
        assert_eq!(asset.status, 200);
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
        let tag = asset.header("etag").unwrap();
        let again = visitor.get_with(&format!("/static/{link}"), &[("if-none-match", tag)]);
        assert_eq!((again.status, &*again.body), (304, ""));
    }
    let css = visitor.get("/static/app.css");
    assert_eq!(css.header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(css.header("cache-control"), Some("no-cache"), "another release may answer next");
    assert_eq!(
        visitor.get("/static/app.js").header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    assert_eq!(visitor.get("/static/../Cargo.toml").status, 404);
    assert_eq!(visitor.get("/static/other.css").status, 404);
}
