//! The alert that a finding makes, if no incident goes on.

use crate::clock::Clock;
use crate::detection::Finding;
use crate::model::activity::SYSTEM;
use crate::model::alert::{ActionTaken, Alert, AlertState};
use crate::model::detection::rule::About;
use crate::session::detect::enforce::{Taken, session_of};

/// With what was done to its session, if anything was.
pub(super) fn alert(clock: &Clock, finding: Finding, taken: &Taken) -> Alert {
    let session = session_of(&finding).filter(|_| finding.action.is_some());
    let action_taken = session.and_then(|key| taken.get(&key).copied());
    let About { id, version, category, severity, title, .. } = finding.rule.about();
    Alert {
        id: clock.new_id(),
        tenant: finding.tenant,
        user: finding.user,
        session: finding.session,
        device: finding.device,
        category,
        severity,
        rule_id: id.to_owned(),
        rule_version: version,
        title: title.to_owned(),
        description: finding.description,
        evidence: finding.evidence,
        dedup_key: finding.dedup_key,
        dedup_until: Some(finding.at + finding.window),
        is_over: false,
        suppression: finding.suppression,
        suppressed_until: None,
        raised_by: SYSTEM.to_owned(),
        occurrence_count: 1,
        first_seen_at: finding.at,
        last_seen_at: finding.at,
        action_taken: action_taken.unwrap_or(ActionTaken::None),
        state: AlertState::Open,
        notes: Vec::new(),
        revision: 1,
    }
}
