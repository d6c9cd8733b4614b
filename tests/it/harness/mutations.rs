//! Every change that a caller can make to a session, its user or its device, as one enum.

use sessiond::grpc::pb;
use sessiond::grpc::pb::alert_service_client::AlertServiceClient;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::grpc::pb::terminate_session_request::Target;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::calls::{parts, reason, successor};
use super::devices::{device_of, on, revocation, set_device, set_session, update};
use super::policies::set;
use super::requests::length;
use super::stepping::second_factor;

/// A change. `Replay` presents a refresh token that was exchanged long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    Create,
    Refresh,
    Replay,
    StepUp,
    UpdateSession,
    UpdateDevice,
    RevokeDevice,
    Terminate,
    TerminateMany,
    ShortenPolicy,
    Erase,
    Record,
    ResolveAlert,
}

pub const MUTATIONS: [Mutation; 13] = [
    Mutation::Create,
    Mutation::Refresh,
    Mutation::Replay,
    Mutation::StepUp,
    Mutation::UpdateSession,
    Mutation::UpdateDevice,
    Mutation::RevokeDevice,
    Mutation::Terminate,
    Mutation::TerminateMany,
    Mutation::ShortenPolicy,
    Mutation::Erase,
    Mutation::Record,
    Mutation::ResolveAlert,
];

/// The absolute timeout that [`Mutation::ShortenPolicy`] sets.
pub const SHORT: chrono::Duration = chrono::Duration::minutes(5);

/// A session that was refreshed twice, the only one of its user, client and device.
#[derive(Debug, Clone)]
pub struct Subject {
    pub user: String,
    pub id: String,
    pub device: String,
    pub access: String,
    /// Its refresh tokens, oldest first.
    pub tokens: [String; 3],
    /// An open alert about its user.
    pub alert: String,
}

/// The answer to a mutation.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The whole answer except access tokens and watermarks, which differ between answers.
    pub text: String,
    pub refresh_token: Option<String>,
    /// The number of sessions that it ended, according to the answer.
    pub ended: u64,
}

fn request_on(user: &str) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest { client_id: user.to_owned(), ..on(user, "print", "192.0.2.1") }
}

async fn refresh(channel: &Channel, token: &str) -> Result<pb::RefreshSessionResponse, Status> {
    let request = pb::RefreshSessionRequest { refresh_token: token.to_owned(), client: None };
    let answer = SessionServiceClient::new(channel.clone()).refresh_session(request).await?;
    Ok(answer.into_inner())
}

impl Subject {
    pub async fn create(channel: &Channel, user: &str) -> Subject {
        let mut sessions = SessionServiceClient::new(channel.clone());
        let created = sessions.create_session(request_on(user)).await.expect("a session");
        let created = created.into_inner();
        let (id, _, first) = parts(&created);
        let second = successor(refresh(channel, &first).await).refresh_token;
        let third = successor(refresh(channel, &second).await);
        let report = crate::alert_raise::report(user);
        let raised = AlertServiceClient::new(channel.clone()).raise_alert(report).await;
        Subject {
            user: user.to_owned(),
            id,
            device: device_of(&created.session),
            access: third.access_token,
            tokens: [first, second, third.refresh_token],
            alert: raised.expect("an alert").into_inner().alert.expect("an alert").alert_id,
        }
    }
}

/// `OK`, or the reason of a refusal.
pub fn outcome(answer: &Result<Answer, Status>) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        // A skipped report has a status of its own in the answer, which is not an error of the call.
        Err(status) if status.code() == Code::NotFound && status.details().is_empty() => {
            status.message().trim_start_matches("ERROR_REASON_").to_owned()
        }
        Err(status) => reason(status),
    }
}

fn answer(ended: u64, tokens: Option<pb::TokenPair>, rest: impl std::fmt::Debug) -> Answer {
    let refresh_token = tokens.map(|tokens| tokens.refresh_token);
    Answer { text: format!("{rest:?} {refresh_token:?}"), refresh_token, ended }
}

impl Mutation {
    /// Whether it ends the session of its subject if it is ok, or if it refuses a replay.
    pub fn ends(self) -> bool {
        match self {
            Mutation::Create
            | Mutation::Replay
            | Mutation::RevokeDevice
            | Mutation::Terminate
            | Mutation::TerminateMany
            | Mutation::ShortenPolicy
            | Mutation::Erase
            | Mutation::ResolveAlert => true,
            Mutation::Refresh
            | Mutation::StepUp
            | Mutation::UpdateSession
            | Mutation::UpdateDevice
            | Mutation::Record => false,
        }
    }

    /// Makes the change with one call; without a request id if `request_id` is empty.
    pub async fn make(
        self,
        channel: &Channel,
        of: &Subject,
        request_id: &str,
    ) -> Result<Answer, Status> {
        let mut sessions = SessionServiceClient::new(channel.clone());
        let (user_id, request_id) = (of.user.clone(), request_id.to_owned());
        Ok(match self {
            Mutation::Create => {
                let request = pb::CreateSessionRequest { request_id, ..request_on(&of.user) };
                let done = sessions.create_session(request).await?.into_inner();
                answer(0, done.tokens, done.session)
            }
            Mutation::Refresh => answer(0, refresh(channel, &of.tokens[2]).await?.tokens, ()),
            Mutation::Replay => answer(0, refresh(channel, &of.tokens[0]).await?.tokens, ()),
            Mutation::StepUp => {
                let request =
                    pb::ReauthenticateSessionRequest { request_id, ..second_factor(&of.id) };
                let done = sessions.reauthenticate_session(request).await?.into_inner();
                answer(0, done.tokens, done.session)
            }
            Mutation::UpdateSession => {
                let metadata = [("cart".to_owned(), "7".to_owned())].into();
                let session_id = of.id.clone();
                let request = pb::UpdateSessionRequest {
                    request_id,
                    ..set_session(pb::Session { session_id, metadata, ..Default::default() })
                };
                let done = sessions.update_session(request).await?.into_inner();
                answer(0, None, done)
            }
            Mutation::UpdateDevice => {
                let trusted = Some(true);
                let request = pb::UpdateDeviceRequest {
                    request_id,
                    ..set_device(pb::UserDevice { trusted, ..update(&of.user, &of.device) })
                };
                answer(0, None, sessions.update_device(request).await?.into_inner())
            }
            Mutation::RevokeDevice => {
                let request =
                    pb::RevokeDeviceRequest { request_id, ..revocation(&of.user, &of.device) };
                let mut done = sessions.revoke_device(request).await?.into_inner();
                assert!(done.complete);
                done.watermark.clear();
                answer(done.terminated_count, None, done)
            }
            Mutation::Terminate => {
                let target = Some(Target::SessionId(of.id.clone()));
                let request =
                    pb::TerminateSessionRequest { target, request_id, ..Default::default() };
                let done = sessions.terminate_session(request).await?.into_inner();
                answer(0, None, done.session)
            }
            Mutation::TerminateMany => {
                let filter = Some(pb::SessionFilter { user_id, ..Default::default() });
                let request =
                    pb::TerminateSessionsRequest { filter, request_id, ..Default::default() };
                let done = sessions.terminate_sessions(request).await?.into_inner();
                assert!(done.complete);
                answer(done.terminated_count, None, (done.terminated_count, done.sample))
            }
            Mutation::ShortenPolicy => {
                let policy = pb::Policy {
                    client_id: user_id,
                    absolute_timeout: length(SHORT),
                    ..Default::default()
                };
                let request = pb::UpdatePolicyRequest { request_id, ..set(policy) };
                let done = sessions.update_policy(request).await?.into_inner();
                assert!(done.complete);
                answer(done.terminated_count, None, done.policy)
            }
            Mutation::Erase => {
                let request = pb::EraseUserRequest { user_id, request_id, ..Default::default() };
                let done = sessions.erase_user(request).await?.into_inner();
                assert!(done.complete);
                answer(done.sessions_ended, None, ())
            }
            Mutation::Record => {
                let activity = pb::ReportedActivity {
                    kind: pb::ActivityKind::ApiRequest.into(),
                    session_id: of.id.clone(),
                    success: Some(true),
                    ..Default::default()
                };
                let request = pb::RecordActivitiesRequest {
                    activities: vec![activity],
                    request_id,
                    ..Default::default()
                };
                let done = sessions.record_activities(request).await?.into_inner();
                if let [rejected] = &done.rejected[..] {
                    return Err(Status::new(Code::NotFound, rejected.reason().as_str_name()));
                }
                answer(0, None, done)
            }
            Mutation::ResolveAlert => {
                let request = pb::ResolveAlertRequest {
                    alert_id: of.alert.clone(),
                    resolution: pb::Resolution::TruePositive.into(),
                    terminate_sessions: true,
                    request_id,
                    ..Default::default()
                };
                let mut client = AlertServiceClient::new(channel.clone());
                let done = client.resolve_alert(request).await?.into_inner();
                assert!(done.complete);
                answer(done.terminated_count, None, done.alert)
            }
        })
    }
}
