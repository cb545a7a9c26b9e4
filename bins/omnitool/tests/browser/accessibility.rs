//! What axe-core finds on a page.

use std::{env, fs, path::PathBuf, sync::OnceLock};

use serde_json::{Value, json};

use crate::chrome::Chrome;

/// Names axe-core's script.
const VARIABLE: &str = "OMNITOOL_TEST_AXE";
const LOCK: &str = include_str!("axe/package-lock.json");

/// The success criteria of levels A and AA, of all versions of WCAG 2.
const TAGS: [&str; 5] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/// Each way in which the page in front of the visitor keeps somebody out.
pub(crate) async fn violations(chrome: &Chrome) -> Vec<String> {
    if chrome.run("return typeof axe", Vec::new()).await == "undefined" {
        // Scripts of the driver run beside the page's policy; a `script` element would not.
        chrome.run(script(), Vec::new()).await;
    }
    let run = "
        const [tags, done] = arguments;
        axe.run({ runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'] }).then(
            (result) => done(result.violations.flatMap((rule) => rule.nodes.map((node) =>
                `${rule.id}: ${node.html}: ${node.failureSummary}`))),
            (error) => done([`axe-core failed: ${error}`]));";
    let found = chrome.run_async(run, vec![json!(TAGS)]).await;
    let text = |violation: &Value| violation.as_str().unwrap().to_owned();
    found.as_array().unwrap().iter().map(text).collect()
}

fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let file = match env::var_os(VARIABLE) {
            Some(file) if !file.is_empty() => PathBuf::from(file),
            _ => installed(),
        };
        fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!(
                "no axe-core at {}: {error}; `cargo xtask test -p omnitool` installs it with npm, or set {VARIABLE}",
                file.display()
            )
        })
    })
}

/// Where `cargo xtask test` puts the version that the lock file pins.
fn installed() -> PathBuf {
    let lock: Value = serde_json::from_str(LOCK).unwrap();
    let version = lock["packages"]["node_modules/axe-core"]["version"].as_str().unwrap();
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../.omnitool/tools/axe-core-{version}/node_modules/axe-core/axe.min.js"))
}
