//! Watermarks of calls that withdraw tokens: a validation that states one refuses them on every replica at once.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::grpc::pb::validate_session_request::Freshness;
use sessiond::model::policy::OnLimit;

use crate::alert_raise::report;
use crate::harness::calls::{new_session, parts};
use crate::harness::devices::{forgetting, on, revocation};
use crate::harness::policies::{idle, set};
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, start_with};

/// The outcome of the token on the replica at the watermark; the replica had cached it as active.
struct Held {
    replica: TestServer,
    token: String,
    session: String,
    device: String,
}

impl Held {
    async fn of(server: &TestServer, user: &str) -> Held {
        let (created, device) = server.create_on(on(user, "print", "192.0.2.1")).await;
        let (session, token, _) = parts(&created);
        let replica = server.replica().await;
        assert_eq!(replica.validate(&token).await.outcome(), pb::Outcome::Active);
        Held { replica, token, session, device }
    }

    async fn is_withdrawn_at(&self, watermark: String, why: pb::InactiveReason) {
        assert!(watermark.starts_with('w'), "{why:?}: {watermark:?}");
        let request = pb::ValidateSessionRequest {
            access_token: self.token.clone(),
            freshness: Some(Freshness::AtLeastAsFresh(watermark)),
            ..Default::default()
        };
        let judged = self.replica.sessions().validate_session(request).await.expect("an answer");
        assert_eq!(judged.into_inner().inactive_reason(), why);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_withdraws_tokens_says_from_when_on() {
    let server = start_with(|settings| {
        settings.policy.limits.user.max = 1;
        settings.policy.limits.user.on_limit = OnLimit::TerminateOldest;
    })
    .await;
    let ended = pb::InactiveReason::SessionTerminated;

    let held = Held::of(&server, "create").await;
    let created = server.try_create(new_session("create")).await.expect("a session");
    assert_eq!(created.terminated_sessions.len(), 1);
    held.is_withdrawn_at(created.watermark, ended).await;
    let alone = server.try_create(new_session("alone")).await.expect("a session");
    assert_eq!(alone.watermark, "", "nothing was withdrawn");

    let held = Held::of(&server, "step-up").await;
    let request = second_factor(&held.session);
    let done = server.sessions().reauthenticate_session(request).await.expect("tokens");
    held.is_withdrawn_at(done.into_inner().watermark, pb::InactiveReason::Superseded).await;

    let held = Held::of(&server, "revoke").await;
    let request = revocation("revoke", &held.device);
    let done = server.revoke_device(request).await.expect("an end");
    held.is_withdrawn_at(done.watermark, ended).await;

    let held = Held::of(&server, "forget").await;
    let request = forgetting("forget", &held.device);
    let done = server.forget_device(request).await.expect("an end");
    held.is_withdrawn_at(done.watermark, ended).await;

    let held = Held::of(&server, "alert").await;
    let raised = server.raise(report("alert")).await.expect("an alert");
    let resolving = pb::ResolveAlertRequest {
        alert_id: raised.alert_id,
        resolution: pb::Resolution::TruePositive.into(),
        terminate_sessions: true,
        ..Default::default()
    };
    let done = server.alerts().resolve_alert(resolving).await.expect("an end").into_inner();
    held.is_withdrawn_at(done.watermark, ended).await;

    let held = Held::of(&server, "erase").await;
    let request = pb::EraseUserRequest { user_id: "erase".to_owned(), ..Default::default() };
    let done = server.sessions().erase_user(request).await.expect("an end").into_inner();
    held.is_withdrawn_at(done.watermark, pb::InactiveReason::SessionUnknown).await;

    let held = Held::of(&server, "policy").await;
    server.advance(Duration::minutes(2));
    let shorter = set(idle("", Duration::minutes(1)));
    let done = server.try_update(shorter).await.expect("a change");
    held.is_withdrawn_at(done.watermark, pb::InactiveReason::SessionExpiredIdle).await;
}
