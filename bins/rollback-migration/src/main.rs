//! Puts an environment's database back to a backup.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use chrono::Utc;
use clap::Parser;
use omnitool_backup::{
    BackupId, Catalog, CatalogError, DEFAULT_FOLDER, FindEnvironmentError, PlanRollbackError,
    Progress, RestoreError, RollbackPlan, Step, UnsupportedDatabaseError, Wanted, find_environment,
    for_url,
};
use omnitool_cli::{
    Failure, Format, Outcome, Program, ProgressBar, TargetArgs, confirm_phrase, print, print_json,
    progress_bar, spinner,
};
use omnitool_environment::EnvironmentName;
use serde::Serialize;

const PHRASE: &str = "ROLLBACK PRODUCTION";

const EXAMPLES: &str = "\
Before anything changes it shows which backup it chose and why, what would be lost, and which release fits; then it takes a \
safety backup of what is there. The content is replaced in one transaction: a running app goes on and sees the old content \
or the new one, and being killed at any moment leaves one of them, whole.

Examples:
  rollback-migration --env staging
  rollback-migration --env production --backup b123
  rollback-migration --env local --file data/backups/users_20260112.db
  rollback-migration --env production --backup b123 --dry-run
  rollback-migration --env staging --undo

Production asks to type ROLLBACK PRODUCTION; scripts pass --confirm \"ROLLBACK PRODUCTION\".

Exit codes: 0 rolled back, 1 failed or refused, 2 wrong usage";

/// Put an environment's database back to a backup
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    target: TargetArgs,

    /// The backup [default: the newest verified one that is no safety backup of a rollback]
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "undo"])]
    backup: Option<BackupId>,

    /// A backup file from elsewhere; one of another environment is stamped anew
    #[arg(long, value_name = "PATH", conflicts_with = "undo")]
    file: Option<PathBuf>,

    /// Put back what was there before the last rollback
    #[arg(long)]
    undo: bool,

    /// Show what would be restored and lost, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// The confirmation that production asks for
    #[arg(long, value_name = "PHRASE")]
    confirm: Option<String>,

    /// The folder with a folder of backups per environment
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    folder: PathBuf,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    summary: String,
    plan: RollbackPlan,
    safety_backup: Option<BackupId>,
    /// The command that puts back what was there before.
    undo: Option<String>,
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
    let target = args.target.resolve()?;
    let store = for_url(&target.database_url).map_err(unsupported_failure)?;
    let environment =
        find_environment(&target.database_url, target.environment).map_err(environment_failure)?;
    let catalog = Catalog::new(&args.folder, environment);

    let progress = spinner("Checking the backup");
    let plan = RollbackPlan::new(&catalog, &*store, &args.wanted(), Utc::now());
    progress.finish_and_clear();
    let plan = plan.map_err(|error| plan_failure(error, environment))?;
    // Before the question, so that whoever answers it knows what is lost.
    if args.format == Format::Text {
        print(&plan.to_string())?;
    }
    if args.dry_run {
        let summary = format!(
            "Dry run: {environment} would be rolled back to {}; nothing was changed",
            plan.target.label
        );
        return finish(args.format, "pending", summary, plan, None, None);
    }
    if environment == EnvironmentName::Production {
        confirm_phrase(PHRASE, args.confirm.as_deref()).map_err(|error| {
            Failure::refused(error)
                .hint("nothing was changed; --dry-run shows what a rollback would do")
        })?;
    }

    let mut shown = Shown::new("Restoring");
    let result =
        plan.apply(&catalog, &*store, &mut |_| Ok(()), &mut |progress| shown.update(progress));
    drop(shown);
    let safety_backup = result.map_err(|error| restore_failure(error, environment))?.safety_backup;
    let undo = safety_backup.map(|id| {
        format!("rollback-migration --env {environment} --backup {id}{}", args.folder_flag())
    });
    let summary = format!("Rolled back {environment} to {}, verified", plan.target.label);
    finish(args.format, "done", summary, plan, safety_backup, undo)
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

fn finish(
    format: Format,
    status: &'static str,
    summary: String,
    plan: RollbackPlan,
    safety_backup: Option<BackupId>,
    undo: Option<String>,
) -> Result<Outcome, Failure> {
    if format == Format::Json {
        print_json(&Report { status, summary, plan, safety_backup, undo })?;
        return Ok(Outcome::Done);
    }
    if status == "pending" {
        print(&format!("{summary}\n"))?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("[SUCCESS] {summary}\n");
    if let (Some(id), Some(undo)) = (safety_backup, undo) {
        text += &format!("Safety backup: {id}. To undo: {undo}\n");
    }
    let environment = plan.environment;
    if plan.target.pending_migrations > 0 {
        text += &format!(
            "Next: serve the release that fits, or bring the schema up again: migrate-db --env {environment}\n"
        );
    }
    text += &format!("Check it: verify-migration --env {environment}\n");
    print(&text)?;
    Ok(Outcome::Done)
}

fn unsupported_failure(error: UnsupportedDatabaseError) -> Failure {
    Failure::refused(error).hint(
        "use pg_restore, or on Heroku: heroku pg:backups:restore bNNN DATABASE_URL; \
         a SQLite database is `--database-url sqlite:PATH`",
    )
}

fn environment_failure(error: FindEnvironmentError) -> Failure {
    match error {
        FindEnvironmentError::Unsupported(error) => unsupported_failure(error),
        error => Failure::refused(error).hint("name the environment, such as --env staging"),
    }
}

fn plan_failure(error: PlanRollbackError, environment: EnvironmentName) -> Failure {
    let list = format!("backup-database --env {environment} list");
    match error {
        PlanRollbackError::Catalog(CatalogError::NotFound { .. })
        | PlanRollbackError::NoBackup { .. }
        | PlanRollbackError::NothingToUndo { .. } => {
            Failure::refused(error).hint(format!("nothing was changed; see what there is: {list}"))
        }
        PlanRollbackError::Newer { .. } => Failure::refused(error)
            .hint("nothing was changed; use the rollback-migration of the release that took it"),
        PlanRollbackError::Stamp { stamped, .. } => Failure::refused(error)
            .hint(format!("nothing was changed; --env {stamped} is what this database is")),
        PlanRollbackError::LiveForeign => Failure::refused(error)
            .hint("nothing was changed; name the right database with --database-url"),
        PlanRollbackError::Live(_) => Failure::failed(error).hint(
            "nothing was changed; where the file is damaged, move it away together with its -wal and -shm, \
             and run this again: the backup is then restored into a new file",
        ),
        error => Failure::failed(error)
            .hint(format!("nothing was changed; choose another backup: {list}")),
    }
}

fn restore_failure(error: RestoreError, environment: EnvironmentName) -> Failure {
    const UNCHANGED: &str = "the database is as it was";
    match error {
        RestoreError::Running { .. } => {
            Failure::refused(error).hint(format!("{UNCHANGED}; wait until it has ended"))
        }
        RestoreError::Locked { .. } => Failure::failed(error)
            .hint(format!("{UNCHANGED}; stop what writes to it and run this again")),
        RestoreError::Safety(_) => Failure::failed(error).hint(format!(
            "{UNCHANGED}; without a safety backup there would be no way back, so nothing was restored"
        )),
        error => Failure::failed(error).hint(format!(
            "{UNCHANGED}; is there room beside it? backup-database --env {environment} list shows the backups"
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

    #[test]
    fn the_command_that_undoes_it_names_the_folder_as_one_word() {
        assert_eq!(quoted(Path::new("data/backups")), "data/backups");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}
