//! A project whose programs are shell scripts, and an app that really listens.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use omnitool_environment::{DatabaseUrl, EnvironmentName, Platform as PlatformName};
use omnitool_pipeline::{
    Aftermath, App, ArtifactSource, Event, Executor, LocalPlatform, PROGRAMS, Plan, Platform as _,
    REQUIRED_DATA, ReleaseId, RunInfo, RunReport, Sink, Site, StagingOptions, WriteJournalError,
    run,
};

/// The app of the fake programs: this test binary, told to be the app by a variable. As a test it does nothing.
#[test]
fn is_the_app_where_a_script_says_so() {
    let Ok(listen) = std::env::var("FAKE_APP_LISTEN") else { return };
    let listener = TcpListener::bind(listen).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut request = [0; 1];
            let _ = stream.unwrap().read(&mut request);
        }
    });
    // Somebody stops it long before; a test that fails to must not leave it behind for ever.
    std::thread::sleep(Duration::from_secs(120));
}

/// Keeps all events.
#[derive(Default)]
pub(crate) struct Events(pub(crate) Vec<Event>);

impl Sink for Events {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        self.0.push(event.clone());
        Ok(())
    }
}

/// What a run left behind.
pub(crate) struct Ran {
    pub(crate) report: RunReport,
    pub(crate) aftermath: Aftermath,
    pub(crate) serving: Option<ReleaseId>,
    pub(crate) events: Vec<Event>,
    pub(crate) plan: Plan,
}

/// A project in a temporary folder. Its app is stopped when it is dropped.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    pub(crate) site: Site,
}

impl Project {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        for file in REQUIRED_DATA {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), file).unwrap();
        }
        fs::create_dir_all(root.join("programs")).unwrap();
        let port = free_port();
        let site = Site {
            environment: EnvironmentName::Staging,
            platform: PlatformName::Local,
            base_url: format!("http://127.0.0.1:{port}").parse().unwrap(),
            database_url: DatabaseUrl::sqlite(&root.join(".omnitool/staging/omnitool.db")),
            root,
        };
        let project = Self { folder, site };
        for program in PROGRAMS {
            project.program(program, &answer(&format!("{program} done")));
        }
        project.program(
            "migrate-db",
            &format!("touch \"${{DATABASE_URL#sqlite:}}\"\n{}", answer("2 applied")),
        );
        project.program("backup-database", r#"echo '{"summary":"backup b001","id":"b001"}'"#);
        project.program("omnitool", &project.omnitool(&project.serve()));
        project
    }

    /// The script of an `omnitool` that serves with `serve`.
    pub(crate) fn omnitool(&self, serve: &str) -> String {
        let users = r#"echo '{"summary":"made 1 user","users":[{"username":"ann","password":"hunter2","is_admin":true}]}'"#;
        format!(
            "case $1 in\nserve) {serve};;\ncreate-user) {users};;\n*) {};;\nesac",
            answer("checked")
        )
    }

    /// The script that becomes an app which listens.
    pub(crate) fn serve(&self) -> String {
        let test = std::env::current_exe().unwrap();
        let name = "fake::is_the_app_where_a_script_says_so";
        format!("FAKE_APP_LISTEN=$3 exec {} --exact {name} --nocapture", test.display())
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn environment(&self) -> PathBuf {
        self.root().join(".omnitool/staging")
    }

    pub(crate) fn app(&self) -> App {
        App::new(&self.environment())
    }

    /// Writes a program that records its call in `calls`.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let file = self.root().join("programs").join(name);
        let calls = self.root().join("calls");
        let text = format!("#!/bin/sh\necho \"{name} $*\" >> {}\n{script}\n", calls.display());
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What was called since the last look.
    pub(crate) fn calls(&self) -> String {
        let file = self.root().join("calls");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        text.replace(&*self.root().to_string_lossy(), "/project")
            .replace(&self.site.base_url.port().unwrap().to_string(), "PORT")
    }

    pub(crate) fn deploy(&self) -> Ran {
        self.deploy_until(&|| false)
    }

    pub(crate) fn deploy_until(&self, interrupted: &dyn Fn() -> bool) -> Ran {
        fs::create_dir_all(self.environment()).unwrap();
        let mut platform = LocalPlatform::new(&self.site).unwrap();
        let situation = platform.look().unwrap();
        let options = StagingOptions { tests: None, build: None };
        let plan = Plan::staging(&self.site, &situation, options);
        let source = ArtifactSource {
            programs: self.root().join("programs"),
            root: self.root().to_owned(),
            revision: None,
        };
        let artifacts = self.root().join(".omnitool/artifacts");
        let mut executor = Executor::new(&plan, "run", &mut platform, source, artifacts);
        let mut events = Events::default();
        let info = RunInfo { run: "run".to_owned(), user: "ann".to_owned() };
        let report = run(&plan, &info, &mut executor, &mut events, interrupted);
        let (aftermath, serving) = executor.finish();
        Ran { report, aftermath, serving, events: events.0, plan }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Ok(Some(running)) = self.app().running() {
            self.app().stop(&running).unwrap();
        }
    }
}

/// A port that nobody uses, below those that the system gives to outgoing connections and to other tests.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id().wrapping_mul(97) + next) % 20_000;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A script that answers with `summary`.
pub(crate) fn answer(summary: &str) -> String {
    format!("echo '{{\"summary\":\"{summary}\"}}'")
}

/// Waits until `condition` holds.
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}
