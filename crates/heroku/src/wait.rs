//! Waiting for something with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::HerokuError;

/// How something that is waited for stands.
pub(crate) enum Standing<T> {
    /// It is done.
    Done(T),
    /// It goes on; the text is for the error, should it never end.
    Goes(String),
}

/// Looks every `interval` until it is done, or `limit` has passed.
pub(crate) fn until<T>(
    what: &str,
    interval: Duration,
    limit: Duration,
    look: impl FnMut() -> Result<Standing<T>, HerokuError>,
) -> Result<T, HerokuError> {
    until_stopped(what, interval, limit, &|| false, look)
}

/// The same, or until `stop` says that nobody waits any longer.
pub(crate) fn until_stopped<T>(
    what: &str,
    interval: Duration,
    limit: Duration,
    stop: &dyn Fn() -> bool,
    mut look: impl FnMut() -> Result<Standing<T>, HerokuError>,
) -> Result<T, HerokuError> {
    let started = Instant::now();
    loop {
        let last = match look()? {
            Standing::Done(value) => return Ok(value),
            Standing::Goes(state) => state,
        };
        if stop() {
            return Err(HerokuError::Stopped { what: what.to_owned(), last });
        }
        if started.elapsed() + interval > limit {
            return Err(HerokuError::Deadline {
                what: what.to_owned(),
                waited: started.elapsed(),
                last,
            });
        }
        thread::sleep(interval);
    }
}
