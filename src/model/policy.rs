//! How long sessions live and how many a user may have: the arithmetic, pure.

pub mod acr;
pub mod overrides;
pub mod preset;
pub mod ranges;
pub mod resolve;

use std::collections::BTreeMap;

use chrono::Duration;

use crate::error::Violation;
use crate::model::device::DeviceType;

/// The rules that apply to sessions of a tenant and client, every level of them resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Time without activity after which a session expires; `None` = never by idleness.
    pub idle_timeout: Option<Duration>,
    /// Time from creation after which a session expires whatever happens.
    pub absolute_timeout: Duration,
    /// Life of an access token.
    pub access_token_ttl: Duration,
    /// For this long a used refresh token gets the same successor again.
    pub refresh_grace: Duration,
    /// The same while the successor was never seen in use: its answer may have been lost.
    pub lost_response_window: Duration,
    pub limits: SessionLimits,
    /// Authentication levels (`acr`), lowest first; 1 to 16, each once. Others have no rank.
    pub acr_levels: Vec<String>,
}

/// How many live sessions a user may have at the same time. Each limit counts by itself; a create has
/// to keep them all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionLimits {
    /// All of the user's.
    pub user: Limit,
    /// Those of the same client as the new one.
    pub client: Limit,
    /// Those on the same type of device as the new one; a type without an entry has no limit.
    pub device_types: BTreeMap<DeviceType, Limit>,
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Live sessions; 0 = unlimited.
    pub max: u32,
    pub on_limit: OnLimit,
}

numbered! {
    /// What a create does that would exceed a limit.
    #[derive(Default)]
    OnLimit {
        /// Refuses the new session.
        #[default]
        Reject = 1,
        /// Ends those that were created first.
        TerminateOldest = 2,
        /// Ends those whose last activity is longest ago.
        TerminateLeastRecentlyUsed = 3,
        /// Ends those on the same device, least recently used first; refuses where too few are.
        TerminateSameDevice = 4,
        /// Refuses, and asks which sessions to end.
        Ask = 5,
    }
}

/// The deadlines of one session, as durations from its creation or last activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTimeouts {
    /// From the last activity; `None` = never by idleness.
    pub idle: Option<Duration>,
    /// From creation.
    pub absolute: Duration,
}

impl Policy {
    /// The timeouts of a session for which the caller asked for `idle` and `absolute`: each may only be shorter than
    /// the policy's, and is at least one second.
    ///
    /// # Errors
    /// Every rule that is broken, by proto field.
    pub fn timeouts(
        &self,
        idle: Option<Duration>,
        absolute: Option<Duration>,
    ) -> Result<SessionTimeouts, Vec<Violation>> {
        let mut broken = Vec::new();
        let mut check = |field: &str, asked: Option<Duration>, max: Duration, source: &str| {
            if asked.is_some_and(|asked| asked < Duration::seconds(1) || asked > max) {
                let rule = format!("must be from 1s to {}s, {source}", max.num_seconds());
                broken.push(Violation { field: field.to_owned(), rule });
            }
        };
        const POLICY: &str = "the policy's value";
        check("absolute_timeout", absolute, self.absolute_timeout, POLICY);
        let absolute = absolute.unwrap_or(self.absolute_timeout);
        match self.idle_timeout.filter(|longest| *longest <= absolute) {
            Some(longest) => check("idle_timeout", idle, longest, POLICY),
            None => check("idle_timeout", idle, absolute, "the absolute timeout"),
        }
        if !broken.is_empty() {
            return Err(broken);
        }
        // The policy's idle timeout may be longer than the absolute one that the caller stated.
        let idle = idle.or(self.idle_timeout).map(|idle| idle.min(absolute));
        Ok(SessionTimeouts { idle, absolute })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_timeout_that_is_too_long_names_what_limits_it() {
        let rule = |policy: &Policy, absolute: Option<Duration>| {
            let broken = policy.timeouts(Some(Duration::hours(30)), absolute).unwrap_err();
            broken.into_iter().map(|violation| violation.rule).collect::<Vec<_>>()
        };
        let mut policy = policy();
        assert_eq!(rule(&policy, None), ["must be from 1s to 3600s, the policy's value"]);
        let absolute = Some(Duration::minutes(30));
        assert_eq!(rule(&policy, absolute), ["must be from 1s to 1800s, the absolute timeout"]);
        policy.idle_timeout = None;
        assert_eq!(rule(&policy, None), ["must be from 1s to 86400s, the absolute timeout"]);
    }

    /// A policy as shipped, but limited to three sessions.
    pub(crate) fn policy() -> Policy {
        Policy {
            idle_timeout: Some(Duration::hours(1)),
            absolute_timeout: Duration::hours(24),
            access_token_ttl: Duration::minutes(5),
            refresh_grace: Duration::seconds(10),
            lost_response_window: Duration::hours(1),
            limits: SessionLimits {
                user: Limit { max: 3, on_limit: OnLimit::Reject },
                ..SessionLimits::default()
            },
            acr_levels: ["aal1", "aal2", "aal3"].map(str::to_owned).to_vec(),
        }
    }

    proptest! {
        #[test]
        fn a_request_only_ever_shortens(
            idle in any::<Option<i32>>(),
            absolute in any::<Option<i32>>(),
            policy_idle in any::<Option<u16>>(),
        ) {
            let seconds = |s: i32| Duration::seconds(i64::from(s));
            let policy = Policy {
                idle_timeout: policy_idle.map(|s| Duration::seconds(i64::from(s) + 1)),
                ..policy()
            };
            let (idle, absolute) = (idle.map(seconds), absolute.map(seconds));
            let Ok(got) = policy.timeouts(idle, absolute) else {
                let bad = |d: Option<Duration>, max: Duration| {
                    d.is_some_and(|d| d < Duration::seconds(1) || d > max)
                };
                let limit = absolute.unwrap_or(policy.absolute_timeout);
                prop_assert!(
                    bad(absolute, policy.absolute_timeout)
                        || bad(idle, policy.idle_timeout.unwrap_or(limit).min(limit))
                );
                return Ok(());
            };
            prop_assert!(got.absolute <= policy.absolute_timeout);
            prop_assert_eq!(got.absolute, absolute.unwrap_or(policy.absolute_timeout));
            prop_assert!(got.idle.is_none_or(|idle| idle <= got.absolute));
            if let Some(limit) = policy.idle_timeout {
                prop_assert!(got.idle.is_some_and(|idle| idle <= limit));
            }
        }
    }

    #[test]
    fn both_edges_of_a_timeout_are_allowed_and_one_beyond_is_not() {
        let policy = policy();
        let idle = |d| policy.timeouts(Some(d), None);
        assert!(idle(Duration::seconds(1)).is_ok());
        assert!(idle(Duration::hours(1)).is_ok());
        assert!(idle(Duration::milliseconds(999)).is_err());
        assert!(idle(Duration::hours(1) + Duration::microseconds(1)).is_err());
        let short = policy.timeouts(None, Some(Duration::minutes(30))).unwrap();
        assert_eq!(short.idle, Some(Duration::minutes(30)));
    }
}
