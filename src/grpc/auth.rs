//! Who calls, as handlers see it.

pub(super) mod audit;
pub(super) mod credentials;
pub mod tenants;

use std::sync::Arc;

use tonic::Status;

use crate::caller::authenticator::Authenticator;
use crate::caller::directory::{Credentials, KnownCaller};
use crate::caller::permissions::Permission;
use crate::error::Result;
use crate::model::caller::principal::Caller;
use crate::model::caller::scope::Scope;
use audit::AuditedTenant;

/// The authenticated caller of a request. The one extension of the request.
#[derive(Clone)]
pub struct AuthenticatedCaller {
    pub(super) known: Arc<KnownCaller>,
    pub(super) authenticator: Authenticator,
    pub(super) credentials: Credentials,
    pub(super) need: Permission,
    /// The row of the method in the table of permissions.
    pub(super) row: usize,
    /// Where the tenant is noted for the audit log.
    pub(super) tenant: Option<AuditedTenant>,
}

impl AuthenticatedCaller {
    /// The caller.
    pub fn caller(&self) -> &Caller {
        &self.known.caller
    }

    /// Counts a question of a stream as a call of its method.
    ///
    /// # Errors
    /// [`crate::error::Error::RateLimited`].
    pub fn count(&self) -> Result<()> {
        self.known.account.count(self.row)
    }

    /// Waits until the caller loses the permission for this method, and returns why. For streams.
    pub async fn lost(self) -> Status {
        // Every streaming method with a handler here needs a scope, so the default is not used.
        let scope = self.need.scope().unwrap_or(Scope::KeyAdmin);
        let caller = self.known.caller.clone();
        self.authenticator.lost(caller, self.credentials, scope).await.into()
    }
}

/// The authenticated caller, with what is needed to watch its permission.
///
/// # Panics
/// If the request did not come through the door.
pub fn standing<T>(request: &tonic::Request<T>) -> AuthenticatedCaller {
    seen(request).clone()
}

fn seen<T>(request: &tonic::Request<T>) -> &AuthenticatedCaller {
    request.extensions().get().expect("no handler is reached past the door")
}

/// The caller of the request.
pub fn caller<T>(request: &tonic::Request<T>) -> Caller {
    seen(request).caller().clone()
}

/// The name of the calling principal, as recorded in activities, alerts and ended sessions.
pub fn principal<T>(request: &tonic::Request<T>) -> String {
    seen(request).caller().name.clone()
}
