//! The storage that backups are downloaded from: HTTPS only, as the true one.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{FaultKind, Shared};

pub(crate) fn serve(shared: Arc<Shared>, tls: Arc<ServerConfig>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            if shared.has_ended() {
                return;
            }
            let (shared, tls) = (Arc::clone(&shared), Arc::clone(&tls));
            thread::spawn(move || {
                // A client that goes away ends its download and nothing else.
                let _ = answer(&shared, tls, socket);
            });
        }
    });
    Ok(address)
}

fn answer(shared: &Shared, tls: Arc<ServerConfig>, socket: TcpStream) -> io::Result<()> {
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, socket));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    let mut stream = reader.into_inner();
    let path = first.split_whitespace().nth(1).unwrap_or_default();
    let secret = path.rsplit('/').next().unwrap_or_default();
    let file = {
        let mut world = shared.world();
        let expired = world.faults.happens(&FaultKind::ExpiredUrl);
        world.blobs.get(secret).filter(|_| !expired).cloned()
    };
    match file {
        Some(path) => {
            let mut file = File::open(path)?;
            let length = file.metadata()?.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            )?;
            io::copy(&mut file, &mut stream)?;
        }
        None => {
            let body =
                "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
            write!(
                stream,
                "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )?;
        }
    }
    stream.flush()?;
    stream.conn.send_close_notify();
    stream.flush()
}
