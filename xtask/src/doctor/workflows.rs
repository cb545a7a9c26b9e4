//! Do the workflows hide that a remote command failed?

use std::path::Path;

use fs_err as fs;

use super::Finding;

const CHECK: &str = "workflows";

/// Looks for `heroku run` without `-x`, whose exit status is lost: a remote check that fails would pass.
pub(super) fn look(root: &Path) -> Vec<Finding> {
    let folder = root.join(".github/workflows");
    let Ok(entries) = fs::read_dir(&folder) else {
        return vec![Finding::good(CHECK, "there are none")];
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml"))
        .collect();
    files.sort();
    let mut findings = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_bare(line)) {
            findings.push(Finding::problem(
                CHECK,
                format!("{name}:{} loses the exit status: {}", number + 1, line.trim()),
                "heroku run -x -a APP -- COMMAND",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good(CHECK, "no `heroku run` loses its exit status"));
    }
    findings
}

/// Whether the line runs something remotely and does not learn how that ended.
fn is_bare(line: &str) -> bool {
    let code = line.split(" #").next().unwrap_or_default();
    if code.trim_start().starts_with('#') {
        return false;
    }
    let words: Vec<&str> = code.split_whitespace().collect();
    words.windows(2).enumerate().any(|(at, pair)| {
        let runs = pair[0].ends_with("heroku") && matches!(pair[1], "run" | "run:detached");
        // What is behind `--` belongs to the remote command.
        let own = words[at + 2..].iter().take_while(|word| **word != "--");
        let knows = own.into_iter().any(|word| matches!(*word, "-x" | "--exit-code"));
        runs && (pair[1] == "run:detached" || !knows)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_learn_its_exit_status_is_found() {
        for bare in [
            "heroku run -a app -- verify-migration --env staging",
            "- run: heroku run verify-migration -a app",
            "heroku run -a app -- grep -x word",
            "heroku run:detached -x -a app -- migrate-db",
        ] {
            assert!(is_bare(bare), "{bare}");
        }
        for fine in [
            "heroku run -x -a app -- verify-migration",
            "heroku run --exit-code -a app -- verify-migration",
            "# heroku run verify-migration",
            "heroku releases -a app # not heroku run x",
            "cargo run heroku",
        ] {
            assert!(!is_bare(fine), "{fine}");
        }
    }
}
