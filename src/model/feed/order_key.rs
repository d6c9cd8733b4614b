//! The order of the activities of a span, as watchers see them.

use std::collections::HashMap;

use uuid::Uuid;

use crate::clock::Time;
use crate::model::activity::{Activity, ActivityKind};

/// The position of an activity within its span, in the order in which watchers see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderKey {
    /// When it happened, or when what its session was before did, if a clock says that this was later.
    pub at: Time,
    /// The progress of the session: grows with each generation, and at its end.
    pub rank: u64,
    pub id: Uuid,
}

impl OrderKey {
    /// Puts the activities of a span in their order: by time, but those of a session as they followed each other,
    /// whatever the clocks of replicas say.
    pub fn order(mut activities: Vec<Activity>) -> Vec<(OrderKey, Activity)> {
        activities.sort_by_key(|activity| (rank(activity), activity.occurred_at, activity.id));
        let mut latest: HashMap<Uuid, Time> = HashMap::new();
        let mut keyed: Vec<(OrderKey, Activity)> = activities
            .into_iter()
            .map(|activity| {
                let (mut at, rank, id) = (activity.occurred_at, rank(&activity), activity.id);
                if let Some(session) = activity.session.filter(|_| rank > 0) {
                    let latest = latest.entry(session).or_insert(at);
                    at = at.max(*latest);
                    *latest = at;
                }
                (OrderKey { at, rank, id }, activity)
            })
            .collect();
        keyed.sort_by_key(|(key, _)| *key);
        keyed
    }
}

fn rank(activity: &Activity) -> u64 {
    let step = match activity.kind {
        ActivityKind::Created | ActivityKind::Refreshed | ActivityKind::Reauthenticated => 0,
        ActivityKind::Terminated | ActivityKind::Expired => 2,
        _ => 1,
    };
    activity.generation.map_or(0, |generation| u64::from(generation) * 3 + step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::TenantId;

    #[test]
    fn a_sessions_changes_follow_each_other_whatever_the_clocks_say() {
        let change = |id: u128, micros, session: u128, kind, generation| {
            let at = Time::from_timestamp_micros(micros).expect("a time");
            let tenant = TenantId::parse("").expect("the default");
            let (session, generation) = (Some(Uuid::from_u128(session)), Some(generation));
            let new = Activity::new(Uuid::from_u128(id), at, kind, "test", &tenant, None);
            Activity { session, generation, ..new }
        };
        // Another replica's clock is behind, and a step waited for the one before it.
        let told = [
            change(1, 10, 7, ActivityKind::Terminated, 3),
            change(2, 20, 7, ActivityKind::Refreshed, 3),
            change(3, 30, 7, ActivityKind::Refreshed, 2),
            change(4, 25, 8, ActivityKind::Created, 1),
            change(5, 40, 8, ActivityKind::Expired, 1),
        ];
        let order = OrderKey::order(told.to_vec());
        let ids: Vec<u128> = order.iter().map(|(_, activity)| activity.id.as_u128()).collect();
        assert_eq!(ids, [4, 3, 2, 1, 5]);
        // The keys of one session do not depend on another.
        let alone = OrderKey::order(told[..3].to_vec());
        assert!(alone.iter().all(|keyed| order.contains(keyed)));
    }
}
