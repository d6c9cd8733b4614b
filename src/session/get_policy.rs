//! GetPolicy and ListPolicies: what levels state, and what comes of all of them.

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

/// Reads policies, past the cache.
pub struct GetPolicy {
    db: Database,
    policies: Policies,
}

/// How detection is set for a tenant.
pub struct Detection {
    pub settings: DetectionSettings,
    /// What of it the tenant states.
    pub stated: DetectionOverrides,
}

/// A level and the one above it.
pub(super) struct Levels {
    pub tenant: PolicyLevel,
    /// `None` where the tenant's level is meant.
    pub client: Option<PolicyLevel>,
}

impl Levels {
    /// The levels of `scope` as the database has them.
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

    /// The level that is meant.
    pub fn own(&self) -> &PolicyLevel {
        self.client.as_ref().unwrap_or(&self.tenant)
    }

    /// The same, to be changed.
    pub fn own_mut(&mut self) -> &mut PolicyLevel {
        self.client.as_mut().unwrap_or(&mut self.tenant)
    }

    /// What comes of them.
    pub fn effective(&self, policies: &Policies) -> Effective {
        let none = Default::default();
        let client = self.client.as_ref().map_or(&none, |level| &level.overrides);
        resolve(&policies.builtin(), &self.tenant.overrides, client)
    }
}

impl GetPolicy {
    /// Reads from `db`; `policies` knows the built-in one.
    pub fn new(db: Database, policies: Policies) -> GetPolicy {
        GetPolicy { db, policies }
    }

    /// A page of what a tenant and its clients state.
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

    /// The level at `scope`, what applies there, and what the tenant states of detection, over what is built in.
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
