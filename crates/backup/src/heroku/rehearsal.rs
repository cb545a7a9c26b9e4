//! A backup in a database of its own, to try something on it.

use std::path::Path;

use super::{HerokuBackupError, HerokuBackups, Look};
use crate::{
    BackupId, DropCopyError, Manifest, PlanRollbackError, Progress, RehearsalHooks, RestoreError,
    RestoreHooks, RestoreRequest, Store, System, Wanted,
    rollback::{check_ours, choose_from},
};

/// Why a backup was not restored into a database of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreCopyError {
    /// The backup cannot be had or is no good.
    #[error(transparent)]
    Backup(#[from] HerokuBackupError),
    /// No backup can be chosen, or it is not ours.
    #[error(transparent)]
    Plan(#[from] PlanRollbackError),
    /// What an earlier rehearsal has left cannot be removed.
    #[error(transparent)]
    Drop(#[from] DropCopyError),
    /// It could not be restored.
    #[error("cannot restore the backup {id} into a database of its own")]
    Restore {
        /// The backup.
        id: BackupId,
        /// Why.
        #[source]
        source: Box<RestoreError>,
    },
}

impl HerokuBackups {
    /// Downloads a backup, the newest verified one where none is named, into a file of mode 0600 that goes away again, looks
    /// at it, and restores it into `copy`, the database of a rehearsal, which is made anew.
    ///
    /// # Errors
    ///
    /// Fails where there is no such backup, it is not good or not ours, or `copy` is something else.
    pub fn restore_copy(
        &self,
        id: Option<BackupId>,
        copy: &dyn Store,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Manifest, RestoreCopyError> {
        let id = match id {
            Some(id) => id,
            None => {
                let place = Path::new(&self.app);
                let (listing, wanted) = (self.list()?, &Wanted::Latest);
                choose_from(listing, wanted, System::Postgres, self.environment, place)?.0.id
            }
        };
        copy.drop_copy()?;
        let (backup, _) = self.find_both(id)?;
        let hooks = &mut RehearsalHooks { progress: &mut *progress, check: &mut |_| Ok(()) };
        let seen = self.look(&backup, Look::Download, hooks)?;
        let contents = seen.contents.as_ref().expect("a download was read");
        let file = seen.file.as_ref().expect("a download is a file");
        let label = &id.to_string();
        check_ours(label, contents)?;
        let request = RestoreRequest {
            label,
            file: file.path(),
            sha256: &seen.sha256,
            contents,
            environment: self.environment,
            old: None,
        };
        let hooks =
            &mut RestoreHooks { progress, check: &mut |_| Ok(()), safety: &mut |_| Ok(None) };
        copy.restore(&request, hooks)
            .map_err(|source| RestoreCopyError::Restore { id, source: Box::new(source) })?;
        Ok(backup)
    }
}
