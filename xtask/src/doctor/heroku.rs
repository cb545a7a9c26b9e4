//! What deployments need on Heroku.

use std::{collections::BTreeSet, io::Write as _, process::Command, time::Duration};

use omnitool_cli::HerokuAccount;
use omnitool_environment::{EnvironmentName, Environments, HerokuApp};
use omnitool_heroku::{App, Heroku, HerokuError, Settings, TransferKind};
use omnitool_pipeline::PROGRAMS;

use super::{Finding, machine};
use crate::project::Project;

/// Fewer requests than a deployment may need.
const FEW_REQUESTS: u32 = 300;
/// How long a slug may take to come.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

pub(super) fn look(project: &Project, environments: &[EnvironmentName]) -> Vec<Finding> {
    let account = match HerokuAccount::from_environment() {
        Ok(account) => account,
        Err(error) => {
            let hint = error.hint();
            return vec![Finding::problem("token", error.to_string(), hint)];
        }
    };
    let settings = Settings::of(account.api, account.data, account.token, account.roots);
    let heroku = match Heroku::new(settings) {
        Ok(heroku) => heroku,
        Err(error) => return vec![trouble("token", &error)],
    };
    let mut findings = token(&heroku);
    if findings[0].outcome != super::State::Good {
        // Nothing else could be looked at.
        return findings;
    }
    findings.push(rate_limits(&heroku));
    let Ok(known) = Environments::load(&project.root().join(Environments::DEFAULT_FILE)) else {
        return findings;
    };
    let mut apps = Vec::new();
    for &environment in environments {
        match known.on_heroku(environment) {
            Err(error) => findings.push(Finding::problem(
                format!("{environment}: app"),
                error.to_string(),
                "name the app in data/environments.toml, or leave the environment out: --env",
            )),
            Ok(app) => {
                let found = Look { heroku: &heroku, project, environment, app }.all();
                if found[0].outcome != super::State::Problem {
                    apps.push((environment, app));
                }
                findings.extend(found);
            }
        }
    }
    if apps.len() > 1 {
        findings.push(pipeline(&heroku, &apps));
    }
    findings
}

/// What Heroku did not tell.
fn trouble(check: impl Into<String>, error: &HerokuError) -> Finding {
    let repair = error.hint().unwrap_or("run this again");
    Finding::problem(check, error.to_string(), repair)
}

fn token(heroku: &Heroku) -> Vec<Finding> {
    const SCOPES: &str = "scopes";
    const NEW: &str = "make one that may change apps: heroku authorizations:create --scope global";
    let account = match heroku.account() {
        Ok(account) => Finding::good("token", format!("it is of {}", account.email)),
        Err(error) => return vec![trouble("token", &error)],
    };
    let scopes = match heroku.scopes() {
        Err(error) => Finding::warning(
            SCOPES,
            format!("nobody knows what the token may do: {error}"),
            "if a deployment is refused, use a token of `heroku authorizations:create`",
        ),
        Ok(scopes) => {
            let may_write =
                scopes.iter().any(|scope| matches!(scope.as_str(), "global" | "write-protected"));
            let scopes = scopes.join(", ");
            match may_write {
                true => Finding::good(SCOPES, scopes),
                false => Finding::problem(
                    SCOPES,
                    format!("the token may not change apps: {scopes}"),
                    NEW,
                ),
            }
        }
    };
    vec![account, scopes]
}

fn rate_limits(heroku: &Heroku) -> Finding {
    const CHECK: &str = "rate limit";
    match heroku.rate_limits() {
        Err(error) => trouble(CHECK, &error),
        Ok(limits) if limits.remaining < FEW_REQUESTS => Finding::warning(
            CHECK,
            format!("{} requests are left for this account", limits.remaining),
            "wait some minutes: about 75 come back each minute",
        ),
        Ok(limits) => Finding::good(CHECK, format!("{} requests are left", limits.remaining)),
    }
}

/// Whether what staging runs can be promoted to production.
fn pipeline(heroku: &Heroku, apps: &[(EnvironmentName, &HerokuApp)]) -> Finding {
    const CHECK: &str = "pipeline";
    let mut stages = Vec::new();
    let mut pipelines = BTreeSet::new();
    for (environment, app) in apps {
        match heroku.pipeline_coupling(&app.app) {
            Err(error) => return trouble(CHECK, &error),
            Ok(None) => {
                return Finding::warning(
                    CHECK,
                    format!("{} is in none, so that nothing can be promoted to it", app.app),
                    format!(
                        "heroku pipelines:add omnitool --app {} --stage {environment}",
                        app.app
                    ),
                );
            }
            Ok(Some(coupling)) if coupling.stage != environment.as_str() => {
                return Finding::problem(
                    CHECK,
                    format!("{} is at its stage {}, not {environment}", app.app, coupling.stage),
                    format!("heroku pipelines:update --app {} --stage {environment}", app.app),
                );
            }
            Ok(Some(coupling)) => {
                stages.push(format!("{} at {}", app.app, coupling.stage));
                pipelines.insert(coupling.pipeline.id);
            }
        }
    }
    match pipelines.len() {
        1 => Finding::good(CHECK, stages.join(", ")),
        _ => Finding::problem(
            CHECK,
            format!("the apps are in different ones ({})", stages.join(", ")),
            "put them into one: heroku pipelines:remove, then heroku pipelines:add",
        ),
    }
}

/// The looks at one app.
struct Look<'a> {
    heroku: &'a Heroku,
    project: &'a Project,
    environment: EnvironmentName,
    app: &'a HerokuApp,
}

impl Look<'_> {
    fn name(&self, check: &str) -> String {
        format!("{}: {check}", self.environment)
    }

    fn all(&self) -> Vec<Finding> {
        let name = &self.app.app;
        let app = match self.heroku.app(name) {
            Ok(app) => app,
            Err(error) if error.is_not_found() => {
                return vec![Finding::problem(
                    self.name("app"),
                    format!("the account sees no app {name}"),
                    format!(
                        "heroku apps:create {name}, or correct [{}.heroku] in data/environments.toml",
                        self.environment
                    ),
                )];
            }
            Err(error) => return vec![trouble(self.name("app"), &error)],
        };
        let mut findings = vec![self.maintenance(&app), self.stack(&app), self.base_url(&app)];
        findings.extend(self.database());
        findings.push(self.config());
        findings.extend(self.slug());
        findings
    }

    fn maintenance(&self, app: &App) -> Finding {
        let check = self.name("app");
        if app.maintenance {
            return Finding::warning(
                check,
                format!(
                    "{} is in maintenance mode: somebody works on it, or a rollback stopped",
                    app.name
                ),
                format!(
                    "rollback-migration --env {} --platform heroku --dry-run says whether one did; else heroku maintenance:off -a {}",
                    self.environment, app.name
                ),
            );
        }
        Finding::good(check, app.name.clone())
    }

    fn stack(&self, app: &App) -> Finding {
        let check = self.name("stack");
        let found = app.stack.as_ref().and_then(|stack| stack.name.as_deref());
        let wanted = machine::wanted_stack(self.project.root());
        match (found, wanted) {
            (Some(found), Some(wanted)) if found != wanted => Finding::problem(
                check,
                format!("{found}, and the programs are built for {wanted}"),
                format!("heroku stack:set {wanted} -a {}", app.name),
            ),
            (Some(found), _) => Finding::good(check, found),
            (None, _) => Finding::warning(
                check,
                "Heroku does not say which one",
                format!("heroku stack -a {}", app.name),
            ),
        }
    }

    fn base_url(&self, app: &App) -> Finding {
        let check = self.name("base URL");
        let wanted = &self.app.base_url;
        let said = app.web_url.as_deref().map(|url| url.trim_end_matches('/'));
        match said {
            Some(said) if said != wanted.as_str().trim_end_matches('/') => Finding::warning(
                check,
                format!("data/environments.toml says {wanted}, and Heroku says {said}"),
                "fine with a domain of your own; else correct base_url: smoke tests go there",
            ),
            _ => Finding::good(check, wanted.as_str()),
        }
    }

    fn database(&self) -> Vec<Finding> {
        let name = &self.app.app;
        let check = self.name("database");
        let database = match self.heroku.database_of(name, "DATABASE_URL") {
            Ok(database) => database,
            Err(HerokuError::Unusable { .. }) => return vec![self.no_database()],
            Err(error) if error.is_not_found() => return vec![self.no_database()],
            Err(error) => return vec![trouble(check, &error)],
        };
        let mut findings = vec![match database.has_followers {
            true => Finding::good(&check, format!("{} on {}", database.name, database.plan)),
            false => Finding::warning(
                &check,
                format!("{} on {} has no followers", database.name, database.plan),
                "refresh staging with sync-data-prod-to-staging --via transfer, or upgrade to a Standard plan",
            ),
        }];
        let check = self.name("backups");
        findings.push(match self.heroku.transfers(&database.billing_app) {
            Err(error) => trouble(check, &error),
            Ok(transfers) => {
                let backups: Vec<_> = transfers
                    .iter()
                    .filter(|transfer| transfer.kind() == TransferKind::Backup)
                    .collect();
                let keeps = backups.first().and_then(|backup| backup.num_keep);
                match (backups.len(), keeps) {
                    (0, _) => Finding::warning(
                        check,
                        "there is none yet",
                        format!("backup-database --env {} --platform heroku capture", self.environment),
                    ),
                    (count, Some(keeps)) if count >= keeps => Finding::warning(
                        check,
                        format!("all {keeps} of the plan are used: the next one removes the oldest, pinned or not"),
                        format!("backup-database --env {} --platform heroku prune", self.environment),
                    ),
                    (count, Some(keeps)) => {
                        Finding::good(check, format!("{count} of the {keeps} that the plan keeps"))
                    }
                    (count, None) => Finding::good(check, format!("{count}")),
                }
            }
        });
        findings
    }

    fn no_database(&self) -> Finding {
        let name = &self.app.app;
        Finding::problem(
            self.name("database"),
            format!("{name} has no PostgreSQL database as DATABASE_URL"),
            format!("heroku addons:create heroku-postgresql:essential-0 -a {name}"),
        )
    }

    fn config(&self) -> Finding {
        const VARIABLE: &str = "OMNITOOL_ENV";
        let check = self.name("config");
        let (name, wanted) = (&self.app.app, self.environment.as_str());
        match self.heroku.config_vars(name) {
            Err(error) => trouble(check, &error),
            Ok(config) => match config.get(VARIABLE).map(omnitool_heroku::Secret::expose) {
                Some(found) if found != wanted => Finding::problem(
                    check,
                    format!("{VARIABLE} of {name} is not {wanted}"),
                    format!("heroku config:set {VARIABLE}={wanted} -a {name}"),
                ),
                Some(_) => Finding::good(check, format!("{VARIABLE} is {wanted}")),
                None => Finding::warning(
                    check,
                    format!("{name} has no {VARIABLE}"),
                    "the first deployment sets it",
                ),
            },
        }
    }

    /// The release that serves: does it migrate, serve, and have all programs?
    fn slug(&self) -> Vec<Finding> {
        let name = &self.app.app;
        let check = self.name("release");
        let slug = match self.heroku.current_release(name) {
            Err(error) => return vec![trouble(check, &error)],
            Ok(release) => release.and_then(|release| release.slug),
        };
        let Some(slug) = slug else {
            let deploy = format!("cargo xtask deploy-{} --platform heroku", self.environment);
            return vec![Finding::warning(check, format!("{name} serves no code yet"), deploy)];
        };
        let slug = match self.heroku.slug(name, &slug.id) {
            Ok(slug) => slug,
            Err(error) => return vec![trouble(check, &error)],
        };
        let types: Vec<(String, String)> = slug.process_types.clone().into_iter().collect();
        let missing = machine::missing_processes(&types);
        let deploy = format!(
            "deploy a release of this project: cargo xtask deploy-{} --platform heroku",
            self.environment
        );
        let processes = match missing.as_slice() {
            [] => Finding::good(check, "its release phase migrates, and the app serves"),
            missing => Finding::problem(
                check,
                format!("what serves has no process {}", missing.join(" and no ")),
                &deploy,
            ),
        };
        let check = self.name("programs");
        let programs = match self.programs(&slug) {
            Err(problem) => Finding::warning(
                check,
                format!("the slug cannot be looked into: {problem}"),
                "run this again",
            ),
            Ok(found) => {
                let missing: Vec<&str> =
                    PROGRAMS.into_iter().filter(|program| !found.contains(*program)).collect();
                match missing.as_slice() {
                    [] => Finding::good(check, format!("all {} are in the slug", PROGRAMS.len())),
                    missing => Finding::problem(
                        check,
                        format!("the slug has no {}", missing.join(", ")),
                        deploy,
                    ),
                }
            }
        };
        vec![processes, programs]
    }

    /// The programs in a slug.
    fn programs(&self, slug: &omnitool_heroku::Slug) -> Result<BTreeSet<String>, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let mut file = tempfile::NamedTempFile::new().map_err(|error| text(&error))?;
        self.heroku
            .download_slug(slug, file.as_file_mut(), DOWNLOAD_LIMIT)
            .and_then(|_| file.flush().map_err(HerokuError::Rendezvous))
            .map_err(|error| text(&error))?;
        let listed = Command::new("tar").arg("-tzf").arg(file.path()).output();
        let listed = listed.map_err(|error| format!("cannot run tar: {error}"))?;
        if !listed.status.success() {
            return Err("it is no tarball".to_owned());
        }
        let names = String::from_utf8_lossy(&listed.stdout);
        let programs = names.lines().filter_map(|name| name.rsplit_once("app/bin/"));
        Ok(programs.map(|(_, program)| program.to_owned()).collect())
    }
}
