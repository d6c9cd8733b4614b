//! ValidateSession with requirements: the authentication class, and the age of the authentication.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::grpc::pb::StepUpReason;

use crate::harness::calls::{new_session, parts, reason, violations};
use crate::harness::requests::{length, stamp};
use crate::harness::{TestServer, start, start_with, wait};

const INSTANT: Duration = Duration::microseconds(1);

/// The access token of a session of this class; empty = none.
async fn token_of(server: &TestServer, acr: &str) -> String {
    let authentication = pb::Authentication { acr: acr.to_owned(), ..Default::default() };
    let request =
        pb::CreateSessionRequest { authentication: Some(authentication), ..new_session("ada") };
    parts(&server.try_create(request).await.expect("a session")).1
}

async fn validate_within(server: &TestServer, token: &str, age: Duration) -> pb::Outcome {
    let request = pb::ValidateSessionRequest {
        access_token: token.to_owned(),
        max_auth_age: length(age),
        ..Default::default()
    };
    let judged = server.sessions().validate_session(request).await.expect("ok").into_inner();
    let reasons: Vec<StepUpReason> = judged.step_up_reasons().collect();
    let old = judged.outcome() == pb::Outcome::StepUpRequired;
    let expected: &[StepUpReason] = if old { &[StepUpReason::AuthenticationTooOld] } else { &[] };
    assert_eq!(reasons, expected);
    judged.outcome()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_is_enough_by_the_order_of_the_policy() {
    let server = start().await;
    let levels = ["bronze", "silver", "gold"].map(str::to_owned).to_vec();
    let own = server.replica_with(|settings| settings.policy.acr_levels = levels).await;
    for (server, has, required, enough) in [
        (&server, "aal2", "", true),
        (&server, "", "", true),
        (&server, "aal2", "aal1", true),
        (&server, "aal2", "aal2", true),
        (&server, "aal2", "aal3", false),
        (&server, "aal1", "aal2", false),
        (&server, "", "aal1", false),
        (&server, "phr", "aal1", false),
        (&server, "aal3", "phr", false),
        (&server, "phr", "phr", true),
        (&server, "", "phr", false),
        (&server, "AAL2", "aal2", false),
        (&own, "gold", "silver", true),
        (&own, "bronze", "silver", false),
        (&own, "aal3", "aal1", false),
        (&own, "aal1", "aal1", true),
    ] {
        let token = token_of(server, has).await;
        let judged = server.validate_for(&token, required).await;
        let shown = format!("{has:?} for {required:?}: {judged:?}");
        let outcome = if enough { pb::Outcome::Active } else { pb::Outcome::StepUpRequired };
        assert_eq!(judged.outcome(), outcome, "{shown}");
        assert_eq!(judged.inactive_reason(), pb::InactiveReason::Unspecified, "{shown}");
        let reasons: &[StepUpReason] = if enough { &[] } else { &[StepUpReason::AcrTooLow] };
        assert_eq!(judged.step_up_reasons().collect::<Vec<_>>(), reasons, "{shown}");
        let session = judged.session.expect(&shown);
        assert_eq!(session.authentication.expect("one").acr, has);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_counts_until_the_last_instant_of_its_age() {
    let server = start().await;
    let token = token_of(&server, "").await;
    let (active, step_up) = (pb::Outcome::Active, pb::Outcome::StepUpRequired);
    assert_eq!(validate_within(&server, &token, Duration::zero()).await, active);
    server.advance(INSTANT);
    assert_eq!(validate_within(&server, &token, Duration::zero()).await, step_up);
    server.advance(Duration::minutes(2) - INSTANT);
    assert_eq!(validate_within(&server, &token, Duration::minutes(2)).await, active);
    assert_eq!(validate_within(&server, &token, Duration::minutes(2) - INSTANT).await, step_up);
    server.advance(INSTANT);
    assert_eq!(validate_within(&server, &token, Duration::minutes(2)).await, step_up);
    assert_eq!(validate_within(&server, &token, Duration::days(3_652_500)).await, active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_up_opens_what_asked_for_it() {
    let server = start().await;
    let (id, access, _) = parts(&server.create("ada").await);
    server.advance(Duration::minutes(2));
    let request = |token: &str| pb::ValidateSessionRequest {
        access_token: token.to_owned(),
        required_acr: "aal2".to_owned(),
        max_auth_age: length(Duration::minutes(1)),
        ..Default::default()
    };
    let judged = server.sessions().validate_session(request(&access)).await.expect("ok");
    let judged = judged.into_inner();
    assert_eq!(judged.outcome(), pb::Outcome::StepUpRequired);
    let reasons: Vec<StepUpReason> = judged.step_up_reasons().collect();
    assert_eq!(reasons, [StepUpReason::AcrTooLow, StepUpReason::AuthenticationTooOld]);

    let (_, tokens) = server.step_up(&id).await;
    let replica = server.replica().await;
    for server in [&server, &replica] {
        let judged = server.sessions().validate_session(request(&tokens.access_token)).await;
        assert_eq!(judged.expect("ok").into_inner().outcome(), pb::Outcome::Active);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_asks_too_much_counts_as_activity_and_an_inactive_one_stays_inactive() {
    let server = start_with(|settings| settings.policy.access_token_ttl = Duration::days(1)).await;
    let created = server.create("ada").await;
    let (id, access, _) = parts(&created);
    server.advance(Duration::minutes(50));
    let judged = server.validate_for(&access, "aal2").await;
    assert_eq!(judged.outcome(), pb::Outcome::StepUpRequired);
    let active = stamp(server.clock.now());
    assert_eq!(judged.session.expect("a session").last_active_time, active);
    let replica = server.replica().await;
    wait::until(async || replica.list("ada").await[0].last_active_time == active).await;
    server.advance(Duration::minutes(50));
    assert_eq!(replica.get(&id).await.expect("a session").state(), pb::SessionState::Active);

    server.terminate(&id).await.expect("ok");
    let judged = server.validate_for(&access, "aal2").await;
    assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
    assert_eq!((judged.outcome(), judged.step_up_reasons), (pb::Outcome::Inactive, vec![]));
    let judged = server.validate_for("nonsense", "aal2").await;
    assert_eq!(judged.inactive_reason(), pb::InactiveReason::Malformed);
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_keep_their_limits() {
    let server = start().await;
    let token = token_of(&server, &"a".repeat(128)).await;
    let judged = server.validate_for(&token, &"a".repeat(128)).await;
    assert_eq!(judged.outcome(), pb::Outcome::Active);
    let refused = async |required_acr: String, max_auth_age| {
        let access_token = token.clone();
        let request = pb::ValidateSessionRequest {
            access_token,
            required_acr,
            max_auth_age,
            ..Default::default()
        };
        let refusal = server.sessions().validate_session(request).await.expect_err("a refusal");
        assert_eq!(reason(&refusal), "INVALID_FIELD");
        violations(&refusal)
    };
    let pair = ["required_acr", "max_auth_age"];
    assert_eq!(refused("a".repeat(129), length(-INSTANT)).await, pair);
    let odd = Some(prost_types::Duration { seconds: 1, nanos: -1 });
    assert_eq!(refused("a b".to_owned(), odd).await, pair);
    assert_eq!(refused("\"".to_owned(), length(Duration::days(-1))).await, pair);
}
