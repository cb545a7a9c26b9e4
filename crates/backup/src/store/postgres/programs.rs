//! PostgreSQL's client programs: where they are, which version they have, running them.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use super::target::ProgramTarget;

/// Where Debian keeps a folder per version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Where Homebrew keeps formulas, on Apple's processors and on Intel's.
const HOMEBREW: [&str; 2] = ["/opt/homebrew/opt", "/usr/local/opt"];
/// How often a caller hears of progress.
const TICK: Duration = Duration::from_millis(100);
/// What is kept of what a program says: its end names the failure.
const KEPT_BYTES: usize = 16 * 1024;

/// The programs of one version.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// Where they are; none where the PATH leads to them.
    folder: Option<PathBuf>,
    major: u32,
}

/// Why a server's databases cannot be dumped and restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindProgramsError {
    #[error(
        "pg_dump and pg_restore are not installed{}; install them, on Debian: apt-get install {package}", looked_in(.folder.as_deref())
    )]
    Missing { folder: Option<PathBuf>, package: String },
    #[error(
        "the server is PostgreSQL {server}, which the pg_dump of PostgreSQL {found} cannot back up{}; install a newer one, \
         on Debian: apt-get install postgresql-client-{server}", looked_in(.folder.as_deref())
    )]
    TooOld { folder: Option<PathBuf>, found: u32, server: u32 },
}

/// Why a program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot start {program}")]
    Start {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot read what {program} prints")]
    Read {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed ({status}): {message}")]
    Failed { program: &'static str, status: std::process::ExitStatus, message: String },
}

impl RunError {
    /// Whether a server says that its disk is full, which is no fault of what it was given.
    pub(super) fn is_about_room(&self) -> bool {
        let Self::Failed { message, .. } = self else { return false };
        // A server that speaks another language is not understood; the backup then gets the blame.
        ["No space left on device", "could not extend file", "Disk quota exceeded"]
            .iter()
            .any(|text| message.contains(text))
    }
}

fn looked_in(folder: Option<&Path>) -> String {
    match folder {
        Some(folder) => format!(" (looked in {})", folder.display()),
        None => format!(" (looked on the PATH, in {DEBIAN} and Homebrew's folders)"),
    }
}

impl Programs {
    /// The programs for a server of version `server`: those of the same version where they are there, else newer ones.
    ///
    /// An older `pg_dump` refuses a newer server, and a newer `pg_restore` may use settings that an older server does not know.
    pub(super) fn find(folder: Option<&Path>, server: u32) -> Result<Self, FindProgramsError> {
        let mut found: Vec<Self> = Vec::new();
        for candidate in candidates(folder) {
            let Some(major) = version_of(candidate.as_deref()) else { continue };
            let programs = Self { folder: candidate, major };
            if major == server {
                return Ok(programs);
            }
            found.push(programs);
        }
        let folder = folder.map(Path::to_owned);
        match found.iter().filter(|programs| programs.major > server).min_by_key(|it| it.major) {
            Some(newer) => Ok(newer.clone()),
            None => Err(match found.iter().map(|programs| programs.major).max() {
                Some(found) => FindProgramsError::TooOld { folder, found, server },
                None => FindProgramsError::Missing {
                    folder,
                    package: format!("postgresql-client-{server}"),
                },
            }),
        }
    }

    /// Programs for reading files, where no server is at hand: newest first, since a dump needs one that is as new as itself.
    pub(super) fn newest(folder: Option<&Path>) -> Result<Self, FindProgramsError> {
        let newest = candidates(folder)
            .into_iter()
            .filter_map(|candidate| {
                Some(Self { major: version_of(candidate.as_deref())?, folder: candidate })
            })
            // The first of those with the same version: the PATH wins.
            .reduce(|best, other| if other.major > best.major { other } else { best });
        newest.ok_or_else(|| FindProgramsError::Missing {
            folder: folder.map(Path::to_owned),
            package: "postgresql-client".to_owned(),
        })
    }

    /// `pg_restore`, which reads files without a server as well.
    pub(super) fn pg_restore(&self) -> Program {
        self.program("pg_restore")
    }

    /// `pg_dump`.
    pub(super) fn pg_dump(&self) -> Program {
        self.program("pg_dump")
    }

    fn program(&self, name: &'static str) -> Program {
        let mut command = Command::new(path_of(self.folder.as_deref(), name));
        // What it says is read by us. A service or an address from the environment would lead it elsewhere.
        command.env("LC_ALL", "C").env_remove("PGSERVICE").env_remove("PGHOSTADDR");
        command.env_remove("PGOPTIONS").stdin(Stdio::null()).stdout(Stdio::null());
        Program { name, command }
    }
}

/// One program about to run.
pub(super) struct Program {
    name: &'static str,
    command: Command,
}

impl Program {
    pub(super) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(super) fn connect(mut self, target: ProgramTarget) -> Self {
        self.command.arg("--no-password").arg(format!("--dbname={}", target.url));
        self.command.envs(target.variables);
        self
    }

    pub(super) fn stdout(mut self, file: std::fs::File) -> Self {
        self.command.stdout(file);
        self
    }

    /// Runs it to its end and calls `tick` again and again meanwhile.
    pub(super) fn run(self, tick: &mut dyn FnMut()) -> Result<(), RunError> {
        self.run_beside(|| (), tick)
    }

    /// Runs it to its end and does `work` meanwhile, before it calls `tick` again and again.
    pub(super) fn run_beside<T>(
        self,
        work: impl FnOnce() -> T,
        tick: &mut dyn FnMut(),
    ) -> Result<T, RunError> {
        self.run_with(|_, ended| {
            let done = work();
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(TICK) {
                tick();
            }
            Ok(done)
        })
    }

    /// Runs it and gives `read` what it prints, as it comes.
    pub(super) fn read(
        mut self,
        read: impl FnOnce(&mut dyn io::BufRead) -> io::Result<()>,
    ) -> Result<(), RunError> {
        self.command.stdout(Stdio::piped());
        self.run_with(|stdout, _| match stdout {
            Some(stdout) => read(&mut BufReader::with_capacity(1 << 18, stdout)),
            None => Ok(()),
        })
    }

    fn run_with<T>(
        mut self,
        body: impl FnOnce(Option<ChildStdout>, mpsc::Receiver<()>) -> io::Result<T>,
    ) -> Result<T, RunError> {
        let program = self.name;
        let read = |source| RunError::Read { program, source };
        let child = self
            .command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| RunError::Start { program, source })?;
        let mut running = Running(child);
        let (stdout, stderr) = (running.0.stdout.take(), running.0.stderr.take());
        let (ending, ended) = mpsc::channel();
        let said = std::thread::spawn(move || {
            let text = stderr.map(keep_end).unwrap_or_default();
            drop(ending);
            text
        });
        let done = body(stdout, ended).map_err(read)?;
        // It closed its stderr, or stdout, and ends.
        let status = running.0.wait().map_err(read)?;
        let said = said.join().unwrap_or_default();
        if status.success() {
            return Ok(done);
        }
        Err(RunError::Failed { program, status, message: message(program, &said) })
    }
}

/// A program that does not outlive its caller's interest.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended and was waited for, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads all of `source` and keeps its end.
fn keep_end(mut source: impl Read) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = source.read(&mut piece) {
        kept.extend_from_slice(&piece[..length]);
        if kept.len() > 2 * KEPT_BYTES {
            kept.drain(..kept.len() - KEPT_BYTES);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// What a program says went wrong. Its other lines may quote rows, which hold personal data.
fn message(program: &str, said: &str) -> String {
    let start = format!("{program}: ");
    let lines: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix(&start))
        .filter_map(|line| line.strip_prefix("error: ").or_else(|| line.strip_prefix("hint: ")))
        .take(3)
        .collect();
    if lines.is_empty() { "it does not say why".to_owned() } else { lines.join("; ") }
}

fn path_of(folder: Option<&Path>, name: &str) -> PathBuf {
    folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
}

/// Where to look, in this order; none stands for the PATH.
fn candidates(folder: Option<&Path>) -> Vec<Option<PathBuf>> {
    if let Some(folder) = folder {
        return vec![Some(folder.to_owned())];
    }
    let mut found = vec![None];
    let names = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort_unstable();
        // The newest version first.
        paths.reverse();
        paths
    };
    found.extend(names(Path::new(DEBIAN)).into_iter().map(|path| Some(path.join("bin"))));
    for prefix in HOMEBREW {
        let is_ours = |path: &PathBuf| {
            path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.starts_with("postgresql") || name == "libpq"
            })
        };
        found.extend(
            names(Path::new(prefix)).into_iter().filter(is_ours).map(|path| Some(path.join("bin"))),
        );
    }
    found
}

/// The major version of both programs in `folder`; none where one is missing.
fn version_of(folder: Option<&Path>) -> Option<u32> {
    let major = |name| {
        let output = Command::new(path_of(folder, name))
            .arg("--version")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        parse_version(BufReader::new(&*output.stdout).lines().next()?.ok()?.as_str())
    };
    // Packages bring both; one that is older than the other would fail halfway.
    Some(major("pg_dump")?.min(major("pg_restore")?))
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15; `18beta1` is 18.
fn parse_version(line: &str) -> Option<u32> {
    let version = line.split_once("(PostgreSQL) ")?.1;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_printed() {
        assert_eq!(parse_version("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(parse_version("pg_restore (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("pg_dump: not found"), None);
    }

    #[test]
    fn only_what_a_program_calls_an_error_is_repeated() {
        let said = "pg_restore: error: COPY failed for table \"users\": ERROR:  duplicate key\n\
                    DETAIL:  Key (username)=(alice) already exists.\n\
                    CONTEXT:  COPY users, line 1: \"1\talice\tsecret-hash\"\n";
        insta::assert_snapshot!(message("pg_restore", said), @r#"COPY failed for table "users": ERROR:  duplicate key"#);
        assert_eq!(message("pg_restore", ""), "it does not say why");
    }

    #[test]
    fn a_missing_program_names_the_package() {
        let empty = tempfile::tempdir().unwrap();
        let error = Programs::find(Some(empty.path()), 16).unwrap_err().to_string();
        assert!(error.ends_with("on Debian: apt-get install postgresql-client-16"), "{error}");
    }
}
