//! How many sessions a user may have, and which must go. Pure.

use crate::clock::Time;
use crate::model::policy::{OnLimit, Policy};
use crate::model::session::{Session, State};

/// The user has `active` sessions, which is as many as allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct Full {
    pub active: usize,
}

/// Decides whether one more session may be created beside `sessions` of the same user, and which
/// of them end for it, as indexes: as many as are needed to stay within the limit afterwards,
/// which is more than one only after the limit was lowered.
///
/// # Errors
/// [`Full`] if the policy is to refuse.
pub fn admit(policy: &Policy, sessions: &[Session], now: Time) -> Result<Vec<usize>, Full> {
    let limit = policy.limits.user;
    if limit.max == 0 {
        return Ok(Vec::new());
    }
    let mut active: Vec<usize> =
        (0..sessions.len()).filter(|i| counts(&sessions[*i], now)).collect();
    let max = limit.max as usize;
    let Some(surplus) = (active.len() + 1).checked_sub(max).filter(|surplus| *surplus > 0) else {
        return Ok(Vec::new());
    };
    // Session ids sort by creation, and settle what times leave open.
    match limit.on_limit {
        OnLimit::Reject | OnLimit::TerminateSameDevice | OnLimit::Ask => {
            return Err(Full { active: active.len() });
        }
        OnLimit::TerminateOldest => {
            active.sort_by_key(|i| (sessions[*i].created_at, sessions[*i].key.session));
        }
        OnLimit::TerminateLeastRecentlyUsed => {
            active.sort_by_key(|i| (sessions[*i].last_active_at, sessions[*i].key.session));
        }
    }
    active.truncate(surplus);
    Ok(active)
}

/// A session past its idle deadline counts until that is settled: activity that another replica
/// noted may yet keep it alive, and the limit is hard.
fn counts(session: &Session, now: Time) -> bool {
    session.settled_at(now) == State::Active
}

#[cfg(test)]
mod tests {
    use chrono::Duration;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::model::policy::{Limit, Limits};
    use crate::session::rotation::tests::{session, start};

    fn sessions(ages: &[(u16, u16)]) -> Vec<Session> {
        let at = |minutes: u16| start() + Duration::minutes(i64::from(minutes));
        ages.iter()
            .map(|(created, active)| Session {
                created_at: at(*created),
                last_active_at: at(*active),
                idle_timeout: Some(Duration::hours(1)),
                absolute_expires_at: start() + Duration::days(100),
                ..session()
            })
            .collect()
    }

    fn policy(max: u32, on_limit: OnLimit) -> Policy {
        let policy = crate::model::policy::tests::policy();
        let user = Limit { max, on_limit };
        Policy { limits: Limits { user, ..Limits::default() }, ..policy }
    }

    proptest! {
        #[test]
        fn after_a_create_at_most_the_limit_lives(
            ages in proptest::collection::vec(any::<(u16, u16)>(), 0..20),
            max in 1u32..10,
            now in any::<u16>(),
            lru in any::<bool>(),
        ) {
            let sessions = sessions(&ages);
            let now = start() + Duration::minutes(i64::from(now));
            let live = sessions.iter().filter(|s| counts(s, now)).count();
            let strategy =
                if lru { OnLimit::TerminateLeastRecentlyUsed } else { OnLimit::TerminateOldest };
            let victims = admit(&policy(max, strategy), &sessions, now).unwrap();
            prop_assert_eq!(victims.len(), (live + 1).saturating_sub(max as usize));
            let by = |s: &Session| if lru { s.last_active_at } else { s.created_at };
            for (i, spared) in sessions.iter().enumerate() {
                if !victims.contains(&i) && counts(spared, now) {
                    prop_assert!(victims.iter().all(|v| by(&sessions[*v]) <= by(spared)));
                }
            }
            let rejected = admit(&policy(max, OnLimit::Reject), &sessions, now);
            prop_assert_eq!(rejected.is_err(), live >= max as usize);
        }
    }

    #[test]
    fn zero_means_unlimited() {
        let many = sessions(&[(0, 0); 50]);
        assert_eq!(admit(&policy(0, OnLimit::Reject), &many, start()), Ok(Vec::new()));
    }
}
