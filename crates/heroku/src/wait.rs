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
    mut look: impl FnMut() -> Result<Standing<T>, HerokuError>,
) -> Result<T, HerokuError> {
    let started = Instant::now();
    loop {
        let last = match look()? {
            Standing::Done(value) => return Ok(value),
            Standing::Goes(state) => state,
        };
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
