//! Decides how many sessions a user may have, and which ones end. Pure.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::model::conflict::{LimitBreach, LimitScope};
use crate::model::policy::{Limit, OnLimit, SessionLimits};
use crate::model::session::{Session, State};

/// A limit refuses the new session.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub breach: LimitBreach,
    /// The sessions to choose from, least recently used first; `None` if there is no choice.
    pub choice: Option<Vec<usize>>,
}

/// Decides whether `new` may be created beside `sessions` of the same user, and which of them end
/// for it, as ascending indexes. Those of `chosen` that still count end, whatever the limits. Each
/// limit is then applied to what the earlier ones left, in this order: the user's, the client's,
/// the device type's. It ends as many sessions as exceed it, which is more than one only after the
/// limit was lowered.
///
/// # Errors
/// [`Refused`] by the first limit that refuses. Then no session ends, so the limit counts all live ones.
pub fn admit(
    limits: &SessionLimits,
    new: &Session,
    sessions: &[Session],
    chosen: &BTreeSet<Uuid>,
) -> Result<Vec<usize>, Refused> {
    let live: Vec<usize> = (0..sessions.len()).filter(|i| counts(&sessions[*i])).collect();
    let mut ends = vec![false; sessions.len()];
    for i in &live {
        ends[*i] = chosen.contains(&sessions[*i].key.session);
    }
    for (scope, limit) in applicable(limits, new) {
        let counted = live.iter().copied().filter(|i| scope.counts(&sessions[*i], new));
        let mut left: Vec<usize> = counted.clone().filter(|i| !ends[*i]).collect();
        let surplus = (left.len() + 1).saturating_sub(limit.max as usize);
        #[cfg(debug_assertions)]
        let surplus = match limit.max {
            max if crate::broken::is("one-more") => left.len().saturating_sub(max as usize),
            max if crate::broken::is("one-less") => (left.len() + 2).saturating_sub(max as usize),
            _ => surplus,
        };
        if surplus == 0 {
            continue;
        }
        let refused = |choice| {
            let breach = LimitBreach { scope, max: limit.max, active: counted.clone().count() };
            Err(Refused { breach, choice })
        };
        // Session ids sort by creation, and break ties of the times.
        let used = |i: &usize| (sessions[*i].last_active_at, sessions[*i].key.session);
        match limit.on_limit {
            OnLimit::Reject => return refused(None),
            OnLimit::Ask => {
                let mut choice: Vec<usize> = counted.clone().collect();
                choice.sort_by_key(used);
                return refused(Some(choice));
            }
            OnLimit::TerminateOldest => {
                left.sort_by_key(|i| (sessions[*i].created_at, sessions[*i].key.session));
            }
            OnLimit::TerminateLeastRecentlyUsed => left.sort_by_key(used),
            OnLimit::TerminateSameDevice => {
                left.retain(|i| sessions[*i].device.id == new.device.id);
                left.sort_by_key(used);
                if left.len() < surplus {
                    return refused(None);
                }
            }
        }
        #[cfg(debug_assertions)]
        if crate::broken::is("wrong-victims") {
            left.reverse();
        }
        left.into_iter().take(surplus).for_each(|i| ends[i] = true);
    }
    Ok(live.into_iter().filter(|i| ends[*i]).collect())
}

/// The lowest limit that applies to `new`.
pub fn lowest(limits: &SessionLimits, new: &Session) -> Option<u32> {
    applicable(limits, new).map(|(_, limit)| limit.max).min()
}

/// The limits that apply to `new`, in the order of evaluation.
fn applicable(limits: &SessionLimits, new: &Session) -> impl Iterator<Item = (LimitScope, Limit)> {
    let device_type = limits.device_types.get(&new.device.kind).copied().unwrap_or_default();
    [
        (LimitScope::User, limits.user),
        (LimitScope::Client, limits.client),
        (LimitScope::DeviceType, device_type),
    ]
    .into_iter()
    .filter(|(_, limit)| limit.max > 0)
}

impl LimitScope {
    fn counts(self, session: &Session, new: &Session) -> bool {
        match self {
            LimitScope::User => true,
            LimitScope::Client => session.client == new.client,
            LimitScope::DeviceType => session.device.kind == new.device.kind,
        }
    }
}

/// A limit counts active sessions. A deadline that has passed was written down before, unless time is in doubt.
fn counts(session: &Session) -> bool {
    session.state == State::Active
}

#[cfg(test)]
mod tests;
