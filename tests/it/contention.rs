//! Locks held by other transactions, and too few connections: which calls wait, and for how long.

use std::time::Duration;

use futures_util::future::{join, join_all};
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::calls::{new_session, parts, reason, successor};
use crate::harness::load::{LONGEST, judged};
use crate::harness::process::client;
use crate::harness::{audit, impatient, start_with, wait};

const LOCK_ADA: &str = "SELECT 1 FROM session_users WHERE user_id = 'ada' FOR UPDATE";

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_session_fails_its_own_calls_in_time_and_no_others() {
    let server = start_with(|settings| {
        impatient(settings);
        settings.database_connections = 3;
    })
    .await;
    let (id, access, refresh) = parts(&server.create("ada").await);
    let (_, other, other_refresh) = parts(&server.create("bob").await);
    let sql = format!("SELECT 1 FROM user_sessions WHERE session_id = '{id}' FOR UPDATE");
    let locked = server.db.hold(&sql).await;
    let (refreshed, terminated, validated, others) = tokio::join!(
        judged(server.refresh(&refresh)),
        judged(server.terminate(&id)),
        judged(server.try_validate(&access)),
        join_all((0..50).map(|_| judged(server.try_validate(&other)))),
    );
    assert!(refreshed.is_none() && terminated.is_none());
    assert_eq!(validated.expect("reading waits for no lock").outcome(), pb::Outcome::Active);
    for validated in others {
        assert_eq!(validated.expect("served").outcome(), pb::Outcome::Active);
    }
    successor(server.refresh(&other_refresh).await);

    drop(locked);
    successor(server.refresh(&refresh).await);
    server.terminate(&id).await.expect("ok").expect("the session");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_answers_in_time_and_recovers() {
    let server = start_with(|settings| {
        impatient(settings);
        settings.database_connections = 2;
    })
    .await;
    let made = join_all((0..2).map(|_| server.create("ada"))).await;
    let ids: Vec<String> = made.iter().map(|created| parts(created).0).collect();
    let locked = server.db.hold("SELECT 1 FROM user_sessions FOR UPDATE").await;
    let ending = join_all((0..40).map(|i| judged(server.terminate(&ids[i % 2]))));
    let access = parts(&made[0]).1;
    let reading = join_all((0..40).map(|_| judged(server.try_validate(&access))));
    let (ended, read) = join(ending, reading).await;
    assert!(ended.iter().all(Option::is_none), "the rows are locked");
    for validated in read.into_iter().flatten() {
        assert_eq!(validated.outcome(), pb::Outcome::Active);
    }
    drop(locked);
    wait::until(async || judged(server.terminate(&ids[0])).await.is_some()).await;
    server.terminate(&ids[1]).await.expect("ok");
    let judgements = join_all((0..20).map(|_| server.validate(&access))).await;
    for judgement in judgements {
        assert_eq!(judgement.inactive_reason(), pb::InactiveReason::SessionTerminated);
    }
    audit::check(&server.db).await;
}

/// Repeats the calls made beside a blocked one until none of them fails: on a busy machine some may time out.
async fn until_none_fails(mut calls: impl AsyncFnMut() -> usize) {
    for _ in 0..10 {
        if calls().await == 0 {
            return;
        }
    }
    panic!("of 40 calls about what nobody locked, some failed in each of ten rounds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_user_does_not_fail_the_creates_of_others() {
    let server = start_with(impatient).await;
    server.create("ada").await;
    let locked = server.db.hold(LOCK_ADA).await;
    let users: Vec<String> = (0..40).map(|i| format!("user-{i}")).collect();
    until_none_fails(async || {
        // The first create occupies its lane; the creates that arrive meanwhile share the next batch.
        let blocked = join_all((0..8).map(|_| judged(server.try_create(new_session("ada")))));
        let others = users.iter().map(|user| judged(server.try_create(new_session(user))));
        let (blocked, others) = join(blocked, join_all(others)).await;
        assert!(blocked.iter().all(Option::is_none), "ada is locked");
        others.iter().filter(|answer| answer.is_none()).count()
    })
    .await;
    drop(locked);
    wait::until(async || judged(server.try_create(new_session("ada"))).await.is_some()).await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_session_does_not_fail_the_refreshes_of_others() {
    let server = start_with(impatient).await;
    let (id, _, blocked_token) = parts(&server.create("ada").await);
    let users: Vec<String> = (0..40).map(|i| format!("user-{i}")).collect();
    let made = join_all(users.iter().map(|user| server.create(user))).await;
    let tokens: Vec<String> = made.iter().map(|created| parts(created).2).collect();
    let sql = format!("SELECT 1 FROM user_sessions WHERE session_id = '{id}' FOR UPDATE");
    let locked = server.db.hold(&sql).await;
    until_none_fails(async || {
        let blocked = join_all((0..8).map(|_| judged(server.refresh(&blocked_token))));
        // The clock stands still, so a token that is refreshed again gets the same successor.
        let others = join_all(tokens.iter().map(|token| judged(server.refresh(token))));
        let (blocked, others) = join(blocked, others).await;
        assert!(blocked.iter().all(Option::is_none), "the session is locked");
        others.iter().filter(|answer| answer.is_none()).count()
    })
    .await;
    drop(locked);
    wait::until(async || judged(server.refresh(&blocked_token)).await.is_some()).await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_queue_holds_is_refused_as_overload_with_nothing_done() {
    let server = start_with(impatient).await;
    server.create("ada").await;
    let locked = server.db.hold(LOCK_ADA).await;
    // HTTP/2 allows 200 concurrent calls on a connection, and a queue holds 1024.
    let clients = join_all((0..12).map(|_| client(server.addr))).await;
    let create = async |mut client: SessionServiceClient<_>| {
        let call = client.create_session(new_session("ada"));
        tokio::time::timeout(Duration::from_secs(60), call).await.expect("an answer")
    };
    let calls = clients.iter().flat_map(|client| (0..150).map(|_| create(client.clone())));
    let answers = join_all(calls).await;
    let (mut overloaded, mut unknown) = (0, 0);
    for answer in &answers {
        let status = answer.as_ref().expect_err("ada is locked");
        let details = status.get_error_details();
        assert!(details.retry_info().is_some(), "when to retry: {status:?}");
        match (status.code(), reason(status).as_str()) {
            (Code::ResourceExhausted, "OVERLOADED") => overloaded += 1,
            (Code::Unavailable, "DATABASE_UNAVAILABLE") => unknown += 1,
            _ => panic!("neither overload nor outage: {status:?}"),
        }
    }
    assert!(overloaded > 0 && unknown >= 1024, "{overloaded} overloaded, {unknown} unknown");

    drop(locked);
    // Calls whose client gave up are dropped from the queue, so new calls are served at once.
    let recovered = async || server.try_create(new_session("ada")).await.is_ok();
    tokio::time::timeout(LONGEST, wait::until(recovered)).await.expect("at once");
    let created = server.activities(1).await;
    assert!(created < 100, "{created} sessions: overload did something");
    audit::check(&server.db).await;
}
