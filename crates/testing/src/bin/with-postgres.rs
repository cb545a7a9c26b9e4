//! `with-postgres [--durable] COMMAND [ARGS…]`: runs a command with a throw-away PostgreSQL server.
//!
//! The server of tests forgets what it commits when the machine stops; with `--durable` it does not, for benchmarks.
//! The command finds the server's URL in `OMNITOOL_TEST_POSTGRES_URL`; where that is set already, nothing is started.

#![allow(clippy::print_stderr, reason = "test code")]

use std::process::{Command, ExitCode};

use omnitool_testing::{PostgresServer, SERVER_URL_VARIABLE};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let durable = arguments.next_if(|argument| argument == "--durable").is_some();
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-postgres [--durable] COMMAND [ARGS…]");
        return ExitCode::from(2);
    };
    let mut command = Command::new(&program);
    command.args(arguments);
    let server = std::env::var_os(SERVER_URL_VARIABLE).is_none().then(|| {
        if durable { PostgresServer::start_durable() } else { PostgresServer::start(&[]) }
    });
    if let Some(server) = &server {
        command.env(SERVER_URL_VARIABLE, server.url().expose());
    }
    match command.status() {
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("cannot run {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}
