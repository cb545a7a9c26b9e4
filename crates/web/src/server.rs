//! Listening, answering, and ending in order.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime, signal,
    time::{self, Sleep},
};

use crate::app::{self, App, Peer};

/// How long a client may take to send a request's head, and a kept connection may wait for the next one.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long a client may take none of an answer's bytes. Less than what is given at the end, which would be waited for.
const WRITE_LIMIT: Duration = Duration::from_secs(15);
/// How long requests that are under way at the end may go on. Heroku kills after 30 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// How long queries whose visitors are gone may go on after that.
const BLOCKING_LIMIT: Duration = Duration::from_secs(2);

/// A listening app.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why the app cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another program listens there.
    #[error("the address {address} is in use")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Server {
    /// Listens on `address`; with port 0, on a free one.
    ///
    /// # Errors
    ///
    /// Fails where another program listens there, or the system refuses the address.
    pub async fn listen(address: SocketAddr) -> Result<Self, ListenError> {
        let bind = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { address },
            _ => ListenError::Bind { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is ready; then takes no new connections and returns when the requests that are under way
    /// are answered, or their time is over.
    pub async fn serve(self, app: &App, stop: impl Future<Output = ()>) {
        let router = app::router(app);
        let connections = GracefulShutdown::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => connect(stream, peer, router.clone(), &connections),
                    Err(error) => wait_after(error).await,
                },
                () = &mut stop => break,
            }
        }
        drop(self.listener);
        if time::timeout(DRAIN_LIMIT, connections.shutdown()).await.is_err() {
            tracing::warn!("some requests were not answered in {} s", DRAIN_LIMIT.as_secs());
        }
        // A change of somebody who is gone may be about to be committed.
        let _ = time::timeout(BLOCKING_LIMIT, app.queries_finished()).await;
    }
}

fn connect(stream: TcpStream, peer: SocketAddr, router: Router, connections: &GracefulShutdown) {
    // Answers are short; waiting to fill a packet would only delay them. Without it they still arrive.
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let answer = routes.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(Limited::new(stream)), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(client = %peer.ip(), "a connection ended early: {error}");
        }
    });
}

/// A connection that fails when its client takes nothing of an answer for long: one that sends requests and never reads would
/// be kept for ever.
struct Limited {
    stream: TcpStream,
    /// When the patience ends, where something waits to be taken.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Limited {
    const fn new(stream: TcpStream) -> Self {
        Self { stream, limit: None }
    }

    /// What a write that came to `written` comes to within the limit.
    fn within_limit(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.limit = None;
            return written;
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(time::sleep(WRITE_LIMIT)));
        ready!(limit.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Limited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within_limit(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.within_limit(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A client that went away is nothing; where the system has no more files, some must be closed first.
async fn wait_after(error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!("cannot accept a connection: {error}");
        time::sleep(Duration::from_secs(1)).await;
    }
}

/// Runs `body` to its end on all cores.
///
/// # Errors
///
/// Fails where the system gives no threads.
pub fn block_on<T>(body: impl Future<Output = T>) -> io::Result<T> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(body);
    runtime.shutdown_timeout(BLOCKING_LIMIT);
    Ok(result)
}

/// Starts to listen for Ctrl-C and SIGTERM; what it returns is ready when one of them came.
///
/// # Errors
///
/// Fails where the system allows no signal handler.
pub fn interruption() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        let mut interrupt = signal::unix::signal(signal::unix::SignalKind::interrupt())?;
        let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::info!("told to stop");
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async {
            if signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            tracing::info!("told to stop");
        })
    }
}

#[cfg(test)]
mod tests {
    use omnitool_environment::{DatabaseUrl, EnvironmentName};

    use super::*;
    use crate::app::Settings;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_not_kept() {
        let url = DatabaseUrl::sqlite("none.db".as_ref());
        let app = App::new(Settings::new(EnvironmentName::Local, "0001", url));
        let server = Server::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let client = TcpStream::connect(server.address()).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            server.serve(&app, async { stopped.await.unwrap_or_default() }).await;
        });
        let started = time::Instant::now();
        let requests = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
        loop {
            client.writable().await.unwrap();
            match client.try_write(&requests) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        assert_eq!(started.elapsed().as_secs(), WRITE_LIMIT.as_secs());
        drop(stop);
        serving.await.unwrap();
        assert_eq!(started.elapsed().as_secs(), WRITE_LIMIT.as_secs());
    }
}
