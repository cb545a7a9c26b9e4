//! A loopback server that answers exactly as a test wants, mistakes included.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// A server on a free port of the loopback address; it stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    accepting: Option<JoinHandle<()>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) path: String,
    /// How many requests for this path came before.
    pub(crate) earlier: usize,
    /// The header lines, in lower case.
    pub(crate) headers: Vec<String>,
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends the head, then the body over and over, pausing as long as said, until the client goes away.
    Endless { head: &'static str, body: &'static [u8], pause: Duration },
    /// Sends nothing and keeps the connection open.
    Silence,
}

impl Server {
    /// Starts a server that answers by `handler`.
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), handler)
    }

    /// Starts it at an address that is known to be free.
    pub(crate) fn start_at(
        address: SocketAddr,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let requests = Arc::default();
        let serving = Serving {
            handler: Arc::new(handler),
            stopped: Arc::clone(&stopped),
            requests: Arc::clone(&requests),
        };
        let accepting = Some(thread::spawn(move || serving.accept(&listener)));
        Self { address, stopped, requests, accepting }
    }

    /// The server's address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
    }
}

/// An address where nothing listens.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A whole answer.
pub(crate) fn answer(status: u16, media_type: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\
         set-cookie: session=cookie-secret\r\n\r\n",
        body.len()
    );
    Reply::Bytes([head.as_bytes(), body].concat())
}

/// A redirect.
pub(crate) fn redirect(to: &str) -> Reply {
    Reply::Bytes(
        format!("HTTP/1.1 303 See Other\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into(),
    )
}

/// The health document of a healthy release.
pub(crate) fn health(release: &str) -> Reply {
    let document = format!(
        r#"{{"status":"ok","release":"{release}","schema_version":"00000000000001","database":"ok","environment":"staging","server_errors":0}}"#
    );
    answer(200, "application/json", document)
}

/// An app in which everything is as it should be.
pub(crate) fn healthy(request: &Request) -> Reply {
    const HOME: &str = r#"<!DOCTYPE html><html><head><title>omnitool</title>
        <link rel="stylesheet" href="/static/app.css"></head><body><h1>Tools</h1></body></html>"#;
    const LOGIN: &str = r#"<!DOCTYPE html><html><head><title>Log in</title>
        <link rel="stylesheet" href="/static/app.css"><script src="/static/app.js" defer></script></head>
        <body><form method="post"><input name="password" type="password"></form></body></html>"#;
    match request.path.as_str() {
        "/" => answer(200, "text/html; charset=utf-8", HOME),
        "/login" => answer(200, "text/html; charset=utf-8", LOGIN),
        "/health" => health("0001"),
        "/static/app.css" => answer(200, "text/css", "body { margin: 0 }"),
        "/static/app.js" => answer(200, "text/javascript", "'use strict';"),
        _ => answer(404, "text/html", "<h1>Not found</h1>"),
    }
}

struct Serving<H> {
    handler: Arc<H>,
    stopped: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl<H: Fn(&Request) -> Reply + Send + Sync + 'static> Serving<H> {
    fn accept(&self, listener: &TcpListener) {
        let counts: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let mut connections = Vec::new();
        for stream in listener.incoming() {
            if self.stopped.load(Ordering::SeqCst) {
                break;
            }
            let Ok(stream) = stream else { continue };
            let held = stream.try_clone().unwrap();
            let (handler, requests) = (Arc::clone(&self.handler), Arc::clone(&self.requests));
            let (counts, stopped) = (Arc::clone(&counts), Arc::clone(&self.stopped));
            let thread = thread::spawn(move || {
                let Some(request) = read_request(&stream, &counts) else { return };
                requests.lock().unwrap().push(request.clone());
                send(&stream, handler(&request), &stopped);
            });
            connections.push((held, thread));
        }
        for (stream, thread) in connections {
            // Ends what still waits or sends.
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &TcpStream, counts: &Mutex<HashMap<String, usize>>) -> Option<Request> {
    let mut first_byte = [0];
    stream.peek(&mut first_byte).ok()?;
    let (path, headers) = if first_byte[0].is_ascii_uppercase() {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let headers = lines.take_while(|line| !line.is_empty());
        (path, headers.map(|line| line.to_lowercase()).collect())
    } else {
        // Something else than HTTP, such as the beginning of TLS, gets an HTTP answer all the same.
        (String::new(), Vec::new())
    };
    let mut counts = counts.lock().unwrap();
    let count = counts.entry(path.clone()).or_default();
    let earlier = *count;
    *count += 1;
    Some(Request { path, earlier, headers })
}

fn send(mut stream: &TcpStream, reply: Reply, stopped: &AtomicBool) {
    match reply {
        Reply::Bytes(bytes) => {
            // A client that has seen enough may be gone.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
        }
        Reply::Endless { head, body, pause } => {
            let mut going = stream.write_all(head.as_bytes()).is_ok();
            while going && !stopped.load(Ordering::SeqCst) {
                going = stream.write_all(body).is_ok();
                thread::sleep(pause);
            }
        }
        Reply::Silence => {}
    }
    // Closing with unread data would reset the connection, and the client would lose the answer.
    let _ = stream.read_to_end(&mut Vec::new());
}
