//! `cargo xtask heroku-conformance`: does Heroku's own command line tool believe our emulator?
//!
//! Our client is proven by the emulator, so the emulator has to be proven by somebody else. The tool runs as it does for
//! its users, away from their files and from the true service; what it says and the state that results are both looked at.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
};

use fs_err as fs;
use omnitool_cli::{Failure, Outcome, print};
use omnitool_heroku::{Heroku, HerokuError, Pace, Settings};

use crate::project::{Profile, Project};

const TOOL: &str = "heroku@11.10.0";
/// The plugin that drives the Builds API.
const BUILDS: &str = "heroku-builds@0.0.29";
const TOKEN: &str = "test-token";

/// Calls a command of the plugin, which the tool itself could only load from its own registry.
const PLUGIN: &str = "
const [name, ...rest] = process.argv.slice(1);
const [topic, command] = name.split(':');
const context = { args: {}, flags: {} };
for (let at = 0; at < rest.length; at += 2) {
  if (rest[at] === '-a') context.app = rest[at + 1];
  else context.flags[rest[at].replace('--', '')] = rest[at + 1];
}
const { commands } = require('heroku-builds');
commands.find((found) => found.topic === topic && found.command === command).run(context);
";

/// The tool cannot be had, or the emulator does not come up.
#[derive(Debug, thiserror::Error)]
enum ConformanceError {
    #[error("cannot install {TOOL} from npm: {0}")]
    Install(String),
    #[error("the emulator does not build")]
    Build,
    #[error("the emulator did not say where it is")]
    Start,
    #[error("the emulator's address is none")]
    Address,
}

/// Runs every case; without Node it says so, and nothing is proven.
pub(crate) fn run(project: &Project) -> Result<Outcome, Failure> {
    let Some(tool) = provide(project)? else {
        print(
            "There is no Node.js with npm here, so the emulator is NOT proven by Heroku's own tool.\n",
        )?;
        return Ok(Outcome::Done);
    };
    let scratch = tempfile::tempdir()?;
    let emulator = Emulator::start(project, scratch.path())?;
    let cli = Cli { tool, home: scratch.path().to_owned(), address: emulator.address.clone() };
    let settings = Settings::at(
        &emulator.address.parse().map_err(|_| Failure::failed(ConformanceError::Address))?,
        TOKEN.into(),
    );
    let heroku =
        Heroku::new(Settings { pace: Pace::quick(), ..settings }).map_err(Failure::failed)?;
    prepare(scratch.path())?;
    let mut failed = 0;
    let cases = cases();
    for case in &cases {
        let output = cli.run(case.arguments, scratch.path())?;
        let problem = case.problem(&output, &heroku);
        let verdict = if problem.is_some() { "FAILED" } else { "ok    " };
        print(&format!("{verdict}  heroku {}\n", case.arguments.join(" ")))?;
        if let Some(problem) = problem {
            failed += 1;
            print(&format!("{problem}\n"))?;
        }
    }
    print(&format!(
        "{} of {} commands as with the true Heroku\n",
        cases.len() - failed,
        cases.len()
    ))?;
    Ok(if failed == 0 { Outcome::Done } else { Outcome::Failed })
}

/// One call of the tool.
struct Case {
    arguments: &'static [&'static str],
    exit: i32,
    /// What stdout or stderr has to contain.
    says: &'static str,
    /// The state that has to result, as our client sees it.
    state: fn(&Heroku) -> Result<bool, HerokuError>,
}

impl Case {
    fn problem(&self, output: &Output, heroku: &Heroku) -> Option<String> {
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let shown = || text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let code = output.status.code();
        if code != Some(self.exit) {
            return Some(format!("  exit status {code:?} instead of {}:\n{}", self.exit, shown()));
        }
        if !text.contains(self.says) {
            return Some(format!("  does not say `{}`:\n{}", self.says, shown()));
        }
        match (self.state)(heroku) {
            Ok(true) => None,
            Ok(false) => Some("  the state afterwards is another".to_owned()),
            Err(error) => Some(format!("  the state afterwards cannot be read: {error}")),
        }
    }
}

fn any(_: &Heroku) -> Result<bool, HerokuError> {
    Ok(true)
}

/// A case whose effect is looked at.
const fn case(
    arguments: &'static [&'static str],
    says: &'static str,
    state: fn(&Heroku) -> Result<bool, HerokuError>,
) -> Case {
    Case { arguments, exit: 0, says, state }
}

fn cases() -> Vec<Case> {
    let mut cases = app_cases();
    cases.extend(code_cases());
    cases.extend(database_cases());
    cases
}

fn app_cases() -> Vec<Case> {
    vec![
        case(&["auth:whoami"], "dev@example.com", any),
        case(&["apps:info", "-a", "demo"], "heroku-24", any),
        case(&["apps:info", "-a", "demo", "--json"], "\"name\":", any),
        Case {
            arguments: &["apps:info", "-a", "nobody"],
            exit: 2,
            says: "Couldn't find that app",
            state: any,
        },
        case(&["apps:create", "fresh", "--stack", "heroku-24"], "fresh", |heroku| {
            Ok(heroku.app("fresh")?.name == "fresh")
        }),
        case(&["config:set", "FOO=bar", "EMPTY=", "-a", "demo"], "FOO", |heroku| {
            Ok(heroku.config_vars("demo")?.get("FOO").is_some_and(|value| value.expose() == "bar"))
        }),
        case(&["config:get", "FOO", "-a", "demo"], "bar", any),
        case(&["config:unset", "FOO", "-a", "demo"], "FOO", |heroku| {
            Ok(!heroku.config_vars("demo")?.contains_key("FOO"))
        }),
        case(&["maintenance:on", "-a", "demo"], "done", |heroku| {
            Ok(heroku.app("demo")?.maintenance)
        }),
        case(&["maintenance", "-a", "demo"], "on", any),
        case(&["maintenance:off", "-a", "demo"], "done", |heroku| {
            Ok(!heroku.app("demo")?.maintenance)
        }),
        case(&["addons", "-a", "demo"], "postgresql-demo", any),
        case(&["releases", "-a", "demo"], "Initial release", any),
    ]
}

fn code_cases() -> Vec<Case> {
    vec![
        case(
            &["builds:create", "-a", "demo", "--source-tar", "source.tgz", "--version", "c0ffee"],
            "",
            |heroku| {
                let build = heroku.builds("demo")?.remove(0);
                let limit = std::time::Duration::from_secs(30);
                let build = heroku.wait_for_build("demo", &build.id, limit)?;
                let release = build.release.map(|release| release.id).unwrap_or_default();
                Ok(heroku.wait_for_release("demo", &release, limit)?.current)
            },
        ),
        case(&["builds", "-a", "demo"], "c0ffee", any),
        case(&["releases:info", "-a", "demo"], "Deploy c0ffee", any),
        case(&["releases:output", "-a", "demo"], "the release phase ran", any),
        case(&["ps", "-a", "demo"], "web.1", any),
        case(&["ps:scale", "web=0", "-a", "demo"], "web at 0", |heroku| {
            Ok(heroku.dynos("demo")?.is_empty())
        }),
        case(&["ps:scale", "web=1", "-a", "demo"], "web at 1", any),
        case(&["ps:restart", "-a", "demo"], "done", any),
        case(
            &["run", "--exit-code", "-a", "demo", "--", "cat", "greeting"],
            "hello from the slug",
            any,
        ),
        Case {
            arguments: &["run", "--exit-code", "-a", "demo", "--", "sh", "-c", "exit 3"],
            exit: 3,
            says: "",
            state: any,
        },
        case(&["run:detached", "-a", "demo", "--", "true"], "Run heroku logs", any),
        case(&["logs", "-a", "demo", "-n", "50"], "Process exited with status", any),
        case(&["config:set", "LATER=1", "-a", "demo"], "LATER", any),
        case(&["releases:rollback", "-a", "demo"], "", |heroku| {
            let newest = heroku.newest_release("demo")?;
            Ok(newest.is_some_and(|release| release.description.starts_with("Rollback to v")))
        }),
        case(&["pipelines:create", "tools", "-a", "demo", "-s", "staging"], "", any),
        case(&["pipelines:add", "tools", "-a", "prod", "-s", "production"], "", |heroku| {
            let stage = heroku.pipeline_coupling("prod")?.map(|coupling| coupling.stage);
            Ok(stage.as_deref() == Some("production"))
        }),
        case(&["pipelines:promote", "-a", "demo"], "succeeded", |heroku| {
            let current = heroku.current_release("prod")?;
            Ok(current.is_some_and(|release| release.description.starts_with("Promote demo")))
        }),
    ]
}

fn database_cases() -> Vec<Case> {
    vec![
        case(&["pg:info", "-a", "demo"], "postgresql-demo", any),
        case(&["pg:credentials", "-a", "demo"], "default", any),
        case(&["pg:backups:capture", "-a", "demo"], "done", |heroku| {
            Ok(heroku
                .transfers("demo")?
                .first()
                .is_some_and(|backup| backup.is_success() && backup.name() == "b001"))
        }),
        case(&["pg:backups", "-a", "demo"], "b001", any),
        case(&["pg:backups:info", "b001", "-a", "demo"], "Completed", any),
        case(&["pg:backups:url", "b001", "-a", "demo"], "https://localhost:", any),
        case(
            &["pg:backups:download", "b001", "-a", "demo", "--output", "downloaded.dump"],
            "done",
            any,
        ),
        case(
            &["pg:backups:restore", "b001", "DATABASE_URL", "-a", "demo", "--confirm", "demo"],
            "done",
            |heroku| {
                Ok(heroku
                    .transfers("demo")?
                    .first()
                    .is_some_and(|restore| restore.is_success() && restore.name() == "r002"))
            },
        ),
        case(
            &["pg:backups:schedule", "DATABASE_URL", "--at", "02:00 UTC", "-a", "demo"],
            "done",
            any,
        ),
        case(&["pg:backups:schedules", "-a", "demo"], "DATABASE_URL", any),
        case(
            &[
                "addons:create",
                "heroku-postgresql:standard-0",
                "--as",
                "COPY",
                "-a",
                "demo",
                "--",
                "--follow",
                "DATABASE_URL",
            ],
            "",
            |heroku| {
                let copy = heroku.database_of("demo", "COPY")?;
                Ok(heroku.database(&copy)?.following.is_some())
            },
        ),
        case(&["pg:wait", "COPY", "-a", "demo"], "available", any),
        case(&["pg:unfollow", "COPY", "-a", "demo", "--confirm", "demo"], "", |heroku| {
            let copy = heroku.database_of("demo", "COPY")?;
            Ok(heroku.database(&copy)?.following.is_none())
        }),
        case(&["pg:copy", "DATABASE_URL", "COPY", "-a", "demo", "--confirm", "COPY"], "done", any),
        case(&["pg:promote", "COPY", "-a", "demo"], "done", |heroku| {
            Ok(heroku.database_of("demo", "DATABASE_URL")?.name != "postgresql-demo")
        }),
        case(&["pg:backups:delete", "b001", "-a", "demo", "--confirm", "demo"], "done", |heroku| {
            Ok(heroku.transfers("demo")?.iter().all(|transfer| transfer.num != 1))
        }),
        case(
            &["addons:destroy", "postgresql-demo", "-a", "demo", "--confirm", "demo"],
            "",
            |heroku| Ok(heroku.addons("demo")?.len() == 1),
        ),
    ]
}

/// The source that is built: a Procfile with a release phase.
fn prepare(folder: &Path) -> Result<(), Failure> {
    let source = folder.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("Procfile"), "web: sleep 600\nrelease: echo the release phase ran\n")?;
    fs::write(source.join("greeting"), "hello from the slug\n")?;
    let packed =
        Command::new("tar").args(["-czf", "../source.tgz", "."]).current_dir(source).status()?;
    if packed.success() { Ok(()) } else { Err(Failure::failed("tar cannot pack the source")) }
}

/// The tool's script, installed where it is not yet; none without Node.
fn provide(project: &Project) -> Result<Option<PathBuf>, Failure> {
    let has = |program: &str| {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.is_ok_and(|status| status.success())
    };
    if !has("node") || !has("npm") {
        return Ok(None);
    }
    let folder = project.root().join(".omnitool/tools").join(TOOL.replace('@', "-"));
    let script = folder.join("node_modules/heroku/bin/run.js");
    let complete = folder.join("complete");
    if complete.is_file() {
        return Ok(Some(script));
    }
    print(&format!("Installing {TOOL} from npm into {} (400 MB)\n", project.shown(&folder)))?;
    fs::create_dir_all(&folder)?;
    let hint = "run again; it comes from npm";
    let output = Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix"])
        .arg(&folder)
        .args([TOOL, BUILDS])
        .output()
        .map_err(|error| {
            Failure::failed(ConformanceError::Install(error.to_string())).hint(hint)
        })?;
    if !output.status.success() || !script.is_file() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::failed(ConformanceError::Install(said)).hint(hint));
    }
    fs::write(complete, "")?;
    Ok(Some(script))
}

/// The tool, away from the user's files and from the true service.
struct Cli {
    tool: PathBuf,
    home: PathBuf,
    address: String,
}

impl Cli {
    fn run(&self, arguments: &[&str], folder: &Path) -> Result<Output, Failure> {
        let mut command = Command::new("node");
        command.arg("--no-deprecation");
        match arguments.first() {
            Some(first) if first.starts_with("builds") => command.args(["-e", PLUGIN]),
            _ => command.arg(&self.tool),
        };
        let output = command
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", &self.home)
            .envs(self.tool.ancestors().nth(3).map(|modules| ("NODE_PATH", modules)))
            .env("HEROKU_HOST", &self.address)
            .env("HEROKU_PARTICLEBOARD_URL", &self.address)
            .env("HEROKU_DATA_HOST", "127.0.0.1")
            .env("HEROKU_API_KEY", TOKEN)
            .env("NODE_EXTRA_CA_CERTS", self.home.join("authority.pem"))
            .envs([("TERM", "dumb"), ("NO_COLOR", "1"), ("CI", "1"), ("HEROKU_NOTIFICATIONS", "0")])
            .envs([("DISABLE_TELEMETRY", "true"), ("HEROKU_SKIP_NEW_VERSION_CHECK", "true")])
            .env("HIDE_HEROKU_RELEASE_NOTES", "true")
            .stdin(Stdio::null())
            .output()?;
        Ok(output)
    }
}

/// The emulator, in a process of its own with a PostgreSQL server, until its stdin closes.
struct Emulator {
    address: String,
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Emulator {
    fn start(project: &Project, scratch: &Path) -> Result<Self, Failure> {
        let mut build = project.cargo();
        // As for the tests, so that what those have built is not built again with fewer features.
        build.args(["build", "--quiet", "--locked", "--workspace", "--bins"]);
        if !build.status()?.success() {
            return Err(Failure::failed(ConformanceError::Build));
        }
        let programs = project.programs_folder(Profile::Dev)?;
        let mut process = Command::new(programs.join("with-postgres"))
            .arg(programs.join("heroku-emulator"))
            .args(["--app", "demo", "--app", "prod"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take();
        let mut stdout =
            BufReader::new(process.stdout.take().ok_or(Failure::failed(ConformanceError::Start))?);
        let mut address = String::new();
        stdout.read_line(&mut address)?;
        let mut authority = String::new();
        while !authority.contains("END CERTIFICATE") {
            if stdout.read_line(&mut authority)? == 0 {
                return Err(Failure::failed(ConformanceError::Start));
            }
        }
        fs::write(scratch.join("authority.pem"), authority)?;
        // Whatever it prints later must not block it.
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Ok(Self { address: address.trim().to_owned(), process, stdin })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Its own PostgreSQL server and processes end with it.
        let _ = self.process.wait();
    }
}
