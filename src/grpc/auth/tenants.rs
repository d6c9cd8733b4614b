//! The tenant of every request: the one that the request names, if the caller may work for it, or the caller's own. All
//! request types with a tenant are listed here; a test checks the list against the descriptor.

use tonic::{Request, Status};

use crate::error::{Error, Result, Violation};
use crate::grpc::pb;
use crate::grpc::pb::terminate_session_request::Target;
use crate::model::caller::principal::Principal;
use crate::model::caller::scope::Scope;
use crate::model::ids::DEFAULT_TENANT;

/// A request that may name a tenant.
pub trait Tenanted {
    /// The field path of the tenant, for violations.
    const FIELD: &'static str = "tenant_id";

    /// The tenant field; `None` if the message that contains it is absent.
    fn tenant(&mut self) -> Option<&mut String>;

    /// True if the narrower scope permits this request.
    fn keeps_within(&self, _narrower: Scope) -> bool {
        false
    }

    /// False if the tenant follows from another field, such as a token.
    fn needs_tenant(&self) -> bool {
        true
    }
}

/// The message of a request, with its tenant resolved.
///
/// # Errors
/// `PERMISSION_DENIED` if the caller may not work for the tenant, or its narrower scope does not permit the request.
/// `INVALID_ARGUMENT` if no tenant is named, and the caller has neither a single tenant nor the default one.
pub fn tenanted<T: Tenanted>(request: Request<T>) -> Result<T, Status> {
    let standing = super::standing(&request);
    let mut message = request.into_inner();
    let settled = settle(standing.caller(), &mut message);
    if let (Some(entry), Some(tenant)) = (&standing.tenant, message.tenant()) {
        let tenant = if tenant.is_empty() { DEFAULT_TENANT } else { tenant };
        entry.note(tenant);
    }
    standing.need.check_request(standing.caller(), |scope| message.keeps_within(scope))?;
    settled.map(|()| message).map_err(Status::from)
}

fn settle<T: Tenanted>(caller: &Principal, message: &mut T) -> Result<()> {
    let needed = message.needs_tenant();
    let Some(field) = message.tenant() else { return Ok(()) };
    let settled = match caller.tenant(field)? {
        Some(tenant) => tenant,
        None if needed => {
            let rule = "is required, since the caller may work for several tenants".to_owned();
            return Err(Error::Invalid(vec![Violation { field: T::FIELD.to_owned(), rule }]));
        }
        None => caller.any_tenant(),
    };
    // The default tenant stays empty, so that the fingerprints of stored requests match.
    if field.is_empty() && settled != DEFAULT_TENANT {
        *field = settled.to_owned();
    }
    Ok(())
}

/// Lists the messages with a field `tenant_id`.
macro_rules! tenanted {
    ($($message:ty),+ $(,)?) => {
        $(impl Tenanted for $message {
            fn tenant(&mut self) -> Option<&mut String> {
                Some(&mut self.tenant_id)
            }
        })+
    };
}

tenanted! {
    pb::CreateSessionRequest,
    pb::ReauthenticateSessionRequest,
    pb::EraseUserRequest,
    pb::WatchSessionsRequest,
    pb::GetPolicyRequest,
    pb::ListPoliciesRequest,
    pb::ListUsersRequest,
    pb::GetSessionStatsRequest,
    pb::RecordActivitiesRequest,
    pb::ListActivitiesRequest,
    pb::WatchRevocationsRequest,
    pb::ListAlertsRequest,
    pb::GetAlertRequest,
    pb::GetAlertStatsRequest,
    pb::ListRulesRequest,
    pb::EvaluateRulesRequest,
    pb::WatchAlertsRequest,
    pb::RaiseAlertRequest,
    pb::AcknowledgeAlertRequest,
    pb::ResolveAlertRequest,
    pb::ReopenAlertRequest,
    pb::AddAlertNoteRequest,
}

/// Lists the messages with a field `tenant_id` that concern one user if the given text is not empty.
macro_rules! of_user {
    ($($message:ty: $user:expr),+ $(,)?) => {
        $(impl Tenanted for $message {
            fn tenant(&mut self) -> Option<&mut String> {
                Some(&mut self.tenant_id)
            }

            fn keeps_within(&self, narrower: Scope) -> bool {
                let user: fn(&$message) -> &str = $user;
                is_of_user(narrower, user(self))
            }
        })+
    };
}

fn is_of_user(narrower: Scope, user: &str) -> bool {
    matches!(narrower, Scope::AccountRead | Scope::AccountWrite) && !user.is_empty()
}

fn filtered(filter: Option<&pb::SessionFilter>) -> &str {
    filter.map_or("", |filter| &filter.user_id)
}

of_user! {
    pb::GetSessionRequest: |request| &request.user_id,
    pb::ListSessionsRequest: |request| filtered(request.filter.as_ref()),
    pb::TerminateSessionsRequest: |request| filtered(request.filter.as_ref()),
    pb::GetDeviceRequest: |request| &request.user_id,
    pb::ListDevicesRequest: |request| &request.user_id,
    pb::RevokeDeviceRequest: |request| &request.user_id,
    pb::ForgetDeviceRequest: |request| &request.user_id,
}

/// Lists the updates of a resource that belongs to one user, with the path of its tenant.
macro_rules! of_users_resource {
    ($($message:ty: $resource:ident, $field:literal),+ $(,)?) => {
        $(impl Tenanted for $message {
            const FIELD: &'static str = $field;

            fn tenant(&mut self) -> Option<&mut String> {
                self.$resource.as_mut().map(|resource| &mut resource.tenant_id)
            }

            fn keeps_within(&self, narrower: Scope) -> bool {
                let user = self.$resource.as_ref().map_or("", |resource| &resource.user_id);
                is_of_user(narrower, user)
            }
        })+
    };
}

of_users_resource! {
    pb::UpdateSessionRequest: session, "session.tenant_id",
    pb::UpdateDeviceRequest: device, "device.tenant_id",
}

impl Tenanted for pb::UpdatePolicyRequest {
    const FIELD: &'static str = "policy.tenant_id";

    fn keeps_within(&self, narrower: Scope) -> bool {
        let Some(policy) = &self.policy else { return false };
        let paths = self.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
        let is_detection = |path: &String| path == "detection" || path.starts_with("detection.");
        // Without a mask, an update covers the populated fields.
        let alone = || {
            *policy
                == pb::Policy {
                    tenant_id: policy.tenant_id.clone(),
                    client_id: policy.client_id.clone(),
                    detection: policy.detection.clone(),
                    etag: policy.etag.clone(),
                    ..pb::Policy::default()
                }
        };
        narrower == Scope::DetectionWrite
            && if paths.is_empty() { alone() } else { paths.iter().all(is_detection) }
    }

    fn tenant(&mut self) -> Option<&mut String> {
        self.policy.as_mut().map(|policy| &mut policy.tenant_id)
    }
}

impl Tenanted for pb::TerminateSessionRequest {
    fn tenant(&mut self) -> Option<&mut String> {
        Some(&mut self.tenant_id)
    }

    fn keeps_within(&self, narrower: Scope) -> bool {
        match self.target {
            Some(Target::AccessToken(_) | Target::RefreshToken(_)) => {
                narrower == Scope::SessionTerminateHeld
            }
            // `user_id` is read only with a session id.
            Some(Target::SessionId(_)) => is_of_user(narrower, &self.user_id),
            None => false,
        }
    }

    fn needs_tenant(&self) -> bool {
        !matches!(self.target, Some(Target::AccessToken(_) | Target::RefreshToken(_)))
    }
}

#[cfg(test)]
mod tests;
