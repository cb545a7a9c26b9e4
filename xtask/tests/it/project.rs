//! A project in a temporary folder, with programs that are scripts or real.

use std::{
    ffi::OsStr,
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use omnitool_testing::write_program;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// The app of the scripts: this test binary, told to be the app by a variable. As a test it does nothing.
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

/// A project. Its apps are stopped when it is dropped.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    programs: PathBuf,
    pub(crate) port: u16,
    pub(crate) production_port: u16,
    /// What `cargo xtask` gets besides.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// What the scripts say of backups.
const BACKUPS: &str = r#"case "$*" in
*list*) echo '{"summary":"1 backup","backups":[{"id":"b001","kind":"before-deploy","release":"0001","created_at":"2026-01-01T00:00:00Z","verified":{}}]}';;
*) echo '{"summary":"backup b001 of 1 kB","id":"b001"}';;
esac"#;
const ROLLBACK: &str = r#"{"summary":"restored b001","plan":{"target":{"label":"b001","release":"0002","pending_migrations":1},"losses":[{"table":"users","now":5,"then":3}],"minutes_since":7}}"#;

impl Project {
    /// A project whose programs are scripts that answer as programs do.
    pub(crate) fn with_scripts() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        let (port, production_port) = (free_port(), free_port());
        let variables = Vec::new();
        let project = Self { programs, port, production_port, folder, variables };
        fs::create_dir_all(&project.programs).unwrap();
        for file in ["data/tools.toml", "data/tool_access_exports/local_tool_access.json"] {
            project.write(file, "shipped");
        }
        project.write_environments();
        for (program, summary) in [
            ("import-tool-access", "18 facts added"),
            ("smoke-tests", "6 of 6 passed"),
            ("sync-tools", "nothing to change"),
            ("verify-migration", "8 of 8 checks passed"),
        ] {
            project.program(program, &answer(summary));
        }
        let touch = "touch \"${DATABASE_URL#sqlite:}\"";
        project.migrate(&format!("{touch}\n{}", answer("6 migrations applied")));
        project.program("backup-database", BACKUPS);
        project.program("rollback-migration", &format!("echo '{ROLLBACK}'"));
        project.program("omnitool", &project.omnitool(&project.serve()));
        project
    }

    /// A copy of this project's data, with the programs that are built beside `xtask`.
    pub(crate) fn with_real_programs() -> Self {
        let programs = Path::new(XTASK).parent().unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let (port, production_port) = (free_port(), free_port());
        let variables = Vec::new();
        let project = Self { programs, port, production_port, folder, variables };
        project.write_shipped_data();
        project.write_environments();
        project
    }

    /// A project with this working copy's data, whose programs are scripts that run the real ones: they are packed faster
    /// than programs with debugging symbols.
    pub(crate) fn with_stand_ins() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        let (port, production_port) = (free_port(), free_port());
        let variables = Vec::new();
        let project = Self { programs, port, production_port, folder, variables };
        for program in omnitool_pipeline::PROGRAMS {
            let real = Path::new(XTASK).with_file_name(program);
            assert!(real.is_file(), "run `cargo build --workspace --bins` first");
            project.program(program, &format!("exec {} \"$@\"", real.display()));
        }
        project.write_shipped_data();
        project.write_environments();
        project
    }

    fn write_shipped_data(&self) {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
        for file in ["tools.toml", "tool_access_exports/local_tool_access.json"] {
            self.write(&format!("data/{file}"), &fs::read_to_string(data.join(file)).unwrap());
        }
    }

    fn write_environments(&self) {
        let mut text = String::new();
        for (section, name, port) in [
            ("local", "local", self.port),
            ("staging.local", "staging", self.port),
            ("production.local", "production", self.production_port),
        ] {
            text.push_str(&format!(
                "[{section}]\ndatabase_url = \"sqlite:.omnitool/{name}/omnitool.db\"\n\
                 base_url = \"http://127.0.0.1:{port}\"\n\n"
            ));
        }
        self.write("data/environments.toml", &text);
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let file = self.root().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).unwrap()
    }

    /// Writes a program.
    pub(crate) fn program(&self, name: &str, script: &str) {
        write_program(&self.programs.join(name), script);
    }

    /// Writes a `migrate-db` that migrates with `script`.
    pub(crate) fn migrate(&self, script: &str) {
        let status = answer("6 applied, 0 pending");
        let down = "echo 'Will revert: 2026_phone'; echo 'Will be lost: 3 phone numbers'; exit 1";
        let script = format!(
            "case \"$*\" in\n*--status*) {status};;\n*--confirm*) {};;\n*--down*) {down};;\n*) {script};;\nesac",
            answer("1 migration reverted")
        );
        self.program("migrate-db", &script);
    }

    /// The script of an `omnitool` that serves with `serve`.
    pub(crate) fn omnitool(&self, serve: &str) -> String {
        let made = r#"{"summary":"made 2 users","users":[{"username":"admin","password":"hunter2","is_admin":true},{"username":"user_a","password":"hunter3","is_admin":false}]}"#;
        let refused = r#"{"status":"failed","kind":"refused","error":"the database has users","causes":[],"hint":null}"#;
        let marker = self.root().join("users");
        format!(
            "case $1 in\nserve) {serve};;\ncreate-user) if [ -e {0} ]; then echo '{refused}'; exit 1; fi\n\
             touch {0}; echo '{made}';;\n*) {1};;\nesac",
            marker.display(),
            answer("ready to serve")
        )
    }

    /// The script that becomes an app which listens.
    pub(crate) fn serve(&self) -> String {
        let test = std::env::current_exe().unwrap();
        let name = "project::is_the_app_where_a_script_says_so";
        let listen = "${3:-127.0.0.1:$PORT}";
        format!("FAKE_APP_LISTEN={listen} exec {} --exact {name} --nocapture", test.display())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(XTASK);
        command.args(arguments).current_dir("/").stdin(Stdio::null());
        if !arguments.contains(&"--root") {
            command.arg("--root").arg(self.root());
        }
        // Nothing of whoever runs the tests may decide what they do.
        for name in [
            "DATABASE_URL",
            "OMNITOOL_ENV",
            "OMNITOOL_PLATFORM",
            "RUST_LOG",
            "GITHUB_ACTIONS",
            "GITHUB_STEP_SUMMARY",
            "HEROKU_API_KEY",
            "HEROKU_HOST",
            "HEROKU_DATA_HOST",
            "HEROKU_CA_FILE",
        ] {
            command.env_remove(name);
        }
        command.env("USER", "ann").env("NO_COLOR", "1").env("COLUMNS", "100");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Whether the programs of a whole deployment are there.
    pub(crate) fn has_programs(&self) -> bool {
        let needed =
            ["backup-database", "import-tool-access", "migrate-db", "omnitool", "smoke-tests"];
        needed.iter().all(|program| self.programs.join(program).is_file())
    }

    /// Runs `cargo xtask` with these arguments and variables.
    pub(crate) fn xtask_with<V: AsRef<OsStr> + Clone>(
        &self,
        arguments: &[&str],
        variables: &[(&str, V)],
    ) -> Output {
        self.command(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value.as_ref())))
            .output()
            .unwrap()
    }

    /// Runs `cargo xtask` with these arguments.
    pub(crate) fn xtask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn with_programs<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let programs = ["--programs", self.programs.to_str().unwrap()];
        arguments.iter().copied().chain(programs).collect()
    }

    /// Deploys to staging with these variables.
    pub(crate) fn deploy_with(&self, variables: &[(&str, &str)]) -> Output {
        let arguments = self.with_programs(&["deploy-staging"]);
        self.command(&arguments).envs(variables.iter().copied()).output().unwrap()
    }

    /// Deploys to staging.
    pub(crate) fn deploy(&self, arguments: &[&str]) -> Output {
        let all: Vec<&str> = ["deploy-staging"].iter().chain(arguments).copied().collect();
        self.xtask(&self.with_programs(&all))
    }

    /// Writes a hook.
    pub(crate) fn hook(&self, name: &str, script: &str) {
        write_program(&self.root().join(".omnitool/hooks").join(name), script);
    }

    /// Starts a command with the project's programs; production takes none.
    pub(crate) fn spawn(&self, arguments: &[&str], stdout: Stdio) -> Child {
        let arguments = match arguments.first() {
            Some(&"deploy-production") => arguments.to_vec(),
            _ => self.with_programs(arguments),
        };
        self.command(&arguments).stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command in a process group of its own, interrupts the group once `ready`, and waits.
    pub(crate) fn interrupt(&self, arguments: &[&str], ready: impl Fn() -> bool) -> Output {
        let child = self
            .command(&self.with_programs(arguments))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        eventually(ready);
        // As the terminal does: every process of the foreground group gets the signal.
        let group = format!("-{}", child.id());
        assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
        child.wait_with_output().unwrap()
    }

    pub(crate) fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// Makes the project a git working copy, with everything committed to `main`.
    pub(crate) fn init_git(&self) {
        let ignored = "/.omnitool/*\n!/.omnitool/hooks\n/programs\n/data/backups\n/state\n/users\n";
        self.write(".gitignore", ignored);
        self.git(&["init", "--quiet", "--initial-branch", "main"]);
        self.commit("Begin");
    }

    /// Commits everything.
    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
    }

    /// Runs git, and returns what it prints.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.root()).args(arguments);
        for (name, value) in [
            ("GIT_AUTHOR_NAME", "Ann"),
            ("GIT_AUTHOR_EMAIL", "ann@example.com"),
            ("GIT_COMMITTER_NAME", "Ann"),
            ("GIT_COMMITTER_EMAIL", "ann@example.com"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ] {
            command.env(name, value);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    }

    /// Deploys to production, with the confirmation.
    pub(crate) fn deploy_production(&self, arguments: &[&str]) -> Output {
        let confirmed = ["deploy-production", "--confirm", "DEPLOY PRODUCTION"];
        self.xtask(&confirmed.iter().chain(arguments).copied().collect::<Vec<_>>())
    }

    /// The only journal, or the newest one.
    pub(crate) fn journal(&self) -> String {
        self.journal_of("staging")
    }

    /// The only journal of an environment, or the newest one.
    pub(crate) fn journal_of(&self, environment: &str) -> String {
        let folder = self.root().join(".omnitool").join(environment).join("runs");
        // Not by name, which is a second and a process: tests begin several runs in one second.
        let newest = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "jsonl"))
            .max_by_key(|entry| entry.metadata().unwrap().modified().unwrap());
        fs::read_to_string(newest.unwrap().path()).unwrap()
    }

    /// `text` without what differs from run to run.
    pub(crate) fn normal(&self, text: &str) -> String {
        let text = text
            .replace(self.programs.to_str().unwrap(), "PROGRAMS")
            .replace(fs::canonicalize(self.root()).unwrap().to_str().unwrap(), "ROOT")
            .replace(&format!("127.0.0.1:{}", self.port), "127.0.0.1:PORT")
            .replace(&format!("127.0.0.1:{}", self.production_port), "127.0.0.1:PRODUCTION")
            .replace(&format!("PORT={} ", self.production_port), "PORT=PRODUCTION ");
        let mut normal = String::new();
        for line in text.lines() {
            let words: Vec<String> = line.split(' ').map(normal_word).collect();
            normal.push_str(&words.join(" "));
            normal.push('\n');
        }
        normal
    }

    /// Asserts that nothing was written.
    pub(crate) fn is_untouched(&self) {
        assert!(!self.root().join(".omnitool").exists());
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        for environment in ["local", "staging", "production"] {
            self.xtask(&["stop", environment]);
        }
    }
}

/// A word with its numbers replaced where they differ from run to run.
fn normal_word(word: &str) -> String {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let is_time = word.contains('.') && word.parse::<f64>().is_ok();
    let is_hash = matches!(word.len(), 10 | 12) && word.chars().all(|c| c.is_ascii_hexdigit());
    if is_time {
        return "N.N".to_owned();
    }
    if is_hash {
        return "HASH".to_owned();
    }
    if let Some((folder, _)) = word.split_once("/rehearsals/") {
        return format!("{folder}/rehearsals/RUN.json");
    }
    if let Some((folder, file)) = word.split_once("/runs/") {
        let extension = if file.contains(".html") { "html" } else { "jsonl" };
        return format!("{folder}/runs/RUN.{extension}");
    }
    if is_run(bare_word(word)) {
        return word.replace(bare_word(word), "RUN");
    }
    if word.len() == 20 && word.ends_with('Z') && word.contains('T') {
        return "TIME".to_owned();
    }
    // Process ids and milliseconds; releases have four digits and a leading zero.
    let bare = bare_word(word);
    if digits > 0 && bare.parse::<u32>().is_ok() && !bare.starts_with('0') && digits == bare.len() {
        return word.replace(bare, "N");
    }
    word.to_owned()
}

fn bare_word(word: &str) -> &str {
    word.trim_end_matches([',', ';', ')'])
}

/// Whether `word` is the id of a run: date, time and process.
fn is_run(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    parts.len() == 3
        && (parts[0].len(), parts[1].len()) == (8, 6)
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A script that answers with `summary`.
pub(crate) fn answer(summary: &str) -> String {
    format!("echo '{{\"summary\":\"{summary}\"}}'")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Waits until `condition` holds.
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody uses, below those that the system gives to outgoing connections and to other tests.
pub(crate) fn free_port() -> u16 {
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
