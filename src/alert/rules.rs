//! ListRules: the rules of detection for a tenant, and the outcomes of their alerts.

use std::collections::BTreeMap;

use chrono::Duration;

use crate::cache::policies::Policies;
use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::alert::RuleCounts;
use crate::model::detection::RuleSettings;
use crate::model::detection::rule::Rule;
use crate::model::ids::TenantId;
use crate::store::pool::Database;
use crate::store::rule_counts;

/// The longest period over which alerts are counted.
const COUNTED: Duration = Duration::days(30);

/// Reads the settings and the results of rules.
pub struct ReadRules {
    db: Database,
    clock: Clock,
    policies: Policies,
}

/// A rule at a tenant.
pub struct RuleState {
    pub rule: Rule,
    pub settings: RuleSettings,
    pub counts: RuleCounts,
}

impl ReadRules {
    /// Reads from `db`, without the cache of `policies`.
    pub fn new(db: Database, clock: Clock, policies: Policies) -> ReadRules {
        ReadRules { db, clock, policies }
    }

    /// All rules, and from when on their alerts are counted.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn list(&self, tenant: &TenantId) -> Result<(Vec<RuleState>, Time)> {
        let earliest = self.clock.now() - COUNTED;
        let reading = async {
            let mut conn = self.db.acquire().await?;
            let settings = self.policies.detection_of(&mut conn, [tenant.clone()].into()).await?;
            Ok((settings, rule_counts::count(&mut conn, tenant, earliest).await?))
        };
        let (settings, (counts, since)) = self.db.within(reading).await?;
        let counts: BTreeMap<String, RuleCounts> = counts.into_iter().collect();
        let state = |rule: Rule| RuleState {
            rule,
            settings: settings[tenant][rule],
            counts: counts.get(rule.id()).copied().unwrap_or_default(),
        };
        Ok((Rule::ALL.map(state).into(), since))
    }
}
