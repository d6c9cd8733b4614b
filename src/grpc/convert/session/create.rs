//! CreateSessionRequest.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock::Time;
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::session::authentication::authentication;
use crate::grpc::convert::session::claims;
use crate::grpc::convert::time::duration;
use crate::grpc::pb;
use crate::model::ids::{ClientId, TenantId, UserId};
use crate::model::policy::Policy;
use crate::session::create::NewSession;
use uuid::Uuid;

/// The most sessions that a create may choose to end.
const MAX_VICTIMS: usize = 100;

/// The tenant and client whose policy applies to a create; `None` if either is invalid.
pub fn scope(request: &pb::CreateSessionRequest) -> Option<(TenantId, ClientId)> {
    let tenant = TenantId::parse(&request.tenant_id).ok()?;
    Some((tenant, ClientId::parse(&request.client_id).ok()?))
}

/// Checks a create, its timeouts against `policy`: that of its [`scope`], or the built-in one. `now` is
/// what `auth_time` is compared with.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn new_session(
    mut request: pb::CreateSessionRequest,
    policy: Arc<Policy>,
    now: Time,
    principal: String,
) -> Result<NewSession> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "CreateSession", &id, &request);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = check.take("user_id", UserId::parse(&request.user_id));
    let client = check.take("client_id", ClientId::parse(&request.client_id));
    let context = client::context(&mut check, request.client);
    let idle = duration(&mut check, "idle_timeout", request.idle_timeout);
    let absolute = duration(&mut check, "absolute_timeout", request.absolute_timeout);
    let timeouts = policy.timeouts(idle, absolute);
    let (acr, amr, auth_time) = authentication(&mut check, request.authentication, now);
    audiences(&mut check, &request.audiences);
    let scope = claims::scope(&mut check, request.scope);
    let claims = request.claims.and_then(|object| claims::claims(&mut check, object));
    check.entries("metadata", &request.metadata);
    let conflict_token = Some(request.conflict_token).filter(|token| !token.is_empty());
    let victims = victims(&mut check, conflict_token.is_some(), &request.terminate_session_ids);
    // Not for a valid request with an id: a retry must succeed even if the policy has become stricter since.
    if remember.is_none() || !check.is_sound() {
        check.all(timeouts.clone());
    }
    let (Some(tenant), Some(user), Some(client)) = (tenant, user, client) else {
        return Err(check.failed());
    };
    check.done()?;
    Ok(NewSession {
        tenant,
        user,
        client,
        context,
        acr,
        amr,
        auth_time,
        policy,
        timeouts,
        audiences: request.audiences,
        scope,
        claims,
        metadata: request.metadata,
        conflict_token,
        victims,
        request: remember,
        principal,
    })
}

fn audiences(check: &mut Check, audiences: &[String]) {
    if audiences.len() > 16 || audiences.iter().map(String::len).sum::<usize>() > 2048 {
        check.broken("audiences", "must be at most 16 values of together 2048 bytes");
    }
    for (i, audience) in audiences.iter().enumerate().take(16) {
        check.token_text(&format!("audiences[{i}]"), audience, 1, 256);
    }
}

/// The sessions chosen to end: at least one with a conflict token, none without.
fn victims(check: &mut Check, has_token: bool, ids: &[String]) -> BTreeSet<Uuid> {
    const FIELD: &str = "terminate_session_ids";
    if !has_token && !ids.is_empty() {
        check.broken(FIELD, "must be empty without a conflict_token");
    } else if has_token && !(1..=MAX_VICTIMS).contains(&ids.len()) {
        check.broken(FIELD, format!("must be 1 to {MAX_VICTIMS} UUIDs with a conflict_token"));
    }
    let ids = ids.iter().take(MAX_VICTIMS).enumerate();
    ids.filter_map(|(i, id)| check.required_uuid(&format!("{FIELD}[{i}]"), id)).collect()
}
