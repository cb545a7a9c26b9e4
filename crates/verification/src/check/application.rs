//! Check 8: what the app says about itself.

use super::{CheckError, Context, Verdict};
use crate::Finding;

/// How the app is asked. This crate starts no process: the program that links it does.
///
/// An error means that the app could not be asked, which fails the check like a bad answer.
pub type AppCheck<'a> =
    dyn Fn() -> Result<AppAnswer, Box<dyn std::error::Error + Send + Sync>> + Sync + 'a;

/// What the app's own check said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAnswer {
    /// It works; a few words on what was checked.
    Works(String),
    /// It does not; each problem in one line.
    Broken(Vec<String>),
}

pub(crate) fn ask(app: &AppCheck<'_>, context: &Context) -> Result<Verdict, CheckError> {
    Ok(match app().map_err(CheckError::Application)? {
        AppAnswer::Works(message) => Verdict::passed(message),
        AppAnswer::Broken(problems) => Verdict::found(vec![
            Finding::critical("the app's own check failed")
                .rows(problems)
                .repair(context.command("omnitool check")),
        ]),
    })
}
