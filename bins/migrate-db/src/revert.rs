//! `--down` and `--redo`: says what is lost, asks, and reverts.

use omnitool_cli::{Failure, Format, Outcome, Target, confirm_phrase, print, print_json};
use omnitool_database::{
    AnyConnection, Mode,
    migration::{PlanReversalError, Reversal},
    open,
};
use omnitool_environment::EnvironmentName;

use crate::{
    Args, environment, failure,
    report::{ReversalReport, Reverted},
};

pub(crate) fn down(target: &Target, args: &Args) -> Result<Outcome, Failure> {
    let count = args.down.unwrap_or_default().into();
    let mut conn = open(&target.database_url, Mode::Write).map_err(failure::of_open)?;
    let environment = environment(&mut conn, target.environment)?;
    let reversal = confirmed(&mut conn, count, environment, args)?;
    let names = reversal.apply(&mut conn, &args.options()).map_err(failure::of_migrate)?;
    let report = Reverted::new(environment, names, reversal);
    match args.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    Ok(Outcome::Done)
}

/// Reverts the newest migration, for the run to apply it again, and returns its name.
pub(crate) fn newest(
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    args: &Args,
) -> Result<Vec<String>, Failure> {
    let reversal = confirmed(conn, 1, environment, args)?;
    reversal.apply(conn, &args.options()).map_err(failure::of_migrate)
}

/// The plan, once it is shown and confirmed.
fn confirmed(
    conn: &mut AnyConnection,
    count: usize,
    environment: EnvironmentName,
    args: &Args,
) -> Result<Reversal, Failure> {
    let reversal = Reversal::plan(conn, count).map_err(of_plan)?;
    if args.format == Format::Text {
        print(&ReversalReport { environment, reversal: &reversal }.to_string())?;
    }
    let phrase = match environment {
        EnvironmentName::Production => format!("REVERT {count} PRODUCTION"),
        _ => format!("REVERT {count}"),
    };
    confirm_phrase(&phrase, args.confirm.as_deref())
        .map_err(|error| Failure::refused(error).hint("nothing was changed"))?;
    Ok(reversal)
}

fn of_plan(error: PlanReversalError) -> Failure {
    match error {
        PlanReversalError::Status(error) => failure::of_migrate(error),
        error @ PlanReversalError::TooMany { .. } => {
            Failure::refused(error).hint("see them: migrate-db --status")
        }
        error => Failure::failed(error).hint("nothing was changed"),
    }
}
