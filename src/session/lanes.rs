//! Batching without waiting: what queues up while a lane is busy goes out together next.
//!
//! Work for the same user always takes the same lane, so lanes rarely wait for each other's locks.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Outage, Result};
use crate::model::ids::{TenantId, UserId};
use crate::store::pool::Database;

/// Jobs that wait in one lane; more are refused as overload, with nothing done.
const QUEUE: usize = 1024;
/// Jobs per transaction.
const BATCH: usize = 64;
/// With the time a batch may take, a caller waits less than two seconds in all.
const PATIENCE: Duration = Duration::from_millis(1_900);

/// Work that can be done for many jobs in one transaction.
pub trait Work: Send + Sync + 'static {
    type Job: Send + Sync + 'static;
    type Answer: Send + 'static;

    /// Whose lane a job takes.
    fn user(job: &Self::Job) -> (&TenantId, &UserId);

    /// Does all jobs in one transaction, with one answer each, in order. An error of the whole
    /// means that nothing was done, or that it is not known.
    fn run(
        &self,
        jobs: &[Self::Job],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer>>>> + Send;
}

/// A fixed number of lanes, each a task with a bounded queue. Dropping it ends them.
pub struct Lanes<W: Work> {
    queues: Vec<mpsc::Sender<Queued<W>>>,
}

struct Queued<W: Work> {
    job: W::Job,
    answer: oneshot::Sender<Result<W::Answer>>,
}

impl<W: Work> Lanes<W> {
    /// Starts `count` lanes that do `work` on `db`.
    pub fn start(count: usize, db: &Database, work: W) -> Lanes<W> {
        let work = Arc::new(work);
        let queues = (0..count)
            .map(|_| {
                let (sender, queue) = mpsc::channel(QUEUE);
                tokio::spawn(serve(queue, db.clone(), work.clone()));
                sender
            })
            .collect();
        Lanes { queues }
    }

    /// Queues a job and waits for its answer.
    ///
    /// # Errors
    /// Those of the job; [`Error::Overloaded`] if the queue is full; [`Error::Unavailable`] if it
    /// took too long, its outcome then unknown.
    pub async fn submit(&self, job: W::Job) -> Result<W::Answer> {
        let mut hasher = DefaultHasher::new();
        W::user(&job).hash(&mut hasher);
        let lane = (hasher.finish() % self.queues.len() as u64) as usize;
        let (answer, answered) = oneshot::channel();
        self.queues[lane].try_send(Queued { job, answer }).map_err(|_| Error::Overloaded)?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Internal(anyhow::anyhow!("a lane ended without an answer"))),
            Err(_) => Err(Error::Unavailable(Outage::Timeout)),
        }
    }
}

async fn serve<W: Work>(mut queue: mpsc::Receiver<Queued<W>>, db: Database, work: Arc<W>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // A job whose caller gave up must not be done for nobody.
        batch.retain(|queued| !queued.answer.is_closed());
        // Jobs of a user stand together, in the order in which they came.
        batch.sort_by(|a, b| W::user(&a.job).cmp(&W::user(&b.job)));
        let (jobs, answers): (Vec<W::Job>, Vec<_>) =
            batch.drain(..).map(|queued| (queued.job, queued.answer)).unzip();
        for (result, answer) in run(&db, &*work, &jobs).await.into_iter().zip(answers) {
            // A caller that gave up meanwhile asks again, and gets the same answer.
            let _ = answer.send(result);
        }
    }
}

/// Runs jobs in one transaction. If that fails for a reason that may lie in one of them, it tries
/// user by user (a lock is a user's), and then job by job, so that only what is at fault fails.
async fn run<W: Work>(db: &Database, work: &W, jobs: &[W::Job]) -> Vec<Result<W::Answer>> {
    let of_one_user = jobs.chunk_by(|a, b| W::user(a) == W::user(b));
    let users = of_one_user.clone().count();
    let mut outcome = db.within(work.run(jobs)).await;
    if users == 1 && matches!(outcome, Err(Error::Unavailable(Outage::Raced(_)))) {
        outcome = db.within(work.run(jobs)).await;
    }
    let error = match outcome {
        Ok(results) => return results,
        Err(error) => error,
    };
    let parts: Vec<&[W::Job]> = match &error {
        Error::Unavailable(Outage::Raced(_) | Outage::Locked(_)) if users > 1 => {
            of_one_user.collect()
        }
        Error::Internal(_) if users > 1 => of_one_user.collect(),
        Error::Internal(_) if jobs.len() > 1 => jobs.chunks(1).collect(),
        _ => return jobs.iter().map(|_| Err(error.for_each())).collect(),
    };
    let mut results = Vec::with_capacity(jobs.len());
    for part in parts {
        results.extend(Box::pin(run(db, work, part)).await);
    }
    results
}
