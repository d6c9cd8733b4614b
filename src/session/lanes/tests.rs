//! Lanes with work that panics, and lanes with a full queue.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::*;
use crate::metrics::Metrics;

/// Work on numbers; one of them panics. Nothing runs before `go`.
#[derive(Default)]
struct Numbers {
    go: Notify,
    busy: Notify,
    gone: AtomicBool,
}

const POISON: usize = 13;

struct Job(TenantId, UserId, usize);

impl LaneWork for Arc<Numbers> {
    type Job = Job;
    type Answer = usize;

    fn user(job: &Job) -> (&TenantId, &UserId) {
        (&job.0, &job.1)
    }

    async fn run(&self, jobs: &[Job]) -> Result<Vec<Result<usize>>> {
        self.busy.notify_one();
        if !self.gone.load(Ordering::SeqCst) {
            self.go.notified().await;
        }
        assert!(jobs.iter().all(|job| job.2 != POISON), "poison");
        Ok(jobs.iter().map(|job| Ok(job.2)).collect())
    }
}

fn job(number: usize) -> Job {
    let user = UserId::parse(&format!("user-{number}")).expect("a name");
    Job(TenantId::parse("").expect("the default"), user, number)
}

/// One lane.
fn lane(work: &Arc<Numbers>) -> Lanes<Arc<Numbers>> {
    // No job queries it.
    let db = Database::new("postgres://127.0.0.1:1/none", 2).expect("a URL");
    Lanes::start(("test", 1), &Tasks::new(&Metrics::default()), &db, work.clone())
}

#[tokio::test]
async fn a_panic_fails_its_batch_at_once_and_not_the_lane() {
    let work = Arc::new(Numbers::default());
    let lane = lane(&work);
    let before = async {
        let first = lane.submit(job(1));
        let batch = async {
            // They queue behind the first job, and form one batch.
            work.busy.notified().await;
            let batch = [2, POISON, 3].map(|number| lane.submit(job(number)));
            let begin = async {
                work.gone.store(true, Ordering::SeqCst);
                work.go.notify_one();
            };
            tokio::join!(join_all(batch), begin).0
        };
        tokio::join!(first, batch)
    };
    let (first, batch) = before.await;
    assert_eq!(first.expect("it was before"), 1);
    for answer in batch {
        let Err(Error::Internal(error)) = answer else { panic!("{answer:?}") };
        assert!(error.to_string().contains("panicked: poison"), "{error}");
    }
    assert_eq!(lane.submit(job(4)).await.expect("the lane goes on"), 4);
}

#[tokio::test]
async fn a_full_lane_is_overload_and_one_that_ended_is_an_outage() {
    let work = Arc::new(Numbers::default());
    let mut lane = lane(&work);
    let filling = async {
        let first = lane.submit(job(1));
        let full = async {
            work.busy.notified().await;
            let mut waiting = join_all((0..QUEUE).map(|number| lane.submit(job(number + 100))));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            lane.submit(job(2)).await
        };
        tokio::select! {
            biased;
            refused = full => refused,
            first = first => first,
        }
    };
    assert!(matches!(filling.await, Err(Error::Overloaded)));
    lane._lanes.shutdown().await;
    assert!(matches!(lane.submit(job(3)).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_lane_that_ends_before_it_answers_leaves_an_unknown_outcome() {
    let work = Arc::new(Numbers::default());
    let mut lane = lane(&work);
    let mut lanes = std::mem::take(&mut lane._lanes);
    let ending = async {
        work.busy.notified().await;
        lanes.shutdown().await;
    };
    let (answer, ()) = tokio::join!(lane.submit(job(1)), ending);
    assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
}
