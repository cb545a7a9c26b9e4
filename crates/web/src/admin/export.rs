//! The export of who may use what, as it is written.

use std::{
    io::{self, BufWriter, Write},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{Uri, header},
    response::{IntoResponse as _, Response},
};
use hyper::body::Frame;
use omnitool_tool_access::Export;
use tokio::sync::mpsc;

use crate::{
    app::{App, Visit},
    error::PageError,
    handler::here,
};

/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;
/// Pieces that wait for a slow visitor.
const WAITING: usize = 4;

/// The very bytes that `export-tool-access` writes. The facts take a bit each in memory; the file, which is a hundred times
/// as large, is written as fast as the visitor reads it.
pub(crate) async fn export(
    State(app): State<App>,
    visit: Visit,
    uri: Uri,
) -> Result<Response, PageError> {
    let environment = app.environment();
    let (_, export) = app
        .with_admin(&visit, here(&uri), move |conn, _| Ok(Export::load(conn, environment)?))
        .await?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut pieces = BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        if export.write(&mut pieces).and_then(|_| pieces.flush()).is_ok() {
            // Where the visitor is gone, there is nobody to tell.
            let _ = sender.blocking_send(Piece::End);
        }
    });
    let name = format!("attachment; filename=\"{environment}_tool_access.json\"");
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Body::new(Written(receiver))).into_response())
}

/// Sends what is written to it.
struct Pieces(mpsc::Sender<Piece>);

/// A part of the file. One that ends without [`Piece::End`] is not whole, and the visitor must not take it for it.
enum Piece {
    Some(Bytes),
    End,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Piece::Some(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body of what was sent.
struct Written(mpsc::Receiver<Piece>);

impl hyper::body::Body for Written {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| match piece {
            Some(Piece::Some(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => None,
            None => Some(Err(io::Error::other("the export ended before its end"))),
        })
    }
}
