//! `cargo xtask dist`.

use std::{fs, process::Command};

use crate::project::{Project, stderr, stdout};

/// Packs the project's programs into the folder `out`.
fn dist(project: &Project, arguments: &[&str]) -> std::process::Output {
    let programs = project.root().join("programs");
    let out = project.root().join("out");
    let common =
        ["dist", "--programs", programs.to_str().unwrap(), "--output", out.to_str().unwrap()];
    project.xtask(&[&common, arguments].concat())
}

#[test]
fn the_artifact_has_programs_and_data_and_a_hash_that_others_can_check() {
    let project = Project::with_scripts();
    let output = dist(&project, &["--format", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let packed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = packed["file"].as_str().unwrap();

    let checked = Command::new("sha256sum")
        .args(["--check", &format!("{file}.sha256")])
        .current_dir(project.root().join("out"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));

    let listed = Command::new("tar").args(["--list", "--file", file]).output().unwrap();
    let listed = stdout(&listed);
    for name in ["bin/migrate-db", "bin/omnitool", "data/tools.toml", "artifact.json"] {
        assert!(listed.lines().any(|line| line == name), "{name} is not in\n{listed}");
    }
}

#[test]
fn the_same_input_makes_the_same_artifact_and_is_packed_once() {
    let project = Project::with_scripts();
    let first = stdout(&dist(&project, &[]));
    let second = stdout(&dist(&project, &[]));
    assert!(first.starts_with("artifact packed: out/omnitool-"), "{first}");
    assert_eq!(second, first.replace("artifact packed", "artifact unchanged since it was packed"));
}

#[test]
fn without_what_a_release_needs_nothing_is_packed() {
    let project = Project::with_scripts();
    fs::remove_file(project.root().join("data/tools.toml")).unwrap();
    let output = dist(&project, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("data/tools.toml is missing"), "{}", stderr(&output));
    assert!(!project.root().join("out").exists());
}
