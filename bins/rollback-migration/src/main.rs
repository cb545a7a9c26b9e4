//! Puts an environment's database back to a backup.

mod checks;
mod exclusion;
mod failure;
mod heroku;
mod report;
mod shown;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chrono::Utc;
use clap::{Parser, builder::NonEmptyStringValueParser};
use omnitool_backup::{
    BackupId, Catalog, DEFAULT_FOLDER, Keys, RollbackPlan, Store, StoreOptions, Wanted,
    find_environment, for_url_with,
};
use omnitool_cli::{
    Failure, Format, Outcome, PlatformArgs, Program, TargetArgs, confirm_phrase, print, spinner,
};
use omnitool_environment::{DatabaseUrl, EnvironmentName, Platform};

use self::{
    checks::Checks,
    report::{Done, printable},
    shown::Shown,
};

const PHRASE: &str = "ROLLBACK PRODUCTION";

const EXAMPLES: &str = "\
Before anything changes it shows which backup it chose and why, what would be lost, and which release fits. It runs the checks \
of verify-migration on a copy of the backup, and takes a safety backup of what is there. The content is replaced in one \
transaction: a running app goes on and sees the old content or the new one, and being killed at any moment leaves one of \
them, whole. On Heroku the database is emptied before it is filled: the app is in maintenance mode meanwhile, the safety \
backup comes first and the checks last, and a run that stopped goes on where it was.

Examples:
  rollback-migration --env staging
  rollback-migration --env production --backup b123
  rollback-migration --env local --file data/backups/users_20260112.db
  rollback-migration --env production --backup b123 --dry-run
  rollback-migration --env staging --undo
  HEROKU_API_KEY=… rollback-migration --env production --platform heroku --dry-run

Production asks to type ROLLBACK PRODUCTION; scripts pass --confirm \"ROLLBACK PRODUCTION\".

Exit codes: 0 rolled back, 1 failed or refused, 2 wrong usage";

/// Put an environment's database back to a backup
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    platform: PlatformArgs,

    /// The backup [default: the newest verified one that is no safety backup of a rollback]
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "undo"])]
    backup: Option<BackupId>,

    /// A backup file from elsewhere; one of another environment is stamped anew
    #[arg(long, value_name = "PATH", conflicts_with = "undo")]
    file: Option<PathBuf>,

    /// Put back what was there before the last rollback
    #[arg(long)]
    undo: bool,

    /// The file with the age identity that decrypts the backup, where it is encrypted
    #[arg(long, value_name = "FILE", env = "OMNITOOL_BACKUP_IDENTITY")]
    identity: Option<PathBuf>,

    /// Encrypt the safety backup to this age recipient; repeat it for several [default: as the backup is]
    #[arg(
        long,
        value_name = "AGE_RECIPIENT",
        env = "OMNITOOL_BACKUP_RECIPIENT",
        value_delimiter = ','
    )]
    encrypt_to: Vec<String>,

    /// Drop the databases that earlier rollbacks kept under other names, and restore nothing
    #[arg(long, conflicts_with_all = ["backup", "file", "undo", "skip_checks"])]
    drop_old: bool,

    /// Restore without the checks of verify-migration, for this reason
    #[arg(long, value_name = "REASON", value_parser = NonEmptyStringValueParser::new())]
    skip_checks: Option<String>,

    /// On Heroku: do not download backups to look into them; Heroku's word that they succeeded is then all that is known
    #[arg(long, env = "OMNITOOL_NO_DOWNLOAD")]
    no_download: bool,

    /// Show what would be restored and lost, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// The confirmation that production asks for
    #[arg(long, value_name = "PHRASE")]
    confirm: Option<String>,

    /// The folder with a folder of backups per environment
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    folder: PathBuf,

    /// The folder with PostgreSQL's client programs [default: looked for on the PATH and in the usual places]
    #[arg(long, env = "OMNITOOL_PG_BIN", hide_env_values = true, value_name = "DIR")]
    pg_bin: Option<PathBuf>,

    /// How many connections a restore into PostgreSQL uses at once [default: one per processor, up to 4]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }
}

impl Args {
    fn wanted(&self) -> Wanted {
        match (self.backup, &self.file, self.undo) {
            (Some(id), _, _) => Wanted::Backup(id),
            (None, Some(file), _) => Wanted::File(file.clone()),
            (None, None, true) => Wanted::BeforeLastRollback,
            (None, None, false) => Wanted::Latest,
        }
    }

    fn keys(&self) -> Result<Keys, Failure> {
        // A variable that is set to nothing names nobody.
        let given = self.encrypt_to.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        let recipients = given.map(str::parse).collect::<Result<_, _>>().map_err(Failure::usage)?;
        Ok(Keys { recipients, identity: self.identity.clone() })
    }

    /// The flags beyond the environment that lead another run to the same backups.
    fn folder_flag(&self) -> String {
        if self.folder.as_os_str() == DEFAULT_FOLDER {
            String::new()
        } else {
            format!(" --folder {}", quoted(&self.folder))
        }
    }
}

/// The path as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    if args.platform.platform == Platform::Heroku {
        return heroku::run(&args);
    }
    let target = args.target.resolve()?;
    let options = StoreOptions { programs: args.pg_bin.clone(), jobs: args.jobs };
    let store = for_url_with(&target.database_url, &options).map_err(failure::unsupported)?;
    let environment =
        find_environment(&target.database_url, target.environment).map_err(failure::environment)?;
    let catalog = Catalog::new(&args.folder, environment).with_keys(args.keys()?);
    if args.drop_old {
        return drop_old(&args, environment, &*store);
    }

    let progress = spinner("Checking the backup");
    let plan = RollbackPlan::new(&catalog, &*store, &args.wanted(), Utc::now());
    progress.finish_and_clear();
    let plan = plan.map_err(|error| failure::plan(error, environment))?;
    // Before the question, so that whoever answers it knows what is lost.
    if args.format == Format::Text {
        print(&printable(&plan.to_string()))?;
    }
    if args.dry_run {
        return report::dry_run(args.format, plan.environment, &plan.target, &plan);
    }
    if environment == EnvironmentName::Production {
        confirm_phrase(PHRASE, args.confirm.as_deref()).map_err(|error| {
            Failure::refused(error)
                .hint("nothing was changed; --dry-run shows what a rollback would do")
        })?;
    }
    restore(&args, &target.database_url, plan, &catalog, &*store)
}

/// Restores as planned, unless the staged copy fails its checks.
fn restore(
    args: &Args,
    live: &DatabaseUrl,
    plan: RollbackPlan,
    catalog: &Catalog,
    store: &dyn Store,
) -> Result<Outcome, Failure> {
    let checks = Checks::new(plan.environment, &plan.target)?;
    let (mut report, mut lost_exclusions) = (None, None);
    let mut check = |staged: &DatabaseUrl| {
        lost_exclusions = exclusion::lost(live, staged);
        if args.skip_checks.is_some() {
            return Ok(());
        }
        let found = report.insert(checks.run(staged));
        checks.problem(found).map_or(Ok(()), Err)
    };
    let mut shown = Shown::new("Restoring");
    let result = plan.apply(catalog, store, &mut check, &mut |progress| shown.update(progress));
    drop(shown);
    if let (Format::Text, Some(report)) = (args.format, &report) {
        print(&printable(&checks.text(report)))?;
    }
    let safety_backup =
        result.map_err(|error| failure::restore(error, plan.environment))?.safety_backup;
    let undo = safety_backup.map(|id| {
        format!("rollback-migration --env {} --backup {id}{}", plan.environment, args.folder_flag())
    });
    let skipped_checks = args.skip_checks.clone();
    let done = Done {
        safety_backup,
        undo,
        checks: report,
        lost_exclusions,
        skipped_checks,
        leave_maintenance: None,
        runs: String::new(),
    };
    report::done(args.format, plan.environment, &plan.target, &plan, done)
}

/// Drops the databases that earlier rollbacks kept.
fn drop_old(
    args: &Args,
    environment: EnvironmentName,
    store: &dyn Store,
) -> Result<Outcome, Failure> {
    let old = store.old_databases()?;
    if !args.dry_run {
        for old in &old {
            store.drop_old(old).map_err(|error| {
                Failure::failed(error).hint("run this again once nobody uses it any more")
            })?;
        }
    }
    report::dropped(args, environment, old)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_command_that_undoes_it_names_the_folder_as_one_word() {
        assert_eq!(quoted(Path::new("data/backups")), "data/backups");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}
