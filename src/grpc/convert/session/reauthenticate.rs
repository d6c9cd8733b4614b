//! ReauthenticateSession: request and response.

use crate::clock::Time;
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::session::authentication::authentication;
use crate::grpc::convert::session::claims;
use crate::grpc::convert::session::{optional_user, to_caller, to_pb_tokens};
use crate::grpc::pb;
use crate::model::caller::principal::Caller;
use crate::model::ids::TenantId;
use crate::session::reauthenticate::{Reauthenticated, Reauthentication};

/// Checks a re-authentication. `now` is what `auth_time` is compared with.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn reauthentication(
    mut request: pb::ReauthenticateSessionRequest,
    now: Time,
    principal: String,
) -> Result<Reauthentication> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "ReauthenticateSession", &id, &request);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = optional_user(&mut check, &request.user_id);
    let session = check.required_uuid("session_id", &request.session_id);
    if request.authentication.is_none() {
        check.broken("authentication", "is required");
    }
    let (acr, amr, auth_time) = authentication(&mut check, request.authentication, now);
    let scope = request.scope.map(|scope| claims::scope(&mut check, scope));
    let claims = request.claims.map(|object| claims::claims(&mut check, object));
    let stated = request.client.is_some();
    let client = Some(client::context(&mut check, request.client)).filter(|_| stated);
    let (Some(tenant), Some(session)) = (tenant, session) else { return Err(check.failed()) };
    check.done()?;
    Ok(Reauthentication {
        tenant,
        user,
        session,
        acr,
        amr,
        auth_time,
        scope,
        claims,
        client,
        request: remember,
        principal,
    })
}

/// The response as a protobuf message.
pub fn to_pb_reauthenticated(
    done: Reauthenticated,
    caller: &Caller,
) -> pb::ReauthenticateSessionResponse {
    pb::ReauthenticateSessionResponse {
        session: Some(to_caller(done.session, caller)),
        tokens: done.tokens.map(to_pb_tokens),
        watermark: done.watermark.to_string(),
    }
}
