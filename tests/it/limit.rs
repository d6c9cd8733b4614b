//! The limit of concurrent sessions: refused creates, ended sessions, and which sessions count.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;

use crate::harness::calls::{metadata, new_session, parts, reason};
use crate::harness::{TestServer, audit, start, start_on, start_with, wait};

/// Longer than a test takes, and far less than an idle timeout, so that activity is not flushed at once.
const LONG: std::time::Duration = std::time::Duration::from_secs(60);

/// Neither sweeps nor writes last activity during the test.
fn limited(max: u32, on_limit: OnLimit) -> impl Fn(&mut Settings) {
    move |settings| {
        settings.policy.limits.user.max = max;
        settings.policy.limits.user.on_limit = on_limit;
        settings.intervals.sweep = LONG;
        settings.intervals.flush = LONG;
    }
}

/// Creates sessions of ada, a second apart; returns their ids and access tokens.
async fn some(server: &TestServer, count: usize) -> Vec<(String, String)> {
    let mut made = Vec::new();
    for _ in 0..count {
        let (id, access, _) = parts(&server.create("ada").await);
        made.push((id, access));
        server.advance(Duration::seconds(1));
    }
    made
}

/// The ids of the sessions that a create has ended.
fn victims(created: &pb::CreateSessionResponse) -> Vec<&str> {
    for session in &created.terminated_sessions {
        assert_eq!(session.state(), pb::SessionState::Terminated);
        assert_eq!(session.end_reason(), pb::EndReason::Limit);
    }
    created.terminated_sessions.iter().map(|session| session.session_id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_the_limit_and_how_many_are_active() {
    let server = start_with(limited(2, OnLimit::Reject)).await;
    let made = some(&server, 2).await;
    let status = server.try_create(new_session("ada")).await.expect_err("no room");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert_eq!(reason(&status), "SESSION_LIMIT_REACHED");
    assert_eq!(metadata(&status, "limit").as_deref(), Some("2"));
    assert_eq!(metadata(&status, "active").as_deref(), Some("2"));
    server.create("bob").await;
    let elsewhere = pb::CreateSessionRequest { tenant_id: "other".into(), ..new_session("ada") };
    server.try_create(elsewhere).await.expect("another tenant's ada is another user");

    server.terminate(&made[0].0).await.expect("ok");
    server.create("ada").await;
    assert_eq!(server.activities(1).await, 5, "a refusal is no change");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_does_not_count_swept_or_not() {
    let server = start_with(limited(2, OnLimit::Reject)).await;
    some(&server, 1).await;
    server.create("ada").await;
    // The first session was created a second before the second, so it expires a second before.
    server.advance(Duration::hours(1) - Duration::seconds(1) - Duration::microseconds(1));
    server.try_create(new_session("ada")).await.expect_err("both count for one microsecond more");
    server.advance(Duration::microseconds(1));
    assert!(server.create("ada").await.terminated_sessions.is_empty());
    server.try_create(new_session("ada")).await.expect_err("one counts, one is new");
    let live = "SELECT count(*) FROM user_sessions WHERE state = 1";
    assert_eq!(server.db.count(live).await, 2, "what expired is written down");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_session_ends_however_active_it_is() {
    let server = start_with(limited(3, OnLimit::TerminateOldest)).await;
    let made = some(&server, 3).await;
    let bystander = parts(&server.create("bob").await);
    server.validate(&made[0].1).await;
    let created = server.create("ada").await;
    assert_eq!(victims(&created), [&made[0].0]);
    let judged = server.validate(&made[0].1).await;
    assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
    let ended = judged.session.expect("a session");
    assert_eq!(
        (ended.end_reason(), ended.terminated_by.as_str()),
        (pb::EndReason::Limit, "system")
    );
    assert_eq!(victims(&server.create("ada").await), [&made[1].0]);
    for access in [&made[2].1, &parts(&created).1, &bystander.1] {
        assert_eq!(server.validate(access).await.outcome(), pb::Outcome::Active);
    }
    assert_eq!(server.activities(3).await, 2);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_session_ends_also_by_use_that_is_not_written_yet() {
    let change = limited(3, OnLimit::TerminateLeastRecentlyUsed);
    let server = start_with(&change).await;
    let made = some(&server, 3).await;
    // Used in the order 1, 0, 2; the database has none of it.
    for i in [1, 0, 2] {
        server.validate(&made[i].1).await;
        server.advance(Duration::seconds(2));
    }
    let used = "SELECT count(*) FROM user_sessions WHERE last_active_at > created_at";
    assert_eq!(server.db.count(used).await, 0);
    for i in [1, 0, 2] {
        assert_eq!(victims(&server.create("ada").await), [&made[i].0]);
        server.advance(Duration::seconds(1));
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_session_ends_also_by_use_at_another_replica() {
    let change = limited(2, OnLimit::TerminateLeastRecentlyUsed);
    let server = start_with(&change).await;
    let replica = server
        .replica_with(|settings| {
            change(settings);
            settings.intervals.flush = std::time::Duration::from_millis(20);
        })
        .await;
    let made = some(&server, 2).await;
    replica.validate(&made[0].1).await;
    let used = "SELECT count(*) FROM user_sessions WHERE last_active_at > created_at";
    wait::until(async || server.db.count(used).await == 1).await;
    assert_eq!(victims(&server.create("ada").await), [&made[1].0]);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_limit_ends_as_many_as_are_too_many() {
    let server = start_with(limited(5, OnLimit::TerminateOldest)).await;
    let made = some(&server, 5).await;
    let (db, clock) = server.stop().await;
    let server = start_on(db, clock, limited(2, OnLimit::TerminateOldest)).await;
    let created = server.create("ada").await;
    let mut ended = victims(&created);
    ended.sort_unstable();
    let expected: Vec<&str> = made[..4].iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ended, expected, "ids sort by creation");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_too_many_to_end_at_once_is_refused_and_not_kept_waiting() {
    let server = start().await;
    server.create_many("ada", 12_001).await;
    let limit = limited(5, OnLimit::TerminateOldest);
    let limited = server.replica_with(limit).await;
    let status = limited.try_create(new_session("ada")).await.expect_err("too many");
    assert_eq!(reason(&status), "SESSION_LIMIT_REACHED");
    assert_eq!(metadata(&status, "active").as_deref(), Some("12001"));
    server.create("ada").await;
    assert!(limited.create("bob").await.terminated_sessions.is_empty());

    let filter = pb::SessionFilter { user_id: "ada".into(), ..Default::default() };
    let all = pb::TerminateSessionsRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(limited.terminate_many(all).await.expect("an end").terminated_count, 12_002);
    assert!(limited.create("ada").await.terminated_sessions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_as_many_as_can_be_read_is_counted() {
    let server = start().await;
    server.create_many("ada", 12_000).await;
    let limited = server.replica_with(limited(5, OnLimit::Reject)).await;
    let status = limited.try_create(new_session("ada")).await.expect_err("too many");
    assert_eq!(metadata(&status, "active").as_deref(), Some("12000"));
}
