//! Trials of the staleness bound: sessions are ended on one replica while others validate them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use sessiond::grpc::pb;
use sessiond::grpc::pb::validate_session_request::Freshness;
use tonic::Status;

use super::TestServer;
use super::calls::{assert_unavailable, new_session, parts};
use super::wait;

/// The staleness bound of a server as shipped.
pub const BOUND: Duration = Duration::from_secs(1);

/// The results of the trials; shared by all concurrent ones.
#[derive(Default)]
pub struct Trials {
    stop: AtomicBool,
    done: AtomicUsize,
    unavailable: AtomicUsize,
}

/// When the end of a session was requested and when it was acknowledged.
#[derive(Default)]
struct Ending {
    asked: OnceLock<Instant>,
    acknowledged: OnceLock<Instant>,
}

impl Trials {
    /// Runs concurrent trials, one for each user, until `breaking` is done. Each session is ended on the first server
    /// and validated on the others, before its end every other time against the database. Another session, which is
    /// not ended, is validated with it.
    pub async fn run(&self, servers: &[&TestServer], users: usize, breaking: impl Future) {
        let running = join_all((0..users).map(async |number| {
            let user = format!("user-{number}");
            let alive = self.create(servers[0], &user).await.1;
            while !self.stop.load(Ordering::SeqCst) {
                self.one(servers, &user, &alive).await;
                self.done.fetch_add(1, Ordering::SeqCst);
            }
        }));
        let breaking = async {
            breaking.await;
            self.stop.store(true, Ordering::SeqCst);
        };
        join(running, breaking).await;
    }

    /// Waits until so many more trials are done.
    pub async fn until_more(&self, more: usize) {
        let enough = self.done.load(Ordering::SeqCst) + more;
        wait::until(async || self.done.load(Ordering::SeqCst) >= enough).await;
    }

    /// Waits until so many more calls were unavailable.
    pub async fn until_unavailable(&self, more: usize) {
        let enough = self.unavailable.load(Ordering::SeqCst) + more;
        wait::until(async || self.unavailable.load(Ordering::SeqCst) >= enough).await;
    }

    async fn one(&self, servers: &[&TestServer], user: &str, alive: &str) {
        let (id, token) = self.create(servers[0], user).await;
        let ending = Ending::default();
        let watching =
            join_all(servers[1..].iter().map(|other| self.watch(other, [&token, alive], &ending)));
        let ends = async {
            // Every replica has cached it, or is unavailable.
            let known = servers.iter().map(|server| self.validate(server, &token, None));
            join_all(known).await;
            ending.asked.get_or_init(Instant::now);
            self.answered(async || servers[0].terminate(&id).await).await;
            ending.acknowledged.get_or_init(Instant::now);
            if let Some(outcome) = self.validate(servers[0], &token, None).await {
                assert_eq!(outcome, pb::Outcome::Inactive, "at once where it was ended");
            }
        };
        join(watching, ends).await;
    }

    /// Validates the first token until it is refused three times, and the second, which must never be refused.
    async fn watch(&self, server: &TestServer, [token, alive]: [&str; 2], ending: &Ending) {
        let (mut refused, mut round) = (0, 0_usize);
        while refused < 3 {
            round += 1;
            // After the acknowledgement a read would correct a wrong cache entry.
            let reads = ending.acknowledged.get().is_none() && round.is_multiple_of(2);
            let freshness = reads.then_some(Freshness::Strong(true));
            let asked = Instant::now();
            match self.validate(server, token, freshness).await {
                Some(pb::Outcome::Active) => {
                    assert_eq!(refused, 0, "what was refused came back");
                    if let Some(acknowledged) = ending.acknowledged.get() {
                        let since = asked.saturating_duration_since(*acknowledged);
                        assert!(since < BOUND, "active {since:?} after it was ended");
                    }
                }
                Some(outcome) => {
                    assert_eq!(outcome, pb::Outcome::Inactive);
                    assert!(ending.asked.get().is_some(), "refused before it was ended");
                    refused += 1;
                }
                None => tokio::task::yield_now().await,
            }
            if let Some(outcome) = self.validate(server, alive, None).await {
                assert_eq!(outcome, pb::Outcome::Active, "nobody ended it");
            }
        }
    }

    /// `None` if the replica is unavailable.
    async fn validate(
        &self,
        server: &TestServer,
        token: &str,
        freshness: Option<Freshness>,
    ) -> Option<pb::Outcome> {
        let access_token = token.to_owned();
        let request = pb::ValidateSessionRequest { access_token, freshness, ..Default::default() };
        let answer = server.sessions().validate_session(request).await;
        self.judged(answer).map(|answer| answer.get_ref().outcome())
    }

    async fn create(&self, server: &TestServer, user: &str) -> (String, String) {
        let created = self.answered(async || server.try_create(new_session(user)).await).await;
        let (id, token, _) = parts(&created);
        (id, token)
    }

    /// Repeats a call until it is acknowledged.
    async fn answered<T>(&self, mut call: impl AsyncFnMut() -> Result<T, Status>) -> T {
        let mut answer = None;
        wait::until(async || {
            answer = self.judged(call().await);
            answer.is_some()
        })
        .await;
        answer.expect("an answer")
    }

    fn judged<T>(&self, answer: Result<T, Status>) -> Option<T> {
        answer
            .inspect_err(|status| {
                assert_unavailable(status);
                self.unavailable.fetch_add(1, Ordering::SeqCst);
            })
            .ok()
    }
}
