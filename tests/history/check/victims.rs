//! I5: a limit ends the oldest sessions, the least recently used ones, or those of the new session's device.

use std::collections::BTreeSet;

use sessiond::grpc::pb::LimitStrategy;
use uuid::Uuid;

use crate::check::limits::{Step, counts, parts, steps};
use crate::history::History;
use crate::judge::Judge;
use crate::record::Micros;
use crate::tables::kind;
use crate::users::{Limit, TV, USERS};

/// How far the replicas' clocks, which date activity, may be from the clock of the run.
const LEEWAY: Micros = 1_000_000;

pub fn check(history: &History, judge: &mut Judge) {
    judge.declare("I5 right victims");
    for (who, user) in USERS.iter().enumerate() {
        let Some(limit) = user.limit else { continue };
        for &part in parts(limit.counts) {
            let mut live: BTreeSet<Uuid> = BTreeSet::new();
            for step in steps(history, who, |row| counts(limit.counts, part, row)) {
                live.extend(&step.created);
                step.ended.iter().for_each(|id| _ = live.remove(id));
                // Transactions without a create end no session for a limit.
                for victim in &step.evicted {
                    let Some(better) =
                        better(history, strategy(&limit, part), &step, &live, *victim)
                    else {
                        continue;
                    };
                    judge.holds("I5 right victims", better.is_none(), || {
                        let of = better.iter().chain([victim]).chain(&step.created);
                        let ops =
                            of.flat_map(|id| history.of_session(*id).map(|(at, _)| at).take(4));
                        (format!("session {victim} ended, {better:?} was to"), ops.collect())
                    });
                }
            }
        }
    }
}

fn strategy(limit: &Limit, part: i16) -> LimitStrategy {
    if part == TV { LimitStrategy::TerminateSameDevice } else { limit.strategy }
}

/// A session that should have ended instead, if any; `None` if this strategy is not checked here.
fn better(
    history: &History,
    strategy: LimitStrategy,
    step: &Step,
    live: &BTreeSet<Uuid>,
    victim: Uuid,
) -> Option<Option<Uuid>> {
    let mut others = live.iter().copied();
    match strategy {
        LimitStrategy::TerminateOldest => {
            let age = |id| history.row(id).map(|row| (row.created, id));
            Some(others.find(|other| age(*other) < age(victim)))
        }
        LimitStrategy::TerminateLeastRecentlyUsed => {
            let used = changed(history, victim, step)?;
            Some(others.find(|other| used_at_most(history, *other, step) < Some(used)))
        }
        LimitStrategy::TerminateSameDevice => {
            let device = |id| history.birth(id).map(|birth| birth.device);
            let of_victim = device(victim)?;
            let new: Option<Vec<Uuid>> = step.created.iter().map(|id| device(*id)).collect();
            let is_of_new = new?.contains(&of_victim);
            Some(if is_of_new { None } else { others.next() })
        }
        // The user chose.
        _ => None,
    }
}

/// The last activity in the tables when the limit is applied; the create holds the user's sessions meanwhile.
fn changed(history: &History, id: Uuid, step: &Step) -> Option<Micros> {
    const USES: [i16; 3] = [kind::CREATED, kind::REFRESHED, kind::REAUTHENTICATED];
    let before = history.trail(id).filter(|change| change.committed <= step.at);
    before.filter(|change| USES.contains(&change.kind)).map(|change| change.at).max()
}

/// The latest activity by any call that may have counted by then.
fn used_at_most(history: &History, id: Uuid, step: &Step) -> Option<Micros> {
    let calls = history.of_session(id).filter(|(_, op)| op.start < step.at + LEEWAY);
    calls.map(|(_, op)| op.end + LEEWAY).max().max(changed(history, id, step))
}
