//! The console of an attached dyno: bytes over TLS, and a marker with the exit status at their end.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use url::Url;

use crate::{HerokuError, Secret};

/// How long one read may take before the limit is looked at.
const GLANCE: Duration = Duration::from_millis(500);
/// What the server says once the dyno is up.
const LONGEST_GREETING: usize = 4096;

/// A text that no command prints by chance.
#[derive(Debug)]
pub(crate) struct Marker(String);

impl Marker {
    pub(crate) fn random() -> Self {
        let mut nonce = [0_u8; 12];
        // Where there is no randomness, the clock tells two commands apart as well.
        if getrandom::fill(&mut nonce).is_err() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            nonce =
                now.unwrap_or_default().as_nanos().to_le_bytes()[..12].try_into().unwrap_or(nonce);
        }
        let text: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("omnitool-exit-status-{text}:"))
    }

    /// The command line with the marker behind it. The space before the semicolon lets a bare process type resolve.
    ///
    /// The marker is printed in two parts, so that a console that echoes the command does not look like its end. The whole
    /// ends as the command did: the log is asked for that where the console does not tell.
    pub(crate) fn wrap(&self, command: &str) -> String {
        let (first, second) = self.0.split_at(self.0.len() / 2);
        format!(
            "{command} ; code=$? ; printf '\\n%s%s%s\\n' {first} {second} \"$code\" ; exit \"$code\""
        )
    }

    /// Whether `command` is one that was wrapped in this marker.
    pub(crate) fn is_in(&self, command: &str) -> bool {
        command.contains(self.0.split_at(self.0.len() / 2).0)
    }
}

/// What a console's output ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The exit status.
    Status(i32),
    /// Nothing.
    End,
    /// It did not end.
    Timeout,
    /// The dyno did not come up.
    NotUp,
    /// Nobody wants to know any longer.
    Stopped,
}

/// Looks for the marker in output that comes in pieces, and passes on what is certainly before it.
pub(crate) struct Scanner<'a> {
    marker: &'a [u8],
    held: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(marker: &'a Marker) -> Self {
        Self { marker: marker.0.as_bytes(), held: Vec::new() }
    }

    /// Takes a piece; returns the status once it is there, with the end of its line.
    pub(crate) fn take(&mut self, piece: &[u8], see: &mut dyn FnMut(&[u8])) -> Option<i32> {
        self.held.extend_from_slice(piece);
        let at = self.held.windows(self.marker.len()).position(|window| window == self.marker);
        if let Some(at) = at {
            let after = &self.held[at + self.marker.len()..];
            let end = after.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
            let status = std::str::from_utf8(&after[..end]).ok()?.trim().parse().ok();
            let before = trim_line_end(&self.held[..at]);
            if !before.is_empty() {
                see(before);
            }
            self.held.clear();
            return status;
        }
        // What may be the line end before the marker, and the marker's beginning, is held back.
        let keep = self.marker.len() + 2;
        if self.held.len() > keep {
            let passed: Vec<u8> = self.held.drain(..self.held.len() - keep).collect();
            see(&passed);
        }
        None
    }

    /// Passes on what was held back.
    pub(crate) fn end(self, see: &mut dyn FnMut(&[u8])) {
        if !self.held.is_empty() {
            see(&self.held);
        }
    }
}

fn trim_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// A console that is connected.
pub(crate) struct Console {
    stream: StreamOwned<ClientConnection, TcpStream>,
    deadline: Instant,
}

impl Console {
    /// Connects and says the secret of `url` (`rendezvous://HOST:PORT/SECRET`).
    pub(crate) fn open(url: &Secret, roots: &[u8], limit: Duration) -> Result<Self, HerokuError> {
        let unusable = || HerokuError::Unusable {
            what: "the dyno's console address".to_owned(),
            kind: "address",
        };
        let parsed = Url::parse(url.expose()).map_err(|_| unusable())?;
        let host = parsed.host_str().ok_or_else(unusable)?.to_owned();
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = parsed.port().unwrap_or(5000);
        let secret = parsed.path().trim_start_matches('/').to_owned();
        let connect = || -> io::Result<Self> {
            let deadline = Instant::now() + limit;
            let socket = connect_any(&host, port)?;
            socket.set_read_timeout(Some(GLANCE))?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let config = client_config(roots)?;
            let connection =
                ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
            let mut console = Self { stream: StreamOwned::new(connection, socket), deadline };
            console.say(format!("{secret}\r\n").as_bytes())?;
            Ok(console)
        };
        connect().map_err(HerokuError::Rendezvous)
    }

    /// Writes all of it; the handshake happens on the way, and may need several glances.
    fn say(&mut self, text: &[u8]) -> io::Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if is_glance(&error) && Instant::now() < self.deadline => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.stream.flush() {
                Err(error) if is_glance(&error) && Instant::now() < self.deadline => {}
                done => return done,
            }
        }
    }

    /// Reads to the marker or the end. The dyno has to be up within `start`; `stop` says whether nobody wants to know any
    /// longer.
    pub(crate) fn read(
        &mut self,
        marker: &Marker,
        start: Duration,
        see: &mut dyn FnMut(&[u8]),
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Found> {
        let mut scanner = Scanner::new(marker);
        let begun = Instant::now();
        let mut greeting: Option<Vec<u8>> = Some(Vec::new());
        let mut buffer = vec![0; 1 << 14];
        loop {
            if Instant::now() >= self.deadline {
                scanner.end(see);
                return Ok(Found::Timeout);
            }
            if stop() {
                scanner.end(see);
                return Ok(Found::Stopped);
            }
            if greeting.is_some() && begun.elapsed() > start {
                return Ok(Found::NotUp);
            }
            let piece = match self.stream.read(&mut buffer) {
                Ok(0) => {
                    scanner.end(see);
                    return Ok(Found::End);
                }
                Ok(length) => &buffer[..length],
                Err(error) if is_glance(&error) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A server that closes without saying so ends the output, too.
                Err(error) if is_closed(&error) => {
                    scanner.end(see);
                    return Ok(Found::End);
                }
                Err(error) => {
                    scanner.end(see);
                    return Err(error);
                }
            };
            // The greeting and the first output may come in one piece, or the greeting in several.
            let output = match &mut greeting {
                None => piece.to_vec(),
                Some(line) => {
                    line.extend_from_slice(piece);
                    match line.iter().position(|byte| *byte == b'\n') {
                        Some(end) => {
                            let output = line.split_off(end + 1);
                            greeting = None;
                            output
                        }
                        None if line.len() > LONGEST_GREETING => {
                            return Err(io::Error::other("the console did not greet"));
                        }
                        None => continue,
                    }
                }
            };
            if let Some(status) = scanner.take(&output, see) {
                return Ok(Found::Status(status));
            }
        }
    }
}

fn connect_any(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn client_config(roots: &[u8]) -> io::Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    if roots.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in CertificateDer::pem_slice_iter(roots) {
        let certificate = certificate.map_err(io::Error::other)?;
        store.add(certificate).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(store)
        .with_no_client_auth())
}

fn is_glance(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(marker: &Marker, pieces: &[&[u8]]) -> (Vec<u8>, Option<i32>) {
        let mut seen = Vec::new();
        let mut scanner = Scanner::new(marker);
        for piece in pieces {
            if let Some(status) = scanner.take(piece, &mut |bytes| seen.extend_from_slice(bytes)) {
                return (seen, Some(status));
            }
        }
        scanner.end(&mut |bytes| seen.extend_from_slice(bytes));
        (seen, None)
    }

    #[test]
    fn an_echoed_command_is_not_its_end() {
        let marker = Marker::random();
        let echo = marker.wrap("migrate-db --env 'a b'");
        assert!(marker.is_in(&echo) && !Marker::random().is_in(&echo));
        let (seen, status) = scan(&marker, &[echo.as_bytes(), b"\r\nApplied\r\n"]);
        assert_eq!(status, None);
        assert_eq!(seen, [echo.as_bytes(), b"\r\nApplied\r\n"].concat());
    }

    proptest! {
        #[test]
        fn the_status_is_found_however_the_output_is_cut(
            output in "[a-z \n]{0,60}", status in 0_i32..=255, cuts in prop::collection::vec(0_usize..200, 0..8),
        ) {
            let marker = Marker::random();
            let whole = format!("{output}\r\n{}{status}\r\n", marker.0).into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % whole.len()).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect();
            let (seen, found) = scan(&marker, &pieces);
            prop_assert_eq!(found, Some(status));
            prop_assert_eq!(seen, output.into_bytes());
        }

        #[test]
        fn output_without_the_marker_is_passed_on_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..10)) {
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (seen, found) = scan(&Marker::random(), &slices);
            prop_assert_eq!(found, None);
            prop_assert_eq!(seen, pieces.concat());
        }
    }
}
