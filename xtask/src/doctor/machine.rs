//! What deployments and tests need on this machine and in this working copy.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use fs_err as fs;
use omnitool_environment::Environments;
use serde::Deserialize;

use super::Finding;
use crate::{postgres, project::Project};

/// The process types that a slug must have, and the program and an argument of each. A rollback's release phase runs the older
/// build, which must leave the newer schema alone.
const PROCESSES: [(&str, &str, &str); 2] =
    [("release", "migrate-db", "--keep-newer"), ("web", "omnitool", "serve")];

pub(super) fn look(project: &Project) -> Vec<Finding> {
    let root = project.root();
    vec![
        toolchain(root),
        compiler(),
        git(root),
        postgres_programs(),
        node(),
        environments(root),
        procfile(root),
        app_json(root),
    ]
}

/// The first line that a program says of itself; nothing where it cannot be run.
fn says(program: &Path, arguments: &[&str], folder: &Path) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

fn toolchain(root: &Path) -> Finding {
    #[derive(Deserialize)]
    struct File {
        toolchain: Toolchain,
    }
    #[derive(Deserialize)]
    struct Toolchain {
        channel: String,
    }
    const CHECK: &str = "toolchain";
    const REPAIR: &str = "rustup toolchain install, in the project's root (https://rustup.rs)";
    let wanted = fs::read_to_string(root.join("rust-toolchain.toml"))
        .ok()
        .and_then(|text| toml::from_str::<File>(&text).ok())
        .map(|file| file.toolchain.channel);
    match (says(Path::new("rustc"), &["--version"], root), wanted) {
        (None, _) => Finding::problem(CHECK, "there is no rustc that runs here", REPAIR),
        (Some(found), Some(wanted)) if !found.contains(&wanted) => Finding::problem(
            CHECK,
            format!("{found} is not the {wanted} that rust-toolchain.toml names"),
            REPAIR,
        ),
        (Some(found), _) => Finding::good(CHECK, found),
    }
}

fn compiler() -> Finding {
    const CHECK: &str = "C compiler";
    match says(Path::new("cc"), &["--version"], Path::new(".")) {
        Some(found) => Finding::good(CHECK, found),
        None => Finding::problem(
            CHECK,
            "there is none, and SQLite is built from source",
            "install one: apt-get install build-essential, or xcode-select --install",
        ),
    }
}

fn git(root: &Path) -> Finding {
    const CHECK: &str = "git";
    let git = Path::new("git");
    if says(git, &["--version"], root).is_none() {
        return Finding::problem(CHECK, "there is no git", "install it: apt-get install git");
    }
    match says(git, &["status", "--porcelain"], root) {
        None => Finding::problem(
            CHECK,
            "this folder is no working copy",
            "clone the repository: releases are named after commits",
        ),
        Some(first) if !first.is_empty() => Finding::warning(
            CHECK,
            "there are changes that are not committed",
            "commit them: production refuses them, and staging says so",
        ),
        Some(_) => Finding::good(CHECK, "the working copy is clean"),
    }
}

fn postgres_programs() -> Finding {
    const CHECK: &str = "PostgreSQL";
    let Some(folder) = postgres::find() else {
        return Finding::warning(
            CHECK,
            "its programs are not here: tests need a server, and backups of PostgreSQL and of Heroku need pg_dump and pg_restore",
            "install them: apt-get install postgresql, or brew install postgresql@17",
        );
    };
    let missing: Vec<&str> = ["pg_dump", "pg_restore", "psql"]
        .into_iter()
        .filter(|program| !folder.join(program).is_file())
        .collect();
    match says(&folder.join("pg_restore"), &["--version"], Path::new(".")) {
        Some(found) if missing.is_empty() => Finding::good(CHECK, found),
        _ => Finding::warning(
            CHECK,
            format!("{} has no {}", folder.display(), missing.join(", ")),
            "install its client programs, too: apt-get install postgresql-client",
        ),
    }
}

fn node() -> Finding {
    const CHECK: &str = "Node.js";
    match says(Path::new("node"), &["--version"], Path::new(".")) {
        Some(found) => Finding::good(CHECK, found),
        None => Finding::warning(
            CHECK,
            "it is not here; only `cargo xtask heroku-conformance` needs it",
            "install Node.js 20 or newer to prove the emulated Heroku",
        ),
    }
}

fn environments(root: &Path) -> Finding {
    const CHECK: &str = "environments";
    match Environments::load(&root.join(Environments::DEFAULT_FILE)) {
        Ok(_) => Finding::good(CHECK, "data/environments.toml can be read"),
        Err(error) => {
            let why = std::error::Error::source(&error)
                .map_or_else(String::new, |source| format!(": {source}"));
            Finding::problem(CHECK, format!("{error}{why}"), "correct data/environments.toml")
        }
    }
}

/// What a file's process types run, where the file is one.
pub(super) fn process_types(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, command)| (name.trim().to_owned(), command.trim().to_owned()))
        .collect()
}

/// Which of the programs that a slug must run these process types do not run.
pub(super) fn missing_processes(types: &[(String, String)]) -> Vec<String> {
    PROCESSES
        .iter()
        .filter(|(wanted, program, argument)| {
            !types.iter().any(|(name, command)| {
                let mut words = command.split_whitespace();
                let first = words.next().map(PathBuf::from);
                let runs = first.and_then(|path| Some(path.file_name()? == *program));
                name == wanted && runs == Some(true) && words.any(|word| word == *argument)
            })
        })
        .map(|(wanted, program, argument)| format!("`{wanted}: bin/{program} … {argument}`"))
        .collect()
}

fn procfile(root: &Path) -> Finding {
    const CHECK: &str = "Procfile";
    let Ok(text) = fs::read_to_string(root.join("Procfile")) else {
        return Finding::problem(CHECK, "there is none", "git checkout -- Procfile");
    };
    let missing = missing_processes(&process_types(&text));
    if missing.is_empty() {
        return Finding::good(CHECK, "the release phase migrates, and the app serves");
    }
    Finding::problem(
        CHECK,
        format!("it has no line {}", missing.join(" and no line ")),
        "without a release phase, code serves before its schema exists: add the line",
    )
}

/// The stack that `app.json` names.
pub(super) fn wanted_stack(root: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct File {
        stack: String,
    }
    let text = fs::read_to_string(root.join("app.json")).ok()?;
    serde_json::from_str::<File>(&text).ok().map(|file| file.stack)
}

fn app_json(root: &Path) -> Finding {
    const CHECK: &str = "app.json";
    match wanted_stack(root) {
        Some(stack) => Finding::good(CHECK, format!("apps are for {stack}")),
        None => Finding::warning(
            CHECK,
            "it is missing, malformed or names no stack: review apps and the look at stacks need it",
            "git checkout -- app.json",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procfile_without_a_release_phase_is_found() {
        let missing = |text: &str| missing_processes(&process_types(text)).join(" ");
        let good = "release: bin/migrate-db --tools x --keep-newer\nweb: bin/omnitool serve\n";
        assert_eq!(missing(good), "");
        let release = "`release: bin/migrate-db … --keep-newer`";
        assert_eq!(missing("web: bin/omnitool serve\n"), release);
        assert_eq!(missing(&good.replace(" --keep-newer", "")), release);
        assert_eq!(
            missing(&good.replace("release", "# release").replace("omnitool", "gunicorn")),
            format!("{release} `web: bin/omnitool … serve`")
        );
    }
}
