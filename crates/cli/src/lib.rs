#![doc = include_str!("../README.md")]

mod failure;
mod file;
mod format;
mod heroku;
mod interrupt;
mod logging;
mod progress;
mod prompt;
mod run;
mod target;

pub use failure::{Failure, FailureKind, Outcome};
pub use file::write_atomically;
pub use format::Format;
pub use heroku::{HerokuAccount, HerokuSite, PlatformArgs, ReadHerokuAccountError};
pub use interrupt::{InstallInterruptError, Interrupt};
pub use progress::{ProgressBar, progress_bar, spinner};
pub use prompt::{ConfirmError, confirm_phrase};
pub use run::{Program, print, print_json, run};
pub use target::{ResolveTargetError, Target, TargetArgs, environments};
/// The level of a log, for [`Program::log_level`].
pub use tracing::level_filters::LevelFilter;
