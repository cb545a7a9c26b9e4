//! Who changes access.

/// Where a fact comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The tool was a default when the user was made, or defaults were assigned later.
    Default,
    /// An import of an export file.
    Import,
    /// An admin's decision.
    Admin,
}

impl Origin {
    /// The name that the database holds.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Import => "import",
            Self::Admin => "admin",
        }
    }
}

/// Who changes facts, for their origin and for the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub(crate) origin: Origin,
    pub(crate) program: String,
    pub(crate) admin: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) file_sha256: Option<String>,
}

impl Author {
    /// An admin of the app, by user name.
    #[must_use]
    pub fn admin(username: impl Into<String>) -> Self {
        Self { admin: Some(username.into()), ..Self::program("omnitool", Origin::Admin) }
    }

    /// A program that makes facts of `origin`.
    #[must_use]
    pub fn program(name: impl Into<String>, origin: Origin) -> Self {
        Self { origin, program: name.into(), admin: None, run_id: None, file_sha256: None }
    }

    /// The deployment's run that the change is part of.
    #[must_use]
    pub fn run_id(mut self, run_id: Option<String>) -> Self {
        self.run_id = run_id;
        self
    }
}
