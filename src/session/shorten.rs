//! The deadlines of a running session under a stricter policy. Pure.

use crate::clock::Time;
use crate::model::policy::Policy;
use crate::model::session::Session;

/// `session` with its deadlines under `policy` at `now`; `None` if they are within it already.
/// Never extends a deadline.
pub fn shortened(session: &Session, policy: &Policy, now: Time) -> Option<Session> {
    let idle = match (session.idle_timeout, policy.idle_timeout) {
        (Some(own), Some(most)) => Some(own.min(most)),
        (own, most) => own.or(most),
    };
    let absolute = session.absolute_expires_at.min(session.renewed_at + policy.absolute_timeout);
    if (idle, absolute) == (session.idle_timeout, session.absolute_expires_at) {
        return None;
    }
    let mut held = Session { idle_timeout: idle, absolute_expires_at: absolute, ..session.clone() };
    // A deadline that is already past counts as settled from now on, not from its own time: until
    // then another replica may hold unwritten activity.
    let deadline = held.deadline();
    held.sweep_at = if deadline <= now { now } else { held.sweep_at.min(deadline) };
    Some(held)
}

#[cfg(test)]
mod tests {
    use chrono::Duration;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::model::policy::tests::policy;
    use crate::model::session::State;
    use crate::model::session::tests::{session, start};

    fn seconds(seconds: u16) -> Duration {
        Duration::seconds(i64::from(seconds) + 1)
    }

    proptest! {
        #[test]
        fn deadlines_only_come_nearer_and_then_obey(
            own in any::<(Option<u16>, u16)>(),
            most in any::<(Option<u16>, u16)>(),
            (active, now) in any::<(u16, u16)>(),
        ) {
            let mut session = session();
            session.idle_timeout = own.0.map(seconds);
            session.absolute_expires_at = session.created_at + seconds(own.1);
            session.last_active_at = session.created_at + seconds(active);
            session.sweep_at = session.deadline();
            let policy = Policy {
                idle_timeout: most.0.map(seconds),
                absolute_timeout: seconds(most.1),
                ..policy()
            };
            let now = session.last_active_at + seconds(now);
            let Some(held) = shortened(&session, &policy, now) else {
                prop_assert!(session.absolute_expires_at - session.created_at <= seconds(most.1));
                return Ok(());
            };
            prop_assert!(held.deadline() <= session.deadline());
            prop_assert_eq!(held.absolute_expires_at - held.created_at, seconds(own.1.min(most.1)));
            if let Some(most) = policy.idle_timeout {
                prop_assert!(held.idle_timeout.is_some_and(|idle| idle <= most));
            }
            prop_assert!(held.sweep_at <= session.sweep_at.max(now));
            prop_assert_eq!(shortened(&held, &policy, now), None);
        }
    }

    #[test]
    fn an_idle_deadline_that_is_past_by_a_change_settles_from_the_change_on() {
        let mut session = session();
        session.idle_timeout = Some(Duration::hours(1));
        session.sweep_at = session.deadline();
        let now = start() + Duration::minutes(30);
        let policy = Policy { idle_timeout: Some(Duration::minutes(1)), ..policy() };
        let held = shortened(&session, &policy, now).expect("a shorter one");
        assert_ne!(held.state_at(now), State::Active, "at use it is over at once");
        let settled = Duration::seconds(10);
        let before = now + settled - Duration::microseconds(1);
        assert_eq!(held.settled_at(before, settled), State::Active);
        assert_ne!(held.settled_at(now + settled, settled), State::Active);
    }
}
