//! Which commit this program is built from, for the ledger of migrations.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A source without git, such as a tarball, still builds; its ledger then names only the version.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && std::path::Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
        if let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) {
            println!("cargo::rustc-env=OMNITOOL_COMMIT={commit}");
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
