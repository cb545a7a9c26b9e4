//! Threads that may block: for queries, and for work that takes a core or much memory.
//!
//! Few hash passwords or compare with an export, so that the other cores are there for everything else; and always the same
//! ones, since an allocator keeps for each thread what it ever allocated. Tokio's own threads for such work share one lock
//! with all who hand something over, and take longer for that than most queries: here each has its own queue.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

use tokio::sync::{Semaphore, oneshot};

use crate::error::PageError;

type Job = Box<dyn FnOnce() + Send>;

/// The threads, which end with this value.
pub(crate) struct Workers {
    /// The queues of the threads that have nothing to do. The last one is the next, since it is the one that a core knows.
    idle: Arc<Mutex<Vec<Sender<Job>>>>,
    /// A permit for each of them, so that whoever waits for one occupies no thread, and may give up.
    permits: Arc<Semaphore>,
    threads: usize,
}

impl Workers {
    pub(crate) fn new(name: &str, threads: usize) -> Self {
        let idle = (0..threads).filter_map(|_| {
            let (jobs, queue) = mpsc::channel::<Job>();
            let work = move || queue.into_iter().for_each(|job| job());
            match thread::Builder::new().name(name.to_owned()).spawn(work) {
                Ok(_) => Some(jobs),
                Err(error) => {
                    tracing::error!("cannot start the thread {name}: {error}");
                    None
                }
            }
        });
        let idle: Vec<_> = idle.collect();
        let threads = idle.len();
        let permits = Arc::new(Semaphore::new(threads));
        Self { idle: Arc::new(Mutex::new(idle)), permits, threads }
    }

    /// Runs `body` when its turn has come, unless nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PageError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await?;
        let jobs = lock(&self.idle).pop().ok_or(PageError::Worker)?;
        let (idle, same) = (Arc::clone(&self.idle), jobs.clone());
        let (answer, result) = oneshot::channel();
        let job = move || {
            // The visitor may go away meanwhile.
            let done = (!answer.is_closed()).then(|| catch_unwind(AssertUnwindSafe(body)));
            lock(&idle).push(same);
            drop(permit);
            // After a panic, whoever waits learns that there is no answer; the thread lives on.
            if let Some(Ok(done)) = done {
                let _ = answer.send(done);
            }
        };
        jobs.send(Box::new(job)).map_err(|_| PageError::Worker)?;
        result.await.map_err(|_| PageError::Worker)
    }

    /// How many threads have something to do.
    pub(crate) fn busy(&self) -> usize {
        self.threads - self.permits.available_permits()
    }

    /// Ends when no thread has anything to do.
    pub(crate) async fn finished(&self) {
        let all = u32::try_from(self.threads).unwrap_or(u32::MAX);
        // It is never closed.
        let _ = self.permits.acquire_many(all).await;
    }
}

fn lock(idle: &Mutex<Vec<Sender<Job>>>) -> std::sync::MutexGuard<'_, Vec<Sender<Job>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn what_somebody_who_is_gone_has_begun_is_waited_for() {
        let workers = Arc::new(Workers::new("test", 2));
        let (begun, (go_on, end)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel::<()>());
        let (begin, same) = (Arc::clone(&begun), Arc::clone(&workers));
        let visitor = tokio::spawn(async move {
            let body = move || {
                begin.fetch_add(1, Ordering::SeqCst);
                let _ = end.recv();
                begin.fetch_add(1, Ordering::SeqCst);
            };
            same.run(body).await
        });
        while begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        visitor.abort();
        assert!(visitor.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(workers.busy(), 1);
        drop(go_on);
        workers.finished().await;
        assert_eq!((begun.load(Ordering::SeqCst), workers.busy()), (2, 0));
    }
}
