//! The report of a run as a page.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use omnitool_pipeline::{Record, read_journal, render_html, write_report};

use crate::fake::Project;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/journals").join(name)
}

pub(crate) fn journal(name: &str) -> Vec<Record> {
    read_journal(&file(&format!("{name}.jsonl"))).unwrap()
}

/// The page, one element per line, without its styles.
fn readable(page: &str) -> String {
    let (before, rest) = page.split_once("<style>").unwrap();
    let (_, after) = rest.split_once("</style>").unwrap();
    let blocks = [
        "<header", "<div", "<section", "<tr", "<td", "<th", "<dt", "<g>", "<li", "<p", "<h2",
        "<svg", "<meta",
    ];
    let whole = format!("{before}{after}");
    blocks.iter().fold(whole, |text, block| text.replace(block, &format!("\n{block}")))
}

#[test]
fn a_run_with_warnings_shows_everything_about_it() {
    let page = render_html(&journal("warned"));
    insta::assert_snapshot!("warned", readable(&page));
}

#[test]
fn a_failed_run_shows_what_failed_first_and_the_way_back() {
    let page = render_html(&journal("failed"));
    insta::assert_snapshot!("failed", readable(&page));
}

#[test]
fn a_run_that_was_killed_says_so_and_what_it_had_begun() {
    let page = render_html(&journal("killed"));
    for part in
        ["The journal ends before the run does", "not finished", "not reached", "--backup b007"]
    {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn nothing_in_a_page_is_loaded_or_run() {
    for name in ["warned", "failed", "killed"] {
        let page = render_html(&journal(name));
        for part in [
            "<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "onload",
            "http://", "https://",
        ] {
            assert!(!page.contains(part), "{name}: {part}");
        }
        assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'"));
    }
    let page = render_html(&journal("warned"));
    assert!(page.contains("o'brien &lt;script&gt;alert(1)&lt;/script&gt;"), "escaped");
}

#[test]
fn a_report_is_written_beside_its_journal_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("run.jsonl");
    fs::copy(file("warned.jsonl"), &journal).unwrap();
    for _ in 0..2 {
        let report = write_report(&journal).unwrap();
        assert_eq!(report, folder.path().join("run.html"));
        assert_eq!(fs::metadata(&report).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&report).unwrap().ends_with("</html>"));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_file_that_is_no_journal_gives_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("run.jsonl");
    fs::write(&journal, "{}\n").unwrap();
    let error = write_report(&journal).unwrap_err();
    assert!(error.to_string().contains("cannot understand line 1"), "{error}");
    assert!(!folder.path().join("run.html").exists());
}

#[test]
fn what_programs_answer_gets_into_the_report_also_where_they_fail() {
    let project = Project::staging();
    let added = r#"{"summary":"added 1 grant","mode":"merge","added":{"grants":1},"additions":[{"tool":"Inventory","user":"ann","fact":"grant"}]}"#;
    project.program("import-tool-access", &format!("echo '{added}'"));
    let checks = r#"{"summary":"1 check failed","checks":[{"id":"tools","name":"Tools match","outcome":"failed","message":"Missing: A","repair":"sync-tools"}]}"#;
    project.program("verify-migration", &format!("echo '{checks}'\nexit 1"));
    let at = "2026-11-24T09:30:00.000Z".to_owned();
    let events = project.deploy().events.into_iter();
    let records: Vec<Record> = events.map(|event| Record { at: at.clone(), event }).collect();
    let page = render_html(&records);
    for part in ["Missing: A", "Tools match", "sync-tools", "Inventory", "may use it now"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("hunter2"), "a password of the demo users");
}
