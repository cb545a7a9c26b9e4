//! Heroku's router: answers for an app, from its web dyno or in its place.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::Shared;

/// How long a request waits for a dyno that comes up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens for the app `app`, until the process ends.
pub(crate) fn serve(shared: Arc<Shared>, app: String) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            if shared.has_ended() {
                return;
            }
            let (shared, app) = (Arc::clone(&shared), app.clone());
            thread::spawn(move || {
                // A visitor who goes away ends the request and nothing else.
                let _ = route(&shared, &app, socket);
            });
        }
    });
    Ok(address)
}

enum Route {
    To(u16),
    Maintenance,
    Nothing,
}

fn find(shared: &Shared, app: &str) -> Route {
    let world = shared.world();
    let Some(app) = world.app(app) else { return Route::Nothing };
    if app.maintenance {
        return Route::Maintenance;
    }
    let up = app.dynos.iter().find(|dyno| dyno.process_type == "web" && dyno.state == "up");
    up.and_then(|dyno| dyno.port).map_or(Route::Nothing, Route::To)
}

fn route(shared: &Shared, app: &str, mut visitor: TcpStream) -> io::Result<()> {
    let started = Instant::now();
    let port = loop {
        match find(shared, app) {
            Route::To(port) => break port,
            Route::Maintenance => {
                return refuse(&mut visitor, "H80", "We're currently undergoing maintenance");
            }
            Route::Nothing if started.elapsed() > PATIENCE => {
                return refuse(&mut visitor, "H14", "No web processes running");
            }
            Route::Nothing => thread::sleep(Duration::from_millis(50)),
        }
    };
    let Ok(mut dyno) = TcpStream::connect(("127.0.0.1", port)) else {
        return refuse(&mut visitor, "H21", "Backend connection refused");
    };
    let mut to_dyno = dyno.try_clone()?;
    let mut from_visitor = visitor.try_clone()?;
    let there = thread::spawn(move || {
        let _ = io::copy(&mut from_visitor, &mut to_dyno);
        let _ = to_dyno.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut dyno, &mut visitor);
    let _ = visitor.shutdown(Shutdown::Both);
    let _ = there.join();
    Ok(())
}

/// What the true router shows where an app cannot answer.
fn refuse(visitor: &mut TcpStream, code: &str, text: &str) -> io::Result<()> {
    let mut request = [0; 4096];
    let _ = visitor.read(&mut request)?;
    let body = format!("<!DOCTYPE html><title>Application Error</title><p>{text} ({code})");
    write!(
        visitor,
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
