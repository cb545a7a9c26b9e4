//! Takes, lists, checks and removes backups of an environment's database.

mod heroku;
mod report;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use omnitool_backup::{
    BackupId, CaptureError, Catalog, CatalogError, DEFAULT_FOLDER, DropCopyError,
    FindEnvironmentError, Keys, Kind, Listing, Pin, PlanPruneError, Progress, PrunePlan, Recipient,
    RehearsalHooks, Retention, Step, Store, StoreOptions, UnsupportedDatabaseError, capture,
    find_environment, for_url_with, set_pin, verify,
};
use omnitool_cli::{
    Failure, Format, Outcome, PlatformArgs, Program, ProgressBar, TargetArgs, progress_bar, spinner,
};
use omnitool_environment::{DatabaseUrl, EnvironmentName, Platform};

use self::report::{Applied, Checked, Place};

const EXAMPLES: &str = "\
A backup is a copy of the whole database at one moment, taken while the app goes on. It is opened and checked before it \
counts. Its manifest says what is in it. Backups hold personal data: only their owner can read them, and git ignores them.

Examples:
  backup-database --env staging capture
  backup-database --env staging list
  backup-database --env staging verify b003
  backup-database --env production verify --deep
  backup-database --env production capture --encrypt-to age1…
  backup-database --env production verify --identity ~/.config/omnitool/backup.key
  backup-database --env production pin b003
  backup-database --env production prune --keep 10 --dry-run
  backup-database --env production prune --keep 10 --keep-daily 7 --keep-weekly 4 --keep-monthly 12
  HEROKU_API_KEY=… backup-database --env production --platform heroku capture

To restore one: rollback-migration --env staging --backup b003

Exit codes: 0 done, 1 failed or refused, or a backup is bad, 2 wrong usage";

/// Take, list, check and remove backups of an environment's database
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    platform: PlatformArgs,

    /// The folder with a folder of backups per environment
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    folder: PathBuf,

    /// The folder with PostgreSQL's client programs [default: looked for on the PATH and in the usual places]
    #[arg(
        long,
        global = true,
        env = "OMNITOOL_PG_BIN",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pg_bin: Option<PathBuf>,

    /// How to print the result
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Take a backup and check it
    Capture {
        /// Why it is taken: manual or before-deploy
        #[arg(long, value_name = "KIND", default_value = "manual", value_parser = parse_kind)]
        kind: Kind,

        /// The release that is about to be deployed (before-deploy) or that serves
        #[arg(long, value_name = "ID")]
        release: Option<String>,

        /// Encrypt the backup to this age recipient (age1…); several can read it where this is repeated
        #[arg(
            long,
            value_name = "AGE_RECIPIENT",
            env = "OMNITOOL_BACKUP_RECIPIENT",
            value_delimiter = ','
        )]
        encrypt_to: Vec<String>,

        /// On Heroku: do not download the backup to look into it; Heroku's word that it succeeded is then all that is known
        #[arg(long, env = "OMNITOOL_NO_DOWNLOAD")]
        no_download: bool,
    },
    /// Show all backups
    List,
    /// Show everything about one backup
    Show {
        /// The backup
        #[arg(value_name = "ID")]
        id: BackupId,
    },
    /// Check a backup, or all of them, again
    Verify {
        /// The backup [default: all]
        #[arg(value_name = "ID")]
        id: Option<BackupId>,

        /// The file with the age identity that decrypts backups; without it, of encrypted ones only the SHA-256 is compared
        #[arg(long, value_name = "FILE", env = "OMNITOOL_BACKUP_IDENTITY")]
        identity: Option<PathBuf>,

        /// On Heroku: do not download the backup to look into it
        #[arg(long, env = "OMNITOOL_NO_DOWNLOAD")]
        no_download: bool,

        /// Also restore each backup of PostgreSQL into a scratch database, which is dropped again; on Heroku on the server of
        /// --scratch-url
        #[arg(long, conflicts_with = "no_download")]
        deep: bool,

        /// A PostgreSQL server of your own where databases may be made, for --deep. Prefer the variable
        #[arg(
            long,
            env = "OMNITOOL_SCRATCH_DATABASE_URL",
            hide_env_values = true,
            value_name = "URL"
        )]
        scratch_url: Option<String>,
    },
    /// On Heroku: restore a backup into a database of its own on a PostgreSQL server of yours, to try something on it
    RestoreCopy {
        /// The backup [default: the newest verified one that is no safety backup of a rollback]
        #[arg(value_name = "ID")]
        id: Option<BackupId>,

        #[command(flatten)]
        copy: CopyArgs,
    },
    /// Drop the database that restore-copy has made
    DropCopy {
        #[command(flatten)]
        copy: CopyArgs,
    },
    /// Keep a backup from being pruned
    Pin {
        /// The backup
        #[arg(value_name = "ID")]
        id: BackupId,
    },
    /// Let a backup be pruned again
    Unpin {
        /// The backup
        #[arg(value_name = "ID")]
        id: BackupId,
    },
    /// Remove old backups; only verified ones count, and the newest verified and pinned ones stay
    Prune {
        /// Keep the newest N
        #[arg(long, value_name = "N", default_value = "10")]
        keep: NonZeroUsize,

        /// Keep the newest of each of the last N days that have one, too
        #[arg(long, value_name = "N", default_value = "0")]
        keep_daily: usize,

        /// Keep the newest of each of the last N weeks that have one, too
        #[arg(long, value_name = "N", default_value = "0")]
        keep_weekly: usize,

        /// Keep the newest of each of the last N months that have one, too
        #[arg(long, value_name = "N", default_value = "0")]
        keep_monthly: usize,

        /// Show what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// The database of a rehearsal.
#[derive(clap::Args)]
struct CopyArgs {
    /// That database, whose name has to begin with `omnitool_rehearsal`; what is in it is lost. Prefer the variable
    #[arg(
        long,
        env = "OMNITOOL_REHEARSAL_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    copy_url: String,
}

impl CopyArgs {
    fn store(&self, options: &StoreOptions) -> Result<Box<dyn Store>, Failure> {
        let url: DatabaseUrl = self.copy_url.parse().map_err(Failure::usage)?;
        for_url_with(&url, options).map_err(unsupported_failure)
    }
}

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }
}

/// `before-rollback` is missing: only a rollback takes those, and they are treated as its own.
fn parse_kind(text: &str) -> Result<Kind, &'static str> {
    [Kind::Manual, Kind::BeforeDeploy]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or("expected manual or before-deploy")
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    let options = StoreOptions { programs: args.pg_bin.clone(), ..StoreOptions::default() };
    if let Action::DropCopy { copy } = &args.action {
        copy.store(&options)?.drop_copy().map_err(drop_copy_failure)?;
        return report::copy_dropped(args.format);
    }
    if args.platform.platform == Platform::Heroku {
        return heroku::run(args, &options);
    }
    let Args { target, platform: _, folder, pg_bin: _, format, action } = args;
    let target = target.resolve()?;
    let environment =
        find_environment(&target.database_url, target.environment).map_err(environment_failure)?;
    let catalog = Catalog::new(&folder, environment);
    let place = Place::Folder(&catalog);
    let store = for_url_with(&target.database_url, &options).map_err(unsupported_failure)?;
    match action {
        Action::Capture { kind, release, encrypt_to, no_download: _ } => {
            let keys = Keys { recipients: recipients(&encrypt_to)?, identity: None };
            let catalog = catalog.with_keys(keys);
            run_capture(&catalog, &*store, kind, release.as_deref(), format)
        }
        Action::List => report::list(&place, catalog.list().map_err(catalog_failure)?, format),
        Action::Show { id } => {
            report::show(&place, catalog.find(id).map_err(catalog_failure)?, format)
        }
        Action::Verify { id, deep, identity, .. } => {
            let catalog = catalog.with_keys(Keys { recipients: Vec::new(), identity });
            let list = || catalog.list().map_err(catalog_failure);
            verify_all(environment, id, list, format, |id, hooks| {
                let checked = verify(&catalog, &*store, id, deep.then_some(hooks));
                Checked::new(id, checked)
            })
        }
        Action::RestoreCopy { .. } | Action::DropCopy { .. } => Err(Failure::usage(
            "restore-copy is for --platform heroku: elsewhere a backup is a file, which rollback-migration --file restores",
        )),
        Action::Pin { id } => {
            report::pinned(set_pin(&catalog, id, Pin::Pinned).map_err(catalog_failure)?, format)
        }
        Action::Unpin { id } => {
            report::pinned(set_pin(&catalog, id, Pin::Unpinned).map_err(catalog_failure)?, format)
        }
        Action::Prune { keep, keep_daily, keep_weekly, keep_monthly, dry_run } => {
            let retention = Retention {
                last: keep,
                daily: keep_daily,
                weekly: keep_weekly,
                monthly: keep_monthly,
            };
            let plan = PrunePlan::load(&catalog, &*store, &retention).map_err(prune_failure)?;
            let applied =
                if dry_run { Applied::Not } else { Applied::With(plan.apply(&catalog, &*store)) };
            report::pruned(environment, plan, applied, format)
        }
    }
}

/// The recipients; a variable that is set to nothing names none.
fn recipients(given: &[String]) -> Result<Vec<Recipient>, Failure> {
    let given = given.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    given.map(str::parse).collect::<Result<_, _>>().map_err(Failure::usage)
}

fn run_capture(
    catalog: &Catalog,
    store: &dyn Store,
    kind: Kind,
    release: Option<&str>,
    format: Format,
) -> Result<Outcome, Failure> {
    let mut shown = Shown::new(&format!("Backing up {}", catalog.environment()));
    let result = capture(catalog, store, kind, release, &mut |progress| shown.update(progress));
    drop(shown);
    let backup = result.map_err(|error| capture_failure(error, catalog.folder()))?;
    report::captured(&Place::Folder(catalog), backup, format)
}

/// Shows how far a step has come, where a person looks at it.
struct Shown {
    bar: ProgressBar,
    step: Option<Step>,
}

impl Shown {
    fn new(label: &str) -> Self {
        Self { bar: spinner(label), step: None }
    }

    fn update(&mut self, Progress { step, done, total }: Progress) {
        if self.step.replace(step) != Some(step) {
            self.bar.finish_and_clear();
            self.bar = match total {
                Some(total) => progress_bar(step.as_str(), total),
                None => spinner(step.as_str()),
            };
        }
        self.bar.set_position(done);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Checks one backup, or all that `list` has, by `check`.
fn verify_all(
    environment: EnvironmentName,
    id: Option<BackupId>,
    list: impl FnOnce() -> Result<Listing, Failure>,
    format: Format,
    check: impl Fn(BackupId, &mut RehearsalHooks<'_>) -> Checked,
) -> Result<Outcome, Failure> {
    let (ids, broken) = match id {
        Some(id) => (vec![id], Vec::new()),
        None => {
            let Listing { backups, broken } = list()?;
            (backups.iter().map(|backup| backup.id).collect(), broken)
        }
    };
    let mut shown = Shown::new("Checking backups");
    let mut checked: Vec<Checked> = broken.into_iter().map(Checked::from).collect();
    for id in ids {
        let mut progress = |progress| shown.update(progress);
        let hooks = &mut RehearsalHooks { progress: &mut progress, check: &mut |_| Ok(()) };
        checked.push(check(id, hooks));
    }
    drop(shown);
    report::verified(environment, checked, format)
}

fn unsupported_failure(error: UnsupportedDatabaseError) -> Failure {
    Failure::refused(error).hint("write it behind the host: postgres://user@host/NAME")
}

fn drop_copy_failure(error: DropCopyError) -> Failure {
    match error {
        DropCopyError::NotOne { .. } => Failure::refused(error)
            .hint("nothing was changed; name another database, which need not be there"),
        error => Failure::failed(error)
            .hint("it holds a copy of the data: run this again, or use dropdb"),
    }
}

fn environment_failure(error: FindEnvironmentError) -> Failure {
    match error {
        FindEnvironmentError::Unsupported(error) => unsupported_failure(error),
        error => Failure::refused(error).hint("name the environment, such as --env staging"),
    }
}

fn catalog_failure(error: CatalogError) -> Failure {
    match error {
        CatalogError::NotFound { environment, .. } => Failure::refused(error)
            .hint(format!("see what there is: backup-database --env {environment} list")),
        CatalogError::Manifest { .. } | CatalogError::File { .. } => Failure::failed(error)
            .hint("this backup cannot be used; choose another one, and take a new one"),
        error => {
            Failure::failed(error).hint("make the folder readable and writable, or use --folder")
        }
    }
}

fn prune_failure(error: PlanPruneError) -> Failure {
    match error {
        PlanPruneError::Catalog(error) => catalog_failure(error),
        error => Failure::failed(error).hint("nothing was removed; run this again once it answers"),
    }
}

fn capture_failure(error: CaptureError, folder: &Path) -> Failure {
    match error {
        CaptureError::Stamp { stamped, .. } => Failure::refused(error)
            .hint(format!("--env {stamped} backs it up, or name another database")),
        CaptureError::Verify(_) => Failure::failed(error)
            .hint("no backup was kept; `PRAGMA integrity_check` on the database shows the damage"),
        CaptureError::Read(_) => Failure::failed(error).hint("no backup was taken"),
        error => Failure::failed(error).hint(format!(
            "no backup was taken and nothing is left of it; is there room in {}, and may it be written?",
            folder.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }
}
