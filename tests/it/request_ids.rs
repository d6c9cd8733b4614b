//! `request_id`: a repeated request has one effect and one answer; a different request with the same id is refused.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::grpc::pb::terminate_session_request::Target;
use sessiond::model::policy::OnLimit;
use tonic::Code;

use crate::harness::calls::{new_session, parts, reason};
use crate::harness::requests::{NOBODY, length};
use crate::harness::wait::until;
use crate::harness::{TestServer, start, start_with};

const ID: &str = "0195f8a0-0000-7000-8000-000000000001";

fn create(user: &str) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest { request_id: ID.to_owned(), ..new_session(user) }
}

fn terminate(session_id: &str) -> pb::TerminateSessionRequest {
    pb::TerminateSessionRequest {
        target: Some(Target::SessionId(session_id.to_owned())),
        request_id: ID.to_owned(),
        ..Default::default()
    }
}

fn acknowledge(alert_id: &str) -> pb::AcknowledgeAlertRequest {
    pb::AcknowledgeAlertRequest {
        alert_id: alert_id.to_owned(),
        note: "looking".to_owned(),
        request_id: ID.to_owned(),
        ..Default::default()
    }
}

fn resolve(alert_id: &str) -> pb::ResolveAlertRequest {
    pb::ResolveAlertRequest {
        alert_id: alert_id.to_owned(),
        resolution: pb::Resolution::Benign.into(),
        note: "a test".to_owned(),
        request_id: ID.to_owned(),
        ..Default::default()
    }
}

fn assert_reused<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, what: &str) {
    let refusal = answer.expect_err(what);
    assert_eq!(
        (refusal.code(), reason(&refusal).as_str()),
        (Code::AlreadyExists, REUSED),
        "{what}"
    );
}

const REUSED: &str = "REQUEST_ID_REUSED";

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_makes_one_session_and_gets_the_same_answer() {
    let server = start().await;
    let first = server.try_create(create("ada")).await.expect("a session");
    let replica = server.replica().await;
    for again in [&server, &replica, &server] {
        assert_eq!(again.try_create(create("ada")).await.expect("the same"), first);
        server.advance(Duration::seconds(1));
    }
    assert_eq!(server.list("ada").await.len(), 1);
    assert_eq!(server.activities(1).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_without_a_request_id_always_makes_a_session() {
    let server = start().await;
    server.create("ada").await;
    server.create("ada").await;
    assert_eq!(server.list("ada").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_names_the_sessions_that_the_first_ended() {
    let server = start_with(|settings| {
        settings.policy.limits.user.max = 1;
        settings.policy.limits.user.on_limit = OnLimit::TerminateOldest;
    })
    .await;
    let (old, ..) = parts(&server.create("ada").await);
    let first = server.try_create(create("ada")).await.expect("a session");
    let ended: Vec<&str> =
        first.terminated_sessions.iter().map(|session| session.session_id.as_str()).collect();
    assert_eq!(ended, [old]);
    let again = server.try_create(create("ada")).await.expect("the same");
    assert!(!again.watermark.is_empty());
    assert_eq!(pb::CreateSessionResponse { watermark: first.watermark.clone(), ..again }, first);
    assert_eq!(server.activities(3).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_is_no_new_session_at_the_limit() {
    let server = start_with(|settings| settings.policy.limits.user.max = 1).await;
    let first = server.try_create(create("ada")).await.expect("a session");
    assert_eq!(server.try_create(create("ada")).await.expect("the same"), first);
    let refusal = server.try_create(new_session("ada")).await.expect_err("a refusal");
    assert_eq!(reason(&refusal), "SESSION_LIMIT_REACHED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_repeated_after_more_happened_gets_the_first_tokens_and_the_present_state() {
    let server = start().await;
    let first = server.try_create(create("ada")).await.expect("a session");
    let (_, _, refresh) = parts(&first);
    server.refresh(&refresh).await.expect("a successor");
    let again = server.try_create(create("ada")).await.expect("the same");
    assert_eq!(parts(&again), parts(&first));

    server.advance(Duration::hours(1));
    let again = server.try_create(create("ada")).await.expect("the same");
    assert_eq!(parts(&again), parts(&first));
    let session = again.session.expect("a session");
    assert_eq!(session.state(), pb::SessionState::Expired);
    assert_eq!(session.end_reason(), pb::EndReason::IdleTimeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_user_or_method_may_not_use_the_id() {
    let server = start().await;
    let alert = server.steal_from("eve").await.alert_id;
    let (id, ..) = parts(&server.try_create(create("ada")).await.expect("a session"));

    let longer = length(Duration::minutes(30));
    let body = pb::CreateSessionRequest { idle_timeout: longer, ..create("ada") };
    assert_reused(server.try_create(body).await, "another timeout");
    let body = pb::CreateSessionRequest { client_id: "tv".to_owned(), ..create("ada") };
    assert_reused(server.try_create(body).await, "another client");
    let metadata = [("a".to_owned(), "b".to_owned())].into();
    let body = pb::CreateSessionRequest { metadata, ..create("ada") };
    assert_reused(server.try_create(body).await, "other metadata");
    assert_reused(server.try_create(create("bob")).await, "another user");
    assert_reused(server.terminate_as(terminate(&id)).await, "TerminateSession");
    assert_reused(server.acknowledge(acknowledge(&alert)).await, "AcknowledgeAlert");
    assert_reused(server.resolve(resolve(&alert)).await, "ResolveAlert");

    assert_eq!(server.get(&id).await.expect("a session").state(), pb::SessionState::Active);
    let alert = server.get_alert(&alert).await.expect("an alert");
    assert_eq!(alert.state(), pb::AlertState::Open);
    assert_eq!(server.list("bob").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_has_request_ids_of_its_own() {
    let server = start().await;
    server.try_create(create("ada")).await.expect("a session");
    let tenant_id = "acme".to_owned();
    let request = pb::CreateSessionRequest { tenant_id, ..create("bob") };
    let session = server.try_create(request).await.expect("a session").session;
    assert_eq!(session.expect("a session").tenant_id, "acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_terminate_ends_one_session_once() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    let (other, ..) = parts(&server.create("ada").await);
    let first = server.terminate_as(terminate(&id)).await.expect("ok");
    server.advance(Duration::hours(2));
    assert_eq!(server.terminate_as(terminate(&id)).await.expect("ok"), first);
    assert_eq!(server.activities(3).await, 1);

    assert_reused(server.terminate_as(terminate(&other)).await, "another session");
    let note = "why".to_owned();
    let body = pb::TerminateSessionRequest { note, ..terminate(&id) };
    assert_reused(server.terminate_as(body).await, "another note");
    assert_reused(server.try_create(create("ada")).await, "CreateSession");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_terminate_of_an_expired_or_unknown_session_says_the_same() {
    let server = start_with(|settings| settings.intervals.sweep = NEVER).await;
    assert_eq!(server.terminate_as(terminate(NOBODY)).await.expect("ok"), None);
    assert_eq!(server.terminate_as(terminate(NOBODY)).await.expect("ok"), None);

    let (id, ..) = parts(&server.create("ada").await);
    server.advance(Duration::hours(1));
    let request_id = "0195f8a0-0000-7000-8000-000000000002".to_owned();
    let request = pb::TerminateSessionRequest { request_id, ..terminate(&id) };
    let first = server.terminate_as(request.clone()).await.expect("ok").expect("a session");
    assert_eq!(first.state(), pb::SessionState::Expired);
    assert_eq!(server.terminate_as(request).await.expect("ok"), Some(first));
}

const NEVER: std::time::Duration = std::time::Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_step_with_an_alert_is_one_step() {
    let server = start().await;
    let alert = server.steal_from("ada").await;
    let (before, request) = (alert.etag, acknowledge(&alert.alert_id));
    // The etag is that of the alert as read, so the first call makes it stale.
    let request = pb::AcknowledgeAlertRequest { etag: before, ..request };
    let first = server.acknowledge(request.clone()).await.expect("an alert");
    server.advance(Duration::seconds(1));
    assert_eq!(server.acknowledge(request.clone()).await.expect("the same"), first);
    let note = "other".to_owned();
    let body = pb::AcknowledgeAlertRequest { note, ..request };
    assert_reused(server.acknowledge(body).await, "another note");
    assert_reused(server.resolve(resolve(&alert.alert_id)).await, "ResolveAlert");

    let request_id = "0195f8a0-0000-7000-8000-000000000002".to_owned();
    let request = pb::ResolveAlertRequest { request_id, ..resolve(&alert.alert_id) };
    let first = server.resolve(request.clone()).await.expect("an alert");
    server.advance(Duration::seconds(1));
    assert_eq!(server.resolve(request).await.expect("the same"), first);
    assert_eq!((first.notes.len(), first.state()), (2, pb::AlertState::Resolved));
    assert_eq!((server.activities(5).await, server.activities(6).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_parallel_repeats_on_two_replicas_one_makes_the_session() {
    let server = start().await;
    let replica = server.replica().await;
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..32 {
        let mut client = if i % 2 == 0 { server.sessions() } else { replica.sessions() };
        calls.spawn(async move { client.create_session(create("ada")).await });
    }
    let answers = calls.join_all().await;
    let answers: Vec<_> =
        answers.into_iter().map(|answer| answer.expect("a session").into_inner()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(server.list("ada").await.len(), 1);
    assert_eq!(server.activities(1).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_users_with_one_id_one_gets_it() {
    let server = start().await;
    let replica = server.replica().await;
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..16 {
        let mut client = if i % 2 == 0 { server.sessions() } else { replica.sessions() };
        let request = create(&format!("user {i}"));
        calls.spawn(async move { client.create_session(request).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 15));
    for answer in refused {
        assert_reused(answer, "another user");
    }
    assert_eq!(server.activities(1).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_remembered_for_24_hours_to_the_microsecond() {
    let server = start_with(|settings| settings.intervals.retain = NEVER).await;
    let first = server.try_create(create("ada")).await.expect("a session");
    server.advance(Duration::hours(24) - Duration::microseconds(1));
    assert_reused(server.try_create(create("bob")).await, "within 24 hours");
    server.advance(Duration::microseconds(1));
    let second = server.try_create(create("ada")).await.expect("a new session");
    assert_ne!(parts(&second).0, parts(&first).0);
    assert_eq!(server.try_create(create("ada")).await.expect("the same"), second);
    assert_eq!(remembered(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_forgotten_after_24_hours() {
    let server = start().await;
    server.try_create(create("ada")).await.expect("a session");
    server.advance(Duration::hours(24) - Duration::microseconds(1));
    let other = "0195f8a0-0000-7000-8000-000000000002".to_owned();
    let later = pb::CreateSessionRequest { request_id: other, ..create("ada") };
    server.try_create(later).await.expect("a session");
    assert_eq!(remembered(&server).await, 2);
    server.advance(Duration::microseconds(1));
    until(async || remembered(&server).await == 1).await;
    server.try_create(create("bob")).await.expect("a new session");
}

async fn remembered(server: &TestServer) -> i64 {
    server.db.count("SELECT count(*) FROM requests").await
}
