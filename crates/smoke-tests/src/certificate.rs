//! Which certificates are trusted, and how long the app's own is valid.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};
use url::{Host, Url};
use x509_cert::der::Decode as _;

use crate::{
    client::{describe_io, no_address},
    fetch::{ErrorKind, FetchError},
    text::count,
};

/// Below so many days of validity it is time to act. Whoever renews automatically does so 30 days before the end, so that
/// less than half of that is left only where the renewal does not work.
const WARNED_DAYS: u64 = 14;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What to do about a certificate that ends soon.
pub(crate) const RENEW: &str =
    "renew the certificate, or find out why that does not happen by itself";

/// The authorities whose certificates are trusted.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// Those that browsers trust, as built in.
    #[default]
    Public,
    /// Only these.
    Only(Vec<Certificate<'static>>),
}

/// A file holds no certificates to trust.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadRootsError {
    /// It cannot be read.
    #[error("cannot read the trusted certificates")]
    Read(#[source] io::Error),
    /// What it holds is no PEM.
    #[error("{} is no PEM file", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ureq::Error,
    },
    /// It has no certificate in it.
    #[error("{} holds no certificate", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Roots {
    /// Reads the certificates of a PEM file, which are then the only ones that are trusted.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, or holds no certificate.
    pub fn load(path: &Path) -> Result<Self, LoadRootsError> {
        let pem = fs_err::read(path).map_err(LoadRootsError::Read)?;
        let malformed = |source| LoadRootsError::Malformed { path: path.to_owned(), source };
        let mut certificates = Vec::new();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(malformed)? {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            return Err(LoadRootsError::Empty { path: path.to_owned() });
        }
        Ok(Self::Only(certificates))
    }

    /// For the HTTP client, which makes use of them with the first encrypted connection.
    pub(crate) fn for_client(&self) -> RootCerts {
        match self {
            Self::Public => RootCerts::WebPki,
            Self::Only(certificates) => RootCerts::new_with_certs(certificates),
        }
    }

    fn store(&self) -> RootCertStore {
        match self {
            Self::Public => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
            Self::Only(certificates) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(
                    certificates.iter().map(|known| CertificateDer::from(known.der())),
                );
                store
            }
        }
    }
}

/// How long the certificate of the host in `url` is still valid, found out before `end`.
///
/// The HTTP client does not show the certificates of its connections, so this makes one of its own, which ends after the
/// handshake. It trusts the same authorities and checks the same.
pub(crate) fn validity(url: &Url, roots: &Roots, end: Instant) -> Result<Duration, FetchError> {
    let until = valid_until(url, roots, end)?;
    // One that has expired meanwhile has no time left.
    Ok(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The whole days in `left`.
pub(crate) fn days(left: Duration) -> u64 {
    left.as_secs() / DAY.as_secs()
}

/// What `left` means: that all is well, or what to say.
pub(crate) fn judge(left: Duration) -> Result<String, String> {
    let days = days(left);
    let text =
        format!("valid for {}", count(usize::try_from(days).unwrap_or(usize::MAX), "more day"));
    if days < WARNED_DAYS { Err(format!("{text}; less than {WARNED_DAYS}")) } else { Ok(text) }
}

fn valid_until(url: &Url, roots: &Roots, end: Instant) -> Result<SystemTime, FetchError> {
    let tls = |text: String| FetchError::new(ErrorKind::Tls, text);
    let name = match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned())
            .map_err(|_| tls(format!("`{name}` cannot stand in a certificate")))?,
        Some(Host::Ipv4(address)) => ServerName::IpAddress(address.into()),
        Some(Host::Ipv6(address)) => ServerName::IpAddress(address.into()),
        None => return Err(FetchError::new(ErrorKind::Dns, no_address(url))),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(error.to_string()))?
        .with_root_certificates(roots.store())
        .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| tls(error.to_string()))?;
    let failed = |error: io::Error| {
        let (kind, text) = describe_io(url, &error);
        FetchError::new(kind, text)
    };
    let mut stream = TimedStream { stream: connect(url, end)?, end };
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(failed)?;
    }
    let certificate = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or_else(|| tls("the server sent no certificate".to_owned()))?;
    let certificate = x509_cert::Certificate::from_der(certificate)
        .map_err(|error| tls(format!("the certificate cannot be read: {error}")))?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Ok(UNIX_EPOCH + end)
}

fn connect(url: &Url, end: Instant) -> Result<TcpStream, FetchError> {
    let failed = |error: io::Error| {
        let (kind, text) = describe_io(url, &error);
        FetchError::new(kind, text)
    };
    let mut last = FetchError::new(ErrorKind::Dns, no_address(url));
    for address in addresses(url, end)? {
        match TcpStream::connect_timeout(&address, time_until(end).map_err(failed)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = failed(error),
        }
    }
    Err(last)
}

/// Looks the host up. That knows no time limit, so it happens in a thread that is left behind where it takes too long.
fn addresses(url: &Url, end: Instant) -> Result<Vec<SocketAddr>, FetchError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let asked = url.clone();
    thread::spawn(move || {
        // Nobody listens any more where it took too long.
        let _ = sender.send(asked.socket_addrs(|| None));
    });
    let dns = |text: String| FetchError::new(ErrorKind::Dns, text);
    receiver
        .recv_timeout(end.saturating_duration_since(Instant::now()))
        .map_err(|_| {
            FetchError::new(ErrorKind::Timeout, "the host's address was not found in time")
        })?
        .map_err(|error| dns(format!("{}: {error}", no_address(url))))
}

/// A connection whose every read and write ends before the same moment, however slowly the bytes come.
struct TimedStream {
    stream: TcpStream,
    end: Instant,
}

fn time_until(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Read for TimedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(time_until(self.end)?))?;
        self.stream.read(buffer)
    }
}

impl Write for TimedStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(time_until(self.end)?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_under_fourteen_days() {
        let day = |number: u32| DAY * number;
        assert_eq!(judge(day(90)).unwrap(), "valid for 90 more days");
        assert_eq!(judge(day(14)).unwrap(), "valid for 14 more days");
        let second = Duration::from_secs(1);
        assert_eq!(judge(day(14) - second).unwrap_err(), "valid for 13 more days; less than 14");
        assert_eq!(judge(day(1)).unwrap_err(), "valid for 1 more day; less than 14");
    }
}
