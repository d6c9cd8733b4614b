//! Calls, and the outcomes of their answers.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use prost::Message;
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::grpc::pb::alert_service_client::AlertServiceClient;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::client::Grpc;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::answer::Raw;
use crate::keys::Key;
use crate::record::{Outcome, What};

/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// A call: its caller, its subject, and its message.
#[derive(Debug, Clone)]
pub struct Call {
    pub role: Option<Role>,
    pub who: usize,
    pub foreign: bool,
    pub what: What,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub enum Body {
    Create(pb::CreateSessionRequest),
    Refresh(pb::RefreshSessionRequest),
    Reauthenticate(pb::ReauthenticateSessionRequest),
    Validate(pb::ValidateSessionRequest),
    UpdateSession(Box<pb::UpdateSessionRequest>),
    UpdateDevice(Box<pb::UpdateDeviceRequest>),
    RevokeDevice(pb::RevokeDeviceRequest),
    Terminate(pb::TerminateSessionRequest),
    TerminateMany(pb::TerminateSessionsRequest),
    UpdatePolicy(Box<pb::UpdatePolicyRequest>),
    Record(pb::RecordActivitiesRequest),
    Erase(pb::EraseUserRequest),
    Raise(pb::RaiseAlertRequest),
    Acknowledge(pb::AcknowledgeAlertRequest),
    Resolve(pb::ResolveAlertRequest),
    Reopen(pb::ReopenAlertRequest),
    Get(pb::GetSessionRequest),
    List(pb::ListSessionsRequest),
    /// A call of this path. An empty create is an empty message of any type.
    Probe(String, Box<pb::CreateSessionRequest>),
}

/// Applies an expression to the message of each type with a `request_id`.
macro_rules! with_request_id {
    ($body:expr, $message:ident => $does:expr, $otherwise:expr) => {
        match $body {
            Body::Create($message) => $does,
            Body::Reauthenticate($message) => $does,
            Body::UpdateSession($message) => $does,
            Body::UpdateDevice($message) => $does,
            Body::RevokeDevice($message) => $does,
            Body::Terminate($message) => $does,
            Body::TerminateMany($message) => $does,
            Body::UpdatePolicy($message) => $does,
            Body::Record($message) => $does,
            Body::Erase($message) => $does,
            Body::Raise($message) => $does,
            Body::Acknowledge($message) => $does,
            Body::Resolve($message) => $does,
            Body::Reopen($message) => $does,
            _ => $otherwise,
        }
    };
}

impl Call {
    /// A call without a key, about a resource of this user.
    pub fn new(who: usize, what: What, body: Body) -> Call {
        Call { role: None, who, foreign: false, what, body }
    }

    /// Sets the request id, if the message has one; returns whether it does.
    pub fn identify(&mut self, id: Uuid) -> bool {
        with_request_id!(&mut self.body, message => { message.request_id = id.to_string(); true }, false)
    }

    /// The `request_id` and a digest of the body.
    pub fn request(&self) -> Option<(Uuid, u64)> {
        let (id, bytes) = with_request_id!(
            &self.body, message => (message.request_id.as_str(), message.encode_to_vec()), return None
        );
        let mut digest = DefaultHasher::new();
        self.what.name().hash(&mut digest);
        bytes.hash(&mut digest);
        Some((id.parse().ok()?, digest.finish()))
    }

    /// Sends the call and waits for its answer.
    pub async fn send(&self, channel: Channel, key: Key) -> Result<Raw, Status> {
        let channel = InterceptedService::new(channel, key);
        let answer =
            tokio::time::timeout(PATIENCE + Duration::from_secs(1), self.body.send(channel));
        answer.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer at all")))
    }
}

/// The outcome of a refusal. Only a refusal by the service is definite, and has a reason; an error of a broken
/// connection has none.
pub fn refused(status: &Status) -> Outcome {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    match (status.code(), reason) {
        (code @ (Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled), _) => {
            Outcome::Unknown(code)
        }
        (code, None) => Outcome::Unknown(code),
        (code, Some(reason)) => Outcome::No(code, reason),
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

impl Body {
    async fn send(&self, channel: InterceptedService<Channel, Key>) -> Result<Raw, Status> {
        if let Body::Probe(path, message) = self {
            return probe(channel, path, message).await;
        }
        let mut sessions = SessionServiceClient::new(channel.clone());
        let mut alerts = AlertServiceClient::new(channel);
        Ok(match self.clone() {
            Body::Create(m) => Raw::Create(sessions.create_session(within(m)).await?.into_inner()),
            Body::Refresh(m) => {
                Raw::Refresh(sessions.refresh_session(within(m)).await?.into_inner())
            }
            Body::Reauthenticate(m) => {
                Raw::Reauthenticate(sessions.reauthenticate_session(within(m)).await?.into_inner())
            }
            Body::Validate(m) => {
                Raw::Validate(sessions.validate_session(within(m)).await?.into_inner())
            }
            Body::UpdateSession(m) => {
                Raw::Session(sessions.update_session(within(*m)).await?.into_inner().session)
            }
            Body::UpdateDevice(m) => {
                Raw::Device(sessions.update_device(within(*m)).await?.into_inner().device)
            }
            Body::RevokeDevice(m) => {
                let done = sessions.revoke_device(within(m)).await?.into_inner();
                Raw::Done(done.terminated_count, done.complete)
            }
            Body::Terminate(m) => {
                Raw::Terminate(sessions.terminate_session(within(m)).await?.into_inner())
            }
            Body::TerminateMany(m) => {
                Raw::TerminateMany(sessions.terminate_sessions(within(m)).await?.into_inner())
            }
            Body::UpdatePolicy(m) => {
                Raw::Policy(sessions.update_policy(within(*m)).await?.into_inner())
            }
            Body::Record(m) => {
                let done = sessions.record_activities(within(m)).await?.into_inner();
                Raw::Done(u64::from(done.accepted_count), done.rejected.is_empty())
            }
            Body::Erase(m) => {
                let done = sessions.erase_user(within(m)).await?.into_inner();
                Raw::Done(done.sessions_ended, done.complete)
            }
            Body::Raise(m) => Raw::Alert(alerts.raise_alert(within(m)).await?.into_inner().alert),
            Body::Acknowledge(m) => {
                Raw::Alert(alerts.acknowledge_alert(within(m)).await?.into_inner().alert)
            }
            Body::Resolve(m) => Raw::Resolve(alerts.resolve_alert(within(m)).await?.into_inner()),
            Body::Reopen(m) => Raw::Alert(alerts.reopen_alert(within(m)).await?.into_inner().alert),
            Body::Get(m) => {
                Raw::Session(sessions.get_session(within(m)).await?.into_inner().session)
            }
            Body::List(m) => {
                Raw::List(sessions.list_sessions(within(m)).await?.into_inner().sessions)
            }
            Body::Probe(..) => unreachable!("sent above"),
        })
    }
}

/// Calls a path; only the status of the answer is used.
async fn probe(
    channel: InterceptedService<Channel, Key>,
    path: &str,
    message: &pb::CreateSessionRequest,
) -> Result<Raw, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<pb::CreateSessionRequest, ()>::default();
    let path = path.parse().expect("a path");
    grpc.server_streaming(within(message.clone()), path, codec).await?;
    Ok(Raw::Done(0, true))
}
