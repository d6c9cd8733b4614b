//! The alert of a finding that belongs to no open incident.

use crate::clock::Clock;
use crate::detection::Finding;
use crate::model::alert::{ActionTaken, Alert};
use crate::model::detection::rule::RuleDescription;
use crate::session::detect::enforce::{ActionsTaken, session_of};

/// Builds the alert, with the action taken on its session, if any.
pub(super) fn alert(clock: &Clock, finding: Finding, taken: &ActionsTaken) -> Alert {
    let session = session_of(&finding).filter(|_| finding.action.is_some());
    let action_taken = session.and_then(|key| taken.get(&key).copied());
    let RuleDescription { id, version, category, severity, title, .. } = finding.rule.about();
    let (rule, kind) = ((id, version), (category, severity));
    Alert {
        user: finding.user,
        session: finding.session,
        device: finding.device,
        title: title.to_owned(),
        description: finding.description,
        evidence: finding.evidence,
        dedup_key: finding.dedup_key,
        dedup_until: Some(finding.at + finding.window),
        suppression: finding.suppression,
        action_taken: action_taken.unwrap_or(ActionTaken::None),
        ..Alert::opened(clock.new_id(), finding.tenant, finding.at, rule, kind)
    }
}
