//! The program against the app itself.

use std::{
    collections::BTreeSet, net::SocketAddr, path::Path, process::Output, sync::mpsc,
    thread::JoinHandle,
};

use diesel::prelude::*;
use omnitool_database::schema::user_session;
use omnitool_environment::EnvironmentName;
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_web::{App, NewUser, Password, Role, Server, Settings, create_user};

use crate::{json, program, text};

const PASSWORD: &str = "a long enough password";

/// The app on a free port, which ends with this value.
struct Running {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(db: &TestDatabase) -> Self {
        let settings = Settings::new(EnvironmentName::Local, "0007", db.url().clone());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            omnitool_web::block_on(async {
                let server = Server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
                ready.send(server.address()).unwrap();
                let app = App::new(settings);
                server.serve(&app, async { stopped.await.unwrap_or_default() }).await;
            })
            .unwrap();
        });
        let address = wait.recv().unwrap();
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the app panicked");
        }
    }
}

/// A user who sees these tools, of which the first is everyone's, and another tool that is kept from the user.
fn probe_with(db: &TestDatabase, tools: &[&str]) {
    let conn = &mut db.connection();
    let user = NewUser {
        username: "probe".to_owned(),
        email: None,
        role: Role::User,
        password: Password::new(PASSWORD.to_owned().into()).unwrap(),
    };
    let user = create_user(conn, &user).unwrap().id;
    for (number, tool) in tools.iter().enumerate() {
        let tool = fixture::tool(conn, tool);
        if number == 0 { fixture::everyone(conn, tool) } else { fixture::grant(conn, user, tool) }
    }
    let kept = fixture::tool(conn, "Kept Away");
    fixture::everyone(conn, kept);
    fixture::exclude(conn, user, kept);
}

/// The tools that `probe.toml` of `folder` expects.
fn expect_tools(folder: &Path, tools: &[&str]) {
    let names: BTreeSet<String> = tools.iter().map(|tool| format!("{tool:?}")).collect();
    let names: Vec<String> = names.into_iter().collect();
    let text = format!("username = \"probe\"\ntools = [{}]\n", names.join(", "));
    std::fs::write(folder.join("probe.toml"), text).unwrap();
}

fn visit(app: &Running, folder: &Path, password: &str, format: &str) -> Output {
    let url = format!("http://{}/", app.address);
    let flags = ["--url", &url, "--expect-release", "0007", "--probe-user", "probe.toml"];
    let mut command = program(folder, &flags);
    command.args(["--format", format]).env("OMNITOOL_PROBE_PASSWORD", password);
    command.output().unwrap()
}

fn the_probe_user_sees_exactly_the_expected_tools(db: TestDatabase) {
    let tools = ["Invoice <Generator>", "Email, \"Templates\" & more"];
    probe_with(&db, &tools);
    let app = Running::start(&db);
    let folder = tempfile::tempdir().unwrap();
    expect_tools(folder.path(), &tools);
    let output = visit(&app, folder.path(), PASSWORD, "text");
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report.contains("[PASS] 8 Probe user's tools"), "{report}");
    assert!(report.contains("7 passed, 0 failed, 0 skipped"), "{report}");

    expect_tools(folder.path(), &["Kept Away"]);
    let output = visit(&app, folder.path(), PASSWORD, "json");
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    let test = &report["tests"][6];
    assert_eq!((&test["id"], &test["outcome"]), (&"probe-user".into(), &"failed".into()));
    let message = test["message"].as_str().unwrap();
    assert!(message.starts_with("`probe` does not see: Kept Away; sees but should not: Email, \""));

    let output = visit(&app, folder.path(), "another long password", "text");
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(report.contains("status: the app refuses the user's name or password"), "{report}");
    assert!(!report.contains("another long password"), "{report}");

    // Nobody was left logged in.
    let left: i64 = user_session::table.count().get_result(&mut db.connection()).unwrap();
    assert_eq!(left, 0);
}

on_both_databases!(the_probe_user_sees_exactly_the_expected_tools);
