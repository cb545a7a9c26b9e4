//! What GitHub Actions shows of a run.

use omnitool_pipeline::{annotations, step_summary};

use crate::html::journal;

#[test]
fn a_failed_run_is_summed_up_with_the_way_back() {
    insta::assert_snapshot!(step_summary(&journal("failed")));
}

#[test]
fn texts_of_programs_and_names_are_no_markdown() {
    let text = step_summary(&journal("warned"));
    assert!(text.starts_with("## ⚠️ Release 0002 to staging: done, with warnings\n"), "{text}");
    let rows = text.lines().filter(|line| line.starts_with("| ")).count();
    assert_eq!(rows, 13, "{text}");
    assert!(!text.contains("<script"), "{text}");
}

#[test]
fn what_failed_and_what_warned_is_annotated() {
    insta::assert_snapshot!(annotations(&journal("failed")), @"::error title=Release 0002 to production%3A stopped in verify::verify-migration failed: 1 of 8 checks failed:%0Atool-definitions: Missing: Invoice Generator. Extra: Old Calculator");
    insta::assert_snapshot!(annotations(&journal("warned")), @"::warning title=Release 0002 to staging%3A verify warns::default-tools: 2 users lack 1 default tool");
    assert_eq!(annotations(&journal("killed")), "");
}
