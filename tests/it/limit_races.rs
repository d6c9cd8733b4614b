//! The same limit with 64 creates of one user at once, at two replicas.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use sessiond::grpc::pb::session as pb;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;
use tonic::Status;

use crate::harness::calls::{metadata, new_session, reason};
use crate::harness::cluster::Db;
use crate::harness::{TestServer, audit, start_with};

const CREATES: usize = 64;
const LIMIT: usize = 5;
const LIVE: &str = "SELECT count(*) FROM user_sessions WHERE user_id = 'ada' AND state = 1";

/// Counts live sessions, one snapshot after the other, until told to stop; returns the most.
async fn most_at_once(db: Db, stop: Arc<AtomicBool>) -> i64 {
    let client = db.connect().await;
    let count = client.prepare(LIVE).await.expect("a statement");
    let mut most = 0;
    while !stop.load(Ordering::SeqCst) {
        most = most.max(client.query_one(&count, &[]).await.expect("a count").get(0));
    }
    most
}

/// All creates at once, while a sampler holds the limit to every snapshot it gets.
async fn rush(on_limit: OnLimit) -> (TestServer, Vec<Result<pb::CreateSessionResponse, Status>>) {
    let change = |settings: &mut Settings| {
        settings.policy.limits.user.max = LIMIT as u32;
        settings.policy.limits.user.on_limit = on_limit;
    };
    let server = start_with(change).await;
    let replica = server.replica_with(change).await;
    server.create("bob").await;
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = tokio::spawn(most_at_once(server.db.clone(), stop.clone()));
    let calls = (0..CREATES).map(|i| {
        let server = if i % 2 == 0 { &server } else { &replica };
        server.try_create(new_session("ada"))
    });
    let answers = join_all(calls).await;
    stop.store(true, Ordering::SeqCst);
    let most = sampler.await.expect("no panic");
    assert!(most <= LIMIT as i64, "{most} sessions lived at once");
    assert_eq!(server.db.count(LIVE).await, LIMIT as i64);
    let [bob] = &server.list("bob").await[..] else { panic!("not one session") };
    assert_eq!(bob.state(), pb::SessionState::Active, "other users stay untouched");
    audit::check(&server.db).await;
    (server, answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_creates_exactly_the_limit_is_admitted() {
    let (_server, answers) = rush(OnLimit::Reject).await;
    let refused: Vec<Status> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), CREATES - LIMIT);
    for status in refused {
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
        assert_eq!(reason(&status), "SESSION_LIMIT_REACHED");
        assert_eq!(metadata(&status, "limit").as_deref(), Some("5"));
        assert_eq!(metadata(&status, "active").as_deref(), Some("5"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_creates_end_each_exactly_the_right_session() {
    for on_limit in [OnLimit::TerminateOldest, OnLimit::TerminateLeastRecentlyUsed] {
        let (server, answers) = rush(on_limit).await;
        // Time stands still, so in both modes the ids, which sort by creation, decide.
        let mut made: Vec<(String, Vec<String>)> = answers
            .into_iter()
            .map(|answer| {
                let answer = answer.expect("room is made");
                let ended = answer.terminated_sessions.into_iter().map(|ended| {
                    assert_eq!(ended.end_reason(), pb::EndReason::Limit);
                    ended.session_id
                });
                (answer.session.expect("a session").session_id, ended.collect())
            })
            .collect();
        made.sort();
        for (i, (_, ended)) in made.iter().enumerate() {
            let expected: Vec<&String> =
                i.checked_sub(LIMIT).map(|oldest| &made[oldest].0).into_iter().collect();
            assert_eq!(ended.iter().collect::<Vec<_>>(), expected, "create number {i}");
        }
        let all: HashSet<&String> = made.iter().flat_map(|(_, ended)| ended).collect();
        assert_eq!(all.len(), CREATES - LIMIT, "each victim is named once");
        assert_eq!(server.activities(3).await, (CREATES - LIMIT) as i64);
    }
}
