//! Commands as data.

use std::{fmt, path::PathBuf};

use crate::Variable;

/// A command on this machine: what is executed, where, and with which variables. No shell is involved.
#[derive(Clone, Debug)]
pub struct CommandLine {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<Variable>,
    folder: PathBuf,
}

impl CommandLine {
    /// A command that runs in `folder`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            folder: folder.into(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds variables to those that are inherited.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = Variable>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// The arguments.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.arguments
    }

    /// The command without its variables, for errors.
    pub(crate) fn without_variables(&self) -> String {
        let mut text = quoted(&self.program.to_string_lossy());
        for argument in &self.arguments {
            text.push(' ');
            text.push_str(&quoted(&self.redact(argument)));
        }
        text
    }

    /// `line` without the values of secret variables.
    pub(crate) fn redact(&self, line: &str) -> String {
        self.variables.iter().fold(line.to_owned(), |line, variable| variable.redact(&line))
    }

    /// The command for the operating system.
    pub(crate) fn to_process(&self) -> std::process::Command {
        let mut process = std::process::Command::new(&self.program);
        process.args(&self.arguments).current_dir(&self.folder);
        for name in NOT_INHERITED {
            process.env_remove(name);
        }
        process.envs(self.variables.iter().map(|variable| (variable.name(), variable.expose())));
        process
    }
}

/// Variables of whoever runs the deployment that must not decide what a deployed program works on, and secrets that it does
/// not need.
const NOT_INHERITED: [&str; 11] = [
    "DATABASE_URL",
    "HEROKU_API_KEY",
    "OMNITOOL_DISCORD_WEBHOOK",
    "OMNITOOL_ENV",
    "OMNITOOL_PLATFORM",
    "OMNITOOL_RELEASE",
    "OMNITOOL_SLACK_WEBHOOK",
    "OMNITOOL_WEBHOOK",
    "PORT",
    "TOOL_ACCESS_MODE",
    "TOOL_ACCESS_SOURCE",
];

/// The command as one would type it, without the inherited variables; secret values are replaced.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for variable in &self.variables {
            write!(f, "{variable} ")?;
        }
        f.write_str(&self.without_variables())
    }
}

/// `word` as a shell would need it.
pub(crate) fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_shows_itself_quoted_and_without_secrets() {
        let command = CommandLine::new("/opt/migrate db", "/")
            .arguments(["--tools", "it's.toml", "", "sqlite:/x.db"])
            .variables([
                Variable::plain("PORT", "1"),
                Variable::secret("DATABASE_URL", "sqlite:/x.db"),
            ]);
        insta::assert_snapshot!(
            command,
            @r"PORT=1 DATABASE_URL=*** '/opt/migrate db' --tools 'it'\''s.toml' '' '***'"
        );
    }
}
