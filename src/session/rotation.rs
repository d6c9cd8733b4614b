//! The meaning of a genuine refresh token by its generation. Pure.

use crate::clock::Time;
use crate::model::policy::Policy;
use crate::model::session::Chain;

/// The verdict on a presented generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationVerdict {
    /// It is the current one: create the next.
    Rotate,
    /// It was just used, or its answer may have been lost: return the same successor again.
    Replay,
    /// A re-authentication replaced it, and there is no sign of a copy: no tokens, but the session goes on.
    Superseded,
    /// It was used before, and its successor is in use: the token was copied.
    Reuse,
    /// The database does not contain it: acknowledged writes were lost.
    Regression,
}

/// Decides on `presented` by the chain of its session.
///
/// An answer counts as lost until its successor is seen in use (RFC 9700, section 4.14.2 leaves the
/// window to the server). Both windows include their last instant.
///
/// A token from before a re-authentication never gets a pair: the holder of a copy would get the
/// session with all that the user proved since. Its holder may be a client that refreshed while the
/// user stepped up, so within the windows the only effect is a refusal.
pub fn judge(chain: &Chain, presented: u32, now: Time, policy: &Policy) -> RotationVerdict {
    if presented == chain.generation {
        return RotationVerdict::Rotate;
    }
    if presented > chain.generation {
        return RotationVerdict::Regression;
    }
    #[cfg(debug_assertions)]
    if crate::broken::is("no-theft") {
        return RotationVerdict::Replay;
    }
    #[cfg(debug_assertions)]
    if crate::broken::is("new-successor") {
        return RotationVerdict::Rotate;
    }
    #[cfg(debug_assertions)]
    if crate::broken::is("retry-is-theft") {
        return RotationVerdict::Reuse;
    }
    let age = now - chain.rotated_at;
    let unseen = chain.confirmed < chain.generation;
    let in_time = age <= policy.refresh_grace || (unseen && age <= policy.lost_response_window);
    let replayed = presented + 1 == chain.generation && in_time;
    if presented >= chain.min_generation {
        return if replayed { RotationVerdict::Replay } else { RotationVerdict::Reuse };
    }
    let unused = chain.confirmed <= presented && age <= policy.lost_response_window;
    if replayed || unused { RotationVerdict::Superseded } else { RotationVerdict::Reuse }
}

#[cfg(test)]
mod tests {
    use chrono::Duration;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::model::policy::tests::policy;
    use crate::model::session::tests::{session, start};

    fn verdict(generation: u32, confirmed: u32, presented: u32, age: Duration) -> RotationVerdict {
        stepped_up(generation, 1, confirmed, presented, age)
    }

    fn stepped_up(
        generation: u32,
        min_generation: u32,
        confirmed: u32,
        presented: u32,
        age: Duration,
    ) -> RotationVerdict {
        let chain = Chain { generation, min_generation, confirmed, ..session().chain };
        judge(&chain, presented, start() + age, &policy())
    }

    #[test]
    fn the_windows_hold_to_their_last_instant() {
        let instant = Duration::microseconds(1);
        let (grace, lost) = (Duration::seconds(10), Duration::hours(1));
        // The successor, 2, was seen in use: only the grace is left.
        assert_eq!(verdict(2, 2, 1, grace), RotationVerdict::Replay);
        assert_eq!(verdict(2, 2, 1, grace + instant), RotationVerdict::Reuse);
        // It was not: its answer may have been lost.
        assert_eq!(verdict(2, 1, 1, grace + instant), RotationVerdict::Replay);
        assert_eq!(verdict(2, 1, 1, lost), RotationVerdict::Replay);
        assert_eq!(verdict(2, 1, 1, lost + instant), RotationVerdict::Reuse);
    }

    #[test]
    fn two_generations_back_is_reuse_at_once() {
        assert_eq!(verdict(3, 0, 1, Duration::zero()), RotationVerdict::Reuse);
    }

    #[test]
    fn a_superseded_token_is_refused_where_it_would_be_a_retry_and_is_reuse_beyond() {
        let instant = Duration::microseconds(1);
        let (grace, lost) = (Duration::seconds(10), Duration::hours(1));
        // Generation 2 stepped up, and was seen in use: only the grace is left.
        assert_eq!(stepped_up(2, 2, 2, 1, grace), RotationVerdict::Superseded);
        assert_eq!(stepped_up(2, 2, 2, 1, grace + instant), RotationVerdict::Reuse);
        assert_eq!(stepped_up(2, 2, 1, 1, lost), RotationVerdict::Superseded);
        assert_eq!(stepped_up(2, 2, 1, 1, lost + instant), RotationVerdict::Reuse);
        // A refresh whose answer was never used is in between.
        assert_eq!(stepped_up(3, 3, 1, 1, lost), RotationVerdict::Superseded);
        assert_eq!(stepped_up(3, 3, 1, 1, lost + instant), RotationVerdict::Reuse);
        // Its answer was used: the older token is a copy, or its client lost state.
        assert_eq!(stepped_up(3, 3, 2, 1, Duration::zero()), RotationVerdict::Reuse);
        assert_eq!(stepped_up(3, 3, 2, 2, lost), RotationVerdict::Superseded);
        // A token of a step-up is like any other.
        assert_eq!(stepped_up(2, 2, 2, 2, lost), RotationVerdict::Rotate);
        assert_eq!(stepped_up(3, 2, 2, 2, lost), RotationVerdict::Replay);
    }

    proptest! {
        #[test]
        fn a_superseded_token_never_gets_a_pair_and_no_other_is_judged_by_the_step_up(
            min_generation in 1u32..1000, refreshes in 0u32..5, below in 0u32..8,
            unseen in 0u32..8, age in 0i64..5_000,
        ) {
            let generation = min_generation + refreshes;
            let presented = generation.saturating_sub(below);
            let confirmed = generation.saturating_sub(unseen);
            let age = Duration::seconds(age);
            let got = stepped_up(generation, min_generation, confirmed, presented, age);
            let plain = verdict(generation, confirmed, presented, age);
            if presented >= min_generation {
                prop_assert_eq!(got, plain);
            } else {
                prop_assert!(matches!(got, RotationVerdict::Superseded | RotationVerdict::Reuse));
                prop_assert!(got != RotationVerdict::Reuse || plain == RotationVerdict::Reuse);
            }
        }

        #[test]
        fn only_the_current_generation_rotates(
            generation in 1u32.., presented in any::<u32>(), confirmed in any::<u32>(),
            age in 0i64..1_000_000,
        ) {
            let got = verdict(generation, confirmed, presented, Duration::seconds(age));
            prop_assert_eq!(got == RotationVerdict::Rotate, presented == generation);
            prop_assert_eq!(got == RotationVerdict::Regression, presented > generation);
        }
    }
}
