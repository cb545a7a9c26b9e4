//! The same for an app on Heroku, whose backups stay there.

use omnitool_backup::{
    BackupId, Pin, Retention, StoreOptions, for_url_with,
    heroku::{HerokuBackupError, HerokuBackups, Look, RestoreCopyError},
};
use omnitool_cli::{Failure, Format, HerokuSite, Outcome};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_heroku::Settings;

use crate::{
    Action, Args, Shown, drop_copy_failure,
    report::{self, Applied, Checked, Place},
    verify_all,
};

/// Heroku cannot do it.
#[derive(Debug, thiserror::Error)]
#[error("Heroku takes and keeps its backups itself and cannot encrypt them to an age recipient")]
struct NotEncryptedError;

pub(crate) fn run(args: Args, options: &StoreOptions) -> Result<Outcome, Failure> {
    let Args { target, platform: _, folder, pg_bin: _, format, action } = args;
    let site = HerokuSite::resolve(target.env)?;
    let environment = site.environment;
    let account = site.account;
    let settings = Settings::of(account.api, account.data, account.token, account.roots);
    let backups = HerokuBackups::open(settings, &site.app.app, environment, &folder, options)
        .map_err(|error| failure(error, environment, NOTHING))?;
    let place = Place::Heroku(&backups);
    match action {
        Action::Capture { kind, release, encrypt_to, no_download } => {
            if encrypt_to.iter().any(|recipient| !recipient.trim().is_empty()) {
                return Err(Failure::refused(NotEncryptedError).hint(
                    "no backup was taken; leave out --encrypt-to and OMNITOOL_BACKUP_RECIPIENT",
                ));
            }
            let look = if no_download { Look::Report } else { Look::Download };
            let mut shown = Shown::new(&format!("Backing up {environment}"));
            let mut progress = |progress| shown.update(progress);
            let result = backups.capture(kind, release.as_deref(), look, &mut progress);
            drop(shown);
            let backup =
                result.map_err(|error| failure(error, environment, "no backup was taken"))?;
            report::captured(&place, backup, format)
        }
        Action::List => report::list(
            &place,
            backups.list().map_err(|error| failure(error, environment, NOTHING))?,
            format,
        ),
        Action::Show { id } => {
            let backup = backups.find(id).map_err(|error| failure(error, environment, NOTHING))?;
            report::show(&place, backup, format)
        }
        Action::Verify { id, no_download, deep, scratch_url, identity: _ } => {
            if deep && scratch_url.is_none() {
                return Err(Failure::usage("on Heroku --deep needs a server: --scratch-url URL"));
            }
            let url = scratch_url.filter(|_| deep).map(|url| url.parse()).transpose();
            let url: Option<DatabaseUrl> = url.map_err(Failure::usage)?;
            let server = url.map(|url| for_url_with(&url, options)).transpose()?;
            let look = match &server {
                Some(server) => Look::Scratch(&**server),
                None if no_download => Look::Report,
                None => Look::Download,
            };
            let list = || backups.list().map_err(|error| failure(error, environment, NOTHING));
            verify_all(environment, id, list, format, |id, hooks| {
                Checked::new(id, backups.verify(id, look, hooks))
            })
        }
        Action::RestoreCopy { id, copy } => {
            let copy = copy.store(options)?;
            let mut shown = Shown::new("Restoring a copy");
            let result = backups.restore_copy(id, &*copy, &mut |progress| shown.update(progress));
            drop(shown);
            let backup = result.map_err(|error| copy_failure(error, environment))?;
            report::copied(&backup, &copy.name(), format)
        }
        Action::DropCopy { .. } => Err(Failure::usage("drop-copy needs no Heroku")),
        Action::Pin { id } => pin(&backups, id, Pin::Pinned, format),
        Action::Unpin { id } => pin(&backups, id, Pin::Unpinned, format),
        Action::Prune { keep, keep_daily, keep_weekly, keep_monthly, dry_run } => {
            let retention = Retention {
                last: keep,
                daily: keep_daily,
                weekly: keep_weekly,
                monthly: keep_monthly,
            };
            let plan = backups
                .plan_prune(&retention)
                .map_err(|error| failure(error, environment, "nothing was removed"))?;
            let applied = if dry_run { Applied::Not } else { Applied::With(backups.prune(&plan)) };
            report::pruned(environment, plan, applied, format)
        }
    }
}

fn pin(
    backups: &HerokuBackups,
    id: BackupId,
    pin: Pin,
    format: Format,
) -> Result<Outcome, Failure> {
    let environment = backups.environment();
    let backup = backups.set_pin(id, pin).map_err(|error| failure(error, environment, NOTHING))?;
    report::pinned(backup, format)
}

fn copy_failure(error: RestoreCopyError, environment: EnvironmentName) -> Failure {
    match error {
        RestoreCopyError::Backup(error) => failure(error, environment, NOTHING),
        RestoreCopyError::Drop(error) => drop_copy_failure(error),
        RestoreCopyError::Plan(_) => Failure::refused(error).hint(format!(
            "nothing was changed; see what there is: backup-database --env {environment} --platform heroku list"
        )),
        error => Failure::failed(error)
            .hint("only the copy was worked on; is there room on its server, and may it make databases?"),
    }
}

const NOTHING: &str = "nothing was changed";

/// What to do next. `state` says how things are where nothing was begun.
fn failure(error: HerokuBackupError, environment: EnvironmentName, state: &str) -> Failure {
    let program = format!("backup-database --env {environment} --platform heroku");
    let hint = match &error {
        HerokuBackupError::Begun { id, source } => match &**source {
            HerokuBackupError::Heroku(omnitool_heroku::HerokuError::Failed { .. }) => {
                "no good backup was taken; run this again".to_owned()
            }
            HerokuBackupError::Inspect { .. } | HerokuBackupError::Stamp { .. } => format!(
                "{id} does not count; look at the database: verify-migration, and take another backup then"
            ),
            _ => format!(
                "it does not count before it is known to be good: {program} verify {id}; where this \
                 machine cannot download or read dumps, add --no-download"
            ),
        },
        HerokuBackupError::NotFound { .. } | HerokuBackupError::Unfit { .. } => {
            format!("{state}; see what there is: {program} list")
        }
        HerokuBackupError::NoDatabase { .. } => {
            format!("{state}; attach a database: heroku addons:create heroku-postgresql:standard-0")
        }
        HerokuBackupError::Heroku(error) => match error.hint() {
            Some(hint) => format!("{state}; {hint}"),
            None => format!("{state}; run this again"),
        },
        HerokuBackupError::Record(_) => {
            format!("{state}; make the folder readable and writable, or use --folder")
        }
        _ => state.to_owned(),
    };
    match &error {
        HerokuBackupError::NotFound { .. } | HerokuBackupError::NoDatabase { .. } => {
            Failure::refused(error).hint(hint)
        }
        _ => Failure::failed(error).hint(hint),
    }
}
