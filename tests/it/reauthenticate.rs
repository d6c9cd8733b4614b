//! ReauthenticateSession: what it changes in the session, and what it keeps.

use chrono::{DateTime, Duration, Utc};
use sessiond::grpc::pb;
use sessiond::server::Settings;
use tonic::Code;

use crate::harness::calls::{metadata, new_session, parts, reason, refusal, successor};
use crate::harness::forge::claims;
use crate::harness::policies::level;
use crate::harness::requests::{NOBODY, length, stamp};
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, audit, start, start_with};

const INSTANT: Duration = Duration::microseconds(1);

#[tokio::test(flavor = "multi_thread")]
async fn the_new_authentication_is_in_the_session_its_tokens_and_the_trail() {
    let server = start().await;
    let created = server.create("ada").await;
    let (id, ..) = parts(&created);
    server.advance(Duration::minutes(2));
    let proven = server.clock.now() - Duration::seconds(3);
    let mut request = second_factor(&id);
    request.user_id = "ada".to_owned();
    request.authentication.as_mut().expect("one").auth_time = stamp(proven);
    let stated = request.authentication.clone();
    let answer = server.reauthenticate(request).await.expect("a step-up");

    let session = answer.session.expect("a session");
    assert_eq!(session.authentication, stated);
    assert_eq!(session.refresh_generation, 2);
    assert_ne!(session.etag, created.session.expect("a session").etag);
    assert_eq!(server.get(&id).await.expect("a session"), session);
    let tokens = answer.tokens.expect("tokens");
    let claims = claims(&tokens.access_token);
    assert_eq!((&claims["acr"], &claims["rg"]), (&"aal2".into(), &2.into()));
    assert_eq!(claims["amr"], serde_json::json!(["pwd", "otp"]));
    assert_eq!(claims["auth_time"], proven.timestamp());
    assert_eq!(server.validate(&tokens.access_token).await.outcome(), pb::Outcome::Active);
    // The chain continues with the new token.
    let next = successor(server.refresh(&tokens.refresh_token).await);
    assert_eq!(self::claims(&next.access_token)["acr"], "aal2");
    assert_eq!(server.activities(7).await, 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_replaces_the_one_before_as_a_whole_and_is_of_now_unless_it_says() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    server.step_up(&id).await;
    server.advance(Duration::minutes(1));
    let mut request = second_factor(&id);
    request.authentication = Some(pb::Authentication::default());
    let session = server.reauthenticate(request).await.expect("one").session.expect("a session");
    let auth_time = stamp(server.clock.now());
    let expected = pb::Authentication { auth_time, ..Default::default() };
    assert_eq!(session.authentication, Some(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_of_the_client_replaces_only_that() {
    let server = start().await;
    let context = |ip: &str, agent: &str| pb::ClientContext {
        ip_address: ip.to_owned(),
        user_agent: agent.to_owned(),
        ..Default::default()
    };
    let mut request = new_session("ada");
    request.client = Some(context("192.0.2.1", "first/1"));
    let (id, ..) = parts(&server.try_create(request).await.expect("a session"));
    let before = server.get(&id).await.expect("a session");
    for (said, ip) in [(None, "192.0.2.1"), (Some(context("2001:db8::7", "")), "2001:db8::7")] {
        let request = pb::ReauthenticateSessionRequest { client: said, ..second_factor(&id) };
        let after = server.reauthenticate(request).await.expect("one").session.expect("a session");
        assert_eq!((after.ip_address.as_str(), after.user_agent.as_str()), (ip, "first/1"));
        assert_eq!(after.device, before.device);
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_deadlines_restart_and_hold_to_the_instant() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    server.advance(Duration::minutes(50));
    let (session, tokens) = server.step_up(&id).await;
    assert_deadlines(&server, &session, Duration::hours(1), Duration::hours(24));
    assert_eq!(tokens.refresh_token_expire_time, session.idle_expire_time);
    server.advance(Duration::hours(1) - INSTANT);
    assert_eq!(server.get(&id).await.expect("a session").state(), pb::SessionState::Active);
    server.advance(INSTANT);
    assert_eq!(refusal(server.refresh(&tokens.refresh_token).await), "SESSION_EXPIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_its_own_shorter_timeouts() {
    let server = start_with(|settings| settings.policy.idle_timeout = None).await;
    let request = pb::CreateSessionRequest {
        absolute_timeout: length(Duration::minutes(90)),
        idle_timeout: length(Duration::minutes(80)),
        ..new_session("ada")
    };
    let (id, ..) = parts(&server.try_create(request).await.expect("a session"));
    for _ in 0..3 {
        server.advance(Duration::minutes(70));
        let (session, _) = server.step_up(&id).await;
        assert_deadlines(&server, &session, Duration::minutes(80), Duration::minutes(90));
    }
    // Activity moves the idle deadline up to the absolute one, which it never moves.
    server.advance(Duration::minutes(79));
    let (_, tokens) = server.step_up(&id).await;
    server.advance(Duration::minutes(79));
    let next = successor(server.refresh(&tokens.refresh_token).await);
    server.advance(Duration::minutes(11) - INSTANT);
    assert_eq!(server.get(&id).await.expect("a session").state(), pb::SessionState::Active);
    server.advance(INSTANT);
    let refusal = server.refresh(&next.refresh_token).await.expect_err("too late");
    assert_eq!(metadata(&refusal, "end_reason").as_deref(), Some("ABSOLUTE_TIMEOUT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_shorter_by_now_counts_and_a_longer_one_does_not() {
    let server = start().await;
    let shorter = |settings: &mut Settings| {
        settings.policy.idle_timeout = Some(Duration::minutes(10));
        settings.policy.absolute_timeout = Duration::minutes(30);
    };
    let longer = |settings: &mut Settings| {
        settings.policy.idle_timeout = None;
        settings.policy.absolute_timeout = Duration::days(30);
    };
    let (strict, lax) = (server.replica_with(shorter).await, server.replica_with(longer).await);
    let (id, ..) = parts(&server.create("ada").await);
    let (session, _) = lax.step_up(&id).await;
    assert_deadlines(&server, &session, Duration::hours(1), Duration::hours(24));
    for replica in [&strict, &server, &lax] {
        server.advance(Duration::minutes(1));
        let (session, _) = replica.step_up(&id).await;
        assert_deadlines(&server, &session, Duration::minutes(10), Duration::minutes(30));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_policy_counts_from_the_step_up_and_not_from_creation() {
    let server = start_with(|settings| settings.policy.idle_timeout = None).await;
    let (id, ..) = parts(&server.create("ada").await);
    let (older, ..) = parts(&server.create("ada").await);
    server.advance(Duration::hours(20));
    let renewed = server.clock.now();
    server.step_up(&id).await;
    server.advance(Duration::hours(1));
    let absolute_timeout = length(Duration::hours(12));
    server.update(pb::Policy { absolute_timeout, ..level("") }).await;

    let session = server.get(&id).await.expect("a session");
    assert_eq!(session.absolute_expire_time, stamp(renewed + Duration::hours(12)));
    assert_eq!(session.state(), pb::SessionState::Active);
    let older = server.get(&older).await.expect("a session");
    assert_eq!(older.end_reason(), pb::EndReason::Policy);
    audit::check(&server.db).await;
}

fn assert_deadlines(
    server: &TestServer,
    session: &pb::Session,
    idle: Duration,
    absolute: Duration,
) {
    let now: DateTime<Utc> = server.clock.now();
    assert_eq!(session.idle_expire_time, stamp(now + idle));
    assert_eq!(session.absolute_expire_time, stamp(now + absolute));
    assert_eq!(session.last_active_time, stamp(now));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_there_or_not_active_is_refused() {
    let server = start().await;
    let replica = server.replica().await;
    let (ended, ..) = parts(&server.create("ada").await);
    server.terminate(&ended).await.expect("ok");
    let (expired, _, token) = parts(&server.create("ada").await);
    let (other, ..) = parts(&server.create("bob").await);
    for server in [&server, &replica] {
        let call = server.reauthenticate(second_factor(&ended)).await;
        assert_ended(call, "SESSION_TERMINATED", "LOGOUT");
    }
    server.advance(Duration::hours(1));
    for server in [&server, &replica] {
        let call = server.reauthenticate(second_factor(&expired)).await;
        assert_ended(call, "SESSION_EXPIRED", "IDLE_TIMEOUT");
    }
    server.refresh(&token).await.expect_err("expired it stays");

    let mut foreign = second_factor(&other);
    foreign.user_id = "ada".to_owned();
    let mut elsewhere = second_factor(&other);
    elsewhere.tenant_id = "acme".to_owned();
    for request in [foreign, elsewhere, second_factor(NOBODY)] {
        let refusal = server.reauthenticate(request).await.expect_err("not found");
        assert_eq!(
            (refusal.code(), reason(&refusal).as_str()),
            (Code::NotFound, "SESSION_NOT_FOUND")
        );
    }
    assert_eq!(server.activities(7).await, 0);
}

fn assert_ended(
    answer: Result<pb::ReauthenticateSessionResponse, tonic::Status>,
    why: &str,
    end: &str,
) {
    let refusal = answer.expect_err("a refusal");
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::FailedPrecondition, why));
    assert_eq!(metadata(&refusal, "end_reason").as_deref(), Some(end));
}
