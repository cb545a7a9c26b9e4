//! `omnitool serve`.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use omnitool_cli::{
    Failure, Format, Outcome, ResolveTargetError, Target, TargetArgs, environments, print,
    print_json,
};
use omnitool_database::{Mode, connect};
use omnitool_environment::{DatabaseUrl, EnvironmentName, Url};
use omnitool_tool_access::DEFAULT_FOLDER;
use omnitool_tool_registry::Definitions;
use omnitool_web::{App, Front, ListenError, Server, Settings};
use secrecy::SecretString;
use serde::Serialize;

use crate::deployments::Folders;

const EXAMPLES: &str = "\
Prints `listening on http://ADDR:PORT` once it is ready. Ctrl-C and SIGTERM end it as soon as the
requests that are under way are answered. Each request is logged to stderr; with RUST_LOG=warn,
only what fails.

Examples:
  omnitool serve
  omnitool serve --env staging --listen 127.0.0.1:8080
  OMNITOOL_RELEASE=0007 omnitool serve --env staging";

/// Run the app
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to listen [default: 0.0.0.0:$PORT, else the environment's base URL in data/environments.toml]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,

    /// The port, as Heroku sets it
    #[arg(long, env = "PORT", hide = true)]
    port: Option<u16>,

    /// The release that runs, as /health says it
    #[arg(long, env = "OMNITOOL_RELEASE", value_name = "ID", default_value = "dev")]
    release: String,

    /// The folder with the environments' export files, which the access matrix is compared with
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    access_files: PathBuf,

    /// The folder with the journals of deployments [default: .omnitool/ENV/runs]
    #[arg(long, value_name = "DIR")]
    journals: Option<PathBuf>,

    /// The folder with a folder of backups per environment [default: data/backups]
    #[arg(long, value_name = "DIR")]
    backups: Option<PathBuf>,

    /// Whoever sends this as a bearer token may read /metrics; without it, only programs on this machine may
    #[arg(long, env = "OMNITOOL_METRICS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    metrics_token: Option<Token>,
}

/// A secret that no help, error or `Debug` shows.
#[derive(Clone, Debug)]
struct Token(SecretString);

impl FromStr for Token {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned().into()))
    }
}

/// Why the address to listen on is unknown.
#[derive(Debug, thiserror::Error)]
enum FindAddressError {
    #[error("cannot find out where {environment} listens")]
    Lookup {
        environment: EnvironmentName,
        #[source]
        source: ResolveTargetError,
    },
    #[error("cannot find the address of {url}")]
    Resolve {
        url: Url,
        #[source]
        source: io::Error,
    },
    #[error("{url} has no address")]
    Nowhere { url: Url },
}

#[derive(Serialize)]
struct Listening {
    summary: String,
    url: String,
    environment: EnvironmentName,
}

pub(crate) fn run(
    args: Args,
    target: &TargetArgs,
    format: Format,
    dyno: Option<&str>,
) -> Result<Outcome, Failure> {
    let Target { environment, database_url } = target.resolve()?;
    // Whatever keeps the app from serving is said here, before anybody is let in.
    let (conn, environment) =
        connect(&database_url, environment, Mode::Read).map_err(crate::connect_failure)?;
    drop(conn);
    let address = address(&args, environment).map_err(|error| {
        Failure::failed(error).hint("say where to listen: --listen 127.0.0.1:5000")
    })?;
    let front = if dyno.is_some() { Front::HerokuRouter } else { Front::Nothing };
    let settings = settings(args, environment, database_url, front)?;
    let app = App::new(settings);
    omnitool_web::block_on(async {
        // Before anybody learns that the app is ready, so that a signal at once ends it in order, too.
        let interruption = omnitool_web::interruption()?;
        let server = Server::listen(address).await.map_err(listen_failure)?;
        let url = format!("http://{}", server.address());
        let summary = format!("listening on {url}");
        match format {
            Format::Text => print(&format!("{summary}\n"))?,
            Format::Json => print_json(&Listening { summary, url, environment })?,
        }
        server.serve(&app, interruption).await;
        Ok(Outcome::Done)
    })?
}

fn settings(
    args: Args,
    environment: EnvironmentName,
    database_url: DatabaseUrl,
    front: Front,
) -> Result<Settings, Failure> {
    let Args { listen: _, port: _, release, access_files, journals, backups, metrics_token } = args;
    // A release of the local platform is in .omnitool/ENV/releases/NUMBER of the project, and the app runs in there.
    let here = |path: PathBuf, from_release: &str| {
        let there = Path::new(from_release);
        if !path.exists() && there.exists() { there.to_owned() } else { path }
    };
    let folders = Folders {
        environment,
        journals: journals
            .unwrap_or_else(|| here(format!(".omnitool/{environment}/runs").into(), "../../runs")),
        backups: backups.unwrap_or_else(|| {
            here(omnitool_backup::DEFAULT_FOLDER.into(), "../../../../data/backups")
        }),
    };
    Ok(Settings {
        front,
        definitions: Some(Definitions::shipped()?),
        access_files: Some(access_files),
        deployments: Some(Arc::new(folders)),
        metrics_token: metrics_token.map(|Token(token)| token),
        ..Settings::new(environment, release, database_url)
    })
}

fn address(args: &Args, environment: EnvironmentName) -> Result<SocketAddr, FindAddressError> {
    if let Some(address) = args.listen {
        return Ok(address);
    }
    if let Some(port) = args.port {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    let lookup = |source| FindAddressError::Lookup { environment, source };
    let environments = environments().map_err(|error| lookup(error.into()))?;
    let site = environments.on_this_machine(environment).map_err(|error| lookup(error.into()))?;
    let url = &site.base_url;
    let addresses = url
        .socket_addrs(|| None)
        .map_err(|source| FindAddressError::Resolve { url: url.clone(), source })?;
    addresses.first().copied().ok_or_else(|| FindAddressError::Nowhere { url: url.clone() })
}

fn listen_failure(error: ListenError) -> Failure {
    match error {
        ListenError::InUse { .. } => Failure::failed(error)
            .hint("the app may be running already; stop it, or choose another port with --listen"),
        error => Failure::failed(error).hint("choose another address with --listen ADDR:PORT"),
    }
}
