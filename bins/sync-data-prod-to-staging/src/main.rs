//! Production's data into staging, masked.

mod args;
mod failure;
mod fit;
mod heroku;
mod report;

use std::process::ExitCode;

use omnitool_backup::{
    Progress, Step,
    masking::{Masking, MaskingRules},
    refresh::{RefreshHooks, RefreshPlan, RefreshRequest, RefreshState, RefreshStep},
};
use omnitool_cli::{
    Failure, Format, Interrupt, Outcome, ProgressBar, print, print_json, progress_bar, spinner,
};

use omnitool_environment::Platform;

use self::{
    args::{Args, Sites},
    fit::Fit,
    report::{Report, StatusReport},
};

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    if args.platform.platform == Platform::Heroku {
        return heroku::run(&args);
    }
    let sites = args.sites()?;
    if args.check_status {
        return check_status(&args, &sites);
    }
    // Whatever can be wrong with the input is found before any database is touched.
    let masking = masking(&args)?;
    let fit = Fit::new(&args, sites.environment)?;
    let catalog = args.catalog(sites.environment)?;
    let request = RefreshRequest {
        source: &sites.source,
        source_environment: args.source_env,
        target: &sites.target,
        catalog: &catalog,
        folder: &sites.state,
        masking: &masking,
        run_id: args.run_id.as_deref(),
    };
    let bar = spinner("Comparing the databases");
    let plan = RefreshPlan::new(&request);
    bar.finish_and_clear();
    let plan = plan.map_err(failure::of_plan)?;
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
    let refreshed = result.map_err(failure::of_refresh)?;
    Report::refreshed(plan, refreshed, &args).finish(args.format)
}

/// Calls `apply` with what a refresh asks of its caller: progress where a person looks at it, Ctrl-C, and the committed input.
fn with_hooks<R>(fit: &Fit, apply: impl FnOnce(&mut RefreshHooks<'_>) -> R) -> Result<R, Failure> {
    let interrupt = Interrupt::install()?;
    let shown = std::cell::RefCell::new(Shown::default());
    Ok(apply(&mut RefreshHooks {
        begin: &mut |step| shown.borrow_mut().begin(step),
        progress: &mut |progress| shown.borrow_mut().update(progress),
        is_stopped: &|| interrupt.is_set(),
        sync_tools: &mut |copy| fit.sync_tools(copy),
        import_access: &mut |copy| fit.import_access(copy),
        check: &mut |copy| fit.check(copy),
    }))
}

fn masking(args: &Args) -> Result<Masking, Failure> {
    if args.unmasked {
        return Ok(Masking::CredentialsOnly);
    }
    let rules = args.masking.as_deref().map_or_else(MaskingRules::shipped, MaskingRules::load);
    Ok(Masking::Rules(rules.map_err(failure::of_rules)?))
}

fn check_status(args: &Args, sites: &Sites) -> Result<Outcome, Failure> {
    let report = StatusReport::new(RefreshState::read(&sites.state)?, None);
    match args.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    Ok(Outcome::Done)
}

/// Shows how far it has come, where a person looks at it.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    step: Option<Step>,
}

impl Shown {
    fn begin(&mut self, step: RefreshStep) {
        self.replace(spinner(step.summary()));
        self.step = None;
    }

    fn update(&mut self, Progress { step, done, total }: Progress) {
        if self.step.replace(step) != Some(step) {
            self.replace(match total {
                Some(total) => progress_bar(step.as_str(), total),
                None => spinner(step.as_str()),
            });
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    fn replace(&mut self, bar: ProgressBar) {
        if let Some(old) = self.bar.replace(bar) {
            old.finish_and_clear();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
