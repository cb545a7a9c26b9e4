//! Ctrl-C for programs that must put something in order first.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Remembers whether Ctrl-C (or SIGTERM) came.
///
/// Programs whose work is one transaction need none: being killed leaves the database as it was.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

/// The signal handler cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for Ctrl-C")]
pub struct InstallInterruptError(#[source] ctrlc::Error);

impl Interrupt {
    /// Starts listening. Call it once per process, before the work begins.
    ///
    /// # Errors
    ///
    /// Fails where a handler is already set.
    pub fn install() -> Result<Self, InstallInterruptError> {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&flag);
        ctrlc::set_handler(move || seen.store(true, Ordering::SeqCst))
            .map_err(InstallInterruptError)?;
        Ok(Self(flag))
    }

    /// Whether somebody wants the program to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
