//! Batching without waiting: what queues up while a lane is busy goes out together next.
//!
//! Work for the same user always takes the same lane, so lanes rarely wait for each other's locks.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Outage, Result};
use crate::model::ids::{TenantId, UserId};
use crate::store::pool::Database;
use crate::supervise::{TaskNeed, Tasks, caught};

/// Jobs that wait in one lane; more are refused as overload, with nothing done.
const QUEUE: usize = 1024;
/// Jobs per transaction.
const BATCH: usize = 64;
/// Users whose jobs run at the same time once a batch had to be taken apart. A few, since each
/// takes a connection.
const SIDE_BY_SIDE: usize = 4;

/// Work that can be done for many jobs in one transaction.
pub trait LaneWork: Send + Sync + 'static {
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

/// A fixed number of lanes, each a supervised task with a bounded queue. Dropping it ends them.
pub struct Lanes<W: LaneWork> {
    queues: Vec<mpsc::Sender<Queued<W>>>,
    /// The longest a job waits for its answer.
    patience: Duration,
    _lanes: JoinSet<()>,
}

struct Queued<W: LaneWork> {
    job: W::Job,
    answer: oneshot::Sender<Result<W::Answer>>,
}

impl<W: LaneWork> Lanes<W> {
    /// Starts `count` lanes that do `work` on `db`, as `tasks` of this name.
    pub fn start(
        (name, count): (&'static str, usize),
        tasks: &Tasks,
        db: &Database,
        work: W,
    ) -> Lanes<W> {
        let (work, stop) = (Arc::new(work), CancellationToken::new());
        let mut lanes = JoinSet::new();
        let queues = (0..count)
            .map(|_| {
                let (sender, queue) = mpsc::channel(QUEUE);
                // What is queued outlives a failure of the lane.
                let (queue, db, work) = (Arc::new(Mutex::new(queue)), db.clone(), work.clone());
                tasks.supervise(&mut lanes, (name, TaskNeed::Serving), &stop, move || {
                    serve(queue.clone(), db.clone(), work.clone())
                });
                sender
            })
            .collect();
        Lanes { queues, patience: db.timeouts().call, _lanes: lanes }
    }

    /// Queues a job and waits for its answer.
    ///
    /// # Errors
    /// Those of the job; [`Error::Overloaded`] if the queue is full; [`Error::Unavailable`] if it
    /// took too long or the lane is gone, its outcome then unknown; [`Error::Internal`] if the job
    /// panicked.
    pub async fn submit(&self, job: W::Job) -> Result<W::Answer> {
        let mut hasher = DefaultHasher::new();
        W::user(&job).hash(&mut hasher);
        let lane = (hasher.finish() % self.queues.len() as u64) as usize;
        let (answer, answered) = oneshot::channel();
        self.queues[lane].try_send(Queued { job, answer }).map_err(refused)?;
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(Error::Unavailable(Outage::Timeout)),
        }
    }
}

/// A full queue is for the caller to wait out; a closed one is gone.
fn refused<T>(error: TrySendError<T>) -> Error {
    match error {
        TrySendError::Full(_) => Error::Overloaded,
        TrySendError::Closed(_) => gone(),
    }
}

/// A lane lives until the server does not, and is begun anew after a panic, which supervision logs
/// and counts. All that a caller needs to know is that its outcome is unknown.
fn gone() -> Error {
    Error::Unavailable(Outage::Unreachable("the server stopped before it answered".to_owned()))
}

async fn serve<W: LaneWork>(queue: LaneQueue<W>, db: Database, work: Arc<W>) {
    let mut queue = queue.lock().await;
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // Nobody waits any more for a job whose caller gave up; it must not be done for nobody.
        batch.retain(|queued| !queued.answer.is_closed());
        // Stable, so the jobs of one user stay in the order in which they came.
        batch.sort_by(|a, b| W::user(&a.job).cmp(&W::user(&b.job)));
        let (jobs, answers): (Vec<W::Job>, Vec<_>) =
            batch.drain(..).map(|queued| (queued.job, queued.answer)).unzip();
        if !jobs.is_empty() {
            run(&db, &*work, &jobs, answers).await;
        }
    }
}

type LaneQueue<W> = Arc<Mutex<mpsc::Receiver<Queued<W>>>>;
type LaneAnswers<W> = Vec<oneshot::Sender<Result<<W as LaneWork>::Answer>>>;

/// Does jobs in one transaction, within its time.
///
/// # Errors
/// [`Panicked`], with which it is not known what was done.
async fn attempt<W: LaneWork>(
    db: &Database,
    work: &W,
    jobs: &[W::Job],
) -> Result<Result<Vec<Result<W::Answer>>>, Panicked> {
    caught(db.within(work.run(jobs))).await.map_err(Panicked)
}

/// A batch panicked. None of its jobs is done again: it may have been committed before.
struct Panicked(String);

impl Panicked {
    fn for_all<T>(self, jobs: usize) -> Vec<Result<T>> {
        Error::Internal(anyhow::anyhow!("a batch panicked: {}", self.0)).for_all(jobs)
    }
}

/// Runs a batch. If it fails for a reason that may lie with one user, each user's jobs by
/// themselves, side by side: a job that waits for a lock delays no other.
async fn run<W: LaneWork>(db: &Database, work: &W, jobs: &[W::Job], answers: LaneAnswers<W>) {
    let error = match attempt(db, work, jobs).await {
        Ok(Ok(results)) => return send::<W>(results, answers),
        Ok(Err(error)) => error,
        Err(panicked) => return send::<W>(panicked.for_all(jobs.len()), answers),
    };
    use Outage::{Locked, Raced};
    if !matches!(error, Error::Unavailable(Locked(_) | Raced(_)) | Error::Internal(_)) {
        return send::<W>(error.for_all(jobs.len()), answers);
    }
    let side_by_side = Semaphore::new(SIDE_BY_SIDE);
    let mut answers = answers.into_iter();
    let users = jobs.chunk_by(|a, b| W::user(a) == W::user(b)).map(|jobs| {
        let answers: LaneAnswers<W> = answers.by_ref().take(jobs.len()).collect();
        let side_by_side = &side_by_side;
        async move {
            let _permit = side_by_side.acquire().await;
            // Their turn came too late: nobody waits any more, so nothing is done for nobody.
            if answers.iter().all(oneshot::Sender::is_closed) {
                return;
            }
            let done = of_one_user(db, work, jobs).await;
            send::<W>(done.unwrap_or_else(|panicked| panicked.for_all(jobs.len())), answers);
        }
    });
    join_all(users).await;
}

/// Runs jobs of one user. A lock is held against all of them, so they fail together; after a lost
/// race the winner can be read; a fault may lie in one job, so then each runs alone.
async fn of_one_user<W: LaneWork>(
    db: &Database,
    work: &W,
    jobs: &[W::Job],
) -> Result<Vec<Result<W::Answer>>, Panicked> {
    let mut outcome = attempt(db, work, jobs).await?;
    if matches!(outcome, Err(Error::Unavailable(Outage::Raced(_)))) {
        outcome = attempt(db, work, jobs).await?;
    }
    let error = match outcome {
        Ok(results) => return Ok(results),
        Err(error) => error,
    };
    if jobs.len() == 1 || !matches!(error, Error::Internal(_)) {
        return Ok(error.for_all(jobs.len()));
    }
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        results.extend(match attempt(db, work, std::slice::from_ref(job)).await {
            Ok(alone) => alone.unwrap_or_else(|error| error.for_all(1)),
            Err(panicked) => panicked.for_all(1),
        });
    }
    Ok(results)
}

fn send<W: LaneWork>(results: Vec<Result<W::Answer>>, answers: LaneAnswers<W>) {
    for (result, answer) in results.into_iter().zip(answers) {
        // A caller that gave up meanwhile asks again, and gets the same answer.
        let _ = answer.send(result);
    }
}

#[cfg(test)]
mod tests;
