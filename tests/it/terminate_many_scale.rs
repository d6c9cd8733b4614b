//! TerminateSessions of many sessions: exact counts, the caller's deadline, and concurrent creates.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use sessiond::grpc::pb;

use crate::harness::calls::{assert_too_late, new_session, parts};
use crate::harness::{TestServer, audit, clock, start, start_on, wait};

const TERMINATED: &str = "SELECT count(*) FROM user_sessions WHERE state = 2";
/// More than any machine ends in two seconds.
const MANY: usize = 20_000;

fn of(user: &str) -> pb::TerminateSessionsRequest {
    let filter = pb::SessionFilter { user_id: user.to_owned(), ..Default::default() };
    pb::TerminateSessionsRequest { filter: Some(filter), ..Default::default() }
}

fn of_ada() -> pb::TerminateSessionsRequest {
    of("ada")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_sessions_end_in_as_few_calls_as_their_time_allows_and_are_counted() {
    let server = start().await;
    server.create_many("ada", 100_000).await;
    server.create_many("bob", 2).await;
    let dry = pb::TerminateSessionsRequest { dry_run: true, ..of_ada() };
    let said = server.terminate_many(dry).await.expect("a dry run");
    assert_eq!((said.terminated_count, said.sample.len(), said.complete), (100_000, 10, true));
    assert_eq!(server.db.count(TERMINATED).await, 0);

    let request = pb::TerminateSessionsRequest { expected_max: 100_000, ..of_ada() };
    let (mut count, mut sample) = (0, Vec::new());
    let complete = async {
        loop {
            let done = server.terminate_many(request.clone()).await.expect("an end");
            // The last call may find that nothing is left.
            assert!(done.terminated_count > 0 || done.complete, "no call is for nothing");
            count += done.terminated_count;
            assert_eq!(server.db.count(TERMINATED).await, i64::try_from(count).expect("a count"));
            if sample.is_empty() {
                sample = done.sample;
            }
            if done.complete {
                return;
            }
        }
    };
    complete.await;
    assert_eq!((count, sample.len()), (100_000, 10));
    assert_eq!(server.activities(3).await, 100_000);
    let ids = |sample: &[pb::Session]| -> Vec<String> {
        sample.iter().map(|session| session.session_id.clone()).collect()
    };
    assert_eq!(ids(&sample), ids(&said.sample));
    let untouched = "SELECT count(*) FROM user_sessions WHERE user_id = 'bob' AND state = 1";
    assert_eq!(server.db.count(untouched).await, 2);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_out_of_time_says_exactly_what_it_did() {
    let server = start().await;
    let mut time = Duration::from_millis(1_200);
    // A busy machine may have no time for a batch; then another user gets more time.
    let (user, first) = loop {
        let user = format!("user-{}", time.as_millis());
        server.create_many(&user, MANY).await;
        let mut request = tonic::Request::new(of(&user));
        request.set_timeout(time);
        match server.sessions().terminate_sessions(request).await.map(tonic::Response::into_inner) {
            Ok(first) if first.terminated_count > 0 => break (user, first),
            Ok(_) => {}
            Err(status) => assert_too_late(&status),
        }
        time *= 2;
    };
    assert!(!first.complete, "{} in {time:?}", first.terminated_count);
    let terminated = format!("{TERMINATED} AND user_id = '{user}'");
    assert_eq!(server.db.count(&terminated).await, first.terminated_count as i64);

    let mut done = first.terminated_count;
    loop {
        let answer = server.terminate_many(of(&user)).await.expect("the rest");
        done += answer.terminated_count;
        assert_eq!(server.db.count(&terminated).await, done as i64);
        if answer.complete {
            break;
        }
    }
    assert_eq!(done, MANY as u64);
}

/// Creates continuously, and returns the sessions with the stage in which each create returned.
async fn create_until(server: &TestServer, stage: &AtomicUsize, made: &AtomicUsize) -> Made {
    let mut sessions = Vec::new();
    while stage.load(Ordering::SeqCst) < 2 {
        let (id, ..) = parts(&server.create("ada").await);
        sessions.push((id, stage.load(Ordering::SeqCst)));
        made.fetch_add(1, Ordering::SeqCst);
    }
    sessions
}

type Made = Vec<(String, usize)>;

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_created_before_ends_while_others_create_on() {
    let server = start().await;
    // The clocks of replicas differ: a session of this one may have been created in the future.
    let ahead = clock();
    ahead.advance(chrono::Duration::seconds(1));
    let replica = start_on(server.db.clone(), ahead, |_| {}).await;
    let (bob, ..) = parts(&server.create("bob").await);
    let tenant_id = "acme".to_owned();
    let foreign = pb::CreateSessionRequest { tenant_id, ..new_session("ada") };
    server.try_create(foreign).await.expect("a session");
    server.create_many("ada", 1_500).await;
    let (kept, ..) = parts(&server.create("ada").await);

    for caller in [&server, &replica, &server] {
        let (stage, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let creating = join_all(
            (0..8)
                .map(|n| create_until(if n % 2 == 0 { &server } else { &replica }, &stage, &made)),
        );
        let ending = async {
            wait::until(async || made.load(Ordering::SeqCst) > 20).await;
            stage.store(1, Ordering::SeqCst);
            let except_session_id = kept.clone();
            let request = pb::TerminateSessionsRequest { except_session_id, ..of_ada() };
            let done = caller.terminate_many(request).await.expect("an end");
            stage.store(2, Ordering::SeqCst);
            assert!(done.complete);
            done.terminated_count as i64
        };
        let before = server.db.count(TERMINATED).await;
        let (created, count) = join(creating, ending).await;
        assert_eq!(server.db.count(TERMINATED).await - before, count);
        let created: Vec<(String, usize)> = created.into_iter().flatten().collect();
        for (id, _) in created.iter().filter(|(_, stage)| *stage == 0) {
            let state = server.get(id).await.expect("a session").state();
            assert_eq!(state, pb::SessionState::Terminated, "{id} was created before");
        }
    }
    for id in [&bob, &kept] {
        let state = server.get(id).await.expect("a session").state();
        assert_eq!(state, pb::SessionState::Active);
    }
    let foreign = "SELECT count(*) FROM user_sessions WHERE tenant_id = 'acme' AND state = 1";
    assert_eq!(server.db.count(foreign).await, 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_calls_end_each_session_once() {
    let server = start().await;
    let replica = server.replica().await;
    server.create_many("ada", 1_200).await;
    let calls = [&server, &replica, &server, &replica].map(|one| one.terminate_many(of_ada()));
    let answers = join_all(calls).await.into_iter().map(|answer| answer.expect("an end"));
    let counts: Vec<u64> = answers.map(|answer| answer.terminated_count).collect();
    assert_eq!(counts.iter().sum::<u64>(), 1_200, "{counts:?}");
    audit::check(&server.db).await;
}
