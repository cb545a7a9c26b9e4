//! The style sheet, the script and the icon, compiled in.

use std::sync::LazyLock;

use axum::{
    extract::{Path, Request},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};

use crate::{error::PageError, token};

/// A file under `/static/`.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "app.css",
        media_type: "text/css; charset=utf-8",
        content: include_str!("../assets/app.css"),
    },
    Asset {
        name: "app.js",
        media_type: "text/javascript; charset=utf-8",
        content: include_str!("../assets/app.js"),
    },
    Asset {
        name: "icon.svg",
        media_type: "image/svg+xml",
        content: include_str!("../assets/icon.svg"),
    },
];

/// The versions of [`ASSETS`]: each changes with the content.
static VERSIONS: LazyLock<[String; 3]> =
    LazyLock::new(|| ASSETS.map(|asset| token::hex(&Sha256::digest(asset.content)[..8])));

/// The addresses under which pages link the assets.
pub(crate) struct Links {
    pub(crate) style: String,
    pub(crate) script: String,
    pub(crate) icon: String,
}

/// The addresses under which pages link the assets; a new content has a new one.
pub(crate) static LINKS: LazyLock<Links> = LazyLock::new(|| {
    let [style, script, icon] =
        [0, 1, 2].map(|at| format!("/static/{}?v={}", ASSETS[at].name, VERSIONS[at]));
    Links { style, script, icon }
});

pub(crate) async fn asset(
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, PageError> {
    let found = ASSETS.iter().zip(VERSIONS.iter()).find(|(asset, _)| asset.name == name);
    let (asset, version) = found.ok_or(PageError::NotFound)?;
    let current = request.uri().query().and_then(|query| query.strip_prefix("v=")) == Some(version);
    // Under another version's address, an older or newer release was meant.
    let cache = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
    let tag = format!("\"{version}\"");
    let headers = [(header::CACHE_CONTROL, cache), (header::ETAG, tag.as_str())];
    let known = request.headers().get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, [(header::CONTENT_TYPE, asset.media_type)], asset.content).into_response())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The colours of the `number`th block of variables in the style sheet: light, then dark.
    fn colours(number: usize) -> HashMap<&'static str, [f64; 3]> {
        let block =
            ASSETS[0].content.split(":root {").nth(number).unwrap().split('}').next().unwrap();
        let lines =
            block.lines().filter_map(|line| line.trim().strip_prefix("--")?.split_once(": #"));
        let channel = |text: &str, at: usize| {
            let value = f64::from(u8::from_str_radix(&text[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        lines.map(|(name, text)| (name, [0, 2, 4].map(|at| channel(text, at)))).collect()
    }

    /// How WCAG 2.2 defines the contrast of two colours.
    fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
        let light = |[r, g, b]: [f64; 3]| 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        let (a, b) = (light(a), light(b));
        a.max(b) / a.min(b)
    }

    #[test]
    fn texts_can_be_read_on_their_grounds_in_light_and_dark() {
        let pairs = [
            ("text", "ground"),
            ("text", "raised"),
            ("faint", "ground"),
            ("faint", "raised"),
            ("accent", "ground"),
            ("accent", "raised"),
            ("on-accent", "accent"),
            ("problem", "problem-ground"),
            ("problem", "ground"),
            ("problem", "raised"),
        ];
        for mode in [1, 2] {
            let colours = colours(mode);
            for (text, ground) in pairs {
                let contrast = contrast(colours[text], colours[ground]);
                assert!(contrast >= 4.5, "{mode}: {text} on {ground}: {contrast:.2}");
            }
            // Borders of fields.
            assert!(contrast(colours["line"], colours["ground"]) >= 3.0, "{mode}");
        }
    }
}
