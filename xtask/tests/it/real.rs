//! The whole way with the real programs, as a newcomer goes it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::project::{Project, stderr, stdout};

#[test]
fn two_deployments_with_the_real_programs() {
    let project = Project::with_real_programs();
    assert!(project.has_programs(), "run `cargo build --workspace --bins` first");
    let first = project.deploy(&[]);
    assert_eq!(first.status.code(), Some(0), "{}{}", stdout(&first), stderr(&first));
    let text = stdout(&first);
    assert!(text.contains("skip  backup"), "{text}");
    assert!(text.contains("Demo users"), "{text}");
    let health = health(&project);
    assert!(health.contains("\"release\":\"0001\""), "{health}");

    let second = project.deploy(&[]);
    assert_eq!(second.status.code(), Some(0), "{}{}", stdout(&second), stderr(&second));
    let text = stdout(&second);
    assert!(text.contains("done  backup"), "{text}");
    assert!(!text.contains("Demo users"), "{text}");
    // A second release over the first changes nothing in the database, and says so.
    for evidence in ["no pending migrations; nothing to change", "nothing to do: "] {
        assert!(text.contains(evidence), "{text}");
    }
    let health = self::health(&project);
    assert!(health.contains("\"release\":\"0002\""), "{health}");
}

/// The answer of `/health`, without the white space that JSON does not need.
fn health(project: &Project) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", project.port)).unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.replace([' ', '\n'], "")
}
