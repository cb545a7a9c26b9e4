//! The same for an app on Heroku.

use std::time::Duration;

use chrono::Utc;
use omnitool_backup::{
    DEFAULT_FOLDER, StoreOptions,
    heroku::{
        HerokuBackupError, HerokuBackups, HerokuRollbackCause, HerokuRollbackError,
        HerokuRollbackHooks, HerokuRollbackPlan, Look, PlanHerokuRollbackError, Stage,
    },
};
use omnitool_cli::{Failure, Format, HerokuSite, Outcome, confirm_phrase, print};
use omnitool_database::{Mode, open};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_heroku::{OneOff, RunOutcome, Settings};

use crate::{
    Args, PHRASE,
    checks::Checks,
    failure, quoted,
    report::{self, Done, printable},
    shown::Shown,
};

/// How long `verify-migration` may take in a dyno of its own.
const DYNO_LIMIT: Duration = Duration::from_secs(600);

/// The flags ask for what there is not on Heroku.
#[derive(Debug, thiserror::Error)]
#[error("on Heroku there is no {flag}")]
struct NotOnHerokuError {
    flag: &'static str,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    for (is_given, flag) in [
        (args.file.is_some(), "--file: Heroku restores its own backups"),
        (args.drop_old, "--drop-old: a restore keeps no database beside"),
        (
            args.encrypt_to.iter().any(|recipient| !recipient.trim().is_empty()),
            "--encrypt-to: Heroku keeps the safety backup itself",
        ),
    ] {
        if is_given {
            return Err(Failure::usage(NotOnHerokuError { flag }));
        }
    }
    let site = HerokuSite::resolve(args.target.env)?;
    let (account, environment) = (site.account, site.environment);
    let settings = Settings::of(account.api, account.data, account.token, account.roots);
    let options = StoreOptions { programs: args.pg_bin.clone(), jobs: args.jobs };
    let backups = HerokuBackups::open(settings, &site.app.app, environment, &args.folder, &options)
        .map_err(|error| of_backup(error, environment))?;
    let look = if args.no_download { Look::Report } else { Look::Download };
    let mut shown = Shown::new("Checking the backup");
    let plan =
        HerokuRollbackPlan::new(&backups, &args.wanted(), look, Utc::now(), &mut |progress| {
            shown.update(progress);
        });
    drop(shown);
    let plan = plan.map_err(|error| of_plan(error, environment))?;
    if args.format == Format::Text {
        print(&printable(&plan.to_string()))?;
    }
    if args.dry_run {
        return report::dry_run(args.format, environment, &plan.target, &plan);
    }
    if environment == EnvironmentName::Production {
        confirm_phrase(PHRASE, args.confirm.as_deref()).map_err(|error| {
            Failure::refused(error)
                .hint("nothing was changed; --dry-run shows what a rollback would do")
        })?;
    }
    restore(args, &backups, &plan, look)
}

fn restore(
    args: &Args,
    backups: &HerokuBackups,
    plan: &HerokuRollbackPlan,
    look: Look<'_>,
) -> Result<Outcome, Failure> {
    let checks = Checks::new(plan.environment, &plan.target)?;
    let mut report = None;
    let mut check = |restored: &DatabaseUrl| {
        if args.skip_checks.is_some() {
            return Ok(());
        }
        // From here where the database lets us, else from where the app is.
        if let Err(error) = open(restored, Mode::Read) {
            return check_in_dyno(backups).map_err(|problem| format!("{problem} ({error})"));
        }
        let found = report.insert(checks.run(restored));
        checks.problem(found).map_or(Ok(()), Err)
    };
    let mut shown = Shown::new("Restoring");
    let mut hooks =
        HerokuRollbackHooks { progress: &mut |progress| shown.update(progress), check: &mut check };
    let result = plan.apply(backups, look, &mut hooks);
    drop(shown);
    if let (Format::Text, Some(report)) = (args.format, &report) {
        print(&printable(&checks.text(report)))?;
    }
    let flags = flags(args, plan.environment);
    let done = result.map_err(|error| of_rollback(error, plan, &flags))?;
    let safety_backup = done.safety_backup;
    let undo = safety_backup.map(|id| format!("rollback-migration {flags} --backup {id}"));
    let skipped_checks = args.skip_checks.clone();
    let runs = format!("heroku run -x -a {} -- bin/", plan.app);
    let leave_maintenance =
        done.in_maintenance.then(|| format!("heroku maintenance:off -a {}", plan.app));
    let done = Done {
        safety_backup,
        undo,
        checks: report,
        lost_exclusions: None,
        skipped_checks,
        leave_maintenance,
        runs,
    };
    report::done(args.format, plan.environment, &plan.target, plan, done)
}

/// Asks `verify-migration` of the app's own release.
fn check_in_dyno(backups: &HerokuBackups) -> Result<(), String> {
    let environment = backups.environment().as_str();
    let arguments = ["bin/verify-migration", "--env", environment];
    let command = OneOff { arguments: &arguments, variables: &[], size: None, limit: DYNO_LIMIT };
    let mut output = Vec::new();
    let ended = backups
        .heroku()
        .run(backups.app(), &command, &mut |bytes| output.extend_from_slice(bytes))
        .map_err(|error| error.to_string())?;
    match ended {
        RunOutcome::Exited(0) => Ok(()),
        RunOutcome::Exited(code) => Err(format!(
            "verify-migration ended with {code} in a dyno: {}",
            String::from_utf8_lossy(&output).trim()
        )),
        RunOutcome::Unknown { why, .. } => {
            Err(format!("how verify-migration ended in a dyno is not known: {why}"))
        }
    }
}

/// The flags that lead another run to the same backups.
fn flags(args: &Args, environment: EnvironmentName) -> String {
    let mut flags = format!("--env {environment} --platform heroku");
    if args.folder.as_os_str() != DEFAULT_FOLDER {
        flags += &format!(" --folder {}", quoted(&args.folder));
    }
    flags
}

fn of_backup(error: HerokuBackupError, environment: EnvironmentName) -> Failure {
    let list = format!("backup-database --env {environment} --platform heroku list");
    let hint = match &error {
        HerokuBackupError::Heroku(error) => match error.hint() {
            Some(hint) => format!("nothing was changed; {hint}"),
            None => "nothing was changed; run this again".to_owned(),
        },
        HerokuBackupError::Download { .. } | HerokuBackupError::File { .. } => {
            "nothing was changed; run this again, or trust what Heroku says: --no-download"
                .to_owned()
        }
        _ => format!("nothing was changed; choose another backup: {list}"),
    };
    match &error {
        HerokuBackupError::NotFound { .. } | HerokuBackupError::NoDatabase { .. } => {
            Failure::refused(error).hint(hint)
        }
        _ => Failure::failed(error).hint(hint),
    }
}

fn of_plan(error: PlanHerokuRollbackError, environment: EnvironmentName) -> Failure {
    match error {
        PlanHerokuRollbackError::Backup(error) => of_backup(error, environment),
        PlanHerokuRollbackError::Plan(error) => failure::plan(error, environment),
        error => Failure::usage(error),
    }
}

/// Says how things are, and the command that goes on from there.
fn of_rollback(error: HerokuRollbackError, plan: &HerokuRollbackPlan, flags: &str) -> Failure {
    let again = format!("rollback-migration {flags} --backup {}", plan.target.label);
    let undo = format!("rollback-migration {flags} --undo");
    let hint = match (error.stage, &*error.source) {
        (None, HerokuRollbackCause::Running { .. }) => {
            return Failure::refused(error).hint("wait until it has ended");
        }
        (None, HerokuRollbackCause::Safety(_)) => {
            "the database and the app are as they were; without a safety backup there would be no way back".to_owned()
        }
        (None, _) => format!("the database and the app are as they were; run this again: {again}"),
        (Some(Stage::Begun | Stage::Saved), _) => format!(
            "the database is as it was, and the app may still be in maintenance mode; go on: {again}, or leave it: heroku maintenance:off -a {}",
            plan.app
        ),
        (Some(Stage::Restoring), HerokuRollbackCause::Differs { .. }) => {
            let go_on = match plan.go_on.as_slice() {
                [] => String::new(),
                go_on => format!(" ({})", go_on.join(", ")),
            };
            format!(
                "the app is in maintenance mode; stop what writes to its database{go_on}, and restore once more: {again}, or put back what was there: {undo}"
            )
        }
        (Some(Stage::Restoring), _) => format!(
            "the database may hold a part of the backup, and the app is in maintenance mode; go on: {again}, or put back what was there: {undo}"
        ),
        (Some(Stage::Restored), HerokuRollbackCause::Check { .. }) => format!(
            "{} is restored, and the app is in maintenance mode; put back what was there: {undo}, or keep it: {again} --skip-checks REASON",
            plan.target.label
        ),
        (Some(Stage::Restored), _) => format!(
            "{} is restored and not checked, and the app is in maintenance mode; go on: {again}, or put back what was there: {undo}",
            plan.target.label
        ),
    };
    Failure::failed(error).hint(hint)
}
