//! Which package may use which: the tables of the design, checked against what cargo says.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Deserialize;

/// The crates, and which of our crates each may use. What those use is allowed, too: arrows point one way.
const CRATES: [(&str, &[&str]); 13] = [
    ("environment", &[]),
    ("database", &["environment"]),
    ("tool-registry", &["database"]),
    ("tool-access", &["database"]),
    ("verification", &["database", "tool-registry", "tool-access"]),
    ("backup", &["database", "heroku"]),
    ("smoke-tests", &[]),
    ("heroku", &[]),
    ("pipeline", &["environment", "heroku"]),
    ("cli", &["environment"]),
    ("web", &["database", "tool-registry", "tool-access"]),
    ("testing", &["database"]),
    ("heroku-emulator", &[]),
];

/// The programs. They may use every crate that is neither for deployments nor for tests.
const PROGRAMS: [&str; 10] = [
    "backup-database",
    "export-tool-access",
    "import-tool-access",
    "migrate-db",
    "omnitool",
    "rollback-migration",
    "smoke-tests",
    "sync-data-prod-to-staging",
    "sync-tools",
    "verify-migration",
];
const NOT_FOR_PROGRAMS: [&str; 3] = ["pipeline", "testing", "heroku-emulator"];

/// What `xtask` may use.
const XTASK: [&str; 4] = ["cli", "environment", "heroku", "pipeline"];

/// For tests only, and in every package's tests; with `testing` comes what it is made of.
const FOR_TESTS: [&str; 2] = ["testing", "heroku-emulator"];

/// What `xtask` must not link, neither itself nor through what it uses.
const DATABASES: [&str; 4] = ["diesel", "diesel_migrations", "libsqlite3-sys", "pq-sys"];

const PREFIX: &str = "omnitool-";

#[derive(Debug, Deserialize)]
struct Metadata {
    workspace_root: String,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev` or `build`; nothing for a normal one.
    kind: Option<String>,
    /// The folder, where it is one of ours.
    path: Option<String>,
}

/// Where a package is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Crate(String),
    Program(String),
    Xtask,
}

/// Compares the workspace that `metadata` describes with the tables. Returns what differs, sorted.
pub(crate) fn check(metadata: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let metadata: Metadata = serde_json::from_slice(metadata)?;
    let root = Path::new(&metadata.workspace_root);
    let mut problems = BTreeSet::new();
    for package in &metadata.packages {
        match place(package, root) {
            Ok(place) => check_package(package, &place, &mut problems),
            Err(problem) => {
                problems.insert(problem);
            }
        }
    }
    check_xtask(&metadata.packages, &mut problems);
    Ok(problems.into_iter().collect())
}

/// Where `package` is, where its name fits its folder.
fn place(package: &Package, root: &Path) -> Result<Place, String> {
    let Package { name, manifest_path, .. } = package;
    let folder = Path::new(manifest_path).parent().unwrap_or(root);
    let shown = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
    let fits = |own: &str| *name == format!("{PREFIX}{own}");
    match shown.split_once('/') {
        None if shown == "xtask" && name == "xtask" => Ok(Place::Xtask),
        Some(("crates", own)) if fits(own) => {
            if CRATES.iter().any(|(known, _)| *known == own) {
                Ok(Place::Crate(own.to_owned()))
            } else {
                Err(format!("{shown} is not in the design's table of crates"))
            }
        }
        Some(("bins", own)) if name == own => {
            if PROGRAMS.contains(&own) {
                Ok(Place::Program(own.to_owned()))
            } else {
                Err(format!("{shown} is not in the design's table of programs"))
            }
        }
        _ => Err(format!("the package {name} does not belong into the folder {shown}")),
    }
}

fn check_package(package: &Package, place: &Place, problems: &mut BTreeSet<String>) {
    // Tests on a database of `testing` may hold it by its own types.
    let testing = format!("{PREFIX}testing");
    let in_tests_too = match package.dependencies.iter().any(|one| one.name == testing) {
        true => may_use("testing"),
        false => BTreeSet::new(),
    };
    for dependency in &package.dependencies {
        let Dependency { name, kind, path } = dependency;
        let Some(used) = name.strip_prefix(PREFIX).filter(|_| path.is_some()) else { continue };
        let in_tests = kind.as_deref() == Some("dev");
        if in_tests && (FOR_TESTS.contains(&used) || in_tests_too.contains(used)) {
            continue;
        }
        let allowed = match place {
            Place::Crate(own) => may_use(own).contains(used),
            Place::Program(_) => !NOT_FOR_PROGRAMS.contains(&used),
            Place::Xtask => XTASK.contains(&used),
        };
        if !allowed {
            let what = if in_tests { "the tests of " } else { "" };
            problems.insert(format!("{what}{} must not use {name}", package.name));
        }
    }
}

/// What the crate `own` may use, directly or through others.
fn may_use(own: &str) -> BTreeSet<&'static str> {
    let table: BTreeMap<&str, &[&str]> = CRATES.into_iter().collect();
    let mut all = BTreeSet::new();
    let mut open: Vec<&'static str> = table.get(own).copied().unwrap_or_default().to_vec();
    while let Some(next) = open.pop() {
        if all.insert(next) {
            open.extend(table.get(next).copied().unwrap_or_default());
        }
    }
    all
}

/// `xtask` must be there in seconds, so it links no database.
fn check_xtask(packages: &[Package], problems: &mut BTreeSet<String>) {
    let by_name: BTreeMap<&str, &Package> =
        packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut seen = BTreeSet::new();
    let mut open = vec!["xtask"];
    while let Some(next) = open.pop() {
        let Some(package) = by_name.get(next).filter(|_| seen.insert(next)) else { continue };
        for dependency in &package.dependencies {
            if dependency.kind.as_deref() == Some("dev") {
                continue;
            }
            if DATABASES.contains(&dependency.name.as_str()) {
                problems.insert(format!("xtask links {} through {next}", dependency.name));
            }
            open.push(&dependency.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of a workspace with these packages: folder, name, and what it uses (`dev:` for its tests).
    fn problems(packages: &[(&str, &str, &[&str])]) -> Vec<String> {
        let packages: Vec<serde_json::Value> = packages
            .iter()
            .map(|(folder, name, uses)| {
                let uses: Vec<serde_json::Value> = uses
                    .iter()
                    .map(|text| {
                        let (kind, name) = match text.strip_prefix("dev:") {
                            Some(name) => (Some("dev"), name),
                            None => (None, *text),
                        };
                        let path = name.starts_with(PREFIX).then_some("/w/x");
                        serde_json::json!({"name": name, "kind": kind, "path": path})
                    })
                    .collect();
                let manifest = format!("/w/{folder}/Cargo.toml");
                serde_json::json!({"name": name, "manifest_path": manifest, "dependencies": uses})
            })
            .collect();
        let metadata = serde_json::json!({"workspace_root": "/w", "packages": packages});
        check(metadata.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_the_tables_allow_is_no_problem() {
        let none: &[&str] = &[];
        let found = problems(&[
            ("crates/environment", "omnitool-environment", &["serde"]),
            ("crates/database", "omnitool-database", &["omnitool-environment", "diesel"]),
            (
                "crates/verification",
                "omnitool-verification",
                &["omnitool-tool-registry", "omnitool-environment", "dev:omnitool-testing"],
            ),
            ("bins/omnitool", "omnitool", &["omnitool-cli", "omnitool-web"]),
            ("bins/sync-tools", "sync-tools", &["omnitool-cli", "omnitool-tool-registry"]),
            (
                "crates/heroku",
                "omnitool-heroku",
                &["dev:omnitool-testing", "dev:omnitool-database", "dev:omnitool-heroku-emulator"],
            ),
            ("crates/pipeline", "omnitool-pipeline", &["omnitool-environment"]),
            ("xtask", "xtask", &["omnitool-pipeline", "dev:diesel"]),
        ]);
        assert_eq!(found, none);
    }

    #[test]
    fn an_arrow_against_the_tables_is_a_problem() {
        let found = problems(&[
            ("crates/tool-access", "omnitool-tool-access", &["omnitool-cli"]),
            ("crates/environment", "omnitool-environment", &["dev:omnitool-database"]),
            ("crates/database", "omnitool-database", &["omnitool-testing"]),
            ("bins/omnitool", "omnitool", &["omnitool-pipeline"]),
            ("xtask", "xtask", &["omnitool-web"]),
        ]);
        insta::assert_snapshot!(found.join("\n"), @r"
        omnitool must not use omnitool-pipeline
        omnitool-database must not use omnitool-testing
        omnitool-tool-access must not use omnitool-cli
        the tests of omnitool-environment must not use omnitool-database
        xtask must not use omnitool-web
        ");
    }

    #[test]
    fn no_domain_crate_may_use_the_cli() {
        for (own, _) in CRATES {
            assert!(!may_use(own).contains("cli"), "{own}");
        }
    }

    #[test]
    fn a_folder_is_named_as_its_package_and_is_in_a_table() {
        let found = problems(&[
            ("crates/access", "omnitool-tool-access", &[]),
            ("crates/helpers", "omnitool-helpers", &[]),
            ("bins/serve", "serve", &[]),
            ("tools/x", "x", &[]),
        ]);
        insta::assert_snapshot!(found.join("\n"), @r"
        bins/serve is not in the design's table of programs
        crates/helpers is not in the design's table of crates
        the package omnitool-tool-access does not belong into the folder crates/access
        the package x does not belong into the folder tools/x
        ");
    }

    #[test]
    fn a_database_behind_xtask_is_found() {
        let found = problems(&[
            ("xtask", "xtask", &["omnitool-pipeline"]),
            ("crates/pipeline", "omnitool-pipeline", &["omnitool-environment"]),
            ("crates/environment", "omnitool-environment", &["libsqlite3-sys"]),
        ]);
        assert_eq!(found, ["xtask links libsqlite3-sys through omnitool-environment"]);
    }
}
