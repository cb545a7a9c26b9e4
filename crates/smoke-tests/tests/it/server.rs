//! A loopback server that answers exactly as a test wants, mistakes included.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server on a free port of the loopback address; it stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    stopped: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    accepting: Option<JoinHandle<()>>,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) path: String,
    /// How many requests for this path came before.
    pub(crate) earlier: usize,
    /// `GET` or `POST`.
    pub(crate) method: String,
    /// The header lines, in lower case.
    pub(crate) headers: Vec<String>,
    /// The body, where its length is given.
    pub(crate) body: String,
}

impl Request {
    /// Whether the client sends this cookie.
    pub(crate) fn has_cookie(&self, cookie: &str) -> bool {
        let lines = self.headers.iter().filter_map(|line| line.strip_prefix("cookie: "));
        lines.flat_map(|cookies| cookies.split("; ")).any(|sent| sent == cookie)
    }
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
        Self::serve(address, None, handler)
    }

    /// Starts one that speaks TLS and shows this certificate.
    pub(crate) fn start_tls(
        tls: Arc<ServerConfig>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve("127.0.0.1:0".parse().unwrap(), Some(tls), handler)
    }

    fn serve(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let stopped = Arc::new(AtomicBool::new(false));
        let requests = Arc::default();
        let serving = Serving {
            handler: Arc::new(handler),
            tls,
            stopped: Arc::clone(&stopped),
            requests: Arc::clone(&requests),
        };
        let accepting = Some(thread::spawn(move || serving.accept(&listener)));
        Self { address, scheme, stopped, requests, accepting }
    }

    /// The server's address.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}/", self.scheme, self.address)
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
        <body><form method="post"><input name="username"><input name="password" type="password"></form></body></html>"#;
    match request.path.as_str() {
        "/" => answer(200, "text/html; charset=utf-8", HOME),
        "/login" => answer(200, "text/html; charset=utf-8", LOGIN),
        "/health" => health("0001"),
        "/static/app.css" => answer(200, "text/css", "body { margin: 0 }"),
        "/static/app.js" => answer(200, "text/javascript", "'use strict';"),
        _ => answer(404, "text/html", "<h1>Not found</h1>"),
    }
}

/// How many requests came for each path.
type Counts = Mutex<HashMap<String, usize>>;

struct Serving<H> {
    handler: Arc<H>,
    tls: Option<Arc<ServerConfig>>,
    stopped: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl<H: Fn(&Request) -> Reply + Send + Sync + 'static> Serving<H> {
    fn accept(&self, listener: &TcpListener) {
        let counts: Arc<Counts> = Arc::default();
        let mut connections = Vec::new();
        for stream in listener.incoming() {
            if self.stopped.load(Ordering::SeqCst) {
                break;
            }
            let Ok(stream) = stream else { continue };
            let held = stream.try_clone().unwrap();
            let (handler, requests) = (Arc::clone(&self.handler), Arc::clone(&self.requests));
            let (counts, stopped) = (Arc::clone(&counts), Arc::clone(&self.stopped));
            let tls = self.tls.clone();
            let thread = thread::spawn(move || {
                let answer = |request: &Request| {
                    requests.lock().unwrap().push(request.clone());
                    handler(request)
                };
                match tls {
                    None => {
                        let Some(request) = read_plain_request(&stream, &counts) else { return };
                        let sent = send(&mut &stream, answer(&request), &stopped);
                        end(&stream, sent);
                    }
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        let mut tls = StreamOwned::new(connection, &stream);
                        // A client that only looks at the certificate sends no request.
                        let Some(request) = read_request(&mut tls, &counts) else { return };
                        let sent = send(&mut tls, answer(&request), &stopped);
                        tls.conn.send_close_notify();
                        let _ = tls.flush();
                        end(&stream, sent);
                    }
                }
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

fn read_plain_request(stream: &TcpStream, counts: &Counts) -> Option<Request> {
    let mut first_byte = [0];
    stream.peek(&mut first_byte).ok()?;
    if first_byte[0].is_ascii_uppercase() {
        read_request(stream, counts)
    } else {
        // Something else than HTTP, such as the beginning of TLS, gets an HTTP answer all the same.
        Some(counted(Request::default(), counts))
    }
}

fn read_request(stream: impl Read, counts: &Counts) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers: Vec<String> = lines
        .take_while(|line| !line.is_empty())
        .map(|line| match line.split_once(':') {
            // What cookies hold is case-sensitive.
            Some((name, value)) if name.eq_ignore_ascii_case("cookie") => format!("cookie:{value}"),
            _ => line.to_lowercase(),
        })
        .collect();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    Some(counted(Request { path, method, headers, body, earlier: 0 }, counts))
}

fn counted(request: Request, counts: &Counts) -> Request {
    let mut counts = counts.lock().unwrap();
    let count = counts.entry(request.path.clone()).or_default();
    *count += 1;
    Request { earlier: *count - 1, ..request }
}

/// Whether everything was sent that will ever be.
#[derive(PartialEq)]
enum Sent {
    Everything,
    Nothing,
}

fn send(stream: &mut impl Write, reply: Reply, stopped: &AtomicBool) -> Sent {
    match reply {
        Reply::Bytes(bytes) => {
            // A client that has seen enough may be gone.
            let _ = stream.write_all(&bytes);
        }
        Reply::Endless { head, body, pause } => {
            let mut going = stream.write_all(head.as_bytes()).is_ok();
            while going && !stopped.load(Ordering::SeqCst) {
                going = stream.write_all(body).is_ok();
                thread::sleep(pause);
            }
        }
        Reply::Silence => return Sent::Nothing,
    }
    Sent::Everything
}

fn end(mut stream: &TcpStream, sent: Sent) {
    if sent == Sent::Everything {
        let _ = stream.shutdown(Shutdown::Write);
    }
    // Closing with unread data would reset the connection, and the client would lose the answer.
    let _ = stream.read_to_end(&mut Vec::new());
}
