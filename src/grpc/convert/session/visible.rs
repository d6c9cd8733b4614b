//! The fields of a session or a device that a caller sees. Every session in an answer comes from here.

use super::to_pb_session;
use crate::grpc::pb;
use crate::model::caller::principal::Caller;
use crate::model::caller::scope::Scope;
use crate::model::session::Session;
use crate::model::token::InactiveReason;
use crate::session::validate::ValidationOutcome;

/// A session as `caller` sees it: all fields if it may read sessions, else those that a gateway needs.
pub fn to_caller(session: Session, caller: &Caller) -> pb::Session {
    let session = to_pb_session(session);
    match reads(caller, Scope::SessionRead) {
        true => session,
        false => to_gateway(session),
    }
}

/// A session that ended, for a caller that may hold but a token of it: all fields if it may read sessions, else the id,
/// the state and the end reason.
pub fn to_ender(session: Session, caller: &Caller) -> pb::Session {
    let session = to_pb_session(session);
    match reads(caller, Scope::SessionRead) {
        true => session,
        false => least(&session),
    }
}

/// A device as `caller` sees it: addresses and locations only if it may read devices.
pub fn to_device_caller(device: pb::UserDevice, caller: &Caller) -> pb::UserDevice {
    match reads(caller, Scope::DeviceRead) {
        true => device,
        false => pb::UserDevice {
            first_seen_ip_address: String::new(),
            first_seen_location: None,
            last_seen_ip_address: String::new(),
            last_seen_location: None,
            ..device
        },
    }
}

/// True if the caller may read what `scope` permits, of all users or of one at a time.
fn reads(caller: &Caller, scope: Scope) -> bool {
    [scope, Scope::AccountRead].iter().any(|scope| caller.scopes.has(*scope))
}

/// The fields in the result of a validation. For a token that is expired, superseded or for another audience every
/// caller gets only the id, state and end reason of the session, since the holder of the token may be a thief.
pub(super) fn to_judge(
    session: Session,
    outcome: &ValidationOutcome,
    caller: &Caller,
) -> pb::Session {
    use InactiveReason::{Superseded, TokenExpired, WrongAudience};
    let is_foreign =
        matches!(outcome, ValidationOutcome::Inactive(WrongAudience | TokenExpired | Superseded));
    let (session, may_read) = (to_pb_session(session), caller.scopes.has(Scope::SessionRead));
    match outcome {
        ValidationOutcome::Inactive(_) if is_foreign || !may_read => least(&session),
        _ if may_read => session,
        _ => to_gateway(session),
    }
}

fn least(session: &pb::Session) -> pb::Session {
    pb::Session {
        session_id: session.session_id.clone(),
        state: session.state,
        end_reason: session.end_reason,
        ..pb::Session::default()
    }
}

fn to_gateway(session: pb::Session) -> pb::Session {
    let least = least(&session);
    let device = session.device.map(|device| pb::Device {
        device_id: device.device_id,
        r#type: device.r#type,
        ..pb::Device::default()
    });
    pb::Session {
        tenant_id: session.tenant_id,
        user_id: session.user_id,
        client_id: session.client_id,
        device,
        authentication: session.authentication,
        idle_expire_time: session.idle_expire_time,
        absolute_expire_time: session.absolute_expire_time,
        end_time: session.end_time,
        step_up_required_time: session.step_up_required_time,
        scope: session.scope,
        claims: session.claims,
        ..least
    }
}
