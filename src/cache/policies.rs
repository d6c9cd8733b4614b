//! The policy that applies to a tenant and client.

use std::sync::Arc;

use crate::error::Result;
use crate::model::ids::{ClientId, TenantId};
use crate::model::policy::Policy;
use crate::store::Connection;

/// Resolves policies. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct Policies {
    builtin: Arc<Policy>,
}

impl Policies {
    /// With `builtin` for whatever no tenant or client decides.
    pub fn new(builtin: Policy) -> Policies {
        Policies { builtin: Arc::new(builtin) }
    }

    /// What applies where no tenant or client decides.
    pub fn builtin(&self) -> Arc<Policy> {
        self.builtin.clone()
    }

    /// The policy for sessions of `client` of `tenant`.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn of(&self, _tenant: &TenantId, _client: &ClientId) -> Result<Arc<Policy>> {
        Ok(self.builtin.clone())
    }

    /// The same for several at once, in order, on a connection that the caller holds.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn all_of(
        &self,
        _conn: &mut Connection,
        scopes: &[(&TenantId, &ClientId)],
    ) -> Result<Vec<Arc<Policy>>> {
        Ok(scopes.iter().map(|_| self.builtin.clone()).collect())
    }
}
