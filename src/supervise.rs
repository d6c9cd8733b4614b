//! Supervision of the tasks that live as long as a server. Each is spawned here, so that none ends quietly: one that
//! panics or returns too early is counted, logged and started again.

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

/// How long a task waits before it starts again: the first time, and at most; doubled each time.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// A task that ran this long failed of something new.
const STEADY: Duration = Duration::from_secs(30);

/// Whether a server can serve while a task is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskNeed {
    /// It cannot: calls would hang, fail, or be answered by stale knowledge. Health is `NOT_SERVING` meanwhile.
    Serving,
    /// It can: the work waits. One poisoned row that stops it on all replicas must not take all of them away.
    Upkeep,
}

/// The supervised tasks of a server. Cheap to clone.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    failures: IntCounterVec,
    /// Tasks that are down: of those the server needs to serve, and of the others.
    down: [watch::Sender<usize>; 2],
    /// [`PAUSE`], but for tests.
    pause: [Duration; 2],
}

impl Tasks {
    /// None so far, counted in `metrics`.
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

    /// How many of the tasks that the server needs to serve are down.
    pub fn down(&self) -> watch::Receiver<usize> {
        self.0.down[TaskNeed::Serving as usize].subscribe()
    }

    /// Spawns a task that [`Tasks::keep`] keeps, as one of `set`.
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

    /// Runs what `start` begins until `stop`. If it ends before, it is started again after a pause; if the stop comes
    /// in that pause, once more at once, for what a task does at its end.
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
                // It is up once it has run for as long as it was waited for.
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

    /// Spawns a task that ends by itself; its waiters see to the rest. A panic is counted and logged.
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

/// A task that is down, until dropped.
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

/// What `work` comes to, or with which words it panicked.
///
/// # Errors
/// The words.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| words(&*payload).to_owned())
}

/// The words of a panic.
pub fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

#[cfg(test)]
mod tests;
