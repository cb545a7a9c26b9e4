//! Who is told of a deployment: GitHub, webhooks, and whoever opens its page.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    thread,
};

use crate::project::{Project, stderr, stdout};

/// The page of the only run.
fn page(project: &Project) -> std::path::PathBuf {
    let folder = project.root().join(".omnitool/staging/runs");
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.find(|file| file.extension().is_some_and(|extension| extension == "html")).unwrap()
}

#[test]
fn a_page_is_beside_the_journal() {
    let project = Project::with_scripts();
    let output = project.deploy(&[]);
    assert!(
        stdout(&output).contains("  report     .omnitool/staging/runs/"),
        "{}",
        stdout(&output)
    );
    let page = page(&project);
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(page).unwrap();
    assert!(text.contains("Release 0001 to staging") && text.contains("18 facts added"), "{text}");
    assert!(!text.contains("hunter2"), "a password of the demo users");
    // Nobody else asked to be told.
    assert!(!stdout(&output).contains("::"), "{}", stdout(&output));
}

#[test]
fn github_gets_a_summary_annotations_and_what_to_hide() {
    let project = Project::with_scripts();
    let evil = "echo '{\"summary\":\"::error::not ours\"}'";
    project.program("import-tool-access", evil);
    project.program("verify-migration", "echo '{\"summary\":\"1 of 8 checks failed\"}'; exit 1");
    let summary = project.root().join("summary.md");
    fs::write(&summary, "# from a step before\n").unwrap();
    let webhook = "https://hooks.example.com/s3cr3t";
    let output = project.deploy_with(&[
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
        // Not valid, so that nobody outside of this machine is asked for.
        ("OMNITOOL_SLACK_WEBHOOK", &webhook.replace("https", "gopher")),
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    // Each secret once, in the line that hides it.
    let masks: Vec<&str> = text.lines().filter(|line| line.starts_with("::add-mask::")).collect();
    assert!(masks.contains(&"::add-mask::gopher://hooks.example.com/s3cr3t"), "{masks:?}");
    assert_eq!(text.matches("hooks.example.com").count(), 1, "{text}");
    // Between these lines nothing is a command to GitHub.
    let stop = text.lines().find_map(|line| line.strip_prefix("::stop-commands::")).unwrap();
    let (_, after) = text.split_once(&format!("\n::{stop}::\n")).unwrap();
    assert!(!after.contains("\n::error::not ours"), "{after}");
    let error = "::error title=Release 0001 to staging%3A stopped in verify::verify-migration failed: 1 of 8";
    assert!(after.contains(error), "{after}");
    assert!(after.contains("::warning::the Slack webhook is not an https:// address"), "{after}");
    let summary = fs::read_to_string(summary).unwrap();
    assert!(
        summary.starts_with("# from a step before\n## ❌ Release 0001 to staging: failed\n"),
        "{summary}"
    );
    assert!(!summary.contains("hunter"), "{summary}");
}

#[test]
fn a_webhook_is_told_and_one_that_fails_is_a_note() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/s3cr3t", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut heard = String::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            while !heard.trim_end().ends_with('}') {
                let read = stream.read(&mut buffer).unwrap();
                heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            heard.push('\n');
            stream
                .write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
            heard.push('.');
        }
        heard
    });
    let project = Project::with_scripts();
    let output = project.deploy_with(&[("OMNITOOL_WEBHOOK", &url)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let heard = server.join().unwrap();
    assert!(
        heard.contains(r#""occasion": "started""#) && heard.contains(r#""occasion": "succeeded""#),
        "{heard}"
    );
    let text = stdout(&output);
    let note = "  note       the JSON webhook was not told that the run succeeded: it answered with status 500\n";
    assert!(text.contains(note), "{text}");
    let app = project.read(".omnitool/staging/app.json");
    for written in
        [text, stderr(&output), project.journal(), fs::read_to_string(page(&project)).unwrap(), app]
    {
        assert!(!written.contains("s3cr3t"), "{written}");
    }
}
