//! Runs programs as their users do, in a folder of their own.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A temporary project folder with the shipped `data/`, in which programs run without this machine's environment.
#[derive(Debug)]
pub struct TestProject {
    folder: TempDir,
}

/// What a program did. Look at its code or its output: a test that ignores it proves nothing.
#[derive(Debug)]
#[must_use]
pub struct CommandOutput {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The result, with the project's folder written as `[ROOT]`.
    pub stdout: String,
    /// Logs, hints and errors, with the project's folder written as `[ROOT]`.
    pub stderr: String,
}

impl TestProject {
    /// A project with the shipped `data/`.
    ///
    /// # Panics
    ///
    /// Where the folder cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
        copy_folder(&data, &project.path().join("data"));
        project
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below its folder.
    ///
    /// # Panics
    ///
    /// Where the file cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        file
    }

    /// A command in the project's folder with nothing inherited but `PATH`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs `program` with `arguments` on the database at `url`.
    ///
    /// # Panics
    ///
    /// Where it cannot be started.
    pub fn run(
        &self,
        program: impl AsRef<OsStr>,
        url: &omnitool_environment::DatabaseUrl,
        arguments: &[&str],
    ) -> CommandOutput {
        let mut command = self.command(program);
        command.env("DATABASE_URL", url.expose()).args(arguments);
        self.output(command)
    }

    /// Runs `command` to its end.
    ///
    /// # Panics
    ///
    /// Where it cannot be started.
    pub fn output(&self, mut command: Command) -> CommandOutput {
        let output = command.output().unwrap();
        let root = self.path().display().to_string();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&root, "[ROOT]");
        CommandOutput {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Default for TestProject {
    fn default() -> Self {
        Self::new()
    }
}

impl CommandOutput {
    /// Asserts exit code 0 and returns stdout.
    ///
    /// # Panics
    ///
    /// Where the program failed.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts another exit code and returns stderr.
    ///
    /// # Panics
    ///
    /// Where the program ended otherwise.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// Writes an executable script, in a process of its own: a process that another test starts has, for a moment, a copy of
/// every open file of this one, and a program that is open for writing cannot be executed.
///
/// # Panics
///
/// Where it cannot be written.
pub fn write_program(file: &Path, script: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(file)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("#!/bin/sh\n{script}\n");
    writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // Backups of the developer's own environments are no part of the shipped data.
        if entry.file_name() == "backups" {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
