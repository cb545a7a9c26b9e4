#![doc = include_str!("../README.md")]

mod config;
mod database_url;
mod freeze;
mod name;

pub use config::{
    EnvironmentLookupError, Environments, HerokuApp, LoadEnvironmentsError, LocalSite,
    MalformedFileError,
};
pub use database_url::{DatabaseKind, DatabaseUrl, ParseDatabaseUrlError};
pub use freeze::FreezeWindow;
pub use name::{EnvironmentName, ParseEnvironmentNameError, ParsePlatformError, Platform};
/// A parsed URL, as [`LocalSite::base_url`] holds one.
pub use url::Url;
