//! Every call continuously, as a platform makes them; each answer is checked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sessiond::grpc::pb;
use tonic::Status;

use super::TestServer;
use super::calls::{assert_unavailable, new_session, parts};
use super::wait;

/// The longest time to any answer: two seconds, and more for a busy machine.
pub const LONGEST: Duration = Duration::from_secs(4);

const CALLS: usize = 5;

/// The counts of the calls, shared by all that make them.
#[derive(Default)]
pub struct Load {
    stop: AtomicBool,
    served: [AtomicUsize; CALLS],
    unavailable: [AtomicUsize; CALLS],
}

/// Asserts that an answer comes in time, and is either ok or unavailable; `None` = unavailable.
pub async fn judged<T>(call: impl Future<Output = Result<T, Status>>) -> Option<T> {
    let begun = Instant::now();
    let answer = call.await;
    let took = begun.elapsed();
    assert!(took < LONGEST, "an answer took {took:?}: {:?}", answer.err());
    answer.inspect_err(assert_unavailable).ok()
}

impl Load {
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Waits until each kind of call was served once more.
    pub async fn until_served(&self) {
        self.until_each(&self.served).await;
    }

    /// Waits until each kind of call was `UNAVAILABLE` once more.
    pub async fn until_unavailable(&self) {
        self.until_each(&self.unavailable).await;
    }

    /// Waits until at least one call was `UNAVAILABLE`.
    pub async fn until_interrupted(&self) {
        let read =
            || self.unavailable.iter().map(|count| count.load(Ordering::SeqCst)).sum::<usize>();
        let before = read();
        wait::until(async || read() > before).await;
    }

    async fn until_each(&self, counts: &[AtomicUsize; CALLS]) {
        let read = || [0, 1, 2, 3, 4].map(|i| counts[i].load(Ordering::SeqCst));
        let before = read();
        wait::until(async || read().iter().zip(before).all(|(now, then)| *now > then)).await;
    }

    /// Calls until stopped; returns the ids of the sessions whose creation was acknowledged.
    pub async fn run(&self, server: &TestServer, user: &str) -> Vec<String> {
        let first = server.create(user).await;
        let (id, mut access, mut refresh) = parts(&first);
        let mut acknowledged = vec![id];
        let mut newest = parts(&server.create(user).await).0;
        let mut ending = newest.clone();
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        while !self.stop.load(Ordering::SeqCst) {
            pace.tick().await;
            if let Some(created) = self.count(0, server.try_create(new_session(user))).await {
                let id = parts(&created).0;
                acknowledged.push(id.clone());
                newest = id;
            }
            if let Some(answer) = self.count(1, server.refresh(&refresh)).await {
                let tokens = answer.tokens.expect("tokens");
                (access, refresh) = (tokens.access_token, tokens.refresh_token);
            }
            if let Some(judged) = self.count(2, server.try_validate(&access)).await {
                assert_eq!(judged.outcome(), pb::Outcome::Active, "a good session: {judged:?}");
            }
            // Repeated until it is acknowledged, then the next.
            if let Some(ended) = self.count(3, server.terminate(&ending)).await {
                assert_eq!(ended.expect("the session").end_reason(), pb::EndReason::Logout);
                ending.clone_from(&newest);
            }
            let filter = pb::SessionFilter { user_id: user.to_owned(), ..Default::default() };
            let request = pb::ListSessionsRequest { filter: Some(filter), ..Default::default() };
            if let Some(page) = self.count(4, server.sessions().list_sessions(request)).await {
                assert!(!page.into_inner().sessions.is_empty(), "there are some");
            }
        }
        acknowledged
    }

    async fn count<T>(
        &self,
        kind: usize,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Option<T> {
        let answer = judged(call).await;
        let counts = if answer.is_some() { &self.served } else { &self.unavailable };
        counts[kind].fetch_add(1, Ordering::SeqCst);
        answer
    }
}
