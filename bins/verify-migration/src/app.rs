//! Runs `omnitool check`, the app's own check, for check 8.

use std::{
    env, io,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_verification::AppAnswer;
use serde::Deserialize;

/// How long the app may take to check itself.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much of its output is read.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// Why the app could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskAppError {
    /// This program does not know where it is.
    #[error("cannot find out where this program is")]
    Locate(#[source] io::Error),
    /// The app is not beside this program.
    #[error("there is no {}", .program.display())]
    Missing { program: PathBuf },
    /// It cannot be started or waited for.
    #[error("cannot run {}", .program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It takes too long.
    #[error("`omnitool check` did not end within {} s", DEADLINE.as_secs())]
    Timeout,
    /// It ended as no check ends.
    #[error("`omnitool check` ended with {status}{said}")]
    Ended { status: ExitStatus, said: String },
}

/// What `omnitool check --format json` prints: its checks, or the failure that kept it from them.
#[derive(Default, Deserialize)]
struct Answer {
    summary: Option<String>,
    #[serde(default)]
    checks: Vec<AppCheck>,
    error: Option<String>,
    #[serde(default)]
    causes: Vec<String>,
}

#[derive(Deserialize)]
struct AppCheck {
    id: String,
    status: String,
    message: String,
}

/// Asks the `omnitool` beside this program about itself and this database.
pub(crate) fn ask(
    url: &DatabaseUrl,
    environment: Option<EnvironmentName>,
) -> Result<AppAnswer, Box<dyn std::error::Error + Send + Sync>> {
    let here = env::current_exe().map_err(AskAppError::Locate)?;
    let program = here.with_file_name(format!("omnitool{}", env::consts::EXE_SUFFIX));
    if !program.is_file() {
        return Err(AskAppError::Missing { program }.into());
    }
    let mut command = Command::new(&program);
    command.args(["check", "--format", "json"]);
    // Not as flags, which show in process lists.
    command.env("DATABASE_URL", url.expose());
    if let Some(environment) = environment {
        command.env("OMNITOOL_ENV", environment.as_str());
    }
    let output = run(command, &program)?;
    Ok(judge(&output)?)
}

struct Output {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn run(mut command: Command, program: &Path) -> Result<Output, AskAppError> {
    let failed = |source| AskAppError::Run { program: program.to_owned(), source };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Read beside each other, so that a full pipe blocks nobody.
    let stdout = read(child.stdout.take());
    let stderr = read(child.stderr.take());
    let status = wait(&mut child).map_err(failed)?;
    let Some(status) = status else {
        child.kill().and_then(|()| child.wait()).map_err(failed)?;
        // Its pipes may be held open by children of its own, so that they are not waited for.
        return Err(AskAppError::Timeout);
    };
    let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
    Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
}

fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What was read before an error is as much as there will be.
            let _ = pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the child's end, or returns `None` at the deadline.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}

fn judge(output: &Output) -> Result<AppAnswer, AskAppError> {
    let Output { status, stdout, stderr } = output;
    // The exit code decides; what it says only explains.
    let answer: Answer = serde_json::from_str(stdout).unwrap_or_default();
    match status.code() {
        Some(0) => {
            let says = answer.summary.unwrap_or_else(|| "`omnitool check` passed".to_owned());
            Ok(AppAnswer::Works(says))
        }
        Some(1) => Ok(AppAnswer::Broken(problems(answer, stderr))),
        _ => {
            let said = first_line(stderr).map(|line| format!(": {line}")).unwrap_or_default();
            Err(AskAppError::Ended { status: *status, said })
        }
    }
}

fn problems(answer: Answer, stderr: &str) -> Vec<String> {
    let Answer { summary, checks, error, causes } = answer;
    let mut problems: Vec<String> = checks
        .into_iter()
        .filter(|check| check.status != "ok")
        .map(|AppCheck { id, status: _, message }| format!("{id}: {message}"))
        .collect();
    problems.extend(
        error.map(|error| [error].into_iter().chain(causes).collect::<Vec<_>>().join(": ")),
    );
    if problems.is_empty() {
        problems.extend(summary.or_else(|| first_line(stderr).map(str::to_owned)));
    }
    if problems.is_empty() {
        problems.push("it does not say why".to_owned());
    }
    problems
}

fn first_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty())
}
