//! Environment variables of programs, some of which are secret.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

/// An environment variable that programs get.
#[derive(Clone, Debug)]
pub struct Variable {
    name: String,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Plain(String),
    Secret(SecretString),
}

impl Variable {
    /// A variable that may be shown.
    #[must_use]
    pub fn plain(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: Value::Plain(value.into()) }
    }

    /// A variable whose value is never shown.
    #[must_use]
    pub fn secret(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: Value::Secret(value.into().into()) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its value is never shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.value, Value::Secret(_))
    }

    /// Its value, for the process that gets it.
    #[must_use]
    pub fn expose(&self) -> &str {
        match &self.value {
            Value::Plain(value) => value,
            Value::Secret(value) => value.expose_secret(),
        }
    }

    /// Replaces this variable's value in `line` where the value is secret.
    pub(crate) fn redact(&self, line: &str) -> String {
        match &self.value {
            Value::Secret(secret) if !secret.expose_secret().is_empty() => {
                line.replace(secret.expose_secret(), "***")
            }
            _ => line.to_owned(),
        }
    }
}

/// `NAME=value`, with the value of a secret replaced.
impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Plain(value) => write!(f, "{}={value}", self.name),
            Value::Secret(_) => write!(f, "{}=***", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_nowhere() {
        let secret = Variable::secret("DATABASE_URL", "postgres://u:hunter2@h/d");
        assert_eq!(secret.to_string(), "DATABASE_URL=***");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret.redact("to postgres://u:hunter2@h/d!"), "to ***!");
        assert_eq!(Variable::plain("PORT", "80").redact("port 80"), "port 80");
    }
}
