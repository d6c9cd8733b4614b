//! I1 to I4: an ended session stays ended, at once on the replica that ended it, and within the bound on others.

use std::collections::HashMap;

use uuid::Uuid;

use crate::history::{Birth, History};
use crate::judge::Judge;
use crate::record::{How, Micros, Of, Op, Step, Verdict, What};
use crate::replica::BOUND;
use crate::tables::kind;
use crate::world::REPLICAS;

/// How closely the commit times of Postgres and the clock of the run agree.
const SLACK: Micros = 20_000;
/// Activity may be dated by a clock that is off by this much: e.
const LEEWAY: Micros = 5_000_000;

/// The end of a session: when it was known by each source, and by which call.
#[derive(Default, Clone)]
pub struct Death {
    /// From the answer of each replica that ended it.
    here: [Option<(Micros, usize)>; REPLICAS],
    /// From the first answer of any replica.
    answered: Option<(Micros, usize)>,
    committed: Option<Micros>,
    /// From the first validation.
    observed: Option<(Micros, usize)>,
}

fn earlier(known: &mut Option<(Micros, usize)>, at: Micros, op: usize) {
    if known.is_none_or(|(before, _)| at < before) {
        *known = Some((at, op));
    }
}

/// The ends of all sessions.
pub fn deaths(history: &History) -> HashMap<Uuid, Death> {
    let mut deaths: HashMap<Uuid, Death> = HashMap::new();
    for (at, op) in history.ops.iter().enumerate() {
        let mut ended = |session: Uuid, by_it: bool| {
            let death = deaths.entry(session).or_default();
            earlier(&mut death.answered, op.end, at);
            if by_it {
                earlier(&mut death.here[op.replica], op.end, at);
            }
        };
        if let (What::Validate { session, .. }, Some(answer)) = (&op.what, op.answer())
            && let Some(Verdict::Inactive("INACTIVE_REASON_SESSION_TERMINATED")) = answer.verdict
        {
            earlier(&mut deaths.entry(*session).or_default().observed, op.end, at);
            continue;
        }
        if let (Some(session), Some(reason)) = (op.session(), op.refusal()) {
            match reason {
                "REFRESH_TOKEN_REUSED" | "SESSION_DATA_REGRESSION" => ended(session, true),
                "SESSION_TERMINATED" => ended(session, false),
                _ => {}
            }
        }
        let Some(answer) = op.answer().filter(|answer| answer.complete && !op.foreign) else {
            continue;
        };
        match &op.what {
            What::Terminate { session } if answer.session.is_some() => ended(*session, true),
            What::Create { .. } => {
                answer.sessions.iter().for_each(|victim| ended(victim.id, true));
            }
            What::Erase
            | What::TerminateMany { .. }
            | What::RevokeDevice { .. }
            | What::Step { step: Step::Resolve(true), .. } => {
                let asked = history.asked(op);
                for (id, birth) in history.births_of(op.who) {
                    if birth.answered < asked && ends_all_of(history, op, birth) {
                        // It did not end a session that had ended elsewhere, which this replica may still cache.
                        let end = history.end(id);
                        ended(id, end.is_some_and(|end| end.committed >= op.start));
                    }
                }
            }
            _ => {}
        }
    }
    for (id, _) in history.births() {
        if let Some(end) = history.end(id) {
            deaths.entry(id).or_default().committed = Some(end.committed);
        }
    }
    deaths
}

/// Whether a call ends all sessions of a user, including this one, which existed when it was requested.
pub fn ends_all_of(history: &History, op: &Op, birth: &Birth) -> bool {
    match &op.what {
        What::Erase => true,
        What::TerminateMany { of } => match of {
            Of::User => true,
            Of::Device(device) => birth.device == *device,
            Of::Client(client) => birth.client == *client,
        },
        What::RevokeDevice { device } => birth.device == *device,
        // A repeated resolve ends only the sessions that existed at the first one.
        What::Step { alert, step: Step::Resolve(true) } => {
            history.first_resolved(*alert).is_some_and(|first| first > birth.answered)
        }
        _ => false,
    }
}

pub fn check(history: &History, judge: &mut Judge) {
    const NAMES: [&str; 6] = [
        "I1 same replica",
        "I2 bound",
        "I2 asked to be fresh",
        "I3 late change",
        "I4 tables",
        "I4 trail",
    ];
    NAMES.into_iter().for_each(|name| judge.declare(name));
    let deaths = deaths(history);
    for (id, death) in &deaths {
        for (at, op) in history.of_session(*id) {
            match &op.what {
                What::Validate { how, .. } if op.answer().is_some() => {
                    validated(history, judge, death, at, op, *how);
                }
                _ => changed(history, judge, death, at, op),
            }
        }
        in_tables(history, judge, *id, death);
    }
}

fn validated(history: &History, judge: &mut Judge, death: &Death, at: usize, op: &Op, how: How) {
    let let_in = op.is_let_in();
    if let Some((when, by)) = death.here[op.replica].filter(|(when, _)| *when < op.start) {
        let since = op.start - when;
        judge.holds("I1 same replica", !let_in, || {
            (
                format!("active {since} us after its end was answered by the same replica"),
                vec![by, at],
            )
        });
    }
    let bound = BOUND.as_micros() as Micros;
    let ends =
        [death.answered, death.observed, death.committed.map(|when| (when + SLACK, usize::MAX))];
    let first = ends.into_iter().flatten().min();
    if let Some((when, by)) = first.filter(|(when, _)| when + bound <= op.start) {
        let gap = history.longest_gap(when, op.end);
        if when + bound + gap <= op.start {
            let since = op.start - when;
            judge.holds("I2 bound", !let_in, || {
                let mut ops: Vec<usize> = [by, at].into_iter().filter(|it| *it != usize::MAX).collect();
                ops.extend(history.of_session(op.session().expect("its own")).map(|(at, _)| at).take(1));
                (format!("active {since} us after its end, bound {bound} us and {gap} us for the machine"), ops)
            });
        }
    }
    if matches!(how, How::Strong | How::AtLeast)
        && let Some((when, by)) = death.answered.filter(|(when, _)| *when < op.start)
    {
        judge.holds("I2 asked to be fresh", !let_in, || {
            (
                format!("active by {how:?} {} us after its end was answered", op.start - when),
                vec![by, at],
            )
        });
    }
}

/// I3: no change that was requested after the answered end. A repeated answer from before is not a change.
fn changed(history: &History, judge: &mut Judge, death: &Death, at: usize, op: &Op) {
    let Some((when, by)) = death.answered.filter(|(when, _)| *when < history.asked(op)) else {
        return;
    };
    let succeeded = match (&op.what, op.answer()) {
        (What::Refresh { .. } | What::UpdateSession { .. }, answer) => answer.is_some(),
        (What::Reauthenticate { .. }, answer) => answer.is_some(),
        _ => return,
    };
    judge.holds("I3 late change", !succeeded, || {
        (format!("{} us after its end was answered", op.start - when), vec![by, at])
    });
}

/// I4: the tables agree, and no change follows an end.
fn in_tables(history: &History, judge: &mut Judge, id: Uuid, death: &Death) {
    let Some(row) = history.row(id).filter(|row| History::is_told(row.who)) else { return };
    if let Some((_, by)) = death.answered {
        judge.holds("I4 tables", !row.active, || {
            (format!("session {id} is active in the tables"), vec![by])
        });
        let late = row.ended.is_some_and(|ended| row.last_active > ended + LEEWAY);
        judge.holds("I4 tables", !late, || {
            (format!("session {id} was touched after its end"), vec![by])
        });
    }
    let mut after = history
        .trail(id)
        .skip_while(|change| ![kind::TERMINATED, kind::EXPIRED].contains(&change.kind));
    if after.next().is_some() {
        let late: Vec<i16> = after.map(|change| change.kind).collect();
        judge.holds("I4 trail", late.is_empty(), || {
            let ops = history.of_session(id).map(|(at, _)| at).collect();
            (format!("changes of kinds {late:?} of session {id} were committed after its end"), ops)
        });
    }
}
