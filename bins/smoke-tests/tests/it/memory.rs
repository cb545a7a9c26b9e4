//! However much an app sends, a run stays within 64 MiB: with more, the system would end it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use assert_cmd::cargo::cargo_bin;
use flate2::{Compress, Compression, FlushCompress};
use omnitool_testing::TestProject;
use serde_json::Value;

use crate::app::healthy;

/// An answer without end.
struct Endless {
    head: Vec<u8>,
    piece: Vec<u8>,
}

impl Endless {
    fn new(head: &str, piece: impl Into<Vec<u8>>) -> Self {
        Self { head: head.as_bytes().to_vec(), piece: piece.into() }
    }

    /// A compressed page, each KiB of which is a MiB of nothing.
    fn compressed() -> Self {
        let mut piece = Vec::with_capacity(1 << 16);
        let mut compress = Compress::new(Compression::best(), false);
        compress.compress_vec(&[0; 1 << 20], &mut piece, FlushCompress::Full).unwrap();
        let mut endless = Self::new(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-encoding: gzip\r\n\r\n",
            piece,
        );
        endless.head.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
        endless
    }
}

/// Serves a healthy app whose homepage never ends; returns its address. It ends with the test's process.
fn serve(homepage: Endless) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            answer(stream, &homepage);
        }
    });
    format!("http://{address}/")
}

fn answer(mut stream: TcpStream, Endless { head, piece }: &Endless) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    if path == "/" {
        let (head, piece) = (head.clone(), piece.clone());
        thread::spawn(move || {
            // Until the client has had enough.
            let mut sent = stream.write_all(&head);
            while sent.is_ok() {
                sent = stream.write_all(&piece);
            }
        });
        return;
    }
    let (status, media_type, body) = healthy(&path);
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let _ = stream.write_all(text.as_bytes());
}

/// What the report of a run in little memory says of the homepage.
fn homepage_in_little_memory(homepage: Endless) -> Value {
    let project = TestProject::new();
    let mut command = project.command("sh");
    command.args(["-c", "ulimit -d 65536; exec \"$0\" \"$@\""]);
    command.arg(cargo_bin!("smoke-tests"));
    command.args(["--url", &serve(homepage), "--timeout", "60", "--format", "json"]);
    let output = project.output(command);
    assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
    let mut report: Value = serde_json::from_str(&output.stdout).unwrap();
    report["tests"][0].take()
}

#[test]
fn an_endless_body_stays_within_memory() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n";
    let homepage = homepage_in_little_memory(Endless::new(head, [b'x'; 1 << 16]));
    assert_eq!((&homepage["id"], &homepage["kind"]), (&"homepage".into(), &"content".into()));
    assert_eq!(homepage["message"], "is larger than 4.0 MiB");
}

#[test]
fn an_endless_bomb_stays_within_memory() {
    let homepage = homepage_in_little_memory(Endless::compressed());
    assert_eq!(homepage["message"], "is larger than 4.0 MiB");
}

#[test]
fn an_endless_head_stays_within_memory() {
    let head = "HTTP/1.1 200 OK\r\nx-long: ";
    let homepage = homepage_in_little_memory(Endless::new(head, [b'x'; 1 << 12]));
    assert_eq!(homepage["kind"], "protocol");
}
