//! A small app on the loopback address, as well or unwell as a test wants it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Status, media type and body.
pub(crate) type Answer = (u16, &'static str, &'static str);

/// An app that answers until it is dropped.
pub(crate) struct App {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl App {
    /// Starts an app that answers each path by `answer`.
    pub(crate) fn start(answer: fn(&str) -> Answer) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer)
    }

    /// Starts it at an address that is known to be free.
    pub(crate) fn start_at(address: SocketAddr, answer: fn(&str) -> Answer) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let serving = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                thread::spawn(move || serve(&stream, answer));
            }
        });
        Self { address, stopped, serving: Some(serving) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
        self.serving.take().map(JoinHandle::join);
    }
}

fn serve(mut stream: &TcpStream, answer: fn(&str) -> Answer) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    // The rest of the request must be read, or closing would reset the connection.
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let (status, media_type, body) = answer(first.split(' ').nth(1).unwrap_or_default());
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\
         set-cookie: session=cookie-secret\r\n\r\n"
    );
    // A client that has seen enough may be gone.
    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
}

/// Everything is as it should be.
pub(crate) fn healthy(path: &str) -> Answer {
    match path {
        "/" => (200, "text/html", "<title>omnitool</title><link rel=stylesheet href=/app.css>"),
        "/login" => {
            (200, "text/html", "<input type=password><script src=/app.js></script><h1>Log in</h1>")
        }
        "/health" => (
            200,
            "application/json",
            r#"{"status":"ok","release":"0001","schema_version":"1","database":"ok","environment":"staging","server_errors":0}"#,
        ),
        "/app.css" => (200, "text/css", "body { margin: 0 }"),
        "/app.js" => (200, "text/javascript", "'use strict';"),
        _ => (404, "text/plain", "no"),
    }
}
