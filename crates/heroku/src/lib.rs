#![doc = include_str!("../README.md")]

mod addon;
mod app;
mod build;
mod call;
mod database;
mod error;
mod follow;
mod log;
mod model;
mod pipeline;
mod release;
mod rendezvous;
mod run;
mod secret;
mod settings;
mod transfer;
mod wait;

pub use addon::DatabaseAddOn;
pub use build::SourceVersion;
pub use call::Heroku;
pub use error::{CallName, HerokuError};
pub use follow::Follow;
pub use log::LogLines;
pub use model::{
    Account, AddOn, AddOnState, App, Attachment, Blob, Build, BuildSource, BuildStatus, ConfigVars,
    Credential, Database, DatabaseInfo, Dyno, DynoRelease, DynoState, Formation, LogSession,
    PipelineCoupling, PromotionStatus, PromotionTarget, PublicUrl, RateLimits, Reference, Release,
    ReleaseStatus, Schedule, Slug, Source, SourceBlob, Transfer, TransferKind, TransferLog,
    WaitStatus,
};
pub use release::NewRelease;
pub use run::{OneOff, RunOutcome};
pub use secret::Secret;
pub use settings::{Pace, Settings};
