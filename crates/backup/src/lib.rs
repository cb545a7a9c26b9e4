#![doc = include_str!("../README.md")]

mod backup;
mod catalog;
mod digest;
pub mod heroku;
mod id;
mod manifest;
pub mod masking;
pub mod refresh;
mod retention;
mod rollback;
mod seal;
mod store;

pub use backup::{CaptureError, Pin, VerifyError, capture, set_pin, verify};
pub use catalog::{BrokenBackup, Catalog, CatalogError, DEFAULT_FOLDER, Listing};
pub use id::{BackupId, ParseBackupIdError};
pub use manifest::{Kind, Manifest, Method, ParseManifestError, System, Verified};
pub use retention::{
    Kept, PlanPruneError, PruneFailure, PrunePlan, Pruned, Reason, RemoveError, Retention,
};
pub use rollback::{PlanRollbackError, RollbackPlan, RolledBack, TableLoss, Target, Wanted};
pub use seal::{Keys, ParseRecipientError, Recipient, UnsealError};
pub use store::{
    Cause, Contents, CopyError, DropCopyError, DropOldError, FindEnvironmentError, InspectError,
    Interrupted, Left, OldDatabase, Progress, ReadDatabaseError, RehearsalHooks, RestoreError,
    RestoreHooks, RestoreRequest, Safety, Step, Store, StoreOptions, UnsupportedDatabaseError,
    find_environment, for_url, for_url_with,
};
