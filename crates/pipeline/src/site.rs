//! The environment that a plan is for, and the calls of programs that plans consist of.

use std::{path::PathBuf, time::Duration};

use omnitool_environment::{DatabaseUrl, EnvironmentName, Platform as PlatformName, Url};

use crate::{Place, ProgramCall, Purpose, ReleaseId, Variable};

/// How many backups stay.
const BACKUPS_KEPT: usize = 10;
/// The committed export of who may use what, in a release's folder.
const ACCESS_EXPORT: &str = "data/tool_access_exports/local_tool_access.json";
/// How long a program may take. It is far more than any of them needs, and ends a run that nobody watches.
const PROGRAM_LIMIT: Duration = Duration::from_secs(600);

/// The environment that a plan is for.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name.
    pub environment: EnvironmentName,
    /// What it runs on.
    pub home: Home,
    /// The project's root, an absolute path.
    pub root: PathBuf,
    /// Where its app answers.
    pub base_url: Url,
}

/// What an environment runs on.
#[derive(Clone, Debug)]
pub enum Home {
    /// This machine.
    Local {
        /// Its database; a SQLite path is absolute.
        database_url: DatabaseUrl,
    },
    /// An app on Heroku, whose add-on is its database.
    Heroku {
        /// The app's name.
        app: String,
        /// The app that runs staging, where that is another one: what it runs can be promoted.
        staging: Option<String>,
        /// By what programs on this machine reach Heroku.
        access: Vec<Variable>,
    },
}

impl Site {
    /// What it runs on, by name.
    #[must_use]
    pub const fn platform(&self) -> PlatformName {
        match self.home {
            Home::Local { .. } => PlatformName::Local,
            Home::Heroku { .. } => PlatformName::Heroku,
        }
    }

    /// The variables that are set on its platform.
    #[must_use]
    pub fn variables(&self) -> Vec<Variable> {
        let mut variables = vec![Variable::plain("OMNITOOL_ENV", self.environment.as_str())];
        // On Heroku the add-on sets the one, and the router the other.
        if let Home::Local { database_url } = &self.home {
            let port = self.base_url.port_or_known_default().unwrap_or(80);
            variables.push(Variable::secret("DATABASE_URL", database_url.expose()));
            variables.push(Variable::plain("PORT", port.to_string()));
        }
        variables
    }

    /// The variables that its programs get where they run on this machine.
    #[must_use]
    pub fn variables_here(&self) -> Vec<Variable> {
        let mut variables = self.variables();
        if let Home::Heroku { access, .. } = &self.home {
            let platform = self.platform().as_str();
            variables.push(Variable::plain("OMNITOOL_PLATFORM", platform));
            variables.extend(access.iter().cloned());
        }
        variables
    }

    /// The flag that chooses its platform, where that is not the default; for commands that are shown.
    #[must_use]
    pub const fn platform_flag(&self) -> &'static str {
        match self.home {
            Home::Local { .. } => "",
            Home::Heroku { .. } => " --platform heroku",
        }
    }

    pub(crate) fn program(
        &self,
        program: &'static str,
        place: Place,
        arguments: &[&str],
    ) -> ProgramCall {
        let common = ["--env", self.environment.as_str(), "--format", "json"];
        ProgramCall {
            program,
            arguments: arguments.iter().chain(&common).map(|&text| text.to_owned()).collect(),
            place,
            variables: Vec::new(),
            purpose: Purpose::Look,
            limit: PROGRAM_LIMIT,
        }
    }

    /// Pending schema migrations, then the tools.
    #[must_use]
    pub fn migrate(&self, place: Place) -> ProgramCall {
        ProgramCall {
            purpose: Purpose::ChangeDatabase,
            ..self.program("migrate-db", place, &["--tools", "data/tools.toml"])
        }
    }

    /// The same, saying what each statement locks and for how long.
    #[must_use]
    pub fn migrate_watched(&self, place: Place) -> ProgramCall {
        let mut call = self.migrate(place);
        call.arguments.push("--locks".to_owned());
        call
    }

    /// Whether the programs at `place` can migrate the database; nothing is changed.
    #[must_use]
    pub fn check_schema(&self, place: Place) -> ProgramCall {
        ProgramCall {
            purpose: Purpose::CheckSchema,
            ..self.program("migrate-db", place, &["--status"])
        }
    }

    /// Undoes the newest `count` migrations; the caller has confirmed it.
    #[must_use]
    pub fn revert(&self, place: Place, count: u16) -> ProgramCall {
        let phrase = match self.environment {
            EnvironmentName::Production => format!("REVERT {count} PRODUCTION"),
            _ => format!("REVERT {count}"),
        };
        ProgramCall {
            purpose: Purpose::ChangeDatabase,
            ..self.program(
                "migrate-db",
                place,
                &["--down", &count.to_string(), "--confirm", &phrase],
            )
        }
    }

    /// Demo users, where there are no users.
    #[must_use]
    pub fn create_demo_users(&self, place: Place) -> ProgramCall {
        ProgramCall {
            purpose: Purpose::CreateUsers,
            ..self.program("omnitool", place, &["create-user", "--demo-users"])
        }
    }

    /// The committed export of who may use what.
    #[must_use]
    pub fn import_access(&self, place: Place) -> ProgramCall {
        ProgramCall { purpose: Purpose::ChangeDatabase, ..self.import(place, &[]) }
    }

    /// What [`Site::import_access`] would change.
    #[must_use]
    pub fn plan_access(&self, place: Place) -> ProgramCall {
        self.import(place, &["--dry-run"])
    }

    fn import(&self, place: Place, more: &[&str]) -> ProgramCall {
        let arguments: Vec<&str> =
            ["--source", ACCESS_EXPORT, "--mode", "merge"].iter().chain(more).copied().collect();
        self.program("import-tool-access", place, &arguments)
    }

    /// The tools once more.
    #[must_use]
    pub fn sync_tools(&self, place: Place) -> ProgramCall {
        self.program("sync-tools", place, &["--tools", "data/tools.toml"])
    }

    /// The checks of the database.
    #[must_use]
    pub fn verify(&self, place: Place) -> ProgramCall {
        self.program("verify-migration", place, &[])
    }

    /// The same after [`Site::import_access`]: whoever the release's export shuts out must be out, and its facts there.
    #[must_use]
    pub fn verify_imported(&self, place: Place) -> ProgramCall {
        self.program("verify-migration", place, &["--expect-access", ACCESS_EXPORT])
    }

    /// The checks of the running app, which must be of `release`.
    #[must_use]
    pub fn smoke(&self, place: Place, release: ReleaseId) -> ProgramCall {
        self.program(
            "smoke-tests",
            place,
            &[
                "--url",
                self.base_url.as_str().trim_end_matches('/'),
                "--timeout",
                "30",
                "--expect-release",
                &release.to_string(),
            ],
        )
    }

    fn with_backups(&self, program: &'static str, place: Place, arguments: &[&str]) -> ProgramCall {
        let folder = self.root.join("data/backups");
        let folder = folder.to_string_lossy();
        let all: Vec<&str> = ["--folder", &*folder].iter().chain(arguments).copied().collect();
        self.program(program, place, &all)
    }

    /// A backup from before `release` changes anything.
    #[must_use]
    pub fn take_backup(&self, place: Place, release: ReleaseId) -> ProgramCall {
        let release = release.to_string();
        ProgramCall {
            purpose: Purpose::TakeBackup,
            ..self.with_backups(
                "backup-database",
                place,
                &["capture", "--kind", "before-deploy", "--release", &release],
            )
        }
    }

    /// A backup because somebody wants one.
    #[must_use]
    pub fn take_manual_backup(&self, place: Place) -> ProgramCall {
        ProgramCall {
            purpose: Purpose::TakeBackup,
            ..self.with_backups("backup-database", place, &["capture"])
        }
    }

    /// All backups.
    #[must_use]
    pub fn list_backups(&self, place: Place) -> ProgramCall {
        ProgramCall {
            purpose: Purpose::ListBackups,
            ..self.with_backups("backup-database", place, &["list"])
        }
    }

    /// Removes old backups.
    #[must_use]
    pub fn prune_backups(&self, place: Place) -> ProgramCall {
        let keep = BACKUPS_KEPT.to_string();
        self.with_backups("backup-database", place, &["prune", "--keep", &keep])
    }

    /// Puts a backup back, the newest where none is named; the caller has confirmed it.
    #[must_use]
    pub fn restore(&self, place: Place, backup: Option<&str>) -> ProgramCall {
        let mut arguments = Vec::new();
        if self.environment == EnvironmentName::Production {
            arguments.extend(["--confirm", "ROLLBACK PRODUCTION"]);
        }
        arguments.extend(backup.iter().flat_map(|backup| ["--backup", *backup]));
        ProgramCall {
            purpose: Purpose::Restore,
            ..self.with_backups("rollback-migration", place, &arguments)
        }
    }

    /// Restores a backup on Heroku into the database that [`Site::copy_variable`] names, the newest where none is named.
    #[must_use]
    pub fn restore_copy(&self, place: Place, backup: Option<&str>) -> ProgramCall {
        let arguments: Vec<&str> = ["restore-copy"].into_iter().chain(backup).collect();
        ProgramCall {
            purpose: Purpose::TakeBackup,
            ..self.with_backups("backup-database", place, &arguments)
        }
    }

    /// Drops this database, which is a copy that a rehearsal was made on; nothing where it is a file.
    #[must_use]
    pub fn drop_copy(&self, place: Place) -> Option<ProgramCall> {
        let variable = self.copy_variable()?;
        let call = self.with_backups("backup-database", place, &["drop-copy"]);
        Some(ProgramCall { variables: vec![variable], ..call })
    }

    /// The variable that names this database as one that may be dropped; nothing where it is a file.
    #[must_use]
    pub fn copy_variable(&self) -> Option<Variable> {
        match &self.home {
            Home::Local { database_url } if database_url.sqlite_path().is_none() => {
                Some(Variable::secret("OMNITOOL_REHEARSAL_DATABASE_URL", database_url.expose()))
            }
            _ => None,
        }
    }

    /// What [`Site::restore`] would lose.
    #[must_use]
    pub fn plan_restore(&self, place: Place) -> ProgramCall {
        self.with_backups("rollback-migration", place, &["--dry-run"])
    }

    /// Replaces this environment's data by a masked copy of production's.
    #[must_use]
    pub fn refresh(&self, place: Place) -> ProgramCall {
        ProgramCall {
            purpose: Purpose::ChangeDatabase,
            ..self.program("sync-data-prod-to-staging", place, &[])
        }
    }
}
