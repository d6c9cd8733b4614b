//! The audit log: one event with target `audit` for each administrative call, with the principal, method, tenant and
//! status. The tenant is all that it contains of the request. Calls that fail authentication are only in the call log.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Request};
use tonic::{Code, Status};

use crate::grpc::observe::CallId;
use crate::model::caller::principal::Caller;
use crate::model::caller::scope::Scope;

/// The most characters of a tenant that are logged; a valid tenant has no more.
const TENANT: usize = 64;

/// A call that is logged when its response begins.
pub(super) struct AuditEntry {
    principal: String,
    method: String,
    id: String,
    tenant: Tenant,
    /// The caller holds only a narrower scope: the call is logged only if it is refused.
    is_narrow: bool,
}

/// The tenant of a call, set once the handler has read the request.
#[derive(Clone, Default)]
pub(super) struct Tenant(Arc<OnceLock<String>>);

impl Tenant {
    /// Records the tenant for the log.
    pub fn note(&self, tenant: &str) {
        // A call has one tenant, so the first value stays.
        let _ = self.0.set(tenant.chars().take(TENANT).collect());
    }
}

impl AuditEntry {
    /// `None` for a call that is not administrative. `scope` permits every request of the method. If the caller holds
    /// only a narrower scope (`is_narrow`), the call is logged only if it is refused.
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

    /// Logs the call with the status in `headers`: for a stream, that of its start.
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
