//! The actions of rules in the mode enforce: a session ends, or waits for a re-authentication.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::IntCounter;

use crate::clock::Clock;
use crate::detection::Finding;
use crate::error::Result;
use crate::model::alert::ActionTaken;
use crate::model::detection::Action;
use crate::model::ids::SessionKey;
use crate::model::session::{EndReason, Session, State};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::{Connection, sessions};

/// The action taken on each session of a finding.
pub(super) type ActionsTaken = BTreeMap<SessionKey, ActionTaken>;

/// Applies the actions of the findings to their sessions, each at most once; ending a session
/// outranks a step-up. Locks the sessions, so no alert may be locked before, and decides after
/// that. A damaged session is skipped and counted; its alerts are raised all the same.
pub(super) async fn enforce(
    conn: &mut Connection,
    (clock, touches, skipped_rows): (&Clock, &Touches, &IntCounter),
    findings: &[Finding],
) -> Result<(Changes, ActionsTaken)> {
    let acting = findings.iter().filter(|finding| finding.action.is_some());
    let wanted: Vec<(SessionKey, &Finding)> =
        acting.filter_map(|finding| Some((session_of(finding)?, finding))).collect();
    let keys: BTreeSet<&SessionKey> = wanted.iter().map(|(key, _)| key).collect();
    let keys: Vec<&SessionKey> = keys.into_iter().collect();
    let (locked, damaged) = sessions::lock_sound(conn, &keys).await?;
    skipped_rows.inc_by(damaged.len() as u64);
    let mut changes = Changes::new(clock);
    let now = changes.at();
    let mut taken = ActionsTaken::new();
    for mut session in locked.into_iter().filter(|session| session.state == State::Active) {
        touches.overlay(&mut session);
        let key = session.key.clone();
        let of_it: Vec<&Finding> =
            wanted.iter().filter(|(of, _)| *of == key).map(|(_, finding)| *finding).collect();
        let ending = of_it.iter().find(|finding| finding.action == Some(Action::Terminate));
        // A re-authentication since the finding already meets the demand.
        let waits = of_it.iter().any(|finding| finding.at >= session.renewed_at);
        let done = if let Some(finding) = ending {
            let (reason, note) =
                (EndReason::SuspiciousActivity, format!("rule {}", finding.rule.id()));
            let ended = changes.end_session(&mut session, reason, None, Some(note));
            ended.then_some(ActionTaken::SessionTerminated)
        } else if waits && session.state_at(now) == State::Active {
            demand(&mut session, &mut changes);
            Some(ActionTaken::StepUpRequired)
        } else {
            None
        };
        taken.extend(done.map(|done| (key, done)));
    }
    Ok((changes, taken))
}

/// The session that a finding concerns.
pub(super) fn session_of(finding: &Finding) -> Option<SessionKey> {
    let (user, session) = (finding.user.clone()?, finding.session?);
    Some(SessionKey { tenant: finding.tenant.clone(), user, session })
}

/// Requires a re-authentication of the session, if none is pending.
fn demand(session: &mut Session, changes: &mut Changes) {
    if session.step_up_at.is_none() && session.demand_step_up(changes.at()) {
        changes.require_step_up(session);
    }
}
