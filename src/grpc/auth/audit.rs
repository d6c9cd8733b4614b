//! Administrative calls in the log, each as one event with target `audit`: who called what for which tenant, and how it
//! ended. Nothing of the body but the tenant. Calls of nobody known are in the log of all calls only.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Request};
use tonic::{Code, Status};

use crate::grpc::observe::CallId;
use crate::model::caller::principal::Caller;
use crate::model::caller::scope::Scope;

/// The most characters of a tenant that are logged; a sound one has no more.
const TENANT: usize = 64;

/// A call that will be logged when it ends.
pub(super) struct AuditEntry {
    principal: String,
    method: String,
    id: String,
    tenant: Tenant,
    /// Only if it is refused.
    is_narrow: bool,
}

/// The tenant that a call is for, once its handler has read the request.
#[derive(Clone, Default)]
pub(super) struct Tenant(Arc<OnceLock<String>>);

impl Tenant {
    /// Notes it.
    pub fn note(&self, tenant: &str) {
        // The first one stays: there is but one.
        let _ = self.0.set(tenant.chars().take(TENANT).collect());
    }
}

impl AuditEntry {
    /// `None` for a call that nobody need know of. `scope` permits every request of the method; a caller with a narrower
    /// one is logged where it goes beyond that.
    pub fn begin<A>(
        request: &mut Request<A>,
        caller: &Caller,
        scope: Scope,
        is_narrow: bool,
    ) -> Option<AuditEntry> {
        if !scope.is_administrative() {
            return None;
        }
        let tenant = Tenant::default();
        request.extensions_mut().insert(tenant.clone());
        Some(AuditEntry {
            principal: caller.name.clone(),
            method: method(request),
            id: id(request),
            tenant,
            is_narrow,
        })
    }

    /// Logs how it ended; of a stream, how it began.
    pub fn end(self, headers: &HeaderMap) {
        let status = Status::from_header_map(headers);
        let code = status.as_ref().map_or(Code::Ok, Status::code);
        if self.is_narrow && code != Code::PermissionDenied {
            return;
        }
        let tenant = self.tenant.0.get().map(String::as_str).unwrap_or_default();
        tracing::info!(
            target: "audit",
            principal = %self.principal.escape_debug(), method = %self.method.escape_debug(),
            tenant = %tenant.escape_debug(), ?code, request_id = %self.id, "administrative call"
        );
    }
}

fn method<A>(request: &Request<A>) -> String {
    request.uri().path().to_owned()
}

fn id<A>(request: &Request<A>) -> String {
    let id = request.extensions().get().and_then(|CallId(id)| id.to_str().ok());
    id.unwrap_or_default().to_owned()
}
