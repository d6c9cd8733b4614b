//! Detection: applies the rules (`detection`) to new activities, each once and in order, and raises
//! alerts for their findings. A batch is one transaction: position, memories and alerts are
//! committed together.

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

/// Applies the rules of detection to the activity feed.
pub struct Detect(FeedReader<DetectionWork>);

/// The rules and their dependencies.
struct DetectionWork {
    clock: Clock,
    policies: Policies,
    touches: Touches,
    skipped_rows: IntCounter,
}

impl Detect {
    /// Reads the activities of `db` under `policies`.
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

    /// Handles one batch; true if more may be pending. Does nothing while another replica holds the position.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: nothing is committed, and the next call begins at the same position.
    pub async fn batch(&self) -> Result<bool> {
        self.0.batch().await
    }
}

impl FeedWork for DetectionWork {
    const CONSUMER: Consumer = Consumer::Detect;

    /// A user, because the memory of a user is one row.
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

/// Suppresses findings that match a recent false positive.
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

/// The device that an activity concerns.
pub(super) fn device_of(activity: &Activity) -> Option<DeviceKey> {
    let (user, device) = (activity.user.clone()?, activity.device?);
    Some(DeviceKey { tenant: activity.tenant.clone(), user, device })
}
