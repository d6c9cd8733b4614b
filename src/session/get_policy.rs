//! GetPolicy and ListPolicies: what each level states, and the effective policy.

use crate::cache::policies::Policies;
use crate::error::Result;
use crate::model::detection::DetectionSettings;
use crate::model::detection::overrides::DetectionOverrides;
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::model::policy::overrides::{PolicyLevel, PolicyScope};
use crate::model::policy::resolve::{Effective, resolve};
use crate::store::pool::Database;
use crate::store::{Connection, policies};

/// Reads policies from the database, not from the cache.
pub struct GetPolicy {
    db: Database,
    policies: Policies,
}

/// The detection settings of a tenant.
pub struct Detection {
    pub settings: DetectionSettings,
    /// The overrides that the tenant states.
    pub stated: DetectionOverrides,
}

/// A level and the one above it.
pub(super) struct Levels {
    pub tenant: PolicyLevel,
    /// `None` if the scope is the tenant's level.
    pub client: Option<PolicyLevel>,
}

impl Levels {
    /// Reads the levels of `scope` from the database.
    pub async fn read(conn: &mut Connection, scope: &PolicyScope) -> Result<Levels> {
        let own = PolicyScope { tenant: scope.tenant.clone(), client: None };
        let wanted = [&own, scope];
        let distinct = if scope.client.is_some() { &wanted[..] } else { &wanted[..1] };
        let mut found = policies::find(conn, distinct).await?;
        let mut take = |scope: &PolicyScope| {
            let at = found.iter().position(|level| level.scope == *scope);
            at.map_or_else(|| PolicyLevel::unwritten(scope.clone()), |at| found.swap_remove(at))
        };
        let tenant = take(&own);
        Ok(Levels { tenant, client: scope.client.is_some().then(|| take(scope)) })
    }

    /// The level of the scope.
    pub fn own(&self) -> &PolicyLevel {
        self.client.as_ref().unwrap_or(&self.tenant)
    }

    /// The same, mutable.
    pub fn own_mut(&mut self) -> &mut PolicyLevel {
        self.client.as_mut().unwrap_or(&mut self.tenant)
    }

    /// The effective policy of the levels.
    pub fn effective(&self, policies: &Policies) -> Effective {
        let none = Default::default();
        let client = self.client.as_ref().map_or(&none, |level| &level.overrides);
        resolve(&policies.builtin(), &self.tenant.overrides, client)
    }
}

impl GetPolicy {
    /// Reads from `db`; `policies` supplies the built-in policy.
    pub fn new(db: Database, policies: Policies) -> GetPolicy {
        GetPolicy { db, policies }
    }

    /// A page of the levels of a tenant and its clients.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn list(
        &self,
        tenant: &TenantId,
        page: PageRequest<String>,
    ) -> Result<Page<PolicyLevel, String>> {
        let reading = async { policies::list(&mut *self.db.acquire().await?, tenant, page).await };
        self.db.within(reading).await
    }

    /// The level at `scope`, the effective policy there, and the tenant's overrides of the built-in detection settings.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self, scope: &PolicyScope) -> Result<(PolicyLevel, Effective, Detection)> {
        let reading = async { Levels::read(&mut *self.db.acquire().await?, scope).await };
        let levels = self.db.within(reading).await?;
        let effective = levels.effective(&self.policies);
        let stated = levels.tenant.overrides.detection.clone();
        let settings = self.policies.builtin_detection().under(&stated);
        Ok((levels.own().clone(), effective, Detection { settings, stated }))
    }
}
