//! TerminateSessionRequest.

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::session::{optional_user, to_ender};
use crate::grpc::pb;
use crate::grpc::pb::terminate_session_request::Target as PbTarget;
use crate::model::caller::principal::Caller;
use crate::model::ids::TenantId;
use crate::model::session::EndReason;
use crate::session::terminate::{Termination, TerminationResult, TerminationTarget};

/// Checks a termination.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn termination(
    mut request: pb::TerminateSessionRequest,
    caller: Caller,
) -> Result<Termination> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &caller.name, "TerminateSession", &id, &request);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = optional_user(&mut check, &request.user_id);
    let target = match request.target {
        None => {
            check.broken("target", "is required: session_id, refresh_token or access_token");
            None
        }
        Some(PbTarget::SessionId(id)) => check
            .required_uuid("session_id", &id)
            .map(|session| TerminationTarget::Id { user, session }),
        Some(PbTarget::RefreshToken(token)) => Some(TerminationTarget::RefreshToken(token)),
        Some(PbTarget::AccessToken(token)) => Some(TerminationTarget::AccessToken(token)),
    };
    let reason = end_reason(&mut check, request.reason);
    let note = check.note("note", request.note, 512);
    let (Some(tenant), Some(target)) = (tenant, target) else { return Err(check.failed()) };
    check.done()?;
    Ok(Termination { tenant, target, reason, note, request: remember, caller })
}

/// The result of a termination as a protobuf message, with the fields of the session that `caller` may see.
pub fn to_pb_terminated(done: TerminationResult, caller: &Caller) -> pb::TerminateSessionResponse {
    pb::TerminateSessionResponse {
        session: done.session.map(|session| to_ender(session, caller)),
        watermark: done.watermark.to_string(),
    }
}

/// Parses a reason that callers may state; 0 is a logout.
pub(super) fn end_reason(check: &mut Check, number: i32) -> EndReason {
    use EndReason::{Admin, CredentialChanged, Logout, SuspiciousActivity};
    let reason = check.value("reason", number, EndReason::from_number).unwrap_or(Logout);
    if !matches!(reason, Logout | Admin | CredentialChanged | SuspiciousActivity) {
        let rule = "must be LOGOUT, ADMIN, CREDENTIAL_CHANGED or SUSPICIOUS_ACTIVITY";
        check.broken("reason", rule);
    }
    reason
}
