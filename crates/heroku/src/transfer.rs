//! Backups, restores and copies: one numbered list per app.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    DatabaseAddOn, Heroku, HerokuError, PublicUrl, Schedule, Secret, Transfer, TransferKind,
    call::{Api, Call},
    wait::{Standing, until},
};

fn of_database(method: &'static str, database: &DatabaseAddOn, what: &str) -> Call {
    Call::new(Api::Data, method, &["client", "v11", "databases", &database.id, what])
}

fn of_app(method: &'static str, app: &str, rest: &[&str]) -> Call {
    let path: Vec<&str> =
        ["client", "v11", "apps", app, "transfers"].iter().chain(rest).copied().collect();
    Call::new(Api::Data, method, &path)
}

impl Heroku {
    /// All backups, restores and copies under a billing app, newest first. Deleted ones are absent.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn transfers(&self, billing_app: &str) -> Result<Vec<Transfer>, HerokuError> {
        let mut transfers: Vec<Transfer> = self.list(&of_app("GET", billing_app, &[]), None)?;
        transfers.sort_by_key(|transfer| std::cmp::Reverse(transfer.num));
        Ok(transfers)
    }

    /// One of them by number or UUID, with its log.
    ///
    /// # Errors
    ///
    /// Fails where there is none.
    pub fn transfer(&self, billing_app: &str, transfer: &str) -> Result<Transfer, HerokuError> {
        self.repeat(&of_app("GET", billing_app, &[transfer]).query("verbose=true"))
    }

    /// Takes a backup and waits for its end. `see` is shown each state.
    ///
    /// # Errors
    ///
    /// Fails where the backup does, is empty or has warnings, and where `limit` passes: then nothing may be changed.
    pub fn capture(
        &self,
        database: &DatabaseAddOn,
        limit: Duration,
        see: &mut dyn FnMut(&Transfer),
    ) -> Result<Transfer, HerokuError> {
        let backup = self.begin_capture(database)?;
        self.finish_capture(database, &backup, limit, see)
    }

    /// Waits for the end of a backup that was begun. `see` is shown each state.
    ///
    /// # Errors
    ///
    /// As of [`capture`](Self::capture).
    pub fn finish_capture(
        &self,
        database: &DatabaseAddOn,
        backup: &Transfer,
        limit: Duration,
        see: &mut dyn FnMut(&Transfer),
    ) -> Result<Transfer, HerokuError> {
        let backup = self.wait_for_transfer(&database.billing_app, backup, limit, see)?;
        if backup.warnings > 0 {
            return Err(HerokuError::Failed {
                what: format!("the backup {}", backup.name()),
                why: format!("it ended with {} warnings", backup.warnings),
            });
        }
        self.settled(&database.billing_app, backup)
    }

    /// Begins a backup.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn begin_capture(&self, database: &DatabaseAddOn) -> Result<Transfer, HerokuError> {
        let call = of_database("POST", database, "backups");
        self.begin(database, &call, TransferKind::Backup, &|found| {
            Ok(found.reads(self.address(database)?.expose()))
        })
    }

    /// Replaces all data of `database` by that of a backup, by its address, and waits for the end. The database is empty
    /// before it is filled: put the app into maintenance mode first, and have a backup.
    ///
    /// # Errors
    ///
    /// Fails where the restore does, and where `limit` passes. The database may then hold a part of the data.
    pub fn restore(
        &self,
        database: &DatabaseAddOn,
        backup: &Secret,
        limit: Duration,
        see: &mut dyn FnMut(&Transfer),
    ) -> Result<Transfer, HerokuError> {
        let call = of_database("POST", database, "restores")
            .json(&json!({ "backup_url": backup.expose() }));
        let restore = self.begin(database, &call, TransferKind::Restore, &|found| {
            Ok(found.writes(self.address(database)?.expose()))
        })?;
        self.wait_for_transfer(&database.billing_app, &restore, limit, see)
    }

    /// Replaces all data of `to` by that of `from`, and waits for the end.
    ///
    /// # Errors
    ///
    /// Fails where the copy does, and where `limit` passes.
    pub fn copy(
        &self,
        from: &DatabaseAddOn,
        to: &DatabaseAddOn,
        limit: Duration,
        see: &mut dyn FnMut(&Transfer),
    ) -> Result<Transfer, HerokuError> {
        let short = |name: &str| name.trim_start_matches("HEROKU_POSTGRESQL_").to_owned();
        let (from_url, to_url) = (self.address(from)?, self.address(to)?);
        let call = of_database("POST", to, "transfers").json(&json!({
            "from_name": short(&from.attachment),
            "from_url": from_url.expose(),
            "to_name": short(&to.attachment),
            "to_url": to_url.expose(),
        }));
        let copy = self.begin(to, &call, TransferKind::Copy, &|found| {
            let (reads, writes) = (found.reads(from_url.expose()), found.writes(to_url.expose()));
            Ok(reads.zip(writes).map(|(reads, writes)| reads && writes))
        })?;
        self.wait_for_transfer(&to.billing_app, &copy, limit, see)
    }

    fn address(&self, database: &DatabaseAddOn) -> Result<Secret, HerokuError> {
        self.database(database)?.resource_url.ok_or_else(|| HerokuError::Unusable {
            what: database.name.clone(),
            kind: "database with an address",
        })
    }

    /// Makes the call; where its answer is lost, finds the new transfer of the kind. The list is of all databases of the
    /// app: `is_ours` says whether one is of the databases that are meant, as far as that is known.
    fn begin(
        &self,
        database: &DatabaseAddOn,
        call: &Call,
        kind: TransferKind,
        is_ours: &dyn Fn(&Transfer) -> Result<Option<bool>, HerokuError>,
    ) -> Result<Transfer, HerokuError> {
        let newest = |transfers: &[Transfer]| transfers.iter().map(|transfer| transfer.num).max();
        let before = newest(&self.transfers(&database.billing_app)?).unwrap_or(0);
        self.create(call, &mut || {
            // The oldest of the new ones: a later one is somebody else's.
            for found in self.transfers(&database.billing_app)?.into_iter().rev() {
                if found.num <= before || found.kind() != kind {
                    continue;
                }
                match is_ours(&found)? {
                    Some(true) => return Ok(Some(found)),
                    Some(false) => {}
                    // To ask again would do it twice, if it is.
                    None => return Err(HerokuError::Doubtful { call: call.name() }),
                }
            }
            Ok(None)
        })
    }

    /// Waits for the end of a transfer.
    ///
    /// # Errors
    ///
    /// Fails where it does, was stopped or is gone, and where `limit` passes.
    pub fn wait_for_transfer(
        &self,
        billing_app: &str,
        transfer: &Transfer,
        limit: Duration,
        see: &mut dyn FnMut(&Transfer),
    ) -> Result<Transfer, HerokuError> {
        let what = transfer.name();
        until(&what, self.pace().transfer_interval, limit, || {
            let found = self.transfer(billing_app, &transfer.uuid)?;
            see(&found);
            if found.is_success() {
                return Ok(Standing::Done(found));
            }
            if found.is_finished() {
                let tail: Vec<&str> = found
                    .logs
                    .iter()
                    .rev()
                    .take(10)
                    .rev()
                    .map(|log| log.message.as_str())
                    .collect();
                let why = match found.canceled_at {
                    Some(_) => "it was canceled".to_owned(),
                    None => format!("Heroku says:\n{}", tail.join("\n")),
                };
                return Err(HerokuError::Failed { what: what.clone(), why });
            }
            Ok(Standing::Goes(format!("{} bytes", found.processed_bytes)))
        })
    }

    /// A finished backup with its size, which Heroku knows some seconds later.
    fn settled(&self, billing_app: &str, mut backup: Transfer) -> Result<Transfer, HerokuError> {
        let started = Instant::now();
        while backup.processed_bytes == 0 {
            if started.elapsed() > self.pace().settle {
                return Err(HerokuError::Failed {
                    what: format!("the backup {}", backup.name()),
                    why: "it has no bytes".to_owned(),
                });
            }
            std::thread::sleep(self.pace().transfer_interval);
            backup = self.transfer(billing_app, &backup.uuid)?;
        }
        Ok(backup)
    }

    /// Removes a backup. One that is gone is fine.
    ///
    /// # Errors
    ///
    /// Fails where the number is none of a backup, so that nothing else is deleted by mistake.
    pub fn delete_backup(&self, billing_app: &str, num: u64) -> Result<(), HerokuError> {
        let number = num.to_string();
        match self.transfer(billing_app, &number) {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(found)
                if matches!(found.kind(), TransferKind::Backup | TransferKind::ScheduledBackup) => {
            }
            Ok(found) => {
                return Err(HerokuError::Unusable { what: found.name(), kind: "backup" });
            }
        }
        match self.repeat_raw(&of_app("DELETE", billing_app, &[&number])) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stops a transfer that runs.
    ///
    /// # Errors
    ///
    /// Fails where there is none.
    pub fn cancel_transfer(
        &self,
        billing_app: &str,
        transfer: &Transfer,
    ) -> Result<(), HerokuError> {
        let call = of_app("POST", billing_app, &[&transfer.uuid, "actions", "cancel"]);
        self.repeat_raw(&call).map(drop)
    }

    /// An address that opens a backup for an hour.
    ///
    /// # Errors
    ///
    /// Fails where there is no such backup.
    pub fn public_url(&self, billing_app: &str, num: u64) -> Result<PublicUrl, HerokuError> {
        // Heroku sometimes answers with 500 here; another address does no harm.
        self.repeat(&of_app("POST", billing_app, &[&num.to_string(), "actions", "public-url"]))
    }

    /// Copies a backup's bytes to `to`; returns how many there are. An address that has expired is renewed before the
    /// first byte.
    ///
    /// # Errors
    ///
    /// Fails where it is no dump, or is cut off.
    pub fn download(
        &self,
        billing_app: &str,
        num: u64,
        to: &mut dyn Write,
        limit: Duration,
    ) -> Result<u64, HerokuError> {
        let what = format!("the download of backup {num}");
        let failed = |why: String| HerokuError::Failed { what: what.clone(), why };
        let mut attempts = 0;
        let response = loop {
            attempts += 1;
            let url = self.public_url(billing_app, num)?;
            let request =
                self.agent.get(url.url.expose()).config().timeout_global(Some(limit)).build();
            match request.call() {
                Ok(response) if response.status().as_u16() == 200 => break response,
                Ok(response) if attempts >= self.pace().attempts => {
                    return Err(failed(format!(
                        "the storage answered with status {}",
                        response.status().as_u16()
                    )));
                }
                Err(error) if attempts >= self.pace().attempts => {
                    return Err(failed(crate::call::without_address(error).to_string()));
                }
                Ok(_) | Err(_) => std::thread::sleep(self.pace().first_pause),
            }
        };
        let announced = response.body().content_length();
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut start = [0; 5];
        io::Read::read_exact(&mut reader, &mut start)
            .map_err(|error| failed(format!("it is cut off: {error}")))?;
        if &start != b"PGDMP" {
            return Err(failed("what came is no dump of PostgreSQL".to_owned()));
        }
        let copied = to
            .write_all(&start)
            .and_then(|()| io::copy(&mut reader, to))
            .map_err(|error| failed(error.to_string()))?
            + 5;
        match announced {
            Some(announced) if announced != copied => {
                Err(failed(format!("{copied} of {announced} bytes came")))
            }
            _ => Ok(copied),
        }
    }

    /// When backups of a database are taken by themselves.
    ///
    /// # Errors
    ///
    /// Fails where there is no such database.
    pub fn schedules(&self, database: &DatabaseAddOn) -> Result<Vec<Schedule>, HerokuError> {
        self.repeat(&of_database("GET", database, "transfer-schedules"))
    }

    /// Lets backups be taken daily at an hour; an existing schedule of the same config var is replaced.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn schedule(
        &self,
        database: &DatabaseAddOn,
        hour: u8,
        timezone: &str,
    ) -> Result<Schedule, HerokuError> {
        let call = of_database("POST", database, "transfer-schedules").json(&json!({
            "hour": format!("{hour:02}"),
            "timezone": timezone,
            "schedule_name": format!("{}_URL", database.attachment),
        }));
        // One per config var, so that a second one is the same one.
        self.repeat(&call)
    }

    /// Lets no more backups be taken by a schedule. One that is gone is fine.
    ///
    /// # Errors
    ///
    /// Fails where Heroku refuses it.
    pub fn unschedule(
        &self,
        database: &DatabaseAddOn,
        schedule: &Schedule,
    ) -> Result<(), HerokuError> {
        let mut call = of_database("DELETE", database, "transfer-schedules");
        call.segments.push(schedule.uuid.clone());
        match self.repeat_raw(&call) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
