//! A project whose programs are shell scripts, and an app that really listens.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use omnitool_environment::EnvironmentName;
use omnitool_pipeline::{
    Aftermath, App, Event, PROGRAMS, Plan, REQUIRED_DATA, RunReport, Serving, Settings, Sink,
    WriteJournalError,
};
use omnitool_testing::write_program;

use crate::{
    scene::{self, Scene, info},
    suite::World,
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
    pub(crate) serving: Serving,
    pub(crate) events: Vec<Event>,
    pub(crate) plan: Plan,
}

/// What a test holds that runs plans in its own process, and a suite whose runs have processes of their own.
///
/// There is one at a time: a process that another test starts has, for a moment, a copy of every open file, and a program
/// that is open for writing cannot be executed.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A project in a temporary folder. Its app is stopped when it is dropped.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    _alone: Option<MutexGuard<'static, ()>>,
    pub(crate) scene: Scene,
}

impl Project {
    pub(crate) fn staging() -> Self {
        Self::of(EnvironmentName::Staging)
    }

    pub(crate) fn of(environment: EnvironmentName) -> Self {
        let alone = alone();
        let mut project = Self::for_others(environment);
        project._alone = Some(alone);
        project
    }

    /// One in which only other processes run plans.
    pub(crate) fn for_others(environment: EnvironmentName) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        for file in REQUIRED_DATA {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), file).unwrap();
        }
        fs::create_dir_all(root.join("programs")).unwrap();
        let base_url = format!("http://127.0.0.1:{}", free_port()).parse().unwrap();
        let scene = Scene { environment, root, base_url, heroku: None };
        let project = Self { folder, _alone: None, scene };
        for program in PROGRAMS {
            project.program(program, &answer(&format!("{program} done")));
        }
        project.migrate(&format!("touch \"${{DATABASE_URL#sqlite:}}\"\n{}", answer("2 applied")));
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
        format!(
            "FAKE_APP_LISTEN=${{3:-127.0.0.1:$PORT}} exec {} --exact {name} --nocapture",
            test.display()
        )
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn environment(&self) -> PathBuf {
        self.scene.folder()
    }

    pub(crate) fn app(&self) -> App {
        App::new(&self.environment())
    }

    /// Writes a program that records its call in `calls`.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let file = self.root().join("programs").join(name);
        let calls = self.root().join("calls");
        write_program(&file, &format!("echo \"{name} $*\" >> {}\n{script}", calls.display()));
    }

    /// Writes a `migrate-db` that migrates with `script`.
    pub(crate) fn migrate(&self, script: &str) {
        let status = answer("2 applied, 0 pending");
        let script = format!("case \"$*\" in\n*--status*) {status};;\n*) {script};;\nesac");
        self.program("migrate-db", &script);
    }

    /// What was called since the last look.
    pub(crate) fn calls(&self) -> String {
        let file = self.root().join("calls");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        text.replace(&*self.root().to_string_lossy(), "/project")
            .replace(&self.scene.base_url.port().unwrap().to_string(), "PORT")
    }

    pub(crate) fn deploy(&self) -> Ran {
        self.deploy_until(&|| false)
    }

    pub(crate) fn deploy_until(&self, interrupted: &dyn Fn() -> bool) -> Ran {
        let plan = self.scene.plan(&self.scene.look(), Settings::default());
        let mut events = Events::default();
        let ran = self.scene.run(&plan, &info("run"), &mut events, interrupted);
        let scene::Ran { report, aftermath, serving } = ran;
        Ran { report, aftermath, serving, events: events.0, plan }
    }
}

impl World for Project {
    fn new(environment: EnvironmentName) -> Self {
        let project = Self::for_others(environment);
        project.remember();
        project
    }

    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn state(&self) -> String {
        let read = |file: &str| fs::read_to_string(self.root().join(file)).unwrap_or_default();
        let current = fs::read_link(self.environment().join("current"));
        let mut releases: Vec<String> = fs::read_dir(self.environment().join("releases"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        releases.sort();
        let backups = read("backups");
        let backups: Vec<&str> =
            backups.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        format!(
            "current {:?}\nserving {:?}\nreleases {releases:?}\nbackups {backups:?}\neffects {:?}\nconfig {}",
            current.ok(),
            self.app().running().unwrap().map(|app| app.release),
            read("effects").lines().collect::<Vec<_>>(),
            read(&format!(".omnitool/{}/config.json", self.scene.environment)).lines().count(),
        )
    }
}

impl Project {
    /// Gives the project programs that remember what they did, as the real ones do in the database and beside it.
    pub(crate) fn remember(&self) {
        self.remember_with("touch \"${DATABASE_URL#sqlite:}\"");
    }

    /// As [`remember`](Self::remember), where migrations begin with `begin`.
    pub(crate) fn remember_with(&self, begin: &str) {
        let effects = self.root().join("effects");
        let once = |effect: &str| {
            let line = format!("{effect} $OMNITOOL_RELEASE");
            let file = effects.display();
            let write = format!("grep -qs \"^{line}$\" {file} || echo \"{line}\" >> {file}");
            // A run that is killed now leaves the program behind, which goes on beside the one of the next run.
            format!("echo getting ready >&2; sleep 0.1; (flock 9; {write}) 9>> {file}.lock")
        };
        self.migrate(&format!("{begin}\n{}\n{}", once("migrated"), answer("1 applied")));
        let import = format!("{}\n{}", once("imported"), answer("imported"));
        self.program("import-tool-access", &import);
        let backups = self.root().join("backups");
        fs::write(&backups, "").unwrap();
        self.program("backup-database", &BACKUPS.replace("FILE", &backups.to_string_lossy()));
    }
}

/// A `backup-database` that keeps a list of backups.
const BACKUPS: &str = r#"case "$*" in
*capture*)
  echo getting ready >&2
  sleep 0.1
  exec 9>> FILE.lock
  flock 9
  id=$(printf b%03d $(($(grep -c . FILE) + 1)))
  echo "$id $7 $(date -u +%Y-%m-%dT%H:%M:%SZ)" >> FILE
  echo "{\"summary\":\"backup $id\",\"id\":\"$id\"}";;
*list*)
  printf '{"summary":"backups","backups":['
  separator=
  while read -r id release at; do
    printf '%s{"id":"%s","kind":"before-deploy","release":"%s","created_at":"%s","verified":{}}' "$separator" $id $release $at
    separator=,
  done < FILE
  echo ']}';;
*) echo '{"summary":"pruned"}';;
esac"#;

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
