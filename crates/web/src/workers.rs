//! Threads for work that takes a core or much memory.
//!
//! A hash takes a core for tens of milliseconds, and 19 MiB; a comparison with an export as much. Few threads do it, so that
//! the other cores are there for everything else; and always the same ones, since the system's allocator keeps for each
//! thread what it ever allocated.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::sync::{mpsc, oneshot};

use crate::error::PageError;

/// How many jobs wait in the queue; who comes later waits before it. Waiting occupies no thread.
const WAITING: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The threads, which end with this value.
pub(crate) struct Workers {
    jobs: mpsc::Sender<Job>,
}

impl Workers {
    pub(crate) fn new(name: &str, threads: usize) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let work = move || {
                while let Some(job) = next(&queue) {
                    // Whoever waits for the answer learns that there is none; the thread lives on.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(work) {
                tracing::error!("cannot start the thread {name}: {error}");
            }
        }
        Self { jobs }
    }

    /// Runs `body` when its turn has come, unless nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PageError> {
        let (answer, result) = oneshot::channel();
        let job = move || {
            if !answer.is_closed() {
                // The visitor may go away meanwhile.
                let _ = answer.send(body());
            }
        };
        self.jobs.send(Box::new(job)).await.map_err(|_| PageError::Worker)?;
        result.await.map_err(|_| PageError::Worker)
    }
}

fn next(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn no_more_run_at_once_than_there_are_threads_and_a_panic_ends_none() {
        let workers = Arc::new(Workers::new("test", 2));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..40 {
            let (workers, now, most) = (Arc::clone(&workers), Arc::clone(&now), Arc::clone(&most));
            tasks.spawn(async move {
                let body = move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    assert!(number % 10 != 9, "on purpose");
                    number
                };
                (number, workers.run(body).await.ok())
            });
        }
        for (number, result) in tasks.join_all().await {
            assert_eq!(result, (number % 10 != 9).then_some(number));
        }
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }
}
