//! `heroku-emulator [--port PORT] [--app NAME]…`: an emulated Heroku until its stdin ends.
//!
//! Databases are made on the server that `OMNITOOL_TEST_POSTGRES_URL` names.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for developers")]

use std::{io::Read as _, process::ExitCode};

use omnitool_heroku_emulator::{Emulator, Options};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heroku-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::default();
    let mut apps = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or("usage: heroku-emulator [--port PORT] [--app NAME]…")?;
        match argument.as_str() {
            "--port" => options.port = value.parse()?,
            "--app" => apps.push(value),
            _ => return Err(format!("unknown flag {argument}").into()),
        }
    }
    if let Ok(url) = std::env::var("OMNITOOL_TEST_POSTGRES_URL") {
        options.postgres = Some(url.parse()?);
    }
    let emulator = Emulator::start(options)?;
    for app in apps {
        emulator.add_app(&app)?;
        if emulator
            .add_database(&app, &format!("postgresql-{app}"), "heroku-postgresql:standard-0")
            .is_err()
        {
            eprintln!("{app} has no database: set OMNITOOL_TEST_POSTGRES_URL");
        }
    }
    println!("{}", emulator.url().as_str().trim_end_matches('/'));
    println!("{}", emulator.authority());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
