//! Limits of each kind, and the conflicts of limits with the strategy ASK.

use prost::Message;
use sessiond::grpc::pb;
use sessiond::model::conflict::LimitScope;
use sessiond::model::device::DeviceType;
use sessiond::model::policy::{Limit, OnLimit};
use sessiond::server::Settings;
use tonic::{Code, Status};

use super::calls::reason;
use super::{TestServer, start_with};

pub const SCOPES: [LimitScope; 3] = [LimitScope::User, LimitScope::Client, LimitScope::DeviceType];

/// Sets a limit of this scope: for sessions of any client, or on phones and TVs.
pub fn limit(settings: &mut Settings, scope: LimitScope, max: u32, on_limit: OnLimit) {
    let (limit, limits) = (Limit { max, on_limit }, &mut settings.policy.limits);
    match scope {
        LimitScope::User => limits.user = limit,
        LimitScope::Client => limits.client = limit,
        LimitScope::DeviceType => {
            limits.device_types = [(DeviceType::Mobile, limit), (DeviceType::Tv, limit)].into();
        }
    }
}

/// A server with a limit of `max` sessions per user and the strategy ASK.
pub async fn start_asking(max: u32) -> TestServer {
    start_with(|settings| limit(settings, LimitScope::User, max, OnLimit::Ask)).await
}

/// The conflict in a refusal, which must have one.
pub fn conflict<T: std::fmt::Debug>(answer: Result<T, Status>) -> pb::SessionConflict {
    let status = answer.expect_err("a conflict");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert_eq!(reason(&status), "SESSION_CONFLICT", "{status:?}");
    let details = tonic_types::pb::Status::decode(status.details()).expect("a google.rpc.Status");
    assert_eq!((details.code, details.message.as_str()), (9, status.message()));
    let url = "type.googleapis.com/sessiond.v1.SessionConflict";
    let detail = details.details.iter().find(|detail| detail.type_url == url);
    pb::SessionConflict::decode(&detail.expect("a conflict").value[..]).expect("a conflict")
}

/// Asserts that a refusal has the reason of an invalid conflict token.
pub fn assert_token_invalid<T: std::fmt::Debug>(answer: Result<T, Status>, what: &str) {
    let status = answer.expect_err(what);
    assert_eq!(status.code(), Code::FailedPrecondition, "{what}: {status:?}");
    assert_eq!(reason(&status), "CONFLICT_TOKEN_INVALID", "{what}");
}

/// The same create with a choice of the sessions to end.
pub fn settling(
    request: pb::CreateSessionRequest,
    conflict_token: &str,
    chosen: &[&str],
) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest {
        conflict_token: conflict_token.to_owned(),
        terminate_session_ids: chosen.iter().map(|id| (*id).to_owned()).collect(),
        ..request
    }
}
