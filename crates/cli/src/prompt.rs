//! Typed confirmations.

use std::io::IsTerminal as _;

/// Why something dangerous was not confirmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// `--confirm` was given with another text.
    #[error("the confirmation must be exactly `{phrase}`")]
    WrongFlag {
        /// What has to be typed.
        phrase: String,
    },
    /// Nobody can type, and waiting would hang forever (errata E26).
    #[error(
        "this needs a confirmation and there is no terminal to type it on; pass --confirm \"{phrase}\""
    )]
    NoTerminal {
        /// What has to be typed.
        phrase: String,
    },
    /// Something else was typed.
    #[error("not confirmed: `{phrase}` was not typed; nothing was changed")]
    Declined {
        /// What has to be typed.
        phrase: String,
    },
    /// The terminal went away.
    #[error("cannot read the confirmation")]
    Read(#[source] dialoguer::Error),
}

/// Returns when `phrase` was confirmed: by `given` (from `--confirm`), or typed on the terminal.
///
/// # Errors
///
/// Fails at once where nobody can type, and where anything else was given or typed.
pub fn confirm_phrase(phrase: &str, given: Option<&str>) -> Result<(), ConfirmError> {
    let phrase = phrase.to_owned();
    match given {
        Some(text) if text == phrase => return Ok(()),
        Some(_) => return Err(ConfirmError::WrongFlag { phrase }),
        None => {}
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(ConfirmError::NoTerminal { phrase });
    }
    let typed: String = dialoguer::Input::new()
        .with_prompt(format!("Type {phrase} to go on"))
        .allow_empty(true)
        .interact_text()
        .map_err(ConfirmError::Read)?;
    if typed.trim() == phrase { Ok(()) } else { Err(ConfirmError::Declined { phrase }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_must_match_to_the_letter() {
        confirm_phrase("ROLLBACK PRODUCTION", Some("ROLLBACK PRODUCTION")).unwrap();
        let error = confirm_phrase("ROLLBACK PRODUCTION", Some("yes")).unwrap_err();
        insta::assert_snapshot!(error, @"the confirmation must be exactly `ROLLBACK PRODUCTION`");
    }
}
