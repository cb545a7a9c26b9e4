//! Consoles of attached dynos: a TLS server to which the client says a secret.

use std::{
    io::{Read as _, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Shared;

/// A dyno's output on its way to whoever attaches.
#[derive(Default)]
pub(crate) struct Feed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    is_up: bool,
    has_ended: bool,
    manner: Manner,
}

/// How a console sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// The greeting alone, then the output as it comes.
    #[default]
    Normal,
    /// Byte by byte.
    Split,
    /// Greeting and all output at once.
    Coalesced,
    /// Without the last line.
    Dropped,
}

impl Feed {
    pub(crate) fn new(manner: Manner) -> Self {
        let feed = Self::default();
        feed.lock().manner = manner;
        feed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn up(&self) {
        self.lock().is_up = true;
        self.changed.notify_all();
    }

    pub(crate) fn write(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
        self.changed.notify_all();
    }

    pub(crate) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Sends everything to `to`, until the end.
    fn send(&self, to: &mut impl Write, pause: Duration) -> std::io::Result<()> {
        let mut state = self.lock();
        while !state.is_up && !state.has_ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.is_up {
            return Ok(());
        }
        let manner = state.manner;
        drop(state);
        if manner != Manner::Coalesced {
            to.write_all(b"rendezvous\r\n")?;
            to.flush()?;
            thread::sleep(pause);
        }
        let mut sent = 0;
        loop {
            let mut state = self.lock();
            while !state.has_ended
                && (state.bytes.len() == sent
                    || manner == Manner::Coalesced
                    || manner == Manner::Dropped)
            {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let piece = state.bytes[sent..].to_vec();
            let has_ended = state.has_ended;
            drop(state);
            sent += piece.len();
            match manner {
                Manner::Normal => to.write_all(&piece)?,
                Manner::Split => {
                    for byte in &piece {
                        to.write_all(&[*byte])?;
                        to.flush()?;
                    }
                }
                Manner::Coalesced => to.write_all(&[b"rendezvous\r\n", &*piece].concat())?,
                Manner::Dropped => {
                    let lines: Vec<&[u8]> = piece.split_inclusive(|byte| *byte == b'\n').collect();
                    let kept = lines.len().saturating_sub(1);
                    to.write_all(&lines[..kept].concat())?;
                }
            }
            to.flush()?;
            if has_ended {
                return Ok(());
            }
        }
    }
}

/// Listens for clients that attach, until the process ends.
pub(crate) fn serve(shared: Arc<Shared>, tls: Arc<ServerConfig>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            if shared.has_ended() {
                return;
            }
            let (shared, tls) = (Arc::clone(&shared), Arc::clone(&tls));
            thread::spawn(move || {
                // A client that goes away ends its console and nothing else.
                let _ = attach(&shared, tls, socket);
            });
        }
    });
    Ok(address)
}

fn attach(shared: &Shared, tls: Arc<ServerConfig>, socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") && line.len() < 1000 {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    let secret = String::from_utf8_lossy(&line).trim().to_owned();
    let feed = shared.world().consoles.remove(&secret);
    if let Some(feed) = feed {
        feed.send(&mut stream, shared.greeting_pause)?;
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(std::net::Shutdown::Write)
}
