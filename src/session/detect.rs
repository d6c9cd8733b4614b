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
use crate::error::Result;
use crate::model::activity::Activity;
use crate::model::alert::Suppression;
use crate::model::ids::DeviceKey;
use crate::model::statistics::Owner;
use crate::session::feed_reader::{FeedReader, FeedWork};
use crate::session::incidents::{self, Silences};
use crate::session::touch::Touches;
use crate::store::devices;
use crate::store::feed::Consumer;
use crate::store::pool::{Database, Transaction};
use agents::Agents;
use memories::BatchMemories;

pub(super) use memories::first_seen;

/// Looks for what is suspicious.
pub struct Detect(FeedReader<DetectionWork>);

/// The rules, and what they need.
struct DetectionWork {
    clock: Clock,
    policies: Policies,
    touches: Touches,
    skipped_rows: IntCounter,
}

impl Detect {
    /// Looks at the activities of `db`, as `policies` say.
    pub fn new(
        db: Database,
        clock: Clock,
        policies: Policies,
        touches: Touches,
        skipped_rows: IntCounter,
    ) -> Detect {
        let (counter, of_reader) = (skipped_rows.clone(), clock.clone());
        let rules = DetectionWork { clock, policies, touches, skipped_rows };
        Detect(FeedReader::new(db, of_reader, rules, counter))
    }

    /// Looks at one batch and returns true if more may be there. While another replica is at it, there is
    /// nothing to do.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: nothing was done, and the next call begins at the same place.
    pub async fn batch(&self) -> Result<bool> {
        self.0.batch().await
    }
}

impl FeedWork for DetectionWork {
    const CONSUMER: Consumer = Consumer::Detect;

    /// Of a user as a whole: what is remembered of them is one row.
    fn owner(activity: &Activity) -> Owner {
        Owner { tenant: activity.tenant.clone(), user: activity.user.clone() }
    }

    async fn take(&self, tx: &mut Transaction, activities: &[Activity], now: Time) -> Result<()> {
        let before = BatchMemories::read(tx, activities).await?;
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
        let with = (&self.clock, &self.touches, &self.skipped_rows);
        let (mut changes, taken) = enforce::enforce(tx, with, &findings).await?;
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
