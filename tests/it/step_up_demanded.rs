//! A session of which a rule requires a re-authentication: what its tokens allow until then, and how it is satisfied.

use chrono::{DateTime, Duration, Utc};
use sessiond::grpc::pb;
use sessiond::grpc::pb::StepUpReason;

use crate::harness::calls::{parts, successor};
use crate::harness::requests::{length, stamp};
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, audit, start};

const INSTANT: Duration = Duration::microseconds(1);

/// Writes the requirement as detection does, at the current time.
async fn demand(server: &TestServer) -> DateTime<Utc> {
    let now = server.clock.now();
    let micros = now.timestamp_micros();
    let at = format!("to_timestamp(0) + {micros} * interval '1 microsecond'");
    server.meddle(&format!("UPDATE user_sessions SET step_up_at = {at}")).await;
    now
}

async fn assert_demanded(server: &TestServer, token: &str, at: DateTime<Utc>) {
    let judged = server.validate_now(token).await;
    assert_eq!(judged.outcome(), pb::Outcome::StepUpRequired);
    let reasons: Vec<StepUpReason> = judged.step_up_reasons().collect();
    assert_eq!(reasons, [StepUpReason::SuspiciousActivity]);
    assert_eq!(judged.inactive_reason(), pb::InactiveReason::Unspecified);
    let session = judged.session.expect("a session");
    assert_eq!(session.step_up_required_time, stamp(at));
    assert_eq!(session.state(), pb::SessionState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demanded_step_up_closes_the_session_until_its_user_was_authenticated_again() {
    let server = start().await;
    let replica = server.replica().await;
    let created = server.create("ada").await;
    let (id, access, _) = parts(&created);
    let etag = created.session.expect("a session").etag;
    server.advance(Duration::minutes(1));
    let at = demand(&server).await;
    for server in [&server, &replica] {
        assert_demanded(server, &access, at).await;
    }
    let shown = server.get(&id).await.expect("a session");
    assert_eq!(shown.step_up_required_time, stamp(at), "support sees it");
    assert_eq!(server.list("ada").await, std::slice::from_ref(&shown));
    assert_ne!(shown.etag, etag);

    server.advance(Duration::minutes(1));
    let (session, tokens) = replica.step_up(&id).await;
    assert_eq!(session.step_up_required_time, None);
    for server in [&server, &replica] {
        assert_eq!(server.validate(&tokens.access_token).await.outcome(), pb::Outcome::Active);
        server.assert_superseded(&access).await;
    }
    let next = successor(server.refresh(&tokens.refresh_token).await);
    assert_eq!(server.validate(&next.access_token).await.outcome(), pb::Outcome::Active);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_from_before_the_demand_does_not_answer_it() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    server.advance(Duration::minutes(1));
    let at = demand(&server).await;
    server.advance(Duration::minutes(1));
    for (proven, answered) in [(at - INSTANT, false), (at, true)] {
        let mut request = second_factor(&id);
        request.authentication.as_mut().expect("one").auth_time = stamp(proven);
        let answer = server.reauthenticate(request).await.expect("taken over");
        let session = answer.session.expect("a session");
        assert_eq!(session.authentication.expect("one").auth_time, stamp(proven));
        let token = answer.tokens.expect("tokens").access_token;
        match answered {
            true => assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active),
            false => assert_demanded(&server, &token, at).await,
        }
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_works_and_leaves_the_demand() {
    let server = start().await;
    let (id, _, refresh) = parts(&server.create("ada").await);
    let at = demand(&server).await;
    let next = successor(server.refresh(&refresh).await);
    assert_demanded(&server, &next.access_token, at).await;
    assert_eq!(successor(server.refresh(&refresh).await).refresh_token, next.refresh_token);
    let next = successor(server.refresh(&next.refresh_token).await);
    assert_demanded(&server, &next.access_token, at).await;
    server.terminate(&id).await.expect("ok");
    let judged = server.validate(&next.access_token).await;
    assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
    assert_eq!((judged.outcome(), judged.step_up_reasons), (pb::Outcome::Inactive, vec![]));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requirements_of_the_caller_and_of_a_rule_are_reported_together() {
    let server = start().await;
    let (_, access, _) = parts(&server.create("ada").await);
    demand(&server).await;
    server.advance(Duration::minutes(1));
    let request = pb::ValidateSessionRequest {
        access_token: access,
        required_acr: "aal2".to_owned(),
        max_auth_age: length(Duration::seconds(1)),
        freshness: Some(pb::validate_session_request::Freshness::Strong(true)),
        ..Default::default()
    };
    let judged = server.sessions().validate_session(request).await.expect("ok").into_inner();
    let reasons: Vec<StepUpReason> = judged.step_up_reasons().collect();
    let asked = [StepUpReason::AcrTooLow, StepUpReason::AuthenticationTooOld];
    assert_eq!(reasons, [asked[0], asked[1], StepUpReason::SuspiciousActivity]);
}
