//! The platform heroku: releases of an app, whose release phase migrates its database.

mod error;
mod ledger;
mod program;
mod slug;
mod source;
mod upload;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use omnitool_heroku::{
    Database, Follow, Heroku, HerokuError, NewRelease, Release, ReleaseStatus, Settings,
};

pub use self::error::{HerokuPlatformError, HerokuRecovery};
use self::{
    ledger::{Label, Ledger, Own},
    upload::Uploaded,
};
use crate::{
    Activation, Artifact, ConfigChange, DatabaseState, HerokuVersions, HerokuWay, Home, Platform,
    PlatformError, ProgramCall, ProgramOutput, Purpose, ReleaseId, RunProgramError, Serving, Site,
    Situation, Stream, Variable, Watch, chain::chain,
};

/// Heroku ends a release phase after an hour.
const RELEASE_LIMIT: Duration = Duration::from_secs(65 * 60);
/// How long dynos may take to run a new release; with preboot the old ones go on for three minutes.
const DYNOS_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The process type that answers visitors.
const WEB: &str = "web";
/// The name under which an app has its database.
const DATABASE: &str = "DATABASE_URL";
/// How many of its last lines an error quotes of a release phase, and how many are looked at.
const TAIL: usize = 20;
const MOST_LINES: usize = 2000;

/// An environment that is an app on Heroku.
#[derive(Debug)]
pub struct HerokuPlatform {
    heroku: Heroku,
    app: String,
    /// The project's root.
    root: PathBuf,
    /// Where this machine remembers what it has uploaded.
    folder: PathBuf,
    /// The app that runs staging, where that is another one.
    staging: Option<String>,
    /// The newest version that was there before the run, or is its own.
    known: u64,
    /// The version that served before the run.
    noted: Option<u64>,
    /// The release that the run makes.
    release: Option<ReleaseId>,
    /// The names of the variables that the run sets.
    variables: Vec<String>,
    /// What the run deploys.
    uploaded: Option<Uploaded>,
}

impl HerokuPlatform {
    /// The platform of `site`, whose account `settings` reach. Nobody is asked anything yet. `folder` is where this machine
    /// keeps what belongs to the environment.
    ///
    /// # Errors
    ///
    /// Fails where the site is not on Heroku, or the settings cannot be used.
    pub fn new(
        site: &Site,
        settings: Settings,
        folder: PathBuf,
    ) -> Result<Self, HerokuPlatformError> {
        let Home::Heroku { app, staging, access: _ } = &site.home else {
            return Err(HerokuPlatformError::NotOnHeroku { environment: site.environment });
        };
        Ok(Self {
            heroku: Heroku::new(settings)?,
            app: app.clone(),
            root: site.root.clone(),
            folder,
            staging: staging.clone(),
            known: 0,
            noted: None,
            release: None,
            variables: Vec::new(),
            uploaded: None,
        })
    }

    fn ledger(&self) -> Result<Ledger, HerokuPlatformError> {
        Ok(Ledger::read(&self.heroku, &self.app)?)
    }

    /// The releases, where none of them is somebody else's.
    fn own_ledger(&self) -> Result<Ledger, HerokuPlatformError> {
        let ledger = self.ledger()?;
        self.check(&ledger, self.noted)?;
        Ok(ledger)
    }

    fn check(&self, ledger: &Ledger, noted: Option<u64>) -> Result<(), HerokuPlatformError> {
        let variables = &self.variables;
        let own = Own { release: self.release, variables, noted, attaches: false };
        ledger.check(&self.app, self.known, &own)
    }

    fn database(&self) -> Result<Database, HerokuPlatformError> {
        let addon =
            self.heroku.database_of(&self.app, DATABASE).map_err(|source| match source {
                HerokuError::Unusable { .. } | HerokuError::Refused { status: 404, .. } => {
                    let source = Box::new(source);
                    HerokuPlatformError::NoDatabase { app: self.app.clone(), source }
                }
                other => other.into(),
            })?;
        Ok(self.heroku.database(&addon)?)
    }

    /// Follows `release` to the end of its release phase; returns how it ended, with the lines that it printed.
    fn follow(
        &mut self,
        release: &Release,
        watch: &mut Watch<'_>,
    ) -> Result<(Release, Vec<String>), HerokuPlatformError> {
        let stop = watch.interrupted();
        let mut said: Vec<String> = Vec::new();
        let mut see = |line: &str| {
            watch.line(Stream::Stdout, line);
            if said.len() == MOST_LINES {
                said.remove(0);
            }
            said.push(line.to_owned());
        };
        let follow = Follow { see: &mut see, stop };
        let found = self.heroku.follow_release(&self.app, &release.id, RELEASE_LIMIT, follow)?;
        if found.status == ReleaseStatus::Pending {
            let what = format!("v{} of {}", found.version, self.app);
            return Err(HerokuPlatformError::Interrupted { what });
        }
        Ok((found, said))
    }

    /// Another run may have taken the number for another artifact.
    fn check_number(ledger: &Ledger, label: &Label) -> Result<(), HerokuPlatformError> {
        ledger.other_artifact(label).map_or(Ok(()), |other| {
            let found = other.artifact.clone();
            Err(HerokuPlatformError::OtherArtifact { release: label.release, found })
        })
    }

    /// The release of `uploaded`: the one that was made already, also where its release phase still runs, else a new one.
    fn release(
        &mut self,
        uploaded: &Uploaded,
        watch: &mut Watch<'_>,
    ) -> Result<(Release, Vec<String>), HerokuPlatformError> {
        let label = &uploaded.label;
        let ledger = self.own_ledger()?;
        Self::check_number(&ledger, label)?;
        let made = ledger.attempts(label).next().cloned();
        if let Some(made) = made {
            if made.status == ReleaseStatus::Pending {
                return self.follow(&made, watch).map_err(|error| error.unseen(label.release));
            }
            if made.status == ReleaseStatus::Succeeded && ledger.serving() == Some(label.release) {
                return Ok((made, Vec::new()));
            }
        }
        let release = self.make_release(uploaded, watch)?;
        self.follow(&release, watch).map_err(|error| error.unseen(label.release))
    }

    /// Where nothing ever ran, nobody has said how many web dynos there should be.
    fn start_web(&self, first: bool) -> Result<(), HerokuPlatformError> {
        let formation = self.heroku.formation(&self.app)?;
        match formation.iter().find(|found| found.process_type == WEB) {
            Some(found) if found.quantity > 0 => Ok(()),
            _ if first => Ok(self.heroku.scale(&self.app, WEB, 1).map(drop)?),
            _ => Err(HerokuPlatformError::NoWebDyno { app: self.app.clone() }),
        }
    }

    /// Waits until all dynos run the version, of which there has to be one that answers visitors.
    fn wait_for_dynos(&self, version: u64, watch: &Watch<'_>) -> Result<String, HerokuError> {
        let stop = watch.interrupted();
        let dynos =
            self.heroku.wait_for_dynos(&self.app, version, DYNOS_LIMIT, stop).map_err(|error| {
                match error {
                    HerokuError::Stopped { what: _, last } => {
                        let what = format!("the start of {}'s dynos with v{version}", self.app);
                        HerokuError::Stopped { what, last }
                    }
                    error => error,
                }
            })?;
        match dynos.as_slice() {
            [] => Err(HerokuError::Failed {
                what: format!("v{version} of {}", self.app),
                why: "it has no dynos".to_owned(),
            }),
            dynos => {
                let names: Vec<&str> = dynos.iter().map(|dyno| dyno.name.as_str()).collect();
                Ok(names.join(", "))
            }
        }
    }

    /// Makes the version that served before serve again.
    fn restore(&mut self, watch: &mut Watch<'_>) -> HerokuRecovery {
        let Some(version) = self.noted else { return HerokuRecovery::NothingServed };
        let restored = self.ledger().and_then(|ledger| {
            self.check(&ledger, Some(version))?;
            let release = ledger.version(version).cloned().ok_or_else(|| HerokuError::Failed {
                what: format!("v{version}"),
                why: "Heroku does not list it any more".to_owned(),
            })?;
            self.go_back_to(&release, watch)
        });
        match restored {
            Ok(_) => HerokuRecovery::Serves(version),
            Err(error) => HerokuRecovery::NotRestored { version, error: chain(&error) },
        }
    }

    /// Rolls back to `target`, and looks whether that left the app its database.
    fn go_back_to(
        &mut self,
        target: &Release,
        watch: &mut Watch<'_>,
    ) -> Result<String, HerokuPlatformError> {
        let new = NewRelease::RollbackTo(&target.id);
        let release = self.heroku.create_release(&self.app, new)?;
        let (release, said) = self.follow(&release, watch)?;
        if release.status != ReleaseStatus::Succeeded {
            let ledger = self.ledger()?;
            return Err(HerokuPlatformError::ReleaseFailed {
                release: ledger.label(target).map_or(ReleaseId::after(None), |label| label.release),
                version: release.version,
                serving: serving(&ledger),
                said: tail(said),
            });
        }
        let dynos = self.wait_for_dynos(release.version, watch)?;
        self.check_database_url()?;
        Ok(format!("v{} is v{} again, on {dynos}", release.version, target.version))
    }

    /// A rollback brings back config vars, too, and with them perhaps the address of a database that is not the app's any more.
    fn check_database_url(&self) -> Result<(), HerokuPlatformError> {
        let database = self.database()?;
        let config = self.heroku.config_vars(&self.app)?;
        match (&database.resource_url, config.get(DATABASE)) {
            (Some(wanted), Some(found)) if wanted == found => Ok(()),
            // The Data API does not show the address of every plan.
            (None, Some(_)) => Ok(()),
            _ => Err(HerokuPlatformError::DatabaseUrl { app: self.app.clone() }),
        }
    }

    fn deploy(
        &mut self,
        uploaded: &Uploaded,
        watch: &mut Watch<'_>,
    ) -> Result<Activation, HerokuPlatformError> {
        let (release, said) = self.release(uploaded, watch)?;
        let number = uploaded.label.release;
        self.serve(number, &release, said, watch).map_err(|error| error.unseen(number))
    }

    /// Lets `release` serve, whose release phase has ended and `said` something.
    fn serve(
        &mut self,
        number: ReleaseId,
        release: &Release,
        said: Vec<String>,
        watch: &mut Watch<'_>,
    ) -> Result<Activation, HerokuPlatformError> {
        let version = release.version;
        if release.status != ReleaseStatus::Succeeded {
            let serving = serving(&self.ledger()?);
            return Err(HerokuPlatformError::ReleaseFailed {
                release: number,
                version,
                serving,
                said: tail(said),
            });
        }
        // One that came while this one was made.
        self.own_ledger()?;
        let up = match self.start_web(self.noted.is_none()) {
            Ok(()) => self.wait_for_dynos(version, watch).map_err(HerokuPlatformError::from),
            Err(error) => Err(error),
        };
        let dynos = match up {
            Ok(dynos) => dynos,
            Err(HerokuPlatformError::Api(
                source @ (HerokuError::Failed { .. } | HerokuError::Deadline { .. }),
            )) => {
                let recovery = self.restore(watch);
                return Err(HerokuPlatformError::NotServing {
                    release: number,
                    version,
                    recovery,
                    source: Box::new(source),
                });
            }
            Err(error) => return Err(error),
        };
        let migrated = summary(&said);
        let phase = migrated.as_deref().map(|said| format!("{said}\n")).unwrap_or_default();
        Ok(Activation {
            evidence: format!("{phase}release {number} serves as v{version} on {dynos}"),
            migrated: Some(migrated.unwrap_or_else(|| "done before".to_owned())),
        })
    }

    /// Waits for the builds and release phases that go on: what they make serves then, whatever was made to before.
    fn settle(&mut self, watch: &mut Watch<'_>) -> Result<(), HerokuPlatformError> {
        self.wait_for_builds(watch)?;
        let pending: Vec<Release> = self.ledger()?.pending().cloned().collect();
        for release in pending {
            self.follow(&release, watch)?;
        }
        Ok(())
    }

    /// Lets an older release serve again.
    fn roll_back(
        &mut self,
        release: ReleaseId,
        watch: &mut Watch<'_>,
    ) -> Result<Activation, HerokuPlatformError> {
        self.settle(watch)?;
        let ledger = self.ledger()?;
        let noted = self
            .noted
            .and_then(|version| ledger.version(version))
            .filter(|noted| ledger.label(noted).is_some_and(|label| label.release == release));
        let target = noted.or_else(|| ledger.eligible(release)).cloned();
        let Some(target) = target else {
            return Err(HerokuPlatformError::NoRelease { app: self.app.clone(), release });
        };
        self.noted = Some(target.version);
        self.check(&ledger, self.noted)?;
        if ledger.serving() == Some(release) {
            let version = ledger.current().map_or(0, |current| current.version);
            let dynos = self.wait_for_dynos(version, watch)?;
            self.check_database_url()?;
            return Ok(format!("release {release} serves as v{version} on {dynos} already").into());
        }
        let said = self.go_back_to(&target, watch)?;
        Ok(format!("release {release} serves: {said}").into())
    }
}

impl Platform for HerokuPlatform {
    fn look(&self) -> Result<Situation, PlatformError> {
        let ledger = self.ledger()?;
        let database = self.database()?;
        let tables = database.num_tables.map(|tables| tables.to_string());
        let is_empty = tables.or_else(|| database.info("Tables")).as_deref() == Some("0");
        Ok(Situation {
            serving: ledger.serving(),
            newest: ledger.newest(),
            database: if is_empty { DatabaseState::Missing } else { DatabaseState::Present },
            heroku: Some(HerokuVersions {
                newest: ledger.newest_version(),
                serving: ledger.current().map(|release| release.version),
            }),
        })
    }

    fn begin(&mut self, situation: &Situation, release: ReleaseId, variables: &[Variable]) {
        self.release = Some(release);
        self.variables = variables.iter().map(|variable| variable.name().to_owned()).collect();
        if let Some(HerokuVersions { newest, serving }) = situation.heroku {
            (self.known, self.noted) = (newest, serving);
        }
    }

    fn accept(&mut self) -> Result<(), PlatformError> {
        let ledger = self.ledger()?;
        let (release, noted, variables) = (self.release, self.noted, &self.variables);
        ledger.check(&self.app, self.known, &Own { release, variables, noted, attaches: true })?;
        self.known = ledger.newest_version();
        Ok(())
    }

    fn set_config(
        &mut self,
        variables: &[Variable],
        watch: &mut Watch<'_>,
    ) -> Result<ConfigChange, PlatformError> {
        self.own_ledger()?;
        let wanted: BTreeMap<String, Option<String>> = variables
            .iter()
            .map(|variable| (variable.name().to_owned(), Some(variable.expose().to_owned())))
            .collect();
        let set =
            self.heroku.set_config_vars(&self.app, &wanted).map_err(HerokuPlatformError::from)?;
        self.own_ledger()?;
        // Setting them made a release; a run that died may have done so, too.
        let newest = self.heroku.newest_release(&self.app).map_err(HerokuPlatformError::from)?;
        if let Some(newest) = newest.filter(|newest| newest.version > self.known) {
            let is_config = newest.description.ends_with(" config vars");
            if is_config {
                let (release, said) = self.follow(&newest, watch)?;
                let version = release.version;
                if release.status == ReleaseStatus::Failed && !set.is_empty() {
                    let said = tail(said);
                    return Err(HerokuPlatformError::ConfigFailed { version, said }.into());
                }
            }
        }
        Ok(ConfigChange { unchanged: wanted.len() - set.len(), set })
    }

    fn install(
        &mut self,
        release: ReleaseId,
        artifact: &Artifact,
        way: HerokuWay,
    ) -> Result<String, PlatformError> {
        let label = Label::new(release, artifact);
        let ledger = self.ledger()?;
        Self::check_number(&ledger, &label)?;
        let (made, said) = match way {
            HerokuWay::Slug => self.install_slug(&ledger, &label, artifact)?,
            HerokuWay::Build => self.install_source(&label, artifact)?,
            HerokuWay::Promote => self.install_promotion(&label)?,
        };
        self.uploaded = Some(Uploaded { label, made });
        Ok(said)
    }

    fn run_program(
        &mut self,
        release: ReleaseId,
        call: &ProgramCall,
        watch: &mut Watch<'_>,
    ) -> Result<ProgramOutput, RunProgramError> {
        let ledger = match call.purpose {
            Purpose::ChangeDatabase | Purpose::CreateUsers => self.own_ledger(),
            _ => self.ledger(),
        };
        let ledger = ledger.map_err(PlatformError::from)?;
        let serving = ledger.serving();
        if serving != Some(release) {
            let error = HerokuPlatformError::OtherServes { wanted: release, serving };
            return Err(PlatformError::from(error).into());
        }
        program::run(&self.heroku, &self.app, release, call, watch)
    }

    fn activate(
        &mut self,
        release: ReleaseId,
        watch: &mut Watch<'_>,
    ) -> Result<Activation, PlatformError> {
        match self.uploaded.clone().filter(|uploaded| uploaded.label.release == release) {
            Some(uploaded) => Ok(self.deploy(&uploaded, watch)?),
            None => Ok(self.roll_back(release, watch)?),
        }
    }

    fn settle(&mut self, watch: &mut Watch<'_>) -> Result<(), PlatformError> {
        Ok(self.settle(watch)?)
    }

    fn remove_old_releases(&mut self, _: usize) -> Result<Vec<ReleaseId>, PlatformError> {
        // Heroku keeps them for itself.
        Ok(Vec::new())
    }

    fn previous(&self) -> Result<Option<ReleaseId>, PlatformError> {
        let ledger = self.ledger()?;
        let before = ledger.serving().and_then(|serving| ledger.before(serving));
        Ok(before.filter(|before| ledger.eligible(*before).is_some()))
    }

    fn serving(&self) -> Serving {
        self.ledger().map_or(Serving::Unknown, |ledger| ledger.serving().into())
    }
}

/// The last lines, for an error.
fn tail(mut said: Vec<String>) -> Vec<String> {
    said.split_off(said.len().saturating_sub(TAIL))
}

/// What a release phase that ran `migrate-db` did, in one line.
fn summary(said: &[String]) -> Option<String> {
    let applied = said.iter().filter(|line| line.starts_with("Applied migration: ")).count();
    match applied {
        0 => said.iter().find(|line| !line.trim().is_empty()).cloned(),
        1 => Some("1 migration applied".to_owned()),
        applied => Some(format!("{applied} migrations applied")),
    }
}

fn serving(ledger: &Ledger) -> HerokuRecovery {
    ledger
        .current()
        .map_or(HerokuRecovery::NothingServed, |release| HerokuRecovery::Serves(release.version))
}
