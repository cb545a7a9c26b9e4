//! The page that a deployment leaves: looked at as people do, on the screen and on paper.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::PathBuf};

use omnitool_testing::{CommandOutput, TestProject};

use crate::{
    accessibility,
    chrome::{Chrome, NARROWEST, PHONE, Scheme},
    program,
};

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

/// A working copy with the real programs, whose staging is deployed to on this machine.
struct WorkingCopy {
    project: TestProject,
}

impl WorkingCopy {
    fn new() -> Self {
        let copy = Self { project: TestProject::new() };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let section = |name: &str| {
            format!(
                "[{name}]\ndatabase_url = \"sqlite:.omnitool/staging/omnitool.db\"\n\
                 base_url = \"http://127.0.0.1:{port}\"\n"
            )
        };
        let environments = section("local") + &section("staging.local");
        copy.project.write("data/environments.toml", environments);
        for name in PROGRAMS {
            copy.set_program(name, &format!("exec {} \"$@\"", program(name).display()));
        }
        copy
    }

    /// Scripts are packed into the artifact faster than programs with debugging symbols.
    fn set_program(&self, name: &str, script: &str) {
        let file =
            self.project.write(&format!("programs/{name}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn xtask(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.project.command(program("xtask"));
        command.args(arguments).arg("--root").arg(self.project.path());
        self.project.output(command)
    }

    fn deploy(&self) -> CommandOutput {
        let programs = self.project.path().join("programs");
        self.xtask(&["deploy-staging", "--programs", programs.to_str().unwrap()])
    }

    fn runs(&self) -> PathBuf {
        self.project.path().join(".omnitool/staging/runs")
    }

    /// The page of the newest run, as an address below its folder.
    fn page(&self) -> String {
        let names = fs::read_dir(self.runs()).unwrap().map(|entry| entry.unwrap().file_name());
        let pages = names.map(|name| name.into_string().unwrap());
        format!("/{}", pages.filter(|name| name.ends_with(".html")).max().unwrap())
    }
}

impl Drop for WorkingCopy {
    fn drop(&mut self) {
        let _ = self.xtask(&["stop", "staging"]);
    }
}

/// What is wrong with the page in front of the visitor: in light, in the dark, on a phone.
async fn problems(chrome: &Chrome, name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (scheme, look) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
        chrome.prefer(scheme).await;
        if chrome.ground_is_dark().await != (scheme == Scheme::Dark) {
            problems.push(format!("{name} is not {look}"));
        }
        problems.extend(accessibility::violations(chrome).await);
        chrome.keep_screenshot(&format!("{name}-{look}")).await;
    }
    chrome.prefer(Scheme::Light).await;
    for screen in [NARROWEST, PHONE] {
        chrome.hold(Some(screen)).await;
        // The drawing and the table may be scrolled in themselves.
        let (pixels, elements) = chrome.overflow().await;
        if pixels > 0 {
            problems.push(format!("{name} is {pixels} pixels too wide for a phone: {elements}"));
        }
    }
    chrome.keep_screenshot(&format!("{name}-phone")).await;
    chrome.hold(None).await;
    problems
}

/// How many marks a picture has, and whether each is to be seen.
async fn marks(chrome: &Chrome, selector: &str) -> (usize, bool) {
    let script = "
        const marks = [...document.querySelectorAll(arguments[0])].map((mark) => mark.getBoundingClientRect());
        return [marks.length, marks.every((mark) => mark.width > 0 && mark.height > 0)];";
    let found = chrome.run(script, vec![selector.into()]).await;
    (usize::try_from(found[0].as_u64().unwrap()).unwrap(), found[1].as_bool().unwrap())
}

/// Lets the browser print the page, and keeps what it prints.
async fn pages_on_paper(chrome: &Chrome, name: &str) -> usize {
    let pdf = chrome.print().await;
    assert!(pdf.starts_with(b"%PDF-"), "{name} is no PDF");
    chrome.keep(&format!("{name}.pdf"), &pdf);
    let count = |text: &[u8]| pdf.windows(text.len()).filter(|window| *window == text).count();
    count(b"/Type /Page\n") + count(b"/Type/Page/")
}

#[tokio::test]
async fn a_deployment_leaves_a_page_for_the_screen_and_for_paper() {
    let copy = WorkingCopy::new();
    copy.deploy().success();
    let base = format!("file://{}", copy.runs().canonicalize().unwrap().display());
    let chrome = Chrome::start(&base).await;
    chrome.open(&copy.page()).await;
    assert_eq!(chrome.heading().await, "Release 0001 to staging");
    // Every step that took its time has a bar in the drawing.
    let (bars, seen) = marks(&chrome, "svg.timeline .bar").await;
    assert!(bars >= 6 && seen, "{bars} bars, all of them to be seen: {seen}");
    // Users by tools, with what the import changed.
    let (signs, seen) = marks(&chrome, "table.matrix tbody .sign").await;
    assert!(signs > 0 && seen, "{signs} changes, all of them to be seen: {seen}");
    let content = chrome.content().await;
    for text in ["Timeline", "Invoice Generator", "user_a", "checks passed"] {
        assert!(content.contains(text), "no {text:?} in\n{content}");
    }
    // It needs nothing but itself, so that it can be sent to anybody.
    let loaded = "return performance.getEntriesByType('resource').map((entry) => entry.name)";
    assert_eq!(chrome.run(loaded, Vec::new()).await, serde_json::json!([]));
    assert_eq!(problems(&chrome, "report").await, [""; 0]);
    assert!((1..=8).contains(&pages_on_paper(&chrome, "report").await));

    // One that fails says so first, with the ways back.
    let fails = "echo '{\"status\":\"failed\",\"summary\":\"1 of 12 checks failed\"}'; exit 1";
    copy.set_program("verify-migration", fails);
    copy.deploy().failure(1);
    chrome.open(&copy.page()).await;
    assert_eq!(chrome.heading().await, "Release 0002 to staging");
    let (callouts, seen) = marks(&chrome, ".callout.failed").await;
    assert!(callouts > 0 && seen);
    assert_eq!(marks(&chrome, "svg.timeline .bar.failed").await, (1, true));
    let content = chrome.content().await;
    for text in ["rollback-migration -- --env staging --backup b001", "1 of 12 checks failed"] {
        assert!(content.contains(text), "no {text:?} in\n{content}");
    }
    assert_eq!(problems(&chrome, "report-failed").await, [""; 0]);
    pages_on_paper(&chrome, "report-failed").await;
    chrome.close().await;
}
