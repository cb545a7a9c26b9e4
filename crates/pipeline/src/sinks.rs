//! Several takers of one run's events.

use crate::{Event, Journal, Sink, WriteJournalError};

/// The journal, and whoever else wants to know: what the others are told has been written down.
///
/// Only the journal can stop a run. The others keep to themselves what goes wrong with them.
pub struct Sinks<'a> {
    journal: Journal,
    others: Vec<&'a mut dyn Sink>,
}

impl<'a> Sinks<'a> {
    /// Gives each event to `journal`, and then to each of `others`.
    #[must_use]
    pub fn new(journal: Journal, others: Vec<&'a mut dyn Sink>) -> Self {
        Self { journal, others }
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl Sink for Sinks<'_> {
    fn emit(&mut self, event: &Event) -> Result<(), WriteJournalError> {
        self.journal.emit(event)?;
        for other in &mut self.others {
            // See above.
            let _ = other.emit(event);
        }
        Ok(())
    }
}
