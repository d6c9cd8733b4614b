//! Detection: shows new activities to the rules (`detection`), each once and in order, and raises what they
//! find. A batch is one transaction: position, memories and alerts move together or not at all.

pub(super) mod agents;

mod enforce;
mod finding;
mod memories;

use std::collections::BTreeSet;

use prometheus::IntCounter;

use crate::cache::policies::Policies;
use crate::clock::{Clock, Time};
use crate::detection::{Finding, observe};
use crate::error::{Error, Result};
use crate::model::activity::Activity;
use crate::model::alert::Suppression;
use crate::model::ids::DeviceKey;
use crate::session::batch_size::BatchSize;
use crate::session::incidents::{self, Silences};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::devices;
use crate::store::feed::{self, Consumer};
use crate::store::pool::{Database, Transaction};
use agents::Agents;
use memories::Memories;

pub(super) use memories::first_seen;

/// Activities per transaction, about.
const BATCH: u32 = 500;

/// Looks for what is suspicious.
pub struct Detect {
    db: Database,
    clock: Clock,
    policies: Policies,
    touches: Touches,
    size: BatchSize,
    passed_over: IntCounter,
}

impl Detect {
    /// Looks at the activities of `db`, as `policies` say.
    pub fn new(
        db: Database,
        clock: Clock,
        policies: Policies,
        touches: Touches,
        passed_over: IntCounter,
    ) -> Detect {
        let size = BatchSize::new(BATCH);
        Detect { db, clock, policies, touches, size, passed_over }
    }

    /// Looks at one batch and returns true if more may be there. While another replica is at it, there is
    /// nothing to do.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: nothing was done, and the next call begins at the same place.
    pub async fn batch(&self) -> Result<bool> {
        let size = self.size.now();
        match self.db.within(self.attempt(size, false)).await {
            Ok(more) => {
                self.size.grow(size);
                Ok(more)
            }
            Err(error) if self.size.shrink(size, &error) => Ok(true),
            // It would be the same again for ever, and nothing behind it would be looked at.
            Err(error @ Error::Internal(_)) => {
                tracing::error!(%error, "detection passes over an activity");
                let more = self.db.within(self.attempt(size, true)).await?;
                self.passed_over.inc();
                Ok(more)
            }
            Err(error) => Err(error),
        }
    }

    async fn attempt(&self, size: u32, passes_over: bool) -> Result<bool> {
        // Claiming is a write: an idle database must stay idle.
        if !feed::is_unread(&mut *self.db.acquire().await?, Consumer::Detect).await? {
            return Ok(false);
        }
        let mut tx = self.db.begin().await?;
        let Some(from) = feed::claim(&mut tx, Consumer::Detect).await? else {
            tx.commit().await?;
            return Ok(false);
        };
        let (span, activities) = feed::read(&mut tx, from, size).await?;
        let now = self.clock.now();
        if !activities.is_empty() && !passes_over {
            self.show(&mut tx, &activities, now).await?;
        }
        feed::advance(&mut tx, Consumer::Detect, span.to(), now).await?;
        tx.commit().await?;
        Ok(activities.len() >= size as usize)
    }

    async fn show(&self, tx: &mut Transaction, activities: &[Activity], now: Time) -> Result<()> {
        let before = Memories::read(tx, activities).await?;
        let mut memories = before.clone();
        let met: BTreeSet<DeviceKey> = activities.iter().filter_map(device_of).collect();
        let met: Vec<DeviceKey> = met.into_iter().collect();
        let trusted = devices::trusted(tx, &met).await?;
        let tenants = activities.iter().map(|activity| activity.tenant.clone()).collect();
        let settings = self.policies.detection_of(tx, tenants).await?;
        let (mut agents, mut findings) = (Agents::default(), Vec::new());
        for activity in activities {
            let device_is_trusted = device_of(activity).is_some_and(|key| trusted.contains(&key));
            let (user, network) = memories.of(activity);
            let context = agents.context(activity, device_is_trusted);
            findings.extend(observe(
                activity,
                &context,
                &settings[&activity.tenant],
                user,
                network,
            ));
        }
        memories.write(tx, &before, now).await?;
        silence(tx, &mut findings).await?;
        let mut changes = Changes::new(&self.clock);
        let (touches, passed_over) = (&self.touches, &self.passed_over);
        let taken = enforce::enforce(tx, touches, passed_over, &findings, &mut changes).await?;
        let found = findings.into_iter().map(|found| finding::alert(&self.clock, found, &taken));
        incidents::raise(tx, found.collect(), &mut changes).await?;
        changes.write(tx).await
    }
}

/// Suppresses what was a false positive not long ago.
async fn silence(tx: &mut Transaction, findings: &mut [Finding]) -> Result<()> {
    let Some(first) = findings.iter().map(|found| found.at).min() else { return Ok(()) };
    let users: BTreeSet<_> =
        findings.iter().map(|found| (found.tenant.clone(), found.user.clone())).collect();
    let users: Vec<_> = users.iter().map(|(tenant, user)| (tenant, user.as_ref())).collect();
    let silences = Silences::of(tx, &users, first).await?;
    for found in findings.iter_mut().filter(|found| found.suppression.is_none()) {
        let of = (&found.tenant, found.user.as_ref());
        if silences.cover(of, &found.dedup_key, found.at) {
            found.suppression = Some(Suppression::FalsePositive);
            found.action = None;
        }
    }
    Ok(())
}

/// The device that an activity is about.
pub(super) fn device_of(activity: &Activity) -> Option<DeviceKey> {
    let (user, device) = (activity.user.clone()?, activity.device?);
    Some(DeviceKey { tenant: activity.tenant.clone(), user, device })
}
