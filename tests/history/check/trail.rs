//! I9 and I10: acknowledged changes are in the tables after kills, and each change has one row in the trail.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use crate::history::History;
use crate::judge::Judge;
use crate::record::{Answer, Op, What};
use crate::tables::{Change, SessionRow, kind};
use crate::users::CHANGING;

pub fn check(history: &History, judge: &mut Judge) {
    const NAMES: [&str; 8] = [
        "I9 sessions",
        "I9 revisions",
        "I9 reports",
        "I10 sessions",
        "I10 devices",
        "I10 alerts",
        "I10 policies",
        "I10 no row lost",
    ];
    NAMES.into_iter().for_each(|name| judge.declare(name));
    durable(history, judge);
    for row in history.tables.sessions.iter().filter(|row| History::is_told(row.who)) {
        one_to_one(history, judge, row);
    }
    for change in &history.tables.trail {
        let Some(id) =
            change.session.filter(|_| change.kind == kind::CREATED && !change.is_of_erased())
        else {
            continue;
        };
        judge.holds("I10 no row lost", history.row(id).is_some(), || {
            (format!("session {id} is in the trail alone"), vec![])
        });
    }
    revisions(history, judge);
}

/// I9
fn durable(history: &History, judge: &mut Judge) {
    let mut revisions: HashMap<Uuid, u64> = HashMap::new();
    revisions.extend(history.tables.devices.iter().map(|device| (device.id, device.revision)));
    revisions.extend(history.tables.alerts.iter().map(|alert| (alert.id, alert.revision)));
    let policy = history.tables.policies.iter();
    let changing = policy.filter(|it| (it.tenant.as_str(), it.client.as_str()) == CHANGING);
    revisions.extend(changing.map(|policy| (Uuid::nil(), policy.revision)));
    let names: HashSet<&str> =
        history.tables.trail.iter().map(|change| change.name.as_str()).collect();
    for (at, op) in history.ops.iter().enumerate() {
        let Some(answer) = op.answer().filter(|_| History::is_told(op.who)) else { continue };
        if let Some(tokens) = &answer.tokens {
            let kept = history.row(tokens.session).map(|row| row.generation);
            judge.holds("I9 sessions", kept.is_some_and(|kept| kept >= tokens.generation), || {
                (
                    format!("generation {} was answered, {kept:?} is kept", tokens.generation),
                    vec![at],
                )
            });
        }
        if let Some((id, revision, _)) = answer.subject {
            let kept = revisions.get(&id).copied();
            judge.holds("I9 revisions", kept.is_some_and(|kept| kept >= revision), || {
                (format!("revision {revision} of {id} was answered, {kept:?} is kept"), vec![at])
            });
        }
        reported(judge, &names, at, op, answer);
    }
}

fn reported(judge: &mut Judge, names: &HashSet<&str>, at: usize, op: &Op, answer: &Answer) {
    let What::Record { tags, .. } = &op.what else { return };
    for tag in tags.iter().filter(|_| answer.complete) {
        judge.holds("I9 reports", names.contains(tag.as_str()), || {
            (format!("report {tag} was accepted and is not kept"), vec![at])
        });
    }
}

/// I10 for a session.
fn one_to_one(history: &History, judge: &mut Judge, row: &SessionRow) {
    let of =
        |kinds: &[i16]| history.trail(row.id).filter(|it| kinds.contains(&it.kind)).count() as u32;
    let rotations = [kind::REFRESHED, kind::REAUTHENTICATED];
    let generations: HashSet<Option<u32>> = history
        .trail(row.id)
        .filter(|change| rotations.contains(&change.kind))
        .map(|change| change.generation)
        .collect();
    let (created, rotated) = (of(&[kind::CREATED]), of(&rotations));
    let ended = of(&[kind::TERMINATED, kind::EXPIRED]);
    let reason = history.end(row.id).and_then(|change| change.end_reason);
    let right = created == 1
        && rotated + 1 == row.generation
        && generations.len() as u32 == rotated
        && ended == u32::from(!row.active)
        && reason == row.end_reason;
    judge.holds("I10 sessions", right, || {
        let what = format!(
            "session {}: created {created} times, {rotated} rotations for generation {}, ended {ended} times, \
             {reason:?} for {:?}",
            row.id, row.generation, row.end_reason
        );
        (what, history.of_session(row.id).map(|(at, _)| at).collect())
    });
}

/// I10 for resources that count their changes.
fn revisions(history: &History, judge: &mut Judge) {
    let changes = |kinds: &[i16], of: &dyn Fn(&Change) -> Option<Uuid>| {
        let mut counts: BTreeMap<Uuid, u64> = BTreeMap::new();
        for change in history.tables.trail.iter().filter(|change| kinds.contains(&change.kind)) {
            *counts.entry(of(change).unwrap_or_default()).or_default() += 1;
        }
        counts
    };
    let devices = changes(&[kind::DEVICE_UPDATED, kind::DEVICE_REVOKED], &|change| change.device);
    for device in history.tables.devices.iter().filter(|it| it.who.is_some_and(History::is_told)) {
        let expected = devices.get(&device.id).copied().unwrap_or_default();
        judge.holds("I10 devices", device.revision == 1 + expected, || {
            (
                format!(
                    "device {} has revision {}, {expected} changes",
                    device.id, device.revision
                ),
                vec![],
            )
        });
    }
    let alerts = changes(&kind::OF_ALERTS, &|change| change.alert);
    for alert in history.tables.alerts.iter().filter(|it| it.who.is_some_and(History::is_told)) {
        let expected = alerts.get(&alert.id).copied().unwrap_or_default();
        judge.holds("I10 alerts", alert.revision == expected, || {
            (
                format!("alert {} has revision {}, {expected} changes", alert.id, alert.revision),
                vec![],
            )
        });
    }
    for policy in history.tables.policies.iter().filter(|policy| policy.revision > 0) {
        let of_it = |change: &&Change| {
            change.kind == kind::POLICY_UPDATED
                && (&change.tenant, &change.client) == (&policy.tenant, &policy.client)
        };
        let expected = history.tables.trail.iter().filter(of_it).count() as u64;
        judge.holds("I10 policies", policy.revision == expected, || {
            (format!("{policy:?}, {expected} changes"), vec![])
        });
    }
}
