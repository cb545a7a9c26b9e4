use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use omnitool_environment::EnvironmentName;
use omnitool_testing::{Dialect, TestDatabase, TestProject, on_both_databases};
use rustix::process::{Pid, Signal, kill_process};

use crate::PROGRAM;

/// The app in a process of its own, which ends with this value.
struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    first_line: String,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first_line = String::new();
        stdout.read_line(&mut first_line).unwrap();
        Self { child, stdout, first_line }
    }

    fn url(&self) -> &str {
        self.first_line.trim_end().strip_prefix("listening on ").unwrap()
    }

    /// Sends `signal` and returns the exit code, the rest of stdout, and stderr.
    fn stop(mut self, signal: Signal) -> (Option<i32>, String, String) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let (mut rest, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status.code(), rest, stderr)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(project: &TestProject, db: &TestDatabase) -> Command {
    let mut command = project.command(PROGRAM);
    command.env("DATABASE_URL", db.url().expose()).arg("serve");
    command
}

fn it_says_when_it_is_ready_answers_and_ends_on_sigterm(db: TestDatabase) {
    let project = TestProject::new();
    let mut command = serve(&project, &db);
    command.args(["--listen", "127.0.0.1:0"]).env("OMNITOOL_RELEASE", "0007");
    let app = Serving::start(command);
    let health: serde_json::Value =
        ureq::get(format!("{}/health", app.url())).call().unwrap().body_mut().read_json().unwrap();
    assert_eq!((&health["status"], &health["release"]), (&"ok".into(), &"0007".into()));
    ureq::get(format!("{}/login?next=/secret", app.url())).call().unwrap();

    let (code, rest, stderr) = app.stop(Signal::TERM);
    assert_eq!((code, &*rest), (Some(0), ""), "{stderr}");
    assert!(stderr.contains("request{id="), "{stderr}");
    assert!(stderr.contains("GET /login answered 200"), "{stderr}");
    assert!(stderr.contains("told to stop") && !stderr.contains("secret"), "{stderr}");
    assert!(!stderr.contains("password"), "{stderr}");
}

on_both_databases!(it_says_when_it_is_ready_answers_and_ends_on_sigterm);

/// What an admin's browser gets at `path`.
fn page_for_an_admin(
    project: &TestProject,
    db: &TestDatabase,
    app: &Serving,
    path: &str,
) -> String {
    let arguments = ["create-user", "root", "--admin", "--format", "json"];
    let made = project.run(PROGRAM, db.url(), &arguments).success();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let password = made["users"][0]["password"].as_str().unwrap();
    let agent = ureq::Agent::new_with_defaults();
    let get = |path: &str| {
        agent
            .get(format!("{}{path}", app.url()))
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap()
    };
    let login = get("/login");
    let (_, rest) = login.split_once("name=\"form_token\" value=\"").unwrap();
    let token = rest.split('"').next().unwrap();
    let fields = [("form_token", token), ("username", "root"), ("password", password)];
    agent.post(format!("{}/login", app.url())).send_form(fields).unwrap();
    get(path)
}

#[test]
fn admins_see_the_runs_and_backups_of_this_environment() {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    let started = r#"{"at":"2026-01-02T03:04:05.006Z","event":{"type":"run-started","format":"omnitool.run","version":1,"run":"r","user":"ann","environment":"local","platform":"local","release":"0007","replaces":null,"steps":["verify"]}}"#;
    project.write(".omnitool/local/runs/20260102-030405.jsonl", format!("{started}\n"));
    let mut command = serve(&project, &db);
    command.args(["--listen", "127.0.0.1:0"]);
    let app = Serving::start(command);
    let page = page_for_an_admin(&project, &db, &app, "/admin/deployments");
    assert!(page.contains("20260102-030405") && page.contains("not ended"), "{page}");
    assert!(page.contains("There is no folder of backups <code>data/backups</code>"), "{page}");
    assert_eq!(app.stop(Signal::TERM).0, Some(0));
}

#[test]
fn ctrl_c_at_once_ends_it_in_order_too() {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    let mut command = serve(&project, &db);
    command.args(["--listen", "127.0.0.1:0", "--format", "json"]);
    let app = Serving::start(command);
    let (code, rest, stderr) = app.stop(Signal::INT);
    assert_eq!(code, Some(0), "{stderr}");
    let json: serde_json::Value = serde_json::from_str(&format!("{{{rest}")).unwrap();
    assert!(json["summary"].as_str().unwrap().starts_with("listening on http://127.0.0.1:"));
    assert_eq!(json["environment"], "local");
}

#[test]
fn on_heroku_it_listens_on_the_given_port_behind_the_router() {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    let mut command = serve(&project, &db);
    // Port 0 is a free one, which no test can take from another.
    command.env("PORT", "0").env("DYNO", "web.1");
    let app = Serving::start(command);
    let port = app.url().strip_prefix("http://0.0.0.0:").unwrap();
    let login = ureq::get(format!("http://127.0.0.1:{port}/login"))
        .header("x-forwarded-proto", "https")
        .call()
        .unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    assert_eq!(app.stop(Signal::TERM).0, Some(0));
}

#[test]
fn it_listens_where_the_environment_says() {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let text = format!("[local]\ndatabase_url = \"sqlite:x.db\"\nbase_url = \"{url}\"\n");
    project.write("data/environments.toml", text);
    let stderr = project.output(serve(&project, &db)).failure(1);
    assert_eq!(
        stderr.replace(&taken.local_addr().unwrap().to_string(), "[ADDRESS]"),
        "error: the address [ADDRESS] is in use\n\nhint: the app may be running already; stop it, or choose another port with --listen\n"
    );
    drop(taken);
    let app = Serving::start(serve(&project, &db));
    assert_eq!(app.url(), url);
    assert_eq!(app.stop(Signal::TERM).0, Some(0));
}

#[test]
fn another_environments_or_an_old_database_is_refused_before_anybody_is_let_in() {
    let project = TestProject::new();
    let db = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    let output = project.run(PROGRAM, db.url(), &["serve", "--env", "staging"]);
    insta::assert_snapshot!(output.failure(1), @r#"
    error: this database is stamped `production`, but `staging` was asked for

    hint: to work on this database, pass --env production
    "#);

    omnitool_database::migration::revert(&mut db.connection(), 1).unwrap();
    let stderr = project.run(PROGRAM, db.url(), &["serve", "--format", "json"]).failure(1);
    assert!(stderr.contains("the database is behind this build"), "{stderr}");
    assert!(stderr.contains("hint: run migrate-db"), "{stderr}");

    let missing = omnitool_environment::DatabaseUrl::sqlite(&project.path().join("none.db"));
    let stderr = project.run(PROGRAM, &missing, &["serve"]).failure(1);
    assert!(stderr.contains("there is no database file"), "{stderr}");
}
