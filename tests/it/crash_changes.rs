//! The real binary, killed right after it acknowledged a change: the change is there after the restart.

use rustix::process::Signal;
use sessiond::grpc::pb;
use sessiond::grpc::pb::alert_service_client::AlertServiceClient;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::transport::Channel;

use crate::harness::calls::reason;
use crate::harness::mutations::{Answer, MUTATIONS, Mutation, SHORT, Subject, outcome};
use crate::harness::process::{self, Place, Process};

async fn serve(place: &Place) -> (Process, Channel) {
    let mut process = place.spawn(&[], &[]);
    let addr = process.addr().await;
    (process, process::channel(addr).await)
}

async fn refresh(channel: &Channel, token: &str) -> Result<pb::TokenPair, String> {
    let request = pb::RefreshSessionRequest { refresh_token: token.to_owned(), client: None };
    let answer = SessionServiceClient::new(channel.clone()).refresh_session(request).await;
    let answer = answer.map_err(|status| reason(&status))?;
    Ok(answer.into_inner().tokens.expect("tokens"))
}

/// Asserts that a restarted server has a change that the one before acknowledged.
async fn assert_kept(channel: &Channel, change: Mutation, of: &Subject, answer: Option<Answer>) {
    let mut sessions = SessionServiceClient::new(channel.clone());
    let judged = process::outcome(&mut sessions, &of.access).await;
    let ends = change.ends() && !matches!(change, Mutation::Create | Mutation::ShortenPolicy);
    let good = !ends && change != Mutation::StepUp;
    assert_eq!(judged == pb::Outcome::Active, good, "{change:?}: {judged:?}");
    if let Some(token) = answer.and_then(|answer| answer.refresh_token) {
        refresh(channel, &token).await.expect("the token that was handed out");
    } else if ends {
        let refused = refresh(channel, &of.tokens[2]).await.expect_err("an ended session");
        let gone =
            if change == Mutation::Erase { "REFRESH_TOKEN_INVALID" } else { "SESSION_TERMINATED" };
        assert_eq!(refused, gone, "{change:?}");
    }
    let request = pb::GetSessionRequest { session_id: of.id.clone(), ..Default::default() };
    let session = sessions.get_session(request).await;
    if change == Mutation::Erase {
        assert_eq!(reason(&session.expect_err("it is erased")), "SESSION_NOT_FOUND");
        return;
    }
    let session = session.expect("a session").into_inner().session.expect("a session");
    let request = pb::GetDeviceRequest {
        user_id: of.user.clone(),
        device_id: of.device.clone(),
        ..Default::default()
    };
    let device = sessions.get_device(request).await.expect("a device").into_inner();
    let device = device.device.expect("a device");
    match change {
        Mutation::StepUp => assert_eq!(session.authentication.expect("one").acr, "aal2"),
        Mutation::UpdateSession => assert_eq!(session.metadata["cart"], "7"),
        Mutation::UpdateDevice => assert!(device.trusted()),
        Mutation::RevokeDevice => assert!(device.revoke_time.is_some()),
        Mutation::ShortenPolicy => {
            let [begin, end] = [session.create_time, session.absolute_expire_time]
                .map(|time| time.expect("a time").seconds);
            assert_eq!(end - begin, SHORT.num_seconds());
        }
        Mutation::Record => {
            let kinds = vec![pb::ActivityKind::ApiRequest.into()];
            let filter =
                pb::ActivityFilter { session_id: of.id.clone(), kinds, ..Default::default() };
            let request = pb::ListActivitiesRequest { filter: Some(filter), ..Default::default() };
            let found = sessions.list_activities(request).await.expect("a list").into_inner();
            assert_eq!(found.activities.len(), 1);
        }
        Mutation::ResolveAlert => {
            let alert_id = of.alert.clone();
            let request = pb::GetAlertRequest { alert_id, ..Default::default() };
            let found = AlertServiceClient::new(channel.clone()).get_alert(request).await;
            let found = found.expect("an alert").into_inner().alert.expect("an alert");
            assert_eq!(found.state(), pb::AlertState::Resolved);
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_change_survives_kill_9_of_the_server() {
    let place = Place::new();
    let (mut process, mut channel) = serve(&place).await;
    for change in MUTATIONS {
        let subject = Subject::create(&channel, &format!("{change:?}")).await;
        let answer = change.make(&channel, &subject, "").await;
        process.signal(Signal::KILL);
        let expected = if change == Mutation::Replay { "REFRESH_TOKEN_REUSED" } else { "OK" };
        assert_eq!(outcome(&answer), expected, "{change:?}");
        assert!(!process.ended().await.status.success());
        (process, channel) = serve(&place).await;
        assert_kept(&channel, change, &subject, answer.ok()).await;
    }
}
