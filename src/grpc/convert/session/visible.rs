//! The fields of a session that a caller sees in the response to a call about one token or one session.

use crate::grpc::pb;
use crate::model::caller::principal::Caller;
use crate::model::caller::scope::Scope;
use crate::model::token::InactiveReason;
use crate::session::validate::ValidationOutcome;

/// The fields for the caller of a refresh or termination: all if it may read sessions, else those a gateway needs.
pub fn to_caller(session: pb::Session, caller: &Caller) -> pb::Session {
    let reads = [Scope::SessionRead, Scope::AccountRead];
    match reads.iter().any(|scope| caller.scopes.has(*scope)) {
        true => session,
        false => to_gateway(session),
    }
}

/// The fields in the result of a validation. For a token that is expired, superseded or for another audience every
/// caller gets only the id, state and end reason of the session, since the holder of the token may be a thief.
pub(super) fn to_judge(
    session: pb::Session,
    outcome: &ValidationOutcome,
    caller: &Caller,
) -> pb::Session {
    use InactiveReason::{Superseded, TokenExpired, WrongAudience};
    let is_foreign =
        matches!(outcome, ValidationOutcome::Inactive(WrongAudience | TokenExpired | Superseded));
    let may_read = caller.scopes.has(Scope::SessionRead);
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
