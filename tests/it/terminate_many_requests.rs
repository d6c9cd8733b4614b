//! TerminateSessions with a `request_id`: a repeated call continues where the previous one stopped.

use std::time::Duration as StdDuration;

use chrono::Duration;
use futures_util::future::join_all;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{new_session, parts, reason, violations};
use crate::harness::{TestServer, audit, start};

const ID: &str = "0195f8a0-0000-7000-8000-000000000001";
const TERMINATED: &str = "SELECT count(*) FROM user_sessions WHERE state = 2";

fn of_ada() -> pb::TerminateSessionsRequest {
    let filter = pb::SessionFilter { user_id: "ada".to_owned(), ..Default::default() };
    let request_id = ID.to_owned();
    pb::TerminateSessionsRequest { filter: Some(filter), request_id, ..Default::default() }
}

async fn is_active(server: &TestServer, id: &str) -> bool {
    server.get(id).await.expect("a session").state() == pb::SessionState::Active
}

/// Repeats the call while it is unavailable, as a caller with a request id may.
async fn persist(server: &TestServer) -> pb::TerminateSessionsResponse {
    for _ in 0..20 {
        match server.terminate_many(of_ada()).await {
            Ok(answer) => return answer,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
    panic!("never an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_gets_the_first_answer_and_ends_nothing_more() {
    let server = start().await;
    let replica = server.replica().await;
    for _ in 0..12 {
        server.create("ada").await;
    }
    let first = server.terminate_many(of_ada()).await.expect("an end");
    assert_eq!((first.terminated_count, first.sample.len(), first.complete), (12, 10, true));
    let (later, ..) = parts(&server.create("ada").await);
    for again in [&server, &replica, &server] {
        server.advance(Duration::seconds(1));
        assert_eq!(again.terminate_many(of_ada()).await.expect("the same"), first);
    }
    assert!(is_active(&server, &later).await);
    assert_eq!(server.activities(3).await, 12);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_found_nothing_finds_nothing_again() {
    let server = start().await;
    let first = server.terminate_many(of_ada()).await.expect("an answer");
    assert_eq!((first.terminated_count, first.complete), (0, true));
    let (later, ..) = parts(&server.create("ada").await);
    assert_eq!(server.terminate_many(of_ada()).await.expect("the same"), first);
    assert!(is_active(&server, &later).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_method_or_a_damaged_id_is_refused() {
    let server = start().await;
    server.create("ada").await;
    server.terminate_many(of_ada()).await.expect("an end");
    let (bob, ..) = parts(&server.create("bob").await);
    let mut other_user = of_ada();
    other_user.filter.as_mut().expect("a filter").user_id = "bob".to_owned();
    let with_note = pb::TerminateSessionsRequest { note: "why".to_owned(), ..of_ada() };
    let with_guard = pb::TerminateSessionsRequest { expected_max: 5, ..of_ada() };
    for request in [other_user, with_note, with_guard] {
        let refusal = server.terminate_many(request).await.expect_err("another body");
        let answer = (refusal.code(), reason(&refusal));
        assert_eq!(answer, (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));
    }
    let create = pb::CreateSessionRequest { request_id: ID.to_owned(), ..new_session("ada") };
    let refusal = server.try_create(create).await.expect_err("another method");
    assert_eq!(reason(&refusal), "REQUEST_ID_REUSED");
    let odd = pb::TerminateSessionsRequest { request_id: "x".to_owned(), ..of_ada() };
    let refusal = server.terminate_many(odd).await.expect_err("no UUID");
    assert_eq!(violations(&refusal), ["request_id"]);
    assert!(is_active(&server, &bob).await);

    let tenant_id = "acme".to_owned();
    let elsewhere = pb::TerminateSessionsRequest { tenant_id, ..of_ada() };
    server.terminate_many(elsewhere).await.expect("another tenant has ids of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_answers_anew_before_and_after() {
    let server = start().await;
    let dry = || pb::TerminateSessionsRequest { dry_run: true, ..of_ada() };
    server.create("ada").await;
    for count in [1, 2] {
        assert_eq!(server.terminate_many(dry()).await.expect("one").terminated_count, count);
        server.create("ada").await;
    }
    let done = server.terminate_many(of_ada()).await.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (3, true));
    server.create("ada").await;
    assert_eq!(server.terminate_many(dry()).await.expect("one").terminated_count, 1);
}

/// Locks the oldest session of ada, so that it cannot end.
const OLDEST: &str =
    "SELECT 1 FROM user_sessions WHERE user_id = 'ada' ORDER BY session_id LIMIT 1 FOR UPDATE";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_left_something_is_gone_on_with_and_counted_as_one() {
    let server = start().await;
    let replica = server.replica().await;
    server.create_many("ada", 1_200).await;
    let guarded = || pb::TerminateSessionsRequest { expected_max: 1_200, ..of_ada() };
    let holder = server.db.hold(OLDEST).await;
    let some = server.terminate_many(guarded()).await.expect("all that can end");
    assert_eq!((some.terminated_count, some.complete), (1_199, false));
    assert_eq!(server.db.count(TERMINATED).await, 1_199);
    drop(holder);

    // More than `expected_max`, which no longer counts since the call has begun.
    let (later, ..) = parts(&server.create("ada").await);
    server.copy_session(&later, &server.ids(1_299)).await;
    let newer = "SELECT count(*) FROM user_sessions WHERE state = 1";
    let done = replica.terminate_many(guarded()).await.expect("the rest");
    assert_eq!((done.terminated_count, done.sample.len(), done.complete), (1_200, 10, true));
    assert_eq!(server.db.count(newer).await, 1_300, "what was created since is untouched");
    assert_eq!(server.terminate_many(guarded()).await.expect("the same"), done);
    assert_eq!(server.activities(3).await, 1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_too_much_is_not_remembered() {
    let server = start().await;
    for _ in 0..3 {
        server.create("ada").await;
    }
    let guarded = |expected_max| pb::TerminateSessionsRequest { expected_max, ..of_ada() };
    for _ in 0..2 {
        let refusal = server.terminate_many(guarded(2)).await.expect_err("too many");
        assert_eq!(reason(&refusal), "EXPECTED_MAX_EXCEEDED");
    }
    let done = server.terminate_many(guarded(3)).await.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (3, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_run_out_of_time_count_on_to_the_exact_total() {
    let server = start().await;
    server.create_many("ada", 20_000).await;
    let (mut last, mut time) = (0, StdDuration::from_millis(1_200));
    for call in 0..200 {
        let mut request = tonic::Request::new(of_ada());
        request.set_timeout(time);
        // A busy machine may miss the deadline, or have no time for a batch. That fails a call, but loses no count.
        let Ok(answer) = server.sessions().terminate_sessions(request).await else { continue };
        let answer = answer.into_inner();
        assert!(answer.terminated_count >= last, "call {call} forgets nothing");
        if answer.terminated_count == last {
            time *= 2;
        }
        assert_eq!(server.db.count(TERMINATED).await, answer.terminated_count as i64);
        last = answer.terminated_count;
        if answer.complete {
            assert!(call > 0, "the first ran out of time");
            break;
        }
    }
    assert_eq!((last, server.activities(3).await), (20_000, 20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_are_one_and_get_one_answer() {
    let server = start().await;
    let replica = server.replica().await;
    server.create_many("ada", 1_200).await;
    let (bob, ..) = parts(&server.create("bob").await);
    let answers = join_all([&server, &replica, &server, &replica].map(persist)).await;
    for answer in &answers {
        assert_eq!((answer.terminated_count, answer.complete), (1_200, true));
        assert_eq!(answer.sample, answers[0].sample);
    }
    assert_eq!(server.activities(3).await, 1_200);
    assert!(is_active(&server, &bob).await);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_24_hours_the_id_begins_anew() {
    let server = start().await;
    server.create("ada").await;
    assert_eq!(server.terminate_many(of_ada()).await.expect("an end").terminated_count, 1);
    server.advance(Duration::hours(24));
    server.create("ada").await;
    server.create("ada").await;
    for _ in 0..2 {
        let done = server.terminate_many(of_ada()).await.expect("an end");
        assert_eq!((done.terminated_count, done.complete), (2, true));
    }
}
