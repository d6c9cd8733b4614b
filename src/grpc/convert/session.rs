//! Sessions and their tokens.

mod authentication;
mod claims;
mod conflict;
mod create;
mod erase;
mod filter;
mod reauthenticate;
mod stats;
mod terminate;
mod terminate_many;
mod update;
mod validate;
mod validate_many;
mod visible;
mod watch;

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client;
use crate::grpc::convert::time::to_pb;
use crate::grpc::pb;
use crate::model::activity::SYSTEM;
use crate::model::device::ClientContext;
use crate::model::ids::{TenantId, UserId};
use crate::model::session::{Session, State};
use crate::model::token::TokenPair;
use crate::model::watermark::Watermark;
use crate::session::etag;
use uuid::Uuid;

pub use conflict::to_pb_conflict;
pub use create::{new_session, scope};
pub use erase::{erasure, to_pb_erased};
pub use filter::{filter, network};
pub use reauthenticate::{reauthentication, to_pb_reauthenticated};
pub use stats::{stats_request, to_pb_stats};
pub use terminate::{termination, to_pb_terminated};
pub use terminate_many::mass_termination;
pub use update::session_update;
pub use validate::{to_pb_validated, validation};
pub use validate_many::{correlated_validation, to_pb_failure};
pub use visible::{to_caller, to_device_caller, to_ender};
pub use watch::{to_pb_watched, watch};

/// A session as a protobuf message. Its state must already account for expiry.
fn to_pb_session(session: Session) -> pb::Session {
    let etag = etag::of(&session);
    let state = match &session.state {
        State::Active => pb::SessionState::Active,
        State::Ended(end) if end.reason.is_expiry() => pb::SessionState::Expired,
        State::Ended(_) => pb::SessionState::Terminated,
    };
    let end = match session.state.clone() {
        State::Active => None,
        State::Ended(end) => Some(end),
    };
    pb::Session {
        session_id: session.key.session.to_string(),
        tenant_id: session.key.tenant.to_string(),
        user_id: session.key.user.to_string(),
        client_id: session.client.to_string(),
        state: state.into(),
        idle_expire_time: session.idle_expires_at().map(to_pb),
        device: Some(client::device_to_pb(session.device)),
        ip_address: session.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        user_agent: session.user_agent.unwrap_or_default(),
        location: session.location.map(client::location_to_pb),
        authentication: Some(pb::Authentication {
            acr: session.authentication.acr.unwrap_or_default(),
            amr: session.authentication.amr,
            auth_time: Some(to_pb(session.authentication.auth_time)),
        }),
        create_time: Some(to_pb(session.created_at)),
        last_active_time: Some(to_pb(session.last_active_at)),
        absolute_expire_time: Some(to_pb(session.absolute_expires_at)),
        end_time: end.as_ref().map(|end| to_pb(end.at)),
        end_reason: end.as_ref().map_or(0, |end| i32::from(end.reason as i16)),
        terminated_by: end
            .as_ref()
            .map(|end| end.by.clone().unwrap_or_else(|| SYSTEM.to_owned()))
            .unwrap_or_default(),
        end_note: end.and_then(|end| end.note).unwrap_or_default(),
        refresh_generation: session.chain.generation,
        metadata: session.metadata,
        audiences: session.audiences,
        etag,
        step_up_required_time: session.step_up_at.map(to_pb),
        scope: session.scope.unwrap_or_default(),
        claims: session.claims.as_ref().map(claims::to_pb_claims),
    }
}

/// Tokens as a protobuf message.
pub fn to_pb_tokens(tokens: TokenPair) -> pb::TokenPair {
    pb::TokenPair {
        access_token: tokens.access_token,
        access_token_expire_time: Some(to_pb(tokens.access_expires_at)),
        refresh_token: tokens.refresh_token,
        refresh_token_expire_time: Some(to_pb(tokens.refresh_expires_at)),
        token_type: "Bearer".to_owned(),
    }
}

/// The client of a refresh; `None` if the request states none.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn optional_context(client: Option<pb::ClientContext>) -> Result<Option<ClientContext>> {
    let mut check = Check::default();
    let stated = client.is_some();
    let context = client::context(&mut check, client);
    check.done()?;
    Ok(Some(context).filter(|_| stated))
}

/// Checks a request for a session; returns tenant, user and session id.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn name(request: pb::GetSessionRequest) -> Result<(TenantId, Option<UserId>, Uuid)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = optional_user(&mut check, &request.user_id);
    let session = check.required_uuid("session_id", &request.session_id);
    let (Some(tenant), Some(session)) = (tenant, session) else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, user, session))
}

/// The watermark that covers a revocation; empty if nothing was revoked.
pub fn to_pb_watermark(watermark: Option<Watermark>) -> String {
    watermark.map(|mark| mark.to_string()).unwrap_or_default()
}

fn optional_user(check: &mut Check, text: &str) -> Option<UserId> {
    if text.is_empty() { None } else { check.take("user_id", UserId::parse(text)) }
}
