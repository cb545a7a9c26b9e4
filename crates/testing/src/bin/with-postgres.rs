//! `with-postgres COMMAND [ARGS…]`: runs a command with a throw-away PostgreSQL server.
//!
//! The command finds the server's URL in `OMNITOOL_TEST_POSTGRES_URL`; where that is set already, nothing is started.

#![allow(clippy::print_stderr, reason = "test code")]

use std::process::{Command, ExitCode};

use omnitool_testing::{PostgresServer, SERVER_URL_VARIABLE};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-postgres COMMAND [ARGS…]");
        return ExitCode::from(2);
    };
    let mut command = Command::new(&program);
    command.args(arguments);
    let server =
        std::env::var_os(SERVER_URL_VARIABLE).is_none().then(|| PostgresServer::start(&[]));
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
