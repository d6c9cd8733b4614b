//! Calls about policies.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Status;

use super::TestServer;
use super::requests::length;

/// The level of a tenant; set its client for the level of that client.
pub fn level(tenant: &str) -> pb::Policy {
    pb::Policy { tenant_id: tenant.to_owned(), ..Default::default() }
}

/// A level that states an idle timeout.
pub fn idle(tenant: &str, idle: Duration) -> pb::Policy {
    pb::Policy { idle_timeout: length(idle), ..level(tenant) }
}

/// A change of what `policy` sets.
pub fn set(policy: pb::Policy) -> pb::UpdatePolicyRequest {
    pb::UpdatePolicyRequest { policy: Some(policy), ..Default::default() }
}

/// A change of these fields to the values in `policy`, or a removal if unset.
pub fn masked(policy: pb::Policy, paths: &[&str]) -> pb::UpdatePolicyRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdatePolicyRequest { update_mask: Some(prost_types::FieldMask { paths }), ..set(policy) }
}

impl TestServer {
    pub async fn try_update(
        &self,
        request: pb::UpdatePolicyRequest,
    ) -> Result<pb::UpdatePolicyResponse, Status> {
        Ok(self.sessions().update_policy(request).await?.into_inner())
    }

    /// Changes a level, which must succeed and be fully applied.
    pub async fn update(&self, policy: pb::Policy) -> pb::UpdatePolicyResponse {
        let updated = self.try_update(set(policy)).await.expect("a change");
        assert!(updated.complete, "{updated:?}");
        updated
    }

    pub async fn try_policy(
        &self,
        tenant: &str,
        client: &str,
        effective: bool,
    ) -> Result<pb::GetPolicyResponse, Status> {
        let (tenant_id, client_id) = (tenant.to_owned(), client.to_owned());
        let request = pb::GetPolicyRequest { tenant_id, client_id, effective };
        Ok(self.sessions().get_policy(request).await?.into_inner())
    }

    /// The values that a level states.
    pub async fn policy(&self, tenant: &str, client: &str) -> pb::Policy {
        self.try_policy(tenant, client, false).await.expect("an answer").policy.expect("a level")
    }

    /// The effective policy.
    pub async fn effective(&self, tenant: &str, client: &str) -> pb::GetPolicyResponse {
        self.try_policy(tenant, client, true).await.expect("an answer")
    }
}
