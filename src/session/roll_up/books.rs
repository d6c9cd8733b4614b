//! The figures that a batch changes: read before, written after.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::activity::Activity;
use crate::model::session::EndReason;
use crate::model::statistics::alerts::AlertFacts;
use crate::model::statistics::{Counts, OpenCounts, Owner, hour_of, is_of_alert};
use crate::store::{Connection, statistics};

/// The figures of all owners of a batch, in its hours.
pub(super) struct Books {
    before: BTreeMap<Owner, OpenCounts>,
    standings: BTreeMap<Owner, OpenCounts>,
    hours: BTreeMap<(Owner, Time), Counts>,
    alerts: BTreeMap<Uuid, AlertFacts>,
    moved: BTreeSet<Uuid>,
}

impl Books {
    /// Reads the figures that the activities concern.
    pub async fn open(conn: &mut Connection, activities: &[Activity]) -> Result<Books> {
        let alerts = alerts_of(conn, activities).await?;
        let met = activities.iter().flat_map(keys);
        let raised = alerts.values().flat_map(|alert| {
            let Owner { tenant, user } = &alert.owner;
            Owner::all(tenant, user.as_ref()).map(|owner| (owner, hour_of(alert.raised_at)))
        });
        let mut books = Books::of(conn, met.chain(raised).collect()).await?;
        books.alerts = alerts;
        Ok(books)
    }

    /// Reads the figures of these owners in these hours.
    pub async fn of(conn: &mut Connection, keys: BTreeSet<(Owner, Time)>) -> Result<Books> {
        let owners: BTreeSet<&Owner> = keys.iter().map(|(owner, _)| owner).collect();
        let owners: Vec<&Owner> = owners.into_iter().collect();
        let keys: Vec<&(Owner, Time)> = keys.iter().collect();
        let standings: BTreeMap<_, _> =
            statistics::standings(conn, &owners).await?.into_iter().collect();
        Ok(Books {
            before: standings.clone(),
            standings,
            hours: statistics::hours(conn, &keys).await?.into_iter().collect(),
            alerts: BTreeMap::new(),
            moved: BTreeSet::new(),
        })
    }

    /// Counts an activity.
    pub fn note(&mut self, activity: &Activity) {
        if let Some(id) = activity.alert {
            // A suppressed or erased alert is not counted.
            if let Some(alert) = self.alerts.remove(&id) {
                let alert = self.note_alert(activity, alert);
                self.alerts.insert(id, alert);
            }
            return;
        }
        for (owner, hour) in keys(activity) {
            let standing = self.standings.entry(owner.clone()).or_default();
            let before = standing.live;
            standing.note(activity);
            let live = standing.live;
            let counts = self.hours.entry((owner, hour));
            counts.or_insert_with(|| Counts::from(before)).note(activity, live);
        }
    }

    /// Counts the alert itself at its first activity, its current state, and the step that was taken.
    fn note_alert(&mut self, activity: &Activity, mut alert: AlertFacts) -> AlertFacts {
        let Owner { tenant, user } = &alert.owner;
        for owner in Owner::all(tenant, user.as_ref()) {
            if alert.counted != Some(alert.state) {
                let standing = self.standings.entry(owner.clone()).or_default();
                standing.move_alert(alert.counted, alert.state);
            }
            if alert.counted.is_none() {
                self.hour(&owner, hour_of(alert.raised_at)).alerts.raise(&alert);
            }
            self.hour(&owner, hour_of(activity.occurred_at)).alerts.note(activity, &alert);
        }
        if alert.counted != Some(alert.state) {
            alert.counted = Some(alert.state);
            self.moved.insert(alert.id);
        }
        alert
    }

    /// Counts the sessions in `gone` as ended in this hour, for this reason.
    pub fn take(&mut self, owner: &Owner, hour: Time, gone: OpenCounts, reason: EndReason) {
        // Before the subtraction, because a new hour begins with the old number.
        let counts = self.hour(owner, hour);
        if let Ok(ended @ 1..) = u64::try_from(gone.live) {
            *counts.ended.entry(reason as i16).or_default() += ended;
        }
        let left = self.standings.get(owner).copied().unwrap_or_default().without(gone);
        self.standings.insert(owner.clone(), left);
        self.hour(owner, hour).reach(left.live);
    }

    fn hour(&mut self, owner: &Owner, hour: Time) -> &mut Counts {
        let live = self.standings.get(owner).map_or(0, |standing| standing.live);
        self.hours.entry((owner.clone(), hour)).or_insert_with(|| Counts::from(live))
    }

    /// Writes all figures.
    pub async fn write(self, conn: &mut Connection) -> Result<()> {
        let Books { before, standings, hours, alerts, moved } = self;
        let changed = |(owner, now): &(Owner, OpenCounts)| {
            before.get(owner).copied().unwrap_or_default() != *now
        };
        let standings: Vec<_> = standings.into_iter().filter(changed).collect();
        let hours: Vec<_> = hours.into_iter().collect();
        let alerts: Vec<_> =
            alerts.into_values().filter(|alert| moved.contains(&alert.id)).collect();
        statistics::write(conn, &standings, &hours, &alerts).await
    }
}

fn keys(activity: &Activity) -> impl Iterator<Item = (Owner, Time)> {
    let hour = hour_of(activity.occurred_at);
    Owner::all(&activity.tenant, activity.user.as_ref()).map(move |owner| (owner, hour))
}

async fn alerts_of(
    conn: &mut Connection,
    activities: &[Activity],
) -> Result<BTreeMap<Uuid, AlertFacts>> {
    let of_alerts = activities.iter().filter(|activity| is_of_alert(activity));
    let wanted: BTreeSet<(Owner, Uuid)> = of_alerts
        .filter_map(|activity| {
            let owner = Owner { tenant: activity.tenant.clone(), user: activity.user.clone() };
            Some((owner, activity.alert?))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    let found = statistics::alerts(conn, &wanted).await?;
    Ok(found.into_iter().map(|alert| (alert.id, alert)).collect())
}
