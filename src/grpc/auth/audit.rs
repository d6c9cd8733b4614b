//! The audit log: one event with target `audit` for each administrative call, with the principal, method, tenant and
//! status. The tenant is all that it contains of the request. Calls that fail authentication are only in the call log.

use std::sync::{Arc, OnceLock};

use tonic::Code;

use crate::model::caller::principal::Caller;
use crate::telemetry::quota::LineQuota;

/// The most characters of a tenant that are logged; a valid tenant has no more.
const TENANT: usize = 64;

/// Lines about calls that were refused. Those that were not are limited by the rates.
static REFUSALS: LineQuota = LineQuota::new(100);

/// A call that is logged when its response begins.
pub(in crate::grpc) struct AuditEntry {
    principal: String,
    method: String,
    id: String,
    tenant: AuditedTenant,
    /// The scope that permits the call is not administrative: the call is logged only if it is refused.
    is_narrow: bool,
}

/// The tenant of a call, set once the handler has read the request.
#[derive(Clone, Default)]
pub struct AuditedTenant(Arc<OnceLock<String>>);

impl AuditedTenant {
    /// Records the tenant for the log.
    pub fn note(&self, tenant: &str) {
        // A call has one tenant, so the first value stays.
        let _ = self.0.set(tenant.chars().take(TENANT).collect());
    }
}

impl AuditEntry {
    /// A call of this method with this request id. With `is_narrow` it is logged only if it is refused.
    pub fn new(caller: &Caller, method: &str, id: &str, is_narrow: bool) -> AuditEntry {
        let (principal, method, id) = (caller.name.clone(), method.to_owned(), id.to_owned());
        AuditEntry { principal, method, id, tenant: AuditedTenant::default(), is_narrow }
    }

    /// Where the handler notes the tenant.
    pub fn tenant(&self) -> AuditedTenant {
        self.tenant.clone()
    }

    /// Logs the call with its status: for a stream, that of its start.
    pub fn end(self, code: Code) {
        if self.is_narrow && code != Code::PermissionDenied {
            return;
        }
        let omitted = match code {
            Code::Ok => None,
            _ => match REFUSALS.admit() {
                Some(omitted) => Some(omitted).filter(|omitted| *omitted > 0),
                None => return,
            },
        };
        let tenant = self.tenant.0.get().map(String::as_str).unwrap_or_default();
        tracing::info!(
            target: "audit",
            principal = %self.principal.escape_debug(), method = self.method,
            tenant = %tenant.escape_debug(), ?code, request_id = %self.id, omitted,
            "administrative call"
        );
    }
}
