//! Batching without delay: jobs that queue while a lane is busy form its next batch.
//!
//! Jobs of one user always use the same lane, so lanes rarely wait for each other's locks.

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

/// Queued jobs of one lane. Further jobs are refused as overload, without effect.
const QUEUE: usize = 1024;
/// Jobs per transaction.
const BATCH: usize = 64;
/// Users whose jobs run concurrently after a batch had to be split. Few, because each takes a connection.
const SIDE_BY_SIDE: usize = 4;

/// Work that handles many jobs in one transaction.
pub trait LaneWork: Send + Sync + 'static {
    type Job: Send + Sync + 'static;
    type Answer: Send + 'static;

    /// The user whose lane the job uses.
    fn user(job: &Self::Job) -> (&TenantId, &UserId);

    /// Runs all jobs in one transaction, with one answer each, in order. An error means that
    /// nothing is committed, or that the outcome is unknown.
    fn run(
        &self,
        jobs: &[Self::Job],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer>>>> + Send;
}

/// A fixed number of lanes, each a supervised task with a bounded queue. Dropping it stops them.
pub struct Lanes<W: LaneWork> {
    queues: Vec<mpsc::Sender<Queued<W>>>,
    /// The longest time that a job waits for its answer.
    patience: Duration,
    _lanes: JoinSet<()>,
}

struct Queued<W: LaneWork> {
    job: W::Job,
    answer: oneshot::Sender<Result<W::Answer>>,
}

impl<W: LaneWork> Lanes<W> {
    /// Starts `count` lanes that run `work` on `db`, as `tasks` of this name.
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
                // The queue outlives a panic of the lane.
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
    /// Those of the job; [`Error::Overloaded`] if the queue is full; [`Error::Unavailable`] after a
    /// timeout or when the lane is stopped, with an unknown outcome; [`Error::Internal`] if the job
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

/// A full queue is temporary, so the caller retries; a closed one is permanent.
fn refused<T>(error: TrySendError<T>) -> Error {
    match error {
        TrySendError::Full(_) => Error::Overloaded,
        TrySendError::Closed(_) => gone(),
    }
}

/// A lane runs until the server stops. After a panic supervision logs, counts and restarts it. The
/// caller learns only that the outcome is unknown.
fn gone() -> Error {
    Error::Unavailable(Outage::Unreachable("the server stopped before it answered".to_owned()))
}

async fn serve<W: LaneWork>(queue: LaneQueue<W>, db: Database, work: Arc<W>) {
    let mut queue = queue.lock().await;
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // The caller of such a job has gone; the job must not run without one.
        batch.retain(|queued| !queued.answer.is_closed());
        // A stable sort, so the jobs of one user stay in the order of arrival.
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

/// Runs jobs in one transaction, within its time limit.
///
/// # Errors
/// [`Panicked`]: the outcome is unknown.
async fn attempt<W: LaneWork>(
    db: &Database,
    work: &W,
    jobs: &[W::Job],
) -> Result<Result<Vec<Result<W::Answer>>>, Panicked> {
    caught(db.within(work.run(jobs))).await.map_err(Panicked)
}

/// A batch panicked. None of its jobs is retried, because the batch may have been committed before.
struct Panicked(String);

impl Panicked {
    fn for_all<T>(self, jobs: usize) -> Vec<Result<T>> {
        Error::Internal(anyhow::anyhow!("a batch panicked: {}", self.0)).for_all(jobs)
    }
}

/// Runs a batch. If it fails for a reason that one user may cause, the jobs of each user run by
/// themselves, concurrently. So a job that waits for a lock delays no other user.
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
            // Every caller has given up, so nothing is run.
            if answers.iter().all(oneshot::Sender::is_closed) {
                return;
            }
            let done = of_one_user(db, work, jobs).await;
            send::<W>(done.unwrap_or_else(|panicked| panicked.for_all(jobs.len())), answers);
        }
    });
    join_all(users).await;
}

/// Runs the jobs of one user. A lock affects all of them, so they fail together. After a lost race
/// one retry can read the winner's rows. A fault may lie in one job, so then each runs alone.
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
        // A caller that has gone repeats its request, and gets the same answer.
        let _ = answer.send(result);
    }
}

#[cfg(test)]
mod tests;
