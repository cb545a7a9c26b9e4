//! The workflows: what every one of them has, and that every command in them does something.

mod commands;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

/// One file of `.github/workflows`.
#[derive(Deserialize)]
struct Workflow {
    on: Value,
    permissions: BTreeMap<String, String>,
    concurrency: Concurrency,
    jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Concurrency {
    cancel_in_progress: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Job {
    permissions: BTreeMap<String, String>,
    timeout_minutes: u32,
    environment: Option<String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    uses: Option<String>,
    run: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    with: BTreeMap<String, Value>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn workflows() -> BTreeMap<String, (String, Workflow)> {
    let folder = root().join(".github/workflows");
    let mut workflows = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let text = fs::read_to_string(&file).unwrap();
        let workflow = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        workflows.insert(name, (text, workflow));
    }
    workflows
}

#[test]
fn no_workflow_may_do_more_than_its_jobs_say() {
    for (name, (_, workflow)) in workflows() {
        assert!(workflow.permissions.is_empty(), "{name}: permissions are per job");
        for (id, job) in workflow.jobs {
            for (what, level) in &job.permissions {
                let allowed = match (name.as_str(), what.as_str()) {
                    (_, "contents" | "actions") => "read",
                    ("plan.yml", "pull-requests") | ("drift.yml", "issues") => "write",
                    _ => "nothing",
                };
                assert_eq!(level, allowed, "{name}, {id}: {what}");
            }
            assert!(job.timeout_minutes <= 90, "{name}, {id}");
        }
    }
}

#[test]
fn deployments_queue_and_wait_for_whoever_approves() {
    let workflows = workflows();
    for (name, environment) in [("deploy.yml", "staging"), ("deploy_production.yml", "production")]
    {
        let (_, workflow) = &workflows[name];
        assert!(!workflow.concurrency.cancel_in_progress, "{name}");
        for job in workflow.jobs.values() {
            assert_eq!(job.environment.as_deref(), Some(environment), "{name}");
        }
    }
    let on = |name: &str| serde_json::to_string(&workflows[name].1.on).unwrap();
    insta::assert_snapshot!(on("deploy.yml"), @r#"{"push":{"branches":["development"]}}"#);
    insta::assert_snapshot!(on("deploy_production.yml"), @r#"{"pull_request":{"branches":["main"],"types":["closed"]},"workflow_dispatch":null}"#);
}

#[test]
fn actions_are_pinned_and_say_which_version_that_is() {
    for (name, (text, workflow)) in workflows() {
        for step in workflow.jobs.into_values().flat_map(|job| job.steps) {
            let Some(uses) = step.uses else { continue };
            let (action, commit) = uses.split_once('@').unwrap();
            assert!(
                commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()),
                "{name}: {uses}"
            );
            let line = text.lines().find(|line| line.contains(&uses)).unwrap();
            assert!(line.contains(" # v"), "{name}: {line}");
            if action == "actions/checkout" {
                assert_eq!(step.with["persist-credentials"], Value::Bool(false), "{name}");
            }
        }
    }
}

#[test]
fn nothing_of_a_pull_request_is_executed_with_a_token_that_writes() {
    for (name, (_, workflow)) in workflows() {
        let on = serde_json::to_string(&workflow.on).unwrap();
        assert!(!on.contains("pull_request_target"), "{name}");
        let writes = workflow
            .jobs
            .values()
            .any(|job| job.permissions.values().any(|level| level == "write"));
        if writes {
            assert!(!on.contains("pull_request"), "{name}: {on}");
        }
        if on.contains("workflow_run") {
            let steps = workflow.jobs.values().flat_map(|job| &job.steps);
            for step in steps.filter(|step| step.uses.is_some()) {
                assert_eq!(
                    step.with["ref"], "${{ github.event.repository.default_branch }}",
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn what_the_browser_has_shown_is_kept() {
    let ci = &workflows()["ci.yml"].1.jobs["ci"];
    let kept: Vec<_> = ci.steps.iter().filter_map(|step| step.with.get("path")).collect();
    assert_eq!(kept, ["target/screenshots"]);
}

#[test]
fn who_decides_about_data_is_asked() {
    let owners = fs::read_to_string(root().join(".github/CODEOWNERS")).unwrap();
    for path in ["/data/", "/.github/", "/.ci/"] {
        let line = owners.lines().find(|line| line.split_whitespace().next() == Some(path));
        assert!(line.is_some_and(|line| line.contains('@')), "{path}");
    }
}
