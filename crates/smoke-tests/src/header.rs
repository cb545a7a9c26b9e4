//! An answer's headers, fit to be shown.

use std::collections::BTreeMap;

use ureq::http::HeaderMap;

use crate::text::one_line;

/// How many headers are shown.
const LIMIT: usize = 40;

/// Parts of the names of headers that may hold a secret.
const SECRET_PARTS: [&str; 12] = [
    "auth",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "key",
    "passw",
    "secret",
    "session",
    "signature",
    "token",
    "xsrf",
];

/// What stands in place of a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// The headers by name. What may be a secret is left out, in a `Set-Cookie` as in a redirect's query; several of one name
/// are joined.
pub(crate) fn shown(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for name in headers.keys().take(LIMIT) {
        let values: Vec<String> = headers
            .get_all(name)
            .iter()
            .map(|value| shown_value(name.as_str(), &String::from_utf8_lossy(value.as_bytes())))
            .collect();
        shown.insert(one_line(name.as_str()), one_line(&values.join(", ")));
    }
    shown
}

fn shown_value(name: &str, value: &str) -> String {
    // Not only the known ones: a proxy's own are as secret.
    if SECRET_PARTS.iter().any(|part| name.contains(part)) {
        return REDACTED.to_owned();
    }
    match (name, value.split_once(['?', '#', '@'])) {
        ("location" | "refresh" | "link" | "content-location", Some((path, _))) => {
            format!("{path}?{REDACTED}")
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_and_the_rest_is_shown() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "session=hunter2"),
            ("set-cookie", "form=hunter2"),
            ("authorization", "Basic hunter2"),
            ("x-amz-security-token", "hunter2"),
            ("x-api-key", "hunter2"),
            ("location", "/login?token=hunter2"),
            ("server", "nginx"),
            ("via", "1.1 a"),
            ("via", "1.1 b"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let shown = shown(&headers);
        insta::assert_debug_snapshot!(shown, @r#"
        {
            "authorization": "[redacted]",
            "location": "/login?[redacted]",
            "server": "nginx",
            "set-cookie": "[redacted], [redacted]",
            "via": "1.1 a, 1.1 b",
            "x-amz-security-token": "[redacted]",
            "x-api-key": "[redacted]",
        }
        "#);
    }
}
