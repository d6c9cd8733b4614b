//! The policy that applies to a tenant and client, cached for a moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::cache::flights::Flights;
use crate::error::{Error, Result};
use crate::model::detection::DetectionSettings;
use crate::model::ids::{ClientId, TenantId};
use crate::model::policy::Policy;
use crate::model::policy::overrides::{Overrides, PolicyScope};
use crate::model::policy::resolve::resolve;
use crate::store::pool::Database;
use crate::store::{Connection, policies};

/// How long a policy is used, from the beginning of its read on: half the second within which a
/// change reaches every replica.
pub const LIFETIME: Duration = Duration::from_millis(500);
/// The most policies cached, about 5 MB. Beyond it all are dropped and read again.
const CAPACITY: usize = 10_000;

/// Resolves policies. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Policies {
    builtin: Arc<Policy>,
    detection: Arc<DetectionSettings>,
    db: Database,
    cached: Arc<Mutex<CachedPolicies>>,
    /// By scope, and by how many changes there were before the read: one from before a change does not show it.
    reads: Flights<(PolicyScope, u64), Arc<Policy>>,
}

#[derive(Default)]
struct CachedPolicies {
    policies: HashMap<PolicyScope, (Arc<Policy>, Instant)>,
    /// Counts changes on this replica: a read that began before one of them is not cached.
    changes: u64,
}

impl Policies {
    /// With `builtin` and `detection` for whatever no level in `db` decides.
    pub fn new(builtin: Policy, detection: DetectionSettings, db: Database) -> Policies {
        let (builtin, detection) = (Arc::new(builtin), Arc::new(detection));
        Policies { builtin, detection, db, cached: Arc::default(), reads: Flights::default() }
    }

    /// What applies where no tenant or client decides.
    pub fn builtin(&self) -> Arc<Policy> {
        self.builtin.clone()
    }

    /// How detection is set where no tenant decides.
    pub fn builtin_detection(&self) -> &DetectionSettings {
        &self.detection
    }

    /// How detection is set for each of these tenants, as committed by now. Not cached: its caller is a job, which
    /// reads once for many activities.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn detection_of(
        &self,
        conn: &mut Connection,
        tenants: BTreeSet<TenantId>,
    ) -> Result<BTreeMap<TenantId, Arc<DetectionSettings>>> {
        let scopes: Vec<PolicyScope> = tenants
            .iter()
            .map(|tenant| PolicyScope { tenant: tenant.clone(), client: None })
            .collect();
        let mut settings: BTreeMap<TenantId, Arc<DetectionSettings>> =
            tenants.into_iter().map(|tenant| (tenant, self.detection.clone())).collect();
        for level in policies::find(conn, &scopes.iter().collect::<Vec<_>>()).await? {
            let own = Arc::new(self.detection.under(&level.overrides.detection));
            settings.insert(level.scope.tenant, own);
        }
        Ok(settings)
    }

    /// The policy for sessions of `client` of `tenant`. Calls that wait for the same share one read.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]; never the built-in policy instead.
    pub async fn of(&self, tenant: &TenantId, client: &ClientId) -> Result<Arc<Policy>> {
        if let Some(cached) = self.cached(tenant, client, Instant::now()) {
            return Ok(cached);
        }
        let (own, key) = (self.clone(), (scope(&(tenant, client)), self.lock().changes));
        let (tenant, client) = (tenant.clone(), client.clone());
        let read = |_| async move {
            let reading = async {
                let mut conn = own.db.acquire().await?;
                own.all_of(&mut conn, &[(&tenant, &client)]).await
            };
            Ok(own.db.within(reading).await?.swap_remove(0))
        };
        let landed = self.reads.join(key, read).await?;
        landed.value.as_ref().as_ref().map(Arc::clone).map_err(Error::again)
    }

    /// The same for several at once, in order, on a connection that the caller holds.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn all_of(
        &self,
        conn: &mut Connection,
        scopes: &[(&TenantId, &ClientId)],
    ) -> Result<Vec<Arc<Policy>>> {
        let began = Instant::now();
        let found: Vec<_> =
            scopes.iter().map(|(tenant, client)| self.cached(tenant, client, began)).collect();
        let missing: BTreeSet<PolicyScope> =
            scopes.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(s, _)| scope(s)).collect();
        let mut read = HashMap::new();
        if !missing.is_empty() {
            let changes = self.lock().changes;
            let missing: Vec<PolicyScope> = missing.into_iter().collect();
            let fresh = self.fresh(conn, &missing).await?;
            self.insert(&missing, &fresh, began, changes);
            read.extend(missing.into_iter().zip(fresh));
        }
        let policy = |(of, found): (&(&TenantId, &ClientId), Option<Arc<Policy>>)| {
            found
                .unwrap_or_else(|| read.get(&scope(of)).expect("what was missing was read").clone())
        };
        Ok(scopes.iter().zip(found).map(policy).collect())
    }

    async fn fresh(
        &self,
        conn: &mut Connection,
        scopes: &[PolicyScope],
    ) -> Result<Vec<Arc<Policy>>> {
        let own = |scope: &PolicyScope| PolicyScope { tenant: scope.tenant.clone(), client: None };
        let wanted: BTreeSet<PolicyScope> =
            scopes.iter().flat_map(|scope| [own(scope), scope.clone()]).collect();
        let wanted: Vec<&PolicyScope> = wanted.iter().collect();
        let levels = policies::find(conn, &wanted).await?;
        let levels: HashMap<PolicyScope, Overrides> =
            levels.into_iter().map(|level| (level.scope, level.overrides)).collect();
        let none = Overrides::default();
        let policy = |scope: &PolicyScope| match (levels.get(&own(scope)), levels.get(scope)) {
            (None, None) => self.builtin.clone(),
            (tenant, client) => {
                let (tenant, client) = (tenant.unwrap_or(&none), client.unwrap_or(&none));
                Arc::new(resolve(&self.builtin, tenant, client).policy)
            }
        };
        Ok(scopes.iter().map(policy).collect())
    }

    /// Invalidates everything, since a level changed. No read that began before is cached.
    pub fn invalidate(&self) {
        let mut cached = self.lock();
        cached.changes += 1;
        cached.policies.clear();
    }

    fn cached(&self, tenant: &TenantId, client: &ClientId, now: Instant) -> Option<Arc<Policy>> {
        let scope = scope(&(tenant, client));
        let cached = self.lock();
        let (policy, read) = cached.policies.get(&scope)?;
        (now.saturating_duration_since(*read) < LIFETIME).then(|| policy.clone())
    }

    fn insert(&self, scopes: &[PolicyScope], fresh: &[Arc<Policy>], began: Instant, changes: u64) {
        let mut cached = self.lock();
        if cached.changes != changes {
            return;
        }
        for (scope, policy) in scopes.iter().zip(fresh) {
            if cached.policies.len() >= CAPACITY {
                cached.policies.clear();
            }
            cached.policies.insert(scope.clone(), (policy.clone(), began));
        }
    }

    fn lock(&self) -> MutexGuard<'_, CachedPolicies> {
        // Nothing panics while holding it, and the map is consistent between any two calls.
        self.cached.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn scope((tenant, client): &(&TenantId, &ClientId)) -> PolicyScope {
    PolicyScope { tenant: (*tenant).clone(), client: Some((*client).clone()) }
}
