//! `cargo xtask deployments`.

use crate::project::{Project, stderr, stdout};

fn runs(project: &Project) -> Vec<serde_json::Value> {
    let output = project.xtask(&["deployments", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let listing: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    listing["runs"].as_array().unwrap().clone()
}

#[test]
fn runs_are_listed_shown_and_compared() {
    let project = Project::with_scripts();
    assert!(runs(&project).is_empty());
    project.deploy(&[]);
    project.program("verify-migration", "echo '{\"summary\":\"1 of 8 checks failed\"}'; exit 1");
    project.deploy(&[]);
    let listed = runs(&project);
    let ids: Vec<&str> = listed.iter().map(|run| run["run"].as_str().unwrap()).collect();
    assert_eq!(listed[0]["state"], "failed");
    assert_eq!(listed[1]["state"], "done");
    assert_eq!(listed[0]["backup"], "b001");

    let output = project.xtask(&["deployments"]);
    let text = stdout(&output);
    assert!(text.starts_with("2 runs\n"), "{text}");
    assert!(text.contains("failed in verify") && text.contains("ann"), "{text}");

    let output = project.xtask(&["deployments", "show", ids[0]]);
    let text = stdout(&output);
    assert!(text.contains("state        failed in verify"), "{text}");
    assert!(text.contains("release      0002, over release 0001"), "{text}");
    assert!(text.contains("skipped  tests"), "{text}");
    assert!(text.contains("-        smoke"), "{text}");

    let output = project.xtask(&["deployments", "diff", ids[1], ids[0]]);
    let text = stdout(&output);
    assert!(text.contains("state\n  - done\n  + failed in verify\n"), "{text}");
    assert!(text.contains("release\n  - 0001\n  + 0002\n"), "{text}");
    assert!(!text.contains("environment\n"), "{text}");

    let named = |run: &str| stdout(&project.xtask(&["deployments", "show", run]));
    assert_eq!((named("newest"), named("newest~1")), (named(ids[0]), named(ids[1])));
    let output = project.xtask(&["deployments", "show", "newest~2"]);
    assert!(stderr(&output).contains("there is no run newest~2"), "{}", stderr(&output));

    let output = project.xtask(&["deployments", "show", "nope", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains(r#""kind": "refused""#), "{}", stdout(&output));
}

#[test]
fn a_run_that_is_running_is_shown_as_far_as_it_is() {
    let project = Project::with_scripts();
    let marker = project.root().join("state");
    project.migrate(&format!("touch {}; while :; do sleep 0.01; done", marker.display()));
    let seen = std::cell::OnceCell::new();
    project.interrupt(&["deploy-staging"], || {
        marker.exists() && {
            seen.get_or_init(|| stdout(&project.xtask(&["deployments"])));
            true
        }
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.contains("running in release"), "{seen}");
    project.write(".omnitool/staging/runs/bad.jsonl", "{}\n");
    let text = stdout(&project.xtask(&["deployments", "--env", "staging"]));
    assert!(text.contains("failed in release"), "{text}");
    assert!(text.contains("bad.jsonl cannot be read"), "{text}");
    assert!(stdout(&project.xtask(&["deployments", "--env", "production"])).starts_with("0 runs"));
}
