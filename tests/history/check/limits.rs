//! I5: limits hold at every commit, and no create ends or refuses more than necessary.

use std::collections::{BTreeMap, HashMap};

use sessiond::grpc::pb::LimitStrategy;
use uuid::Uuid;

use crate::history::History;
use crate::judge::Judge;
use crate::record::{Micros, Op, What};
use crate::tables::{Change, SessionRow, kind, reason};
use crate::users::{Counts, USERS};

/// How closely the commit times of Postgres and the clock of the run agree.
const SLACK: Micros = 20_000;

/// A transaction that created or ended sessions counted by one limit.
pub struct Step {
    xid: i64,
    pub at: Micros,
    /// The active sessions after it.
    live: i64,
    pub created: Vec<Uuid>,
    pub ended: Vec<Uuid>,
    /// Those of the ended sessions that ended because of the limit.
    pub evicted: Vec<Uuid>,
}

pub fn check(history: &History, judge: &mut Judge) {
    const NAMES: [&str; 4] = ["I5 limit", "I5 no more victims", "I5 victims", "I5 refusals"];
    NAMES.into_iter().for_each(|name| judge.declare(name));
    for (who, user) in USERS.iter().enumerate() {
        let Some(limit) = user.limit else { continue };
        for &part in parts(limit.counts) {
            let steps = steps(history, who, |row| counts(limit.counts, part, row));
            let max = i64::from(limit.max);
            for step in &steps {
                judge.holds("I5 limit", step.live <= max || step.created.is_empty(), || {
                    let what = format!(
                        "{} live sessions of {}/{}, limit {max}, after transaction {} at {} us",
                        step.live, user.tenant, user.name, step.xid, step.at
                    );
                    (what, creates_of(history, &step.created))
                });
                // Each user here has one limit, so a create that ended sessions leaves it reached. With ASK
                // the user may have chosen when there were more sessions.
                let asks = limit.strategy == LimitStrategy::Ask;
                if !step.evicted.is_empty() && !step.created.is_empty() && !asks {
                    judge.holds("I5 no more victims", step.live == max, || {
                        let what = format!(
                            "{} live, limit {max}, after {} ended",
                            step.live,
                            step.evicted.len()
                        );
                        (what, creates_of(history, &step.created))
                    });
                }
            }
            refusals(history, judge, who, part, max, &steps);
        }
    }
    victims(history, judge);
}

/// The groups that a limit counts separately.
pub fn parts(counts: Counts) -> &'static [i16] {
    match counts {
        // Mobile devices and TVs.
        Counts::DeviceType => &[2, 5],
        _ => &[0],
    }
}

pub fn counts(counts: Counts, part: i16, row: &SessionRow) -> bool {
    match counts {
        Counts::User => true,
        Counts::Client(client) => row.client == client,
        Counts::DeviceType => row.device_type == part,
    }
}

pub fn steps(history: &History, who: usize, counts: impl Fn(&SessionRow) -> bool) -> Vec<Step> {
    let counted = |change: &&Change| {
        let row = change.session.and_then(|id| history.row(id));
        change.who == Some(who) && row.is_some_and(&counts)
    };
    let mut by_transaction: BTreeMap<(Micros, i64), Step> = BTreeMap::new();
    for change in history.tables.trail.iter().filter(counted) {
        let (at, xid) = (change.committed, change.xid);
        let (created, ended, evicted) = Default::default();
        let new = Step { xid, at, live: 0, created, ended, evicted };
        let step = by_transaction.entry((at, xid)).or_insert(new);
        match change.kind {
            kind::CREATED => {
                step.live += 1;
                step.created.extend(change.session);
            }
            kind::TERMINATED | kind::EXPIRED => {
                step.live -= 1;
                step.ended.extend(change.session);
                let is_limit = change.end_reason == Some(reason::LIMIT);
                step.evicted.extend(change.session.filter(|_| is_limit));
            }
            _ => {}
        }
    }
    let mut steps: Vec<Step> = by_transaction.into_values().collect();
    let mut live = 0;
    for step in &mut steps {
        live += step.live;
        step.live = live;
    }
    steps
}

/// At some moment of a refused call the active sessions must have reached the limit.
fn refusals(history: &History, judge: &mut Judge, who: usize, part: i16, max: i64, steps: &[Step]) {
    for (at, op) in history.ops.iter().enumerate().filter(|(_, op)| op.who == who) {
        let full = matches!(op.refusal(), Some("SESSION_LIMIT_REACHED" | "SESSION_CONFLICT"));
        // The history has no device type of a create.
        if !full || part != 0 || !matches!(op.what, What::Create { .. }) {
            continue;
        }
        let (from, to) = (op.start - SLACK, op.end + SLACK);
        let first = steps.partition_point(|step| step.at < from).saturating_sub(1);
        let most =
            steps[first..].iter().take_while(|step| step.at <= to).map(|step| step.live).max();
        judge.holds("I5 refusals", most.is_some_and(|most| most >= max), || {
            (format!("at most {most:?} sessions lived meanwhile, limit {max}"), vec![at])
        });
    }
}

/// Each session that an answer reports as ended must have ended in the transaction of the create, once.
fn victims(history: &History, judge: &mut Judge) {
    let mut taken: HashMap<Uuid, (Uuid, usize)> = HashMap::new();
    for (at, op) in history.ops.iter().enumerate() {
        let (What::Create { .. }, Some(answer)) = (&op.what, op.answer()) else { continue };
        let Some(new) = answer.session.as_ref().filter(|_| History::is_told(op.who)) else {
            continue;
        };
        let born = history.trail(new.id).find(|change| change.kind == kind::CREATED);
        for victim in &answer.sessions {
            let (owner, by) = *taken.entry(victim.id).or_insert((new.id, at));
            let end = history.end(victim.id);
            let together = end.zip(born).is_some_and(|(end, born)| {
                end.xid == born.xid && end.end_reason == Some(reason::LIMIT)
            });
            judge.holds("I5 victims", owner == new.id && together, || {
                (format!("session {} did not end for {} alone", victim.id, new.id), vec![by, at])
            });
        }
    }
}

fn creates_of(history: &History, created: &[Uuid]) -> Vec<usize> {
    let of = |id: &Uuid| {
        let made = |(_, op): &(usize, &Op)| matches!(op.what, What::Create { .. });
        history.of_session(*id).filter(made).map(|(at, _)| at).next()
    };
    created.iter().filter_map(of).collect()
}
