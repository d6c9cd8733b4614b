//! The tenant of every request: the one that it names, if the caller may work for it, or the caller's own. All requests
//! with a tenant are listed here, and a test holds the list against the descriptor.

use tonic::{Request, Status};

use super::audit::Tenant;
use crate::error::{Error, Result, Violation};
use crate::grpc::pb::session::terminate_session_request::Target;
use crate::grpc::pb::{alert, session};
use crate::model::caller::principal::Principal;
use crate::model::ids::DEFAULT_TENANT;

/// A request that may name a tenant.
pub trait Tenanted {
    /// Where, as a path of fields.
    const FIELD: &'static str = "tenant_id";

    /// The field; `None` if what holds it is not there.
    fn tenant(&mut self) -> Option<&mut String>;

    /// False if what it is about names its tenant itself.
    fn needs_tenant(&self) -> bool {
        true
    }
}

/// The message of a request, its tenant settled.
///
/// # Errors
/// `PERMISSION_DENIED` for another's tenant, `INVALID_ARGUMENT` if none is named and it could be several.
pub fn tenanted<T: Tenanted>(request: Request<T>) -> Result<T, Status> {
    let (caller, entry) = (super::caller(&request), request.extensions().get().cloned());
    let mut message = request.into_inner();
    let settled = settle(&caller, &mut message);
    if let (Some(entry), Some(tenant)) = (entry, message.tenant()) {
        let tenant = if tenant.is_empty() { DEFAULT_TENANT } else { tenant };
        Tenant::note(&entry, tenant);
    }
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
    // The default one stays unnamed, as in the fingerprints of requests that are remembered.
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
    session::CreateSessionRequest,
    session::ReauthenticateSessionRequest,
    session::TerminateSessionsRequest,
    session::EraseUserRequest,
    session::GetSessionRequest,
    session::ListSessionsRequest,
    session::UpdateSessionRequest,
    session::WatchSessionsRequest,
    session::GetDeviceRequest,
    session::ListDevicesRequest,
    session::UpdateDeviceRequest,
    session::RevokeDeviceRequest,
    session::GetPolicyRequest,
    session::GetSessionStatsRequest,
    session::RecordActivitiesRequest,
    session::ListActivitiesRequest,
    session::WatchRevocationsRequest,
    alert::ListAlertsRequest,
    alert::GetAlertRequest,
    alert::GetAlertStatsRequest,
    alert::ListRulesRequest,
    alert::EvaluateRulesRequest,
    alert::WatchAlertsRequest,
    alert::RaiseAlertRequest,
    alert::AcknowledgeAlertRequest,
    alert::ResolveAlertRequest,
    alert::ReopenAlertRequest,
}

impl Tenanted for session::UpdatePolicyRequest {
    const FIELD: &'static str = "policy.tenant_id";

    fn tenant(&mut self) -> Option<&mut String> {
        self.policy.as_mut().map(|policy| &mut policy.tenant_id)
    }
}

impl Tenanted for session::TerminateSessionRequest {
    fn tenant(&mut self) -> Option<&mut String> {
        Some(&mut self.tenant_id)
    }

    fn needs_tenant(&self) -> bool {
        !matches!(self.target, Some(Target::AccessToken(_) | Target::RefreshToken(_)))
    }
}

#[cfg(test)]
mod tests;
