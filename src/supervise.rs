//! Supervision of the tasks that live as long as a server: a task that panics or returns too early is counted, logged
//! and started again.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use prometheus::IntCounterVec;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The pause before a task is started again: the first, and the longest; doubled each time.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// A task that ran this long failed for a new reason, so its pause begins again at the first.
const STEADY: Duration = Duration::from_secs(30);

/// Whether a server can serve while a task is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskNeed {
    /// It cannot: calls would hang, fail, or use stale caches. Health is `NOT_SERVING` meanwhile.
    Serving,
    /// It can: the work waits. A poisoned row that stops the task on all replicas must not make all of them unhealthy.
    Upkeep,
}

/// The supervised tasks of a server. Cheap to clone.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    failures: IntCounterVec,
    /// The number of tasks that are down: of those that the server needs to serve, and of the others.
    down: [watch::Sender<usize>; 2],
    /// [`PAUSE`], but for tests.
    pause: [Duration; 2],
}

impl Tasks {
    /// No tasks yet. Failures are counted in `metrics`.
    pub fn new(metrics: &Metrics) -> Tasks {
        Tasks::pausing(metrics, PAUSE)
    }

    fn pausing(metrics: &Metrics, pause: [Duration; 2]) -> Tasks {
        let help = "Panics and early ends of tasks that live as long as the server; each was started again.";
        let failures = metrics.counters("task_failures_total", help, &["task"]);
        let tasks = Tasks(Arc::new(Inner { failures, down: Default::default(), pause }));
        let counted = tasks.clone();
        let help = "Tasks that ended and do not run steadily again yet.";
        metrics.sampled("tasks_down", help, move || {
            counted.0.down.iter().map(|down| *down.borrow()).sum::<usize>() as f64
        });
        tasks
    }

    /// The number of down tasks that the server needs to serve.
    pub fn down(&self) -> watch::Receiver<usize> {
        self.0.down[TaskNeed::Serving as usize].subscribe()
    }

    /// Spawns a task in `set`, and supervises it as [`Tasks::keep`] does.
    pub fn supervise<F>(
        &self,
        set: &mut JoinSet<()>,
        (name, need): (&'static str, TaskNeed),
        stop: &CancellationToken,
        start: impl FnMut() -> F + Send + 'static,
    ) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, stop) = (self.clone(), stop.clone());
        set.spawn(async move { tasks.keep((name, need), &stop, start).await })
    }

    /// Runs `start` until `stop`. A task that ends before is started again after a pause. A stop during that pause
    /// starts it once more at once, so that it can do its final work.
    pub async fn keep<F: Future<Output = ()>>(
        &self,
        (name, need): (&'static str, TaskNeed),
        stop: &CancellationToken,
        mut start: impl FnMut() -> F,
    ) {
        let failures = self.0.failures.with_label_values(&[name]);
        let [first, longest] = self.0.pause;
        let mut pause = first;
        let mut down = None;
        loop {
            let began = Instant::now();
            let mut run = pin!(caught(async { start().await }));
            let ended = match down.take() {
                None => run.await,
                // It is up once it has run for as long as the pause before it.
                Some(mark) => tokio::select! {
                    ended = &mut run => {
                        down = Some(mark);
                        ended
                    }
                    () = tokio::time::sleep(pause) => {
                        drop(mark);
                        run.await
                    }
                },
            };
            if stop.is_cancelled() && ended.is_ok() {
                return;
            }
            failures.inc();
            let error = ended.err().unwrap_or_else(|| "it ended too early".to_owned());
            if stop.is_cancelled() {
                tracing::error!(task = name, error, "a task failed at its end");
                return;
            }
            if began.elapsed() >= STEADY {
                pause = first;
            }
            tracing::error!(task = name, error, ?pause, "a task failed and is started again");
            down.get_or_insert_with(|| Down::mark(&self.0.down[need as usize]));
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(longest);
        }
    }

    /// Spawns a task that ends by itself; its waiters handle a failure. A panic is counted and logged.
    pub fn spawn_once(&self, name: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        let failures = self.0.failures.with_label_values(&[name]);
        tokio::spawn(async move {
            if let Err(error) = caught(run).await {
                failures.inc();
                tracing::error!(task = name, error, "a task failed");
            }
        });
    }
}

/// Counts a task as down, until dropped.
struct Down(watch::Sender<usize>);

impl Down {
    fn mark(down: &watch::Sender<usize>) -> Down {
        down.send_modify(|count| *count += 1);
        Down(down.clone())
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The result of `work`, or the message of its panic.
///
/// # Errors
/// The message of the panic.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| words(&*payload).to_owned())
}

/// The message of a panic.
pub fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

#[cfg(test)]
mod tests;
