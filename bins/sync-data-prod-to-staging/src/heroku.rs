//! The same where both apps are on Heroku.

use std::time::Duration;

use omnitool_backup::{
    StoreOptions,
    heroku::{
        HerokuBackupError, HerokuBackups, HerokuRefreshError, HerokuRefreshPlan,
        HerokuRefreshRequest, Look, PlanHerokuRefreshError, Standing, Via, address, leftovers,
    },
    masking::MaskError,
    refresh::{PlanRefreshError, RefreshError, RefreshRecordError, RefreshRequest, RefreshState},
};
use omnitool_cli::{
    Failure, Format, HerokuSite, Outcome, environments, print, print_json, spinner,
};
use omnitool_environment::EnvironmentName;
use omnitool_heroku::Settings;

use self::report::{Report, StatusReport};
use crate::{args::Args, failure, fit::Fit, masking, with_hooks};

mod report;

const URL: &str = "DATABASE_URL";
const UNCHANGED: &str = "staging is as it was";

/// The flags ask for what there is not on Heroku.
#[derive(Debug, thiserror::Error)]
#[error("on Heroku {0}")]
struct NotOnHerokuError(&'static str);

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let environment = args.environment()?;
    if args.encrypts() {
        let error = NotOnHerokuError(
            "backups are kept by Heroku, which cannot encrypt them to an age recipient",
        );
        return Err(Failure::refused(error)
            .hint("nothing was changed; leave out --encrypt-to and OMNITOOL_BACKUP_RECIPIENT"));
    }
    let site = HerokuSite::resolve(Some(environment))?;
    let source_app = environments()?.on_heroku(args.source_env)?.app.clone();
    let account = site.account;
    let settings = Settings::of(account.api, account.data, account.token, account.roots);
    let backups = HerokuBackups::open(
        settings,
        &site.app.app,
        environment,
        &args.folder,
        &StoreOptions::default(),
    )
    .map_err(of_backup)?;
    if args.check_status {
        return check_status(args, &backups);
    }
    let masking = masking(args)?;
    let fit = Fit::new(args, environment)?;
    let catalog = args.catalog(environment)?;
    let folder = state(args, &backups);
    let heroku = backups.heroku();
    let source = heroku.database_of(&source_app, URL).map_err(|error| of_backup(error.into()))?;
    let source_url = address(heroku, &source_app, URL).map_err(of_backup)?;
    let target_url = address(heroku, backups.app(), URL).map_err(of_backup)?;
    let request = HerokuRefreshRequest {
        databases: RefreshRequest {
            source: &source_url,
            source_environment: args.source_env,
            target: &target_url,
            catalog: &catalog,
            folder: &folder,
            masking: &masking,
            run_id: args.run_id.as_deref(),
        },
        backups: &backups,
        source_app: &source_app,
        source: &source,
        via: args.via,
        look: if args.no_download { Look::Report } else { Look::Download },
        patience: Duration::from_secs(args.patience),
    };
    let bar = spinner("Comparing the databases");
    let plan = HerokuRefreshPlan::new(&request);
    bar.finish_and_clear();
    let plan = plan.map_err(of_plan)?;
    if args.format == Format::Text {
        print(&plan.to_string())?;
    }
    if args.dry_run {
        return Report::pending(plan).finish(args.format);
    }
    if args.unmasked && !args.confirm {
        return Err(failure::unconfirmed());
    }
    let result = with_hooks(&fit, |hooks| plan.apply(&request, hooks))?;
    let refreshed = result.map_err(|error| of_refresh(error, environment))?;
    Report::refreshed(plan, refreshed).finish(args.format)
}

/// Where the record of the run is, beside those of the backups.
fn state(args: &Args, backups: &HerokuBackups) -> std::path::PathBuf {
    args.state.clone().unwrap_or_else(|| backups.folder().to_owned())
}

fn check_status(args: &Args, backups: &HerokuBackups) -> Result<Outcome, Failure> {
    let state = RefreshState::read(&state(args, backups))?;
    let left =
        leftovers(backups.heroku(), backups.app()).map_err(|error| of_backup(error.into()))?;
    let report = StatusReport::new(backups, state, left);
    match args.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    Ok(Outcome::Done)
}

fn of_backup(error: HerokuBackupError) -> Failure {
    let hint = match &error {
        HerokuBackupError::Heroku(error) => error.hint(),
        _ => None,
    };
    let hint =
        format!("nothing was changed; {}", hint.unwrap_or("settle the cause and run this again"));
    Failure::failed(error).hint(hint)
}

fn of_plan(error: PlanHerokuRefreshError) -> Failure {
    match error {
        PlanHerokuRefreshError::Heroku(error) => of_backup(error),
        PlanHerokuRefreshError::Plan(error @ PlanRefreshError::Read { .. }) => Failure::failed(error)
            .hint("nothing was changed; masking needs both databases to be reached from here: run this where they can be"),
        PlanHerokuRefreshError::Plan(error) => failure::of_plan(error),
        PlanHerokuRefreshError::NoFollowers { .. } => Failure::refused(error)
            .hint("nothing was changed; let Heroku copy it: --via transfer, or upgrade production to a Standard plan"),
        PlanHerokuRefreshError::Other { .. } => Failure::refused(error).hint(
            "nothing was changed; go on with the same flags, or destroy that database first (--check-status shows the command)",
        ),
        error => Failure::failed(error).hint("nothing was changed; settle the cause and run this again"),
    }
}

/// Says how staging stands, and what goes on from there.
fn of_refresh(error: HerokuRefreshError, environment: EnvironmentName) -> Failure {
    use omnitool_backup::heroku::HerokuRefreshCause as Cause;

    let again = format!(
        "sync-data-prod-to-staging --env {environment} --platform heroku, with the same flags"
    );
    if let Cause::Refresh(RefreshError::Record(RefreshRecordError::Running { .. })) = &*error.source
    {
        return Failure::refused(error).hint(format!(
            "{UNCHANGED}; see how far it is: sync-data-prod-to-staging --platform heroku --check-status"
        ));
    }
    let app = &error.app;
    let hint = match &error.standing {
        Standing::AsItWas
            if matches!(
                *error.source,
                Cause::Refresh(RefreshError::Mask(MaskError::Leak { .. }))
            ) =>
        {
            format!(
                "{UNCHANGED} and the copy is removed; somebody has put personal data into these columns: correct it there, or \
                 mask them, too, with a file of your own and --masking FILE"
            )
        }
        Standing::AsItWas => {
            format!("{UNCHANGED} and there is no copy; settle the cause and run it again")
        }
        Standing::WithCopy { addon, is_unmasked } => {
            let data = if *is_unmasked { ", WITH PRODUCTION'S DATA AS THEY ARE," } else { "" };
            format!(
                "{UNCHANGED}; the copy {addon}{data} is there: go on with it: {again}; or remove it: heroku addons:destroy {addon} --app {app} --confirm {app}"
            )
        }
        Standing::Switching { addon, kept_as } => format!(
            "{app} was asked to use {addon}: go on: {again}; or use what it used before: heroku pg:promote {kept_as} --app {app}"
        ),
    };
    match &*error.source {
        Cause::Refresh(RefreshError::Stale) => Failure::refused(error).hint(hint),
        _ => Failure::failed(error).hint(hint),
    }
}

/// The flag's name for a way.
pub(crate) fn parse_via(text: &str) -> Result<Via, &'static str> {
    match text {
        "follower" => Ok(Via::Follower),
        "transfer" => Ok(Via::Transfer),
        _ => Err("expected follower or transfer"),
    }
}
